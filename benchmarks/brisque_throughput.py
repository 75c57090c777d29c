"""How many images a second BRISQUE scores: a whole batch in threads against one image at a time.

The two variants are interleaved and give the same scores; a row holds the medians and the ratio
with its range.

  python benchmarks/brisque_throughput.py --model FOLDER
  python benchmarks/brisque_throughput.py --size 1024 --images 8

Bar: at least 20 images of 224 x 224 a second on two cores.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import json
import os
import platform
import statistics
import subprocess
import time

import click
import numpy as np
import scipy

from rpfgsm_jax.data import sample_photos
from rpfgsm_jax.quality.brisque import brisque, load_brisque_model

ROWS = pathlib.Path(__file__).with_name("rows") / "brisque_throughput.jsonl"


@click.command()
@click.option("--model", "folder", type=click.Path(exists=True), help="LIVE's allmodel, allrange.")
@click.option("--size", type=int, default=224, help="Height and width.")
@click.option("--images", "count", type=int, default=64)
@click.option("--rounds", type=int, default=7, help="Interleaved repetitions.")
def main(folder: str | None, size: int, count: int, rounds: int) -> None:
  """Prints and appends one row."""
  start = time.perf_counter()
  model = load_brisque_model(folder)
  load_s = time.perf_counter() - start
  views = np.stack([view for _, view in sample_photos((size, size))])
  images = views[np.arange(count) % len(views)]
  variants = {
    "batch": lambda: brisque(images, model),
    "one_by_one": lambda: np.array([brisque(image, model) for image in images]),
  }
  scores = {name: run() for name, run in variants.items()}  # the first call, untimed
  np.testing.assert_array_equal(scores["batch"], scores["one_by_one"])
  rates = {name: [] for name in variants}
  for _ in range(rounds):
    for name, run in variants.items():
      start = time.perf_counter()
      run()
      rates[name].append(count / (time.perf_counter() - start))
  ratios = [a / b for a, b in zip(rates["batch"], rates["one_by_one"], strict=True)]
  row = {
    "benchmark": "brisque_throughput",
    "shape": list(images.shape),
    "rounds": rounds,
    "load_model_s": round(load_s, 3),
    "median_images_per_s": {name: round(statistics.median(v), 1) for name, v in rates.items()},
    "ratio_min_median_max": [
      round(v, 3) for v in (min(ratios), statistics.median(ratios), max(ratios))
    ],
    **versions(),
  }
  print(json.dumps(row))
  ROWS.parent.mkdir(exist_ok=True)
  with open(ROWS, "a") as file:
    file.write(json.dumps(row) + "\n")


def versions() -> dict[str, str | int | None]:
  """What a reader needs to place the figures."""
  git = ["git", "rev-parse", "--short", "HEAD"]
  return {
    "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "device": "cpu",
    "cores": os.cpu_count(),
    "python": platform.python_version(),
  }


if __name__ == "__main__":
  main()
