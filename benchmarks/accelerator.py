"""RP-FGSM on one accelerator: images a second in three precisions, and the protection of each.

One call measures everything: the full attack (60 iterations, three networks of the paper's size,
random weights) at three batch sizes; the machine's own products as a ceiling; how many signs of a
gradient each precision turns and how often a held-out network is misled behind the
defenses, with the bundled networks on real photos; PyTorch on the same card where it is installed.

  python benchmarks/accelerator.py [--data DIR]
  python benchmarks/accelerator.py --batch 8 --steps 3 --rounds 1      (a rehearsal on a CPU)

Bars: at least 150 images a second in TF32 and 300 in bfloat16, ahead of PyTorch in the same
precision; the misleading rate falls by at most one point.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rpfgsm_jax import process

process.prepare()

import functools
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import click
import jax
import jax.numpy as jnp
import networks
import numpy as np
import records
from sides import side

import rpfgsm_jax as rp
from rpfgsm_jax import data, defenses
from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.evaluation import measure

NAME = "accelerator"
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": None}
"""Name to JAX's precision of float32 products; None: the networks themselves are bfloat16."""
GFLOP = 60 * (7.25 + 16.35 + 2.85) / 3  # of the whole attack on one image


def in_precision(precision: str, classifier: rp.Classifier) -> rp.Classifier:
  """Returns the classifier as that precision runs it."""
  return classifier.astype("bfloat16") if precision == "bfloat16" else classifier


def timed(function: Callable[[], jax.Array]) -> float:
  """Seconds of one call to its end."""
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start


def measure_peak(precision: str, size: int) -> float:
  """Teraflops a second of a square product."""
  dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
  # Zeros and ones would be faster: they turn fewer transistors.
  matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(dtype)
  product = jax.jit(jnp.matmul)
  timed(lambda: product(matrix, matrix))
  return 2 * size**3 / min(timed(lambda: product(matrix, matrix)) for _ in range(5)) / 1e12


def measure_speed(
  nets: list[rp.Classifier], batch: int, steps: int, rounds: int
) -> dict[str, float]:
  """Images a second of the whole attack, and the seconds that compiling took."""
  images = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), np.uint8)
  # As many rows a chunk as always wait for one network.
  config = rp.RPFGSMConfig(num_steps=steps, micro_batch=-(-batch // len(nets)))

  def run() -> jax.Array:
    return rp.rp_fgsm(jax.random.key(0), images, nets, config).adversarial

  first = timed(run)
  seconds = statistics.median(timed(run) for _ in range(rounds))
  return {
    "batch": batch,
    "micro_batch": config.micro_batch,
    "images_per_s": round(batch / seconds * steps / 60, 2),
    "compile_s": round(first - seconds, 1),
  }


def gradient_signs(precision: str, images: jax.Array, steps_of: rp.Classifier) -> np.ndarray:
  """Signs of one network's input gradient."""
  network = in_precision(precision, steps_of)
  labels = jnp.argmax(steps_of(images), -1)
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(cross_entropy(network(x), labels))))
  return np.sign(gradient(images))


def held_out_rate(precision: str, images: np.ndarray) -> float:
  """Share of images that the held-out network takes for another scene behind the defenses."""
  nets = [in_precision(precision, networks.bundled(name)) for name in networks.SEEN]
  unseen = [networks.bundled("densenet161")]
  size = min(len(images), 64)
  shares = []
  for start in range(0, len(images), size):
    part = images[start : start + size]
    clean, _ = measure.predict(part, unseen, size)
    changed = rp.protect(part, nets, rp.RPFGSMConfig(), seed=1, batch_size=size)
    labels = np.full(len(part), -1)
    found = measure.evaluate(changed, clean[..., 0], labels, unseen, defenses.paper_bank(), size)
    shares.extend((found.ranks[:, 0, 1:] > 0).mean(axis=-1))
  return float(np.mean(shares))


def photographs(folder: str | None, size: tuple[int, int]) -> np.ndarray:
  """Real photos at the networks' size: of a folder, else views of scikit-image's."""
  if folder is None:
    return np.stack([view for _, view in data.sample_photos(size)])
  return data.load_folder(data.list_images(folder), size).images


