"""A real job, small enough to be started dozens of times: real processes, a real Flax network."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
from models.small_networks import CLASS_NAMES, CONFIGS, parameters
from PIL import Image

from rpfgsm_jax.models import weights

PHOTOS = 500  # twenty kills must not come to their end
ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class SmallJob:
  """A folder of photos, a network, and how to start the command on them."""

  folder: pathlib.Path
  options: tuple[str, ...] = ("--size", "network", "--batch-size", "4")

  def start(self, out, *options, path: pathlib.Path = ROOT) -> subprocess.Popen:
    """Starts `rpfgsm protect` into a folder beside the photos; `path` comes first in Python's."""
    command = [sys.executable, "-m", "rpfgsm_jax.cli", "protect", str(self.folder / "in")]
    command += ["--out", str(self.folder / out), "--network", str(self.folder / "network")]
    command += ["--steps", "8", *self.options, *map(str, options)]
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = inherited | {
      "RPFGSM_CACHE": str(self.folder / "cache"),
      "RPFGSM_STATE": str(self.folder / "state"),
      "PYTHONPATH": f"{path}{os.pathsep}{ROOT}",
    }
    return subprocess.Popen(
      command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

  def run(self, out, *options) -> str:
    """Runs it to its end and returns the summary line."""
    process = self.start(out, *options)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()

  def results(self, out) -> dict[str, bytes]:
    """Every file below a folder of results by name, the job's private ones aside."""
    root = self.folder / out
    return {
      str(path.relative_to(root)): path.read_bytes()
      for path in root.rglob("*")
      if path.is_file() and ".rpfgsm" not in path.parts
    }


def make(folder: pathlib.Path, count: int, **fields) -> SmallJob:
  """Makes photos and a network; `fields` are those of the job."""
  network = weights.Network(
    config=CONFIGS["basic"], parameters=parameters("basic"), class_names=CLASS_NAMES
  )
  weights.save_network(folder / "network", network)
  generator = np.random.default_rng(0)
  for index in range(count):
    path = folder / "in" / f"album {index % 5}" / f"{index}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.kron(generator.integers(0, 256, (6, 7, 3)), np.ones((10, 10, 1)))
    Image.fromarray(blocks.astype(np.uint8)).save(path)
  return SmallJob(folder, **fields)
