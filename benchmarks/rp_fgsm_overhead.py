"""What the random choice and the defenses cost: RP-FGSM against the same passes in a fixed order.

The baseline sends the same number of full micro-batches through the same networks, round robin,
with no schedule and no defense, and takes the same signed steps. Variants are interleaved; a row
holds the median of the pairwise ratios with their range.

  python benchmarks/rp_fgsm_overhead.py --networks bundled --batch 24 --batch 96
  python benchmarks/rp_fgsm_overhead.py --networks full --batch 8 --rounds 2

Bars: at most 1.25 without defenses, at most 1.5 with all of them, and `vmap` over seeds no dearer
than the same rows in one batch (1.05 allows for noise).
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rpfgsm_jax import process

process.prepare()

import dataclasses
import statistics
import time
from collections.abc import Callable

import click
import jax
import jax.numpy as jnp
import networks
import numpy as np
import records

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.attacks.steps import clip_to_ball, gradient_sign
from rpfgsm_jax.data import sample_photos


@jax.jit(static_argnames=("num_steps", "micro_batch"))
def fixed_order(nets, images, labels, *, num_steps: int, micro_batch: int):
  """Round robin over networks and groups of rows: no draws, no plan, no gather, no defense."""
  groups = images.reshape(-1, micro_batch, *images.shape[1:])
  labels = labels.reshape(-1, micro_batch, len(nets))

  def one_round(adversarial, _):
    def one_group(rows):
      current, original, label = rows
      for index, net in enumerate(nets):
        gradient = jax.grad(lambda x, i=index, f=net: jnp.sum(cross_entropy(f(x), label[:, i])))(
          current
        )
        current = clip_to_ball(current + gradient_sign(gradient), original, 16.0)
      return current

    return jax.lax.map(one_group, (adversarial, groups, labels)), None

  return jax.lax.scan(one_round, groups, None, length=num_steps // len(nets))[0]


def time_once(function: Callable[[], jax.Array]) -> float:
  """Seconds of one call to the end of its computation."""
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start


def make_variants(
  nets: list[rp.Classifier], images: jax.Array, steps: int, micro_batch: int, with_vmap: bool
) -> dict[str, Callable[[], jax.Array]]:
  """What is timed, by name; each computes as many network passes."""
  labels = jnp.stack([jnp.argmax(net(images[:1]), -1) for net in nets], -1)
  labels = jnp.broadcast_to(labels, (len(images), len(nets)))
  config = rp.RPFGSMConfig(num_steps=steps, micro_batch=micro_batch)
  plain = dataclasses.replace(config, defenses=rp.defenses.no_defenses())

  def attack(config: rp.RPFGSMConfig, rows: jax.Array, key: jax.Array) -> jax.Array:
    return rp.rp_fgsm(key, rows, nets, config).adversarial

  def three_seeds() -> jax.Array:
    third = images[: len(images) // 3]
    return mapped(third, jax.random.split(jax.random.key(0), 3))

  mapped = jax.jit(jax.vmap(lambda rows, key: attack(plain, rows, key), in_axes=(None, 0)))
  variants = {
    "fixed_order": lambda: fixed_order(
      tuple(nets), images, labels, num_steps=steps, micro_batch=micro_batch
    ),
    "no_defenses": lambda: attack(plain, images, jax.random.key(0)),
    "all_defenses": lambda: attack(config, images, jax.random.key(0)),
  }
  return {**variants, "vmap_three_seeds": three_seeds} if with_vmap else variants


@click.command()
@click.option("--networks", "size", type=click.Choice(["bundled", "full"]), default="bundled")
@click.option("--batch", "batches", type=int, multiple=True, default=(24,))
@click.option("--micro-batch", type=int, default=4)
@click.option("--steps", type=int, default=60, help="Iterations a photo; the paper's are 60.")
@click.option("--rounds", type=int, default=3, help="Interleaved repetitions.")
@click.option("--with-vmap/--without-vmap", default=False, help="Also vmap over three seeds.")
def main(
  size: str,
  batches: tuple[int, ...],
  micro_batch: int,
  steps: int,
  rounds: int,
  with_vmap: bool,
) -> None:
  """Prints and appends one row a batch size."""
  load = networks.bundled if size == "bundled" else networks.full_size
  nets = [load(name) for name in networks.SEEN]
  views = np.stack([view for _, view in sample_photos(nets[0].image_size)])
  for batch in batches:
    images = jnp.asarray(views[np.arange(batch) % len(views)], jnp.float32)
    variants = make_variants(nets, images, steps, micro_batch, with_vmap)
    first_call = {name: time_once(run) for name, run in variants.items()}
    seconds = {name: [] for name in variants}
    for _ in range(rounds):
      for name, run in variants.items():
        seconds[name].append(time_once(run))
    base = {"vmap_three_seeds": "no_defenses"}
    ratios = {
      name: [a / b for a, b in zip(times, seconds[base.get(name, "fixed_order")], strict=True)]
      for name, times in seconds.items()
      if name != "fixed_order"
    }
    row = {
      "networks": size,
      "batch": batch,
      "micro_batch": micro_batch,
      "steps": steps,
      "first_call_s": {name: round(value, 2) for name, value in first_call.items()},
      "median_s": {name: round(statistics.median(v), 3) for name, v in seconds.items()},
      "ratio_min_median_max": {
        name: [round(v, 3) for v in (min(r), statistics.median(r), max(r))]
        for name, r in ratios.items()
      },
    }
    records.append("rp_fgsm_overhead", row)


if __name__ == "__main__":
  main()