@click.command()
@click.option("--data", "folder", type=click.Path(exists=True), help="Photos for the rates.")
@click.option("--batch", "batches", type=int, multiple=True, default=(64, 256, 768))
@click.option(
  "--part",
  "parts",
  multiple=True,
  type=click.Choice(["speed", "torch", "protection"]),
  default=("speed", "torch", "protection"),
  show_default=True,
)
@click.option(
  "--precision",
  "precisions",
  multiple=True,
  type=click.Choice([*PRECISIONS]),
  default=tuple(PRECISIONS),
  show_default=True,
)
@click.option("--steps", type=int, default=60, show_default=True)
@click.option("--torch-steps", type=int, help="Of PyTorch, which takes longer.  [default: --steps]")
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--product", type=int, default=8192, show_default=True, help="Side of the product.")
def main(
  folder: str | None,
  batches: tuple[int, ...],
  parts: tuple[str, ...],
  precisions: tuple[str, ...],
  steps: int,
  torch_steps: int | None,
  rounds: int,
  product: int,
) -> None:
  """Prints and appends one row a measurement."""
  for precision in precisions:
    if "speed" in parts:
      measure_speeds(precision, batches, steps, rounds, product)
    if "torch" in parts:
      measure_torch(precision, batches, torch_steps or steps, rounds)
  if "protection" in parts:
    measure_protection(photographs(folder, networks.bundled("resnet18").image_size), precisions)


def measure_speeds(
  precision: str, batches: tuple[int, ...], steps: int, rounds: int, product: int
) -> None:
  """Appends our rows of one precision."""
  nets = [in_precision(precision, cached_full_size(name)) for name in networks.SEEN]
  with jax.default_matmul_precision(PRECISIONS[precision] or "default"):
    ceiling = measure_peak(precision, product)
    for batch in sorted(batches, reverse=True):
      speed = measure_speed(nets, batch, steps, rounds)
      share = speed["images_per_s"] * GFLOP / 1e3 / ceiling
      row = {"part": "speed", "precision": precision, **speed, "steps": steps}
      row |= {"xla_flags": os.environ.get("XLA_FLAGS", "")}
      records.append(NAME, {**row, "peak_tflops": round(ceiling, 2), "share": round(share, 3)})


@functools.cache
def cached_full_size(name: str) -> rp.Classifier:
  """Returns a network of the paper's size; making its random weights takes seconds."""
  return networks.full_size(name)


def measure_torch(precision: str, batches: tuple[int, ...], steps: int, rounds: int) -> None:
  """Appends PyTorch's rows of one precision."""
  if importlib.util.find_spec("torch") is None:
    records.append(NAME, {"part": "torch", "note": "not measured: torch is not installed"})
    return
  device = "cpu" if jax.default_backend() == "cpu" else "cuda"
  with side("side_torch.py") as torch:
    torch.ask("setup", device=device, precision=precision)
    for batch in sorted(batches, reverse=True):
      ask = lambda b=batch: torch.ask("attack", batch=b, steps=steps, best=True)  # noqa: E731
      ask()
      seconds = statistics.median(ask()["seconds"] for _ in range(rounds))
      row = {"part": "torch", "precision": precision, "batch": batch, "steps": steps}
      records.append(NAME, {**row, "images_per_s": round(batch / seconds * steps / 60, 2)})


def measure_protection(photos: np.ndarray, precisions: tuple[str, ...]) -> None:
  """Appends how many signs each precision turns, and how often it misleads."""
  sample = jnp.asarray(photos[:8], jnp.float32)

  def all_signs(precision: str) -> dict[str, np.ndarray]:
    with jax.default_matmul_precision(PRECISIONS[precision] or "default"):
      return {
        name: gradient_signs(precision, sample, networks.bundled(name)) for name in networks.SEEN
      }

  exact = all_signs("float32")
  for precision in precisions:
    signs = all_signs(precision)
    flips = {name: round(float((signs[name] != exact[name]).mean()), 4) for name in signs}
    with jax.default_matmul_precision(PRECISIONS[precision] or "default"):
      share = round(held_out_rate(precision, photos), 4)
    row = {"part": "protection", "precision": precision, "signs_turned": flips}
    records.append(NAME, {**row, "photos": len(photos), "misled": share})


if __name__ == "__main__":
  main()
