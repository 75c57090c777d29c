"""Peak memory of the attacks at 224 x 224 x 365 and batch 8, above that of the network alone.

Each variant runs in a process of its own (its peak resident size counts), on a full-size ResNet50
with random weights, for a few steps: later steps need no more. The baseline is one gradient of the
cross-entropy of all 8 images at once.

  python benchmarks/attack_memory.py

Bar: JSMA and SparseFool at most 1 GB above the baseline.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rpfgsm_jax import process

process.prepare()

import resource
import subprocess

import click
import jax
import jax.numpy as jnp
import networks
import records

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.data import sample_photos

BATCH = 8
ATTACKS = {
  "jsma": (rp.jsma, rp.JSMAConfig(budget="paper", num_steps=3)),
  "sparsefool": (rp.sparsefool, rp.SparseFoolConfig(num_loops=2, num_steps=2)),
  "deepfool": (rp.deepfool, rp.DeepFoolConfig(num_steps=2)),
  "cw": (rp.cw, rp.CWConfig(search_steps=1, num_steps=3)),
  "u_fgsm": (rp.u_fgsm, rp.FGSMConfig(num_steps=3)),
}


def run_variant(name: str) -> float:
  """Runs one variant in this process and returns its peak resident size, bytes."""
  net = networks.full_size("resnet50")
  images = jnp.asarray([view for _, view in sample_photos(net.image_size)][:BATCH], jnp.float32)
  if name == "network":
    labels = jnp.zeros(BATCH, jnp.int32)
    gradient = jax.jit(lambda net, x: jax.grad(lambda x: cross_entropy(net(x), labels).sum())(x))
    jax.block_until_ready(gradient(net, images))
  else:
    attack, config = ATTACKS[name]
    jax.block_until_ready(attack(jax.random.key(0), images, [net], config))
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--variant", type=click.Choice(["network", *ATTACKS]), hidden=True)
def main(variant: str | None) -> None:
  """Prints and appends one row."""
  if variant is not None:
    click.echo(int(run_variant(variant)))
    return
  peaks = {}
  for name in ("network", *ATTACKS):
    command = [sys.executable, __file__, "--variant", name]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks[name] = int(found.stdout.split()[-1]) / 1e9
  row = {
    "batch": BATCH,
    "image_size": [224, 224],
    "classes": 365,
    "peak_gb": {name: round(value, 3) for name, value in peaks.items()},
    "above_network_gb": {
      name: round(value - peaks["network"], 3) for name, value in peaks.items() if name != "network"
    },
  }
  records.append("attack_memory", row)


if __name__ == "__main__":
  main()
