"""How `rpfgsm protect` grows with the number of photos: rate, idle devices, and flat memory.

Photos are views of scikit-image's photographs, each jittered, as JPEG files of 256 pixels. A row a
size holds what the command itself says and the largest resident memory of its process.

  python benchmarks/protect_scaling.py --count 100 --count 1000 --count 10000

Bars: the peak memory of the largest run is that of the smallest, give or take a tenth; the devices
idle for less than a tenth of the time, compilation aside.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import json
import os
import subprocess
import tempfile

import click
import numpy as np
import records
from PIL import Image

from rpfgsm_jax.data import sample_photos

ROOT = pathlib.Path(__file__).resolve().parents[1]
_A_FOLDER = 500  # photos


def write_photos(folder: pathlib.Path, count: int) -> None:
  """Writes so many different JPEG photos, in sub-folders as people have them."""
  generator = np.random.default_rng(0)
  views = [view for _, view in sample_photos((288, 288))]
  for index in range(count):
    top, left = generator.integers(0, 33, 2)
    view = views[index % len(views)][top : top + 256, left : left + 256].astype(np.int16)
    photo = np.clip(view + generator.integers(-12, 13, (1, 1, 3)), 0, 255).astype(np.uint8)
    path = folder / f"{index // _A_FOLDER:03d}" / f"{index:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path, quality=92)


def protect(source: pathlib.Path, out: pathlib.Path, options: list[str]) -> dict:
  """Runs the command; returns its own summary and the peak memory of its process."""
  command = [sys.executable, "-m", "rpfgsm_jax.cli", "protect", str(source), "--out", str(out)]
  process = subprocess.Popen(
    [*command, "--size", "network", "--seed", "1", "--json", *options],
    cwd=ROOT,
    stdout=subprocess.PIPE,
  )
  summary = process.stdout.read()
  # Not the largest of all children so far, as `resource` would tell: of this one.
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise click.ClickException(f"rpfgsm protect ended with {process.returncode}")
  to_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
  return {**json.loads(summary), "peak_rss_mib": round(usage.ru_maxrss / to_mib)}


@click.command()
@click.option("--count", "counts", multiple=True, type=int, default=(100, 1000, 10000))
@click.option("--network", "networks", multiple=True, default=("scenes25/alexnet",))
@click.option("--steps", type=int, default=4, show_default=True)
@click.option("--batch-size", default="auto", show_default=True)
def main(counts: tuple[int, ...], networks: tuple[str, ...], steps: int, batch_size: str) -> None:
  """Protects folders of growing size, each in a process of its own, and appends a row for each."""
  options = ["--steps", str(steps), "--batch-size", batch_size]
  options += [each for name in networks for each in ("--network", name)]
  for count in counts:
    with tempfile.TemporaryDirectory() as folder:
      write_photos(pathlib.Path(folder) / "in", count)
      found = protect(pathlib.Path(folder) / "in", pathlib.Path(folder) / "out", options)
    row = {
      "count": count,
      "networks": networks,
      "steps": steps,
      "batch_size": batch_size,
      **{name: found[name] for name in ("done", "seconds", "photos_per_second", "idle_share")},
      "peak_rss_mib": found["peak_rss_mib"],
      "processors": os.cpu_count(),
    }
    records.append("protect_scaling", row)


if __name__ == "__main__":
  main()
