"""Our side of a comparison; started by `sides.Side`, see there."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rpfgsm_jax import process

process.prepare()

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import networks
import numpy as np
from sides import serve

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.defenses.bank import apply_rows

network = functools.cache(networks.full_size)


def timed(function: Callable[[], Any]) -> dict[str, float]:
  """Seconds of one call to its end."""
  start = time.perf_counter()
  jax.block_until_ready(function())
  return {"seconds": time.perf_counter() - start}


@functools.cache
def pictures(count: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)


def setup() -> dict:
  return {"flags": os.environ.get("XLA_FLAGS", "")}


def peak(*, size: int) -> dict:
  a = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  seconds = min(timed(lambda: product(a, a))["seconds"] for _ in range(5))
  return {"seconds": seconds, "gflops": 2 * size**3 / seconds / 1e9}


@functools.partial(jax.jit, static_argnums=0)
def _gradients(repeats: int, classifier: rp.Classifier, images: jax.Array) -> jax.Array:
  labels = jnp.zeros(len(images), jnp.int32)
  step = jax.grad(lambda x: jnp.sum(cross_entropy(classifier(x), labels)))
  return jax.lax.fori_loop(0, repeats, lambda _, x: x + jnp.sign(step(x)), images)


def gradient(*, name: str, batch: int, repeats: int) -> dict:
  images = jnp.asarray(pictures(batch), jnp.float32)
  return {"seconds": timed(lambda: _gradients(repeats, network(name), images))["seconds"] / repeats}


@functools.partial(jax.jit, static_argnums=0)
def _defense(family: int, images: jax.Array, parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
  families = jnp.full(len(images), family, jnp.int32)
  drawn = (families, parameters, families.astype(jnp.uint32))
  bank = defenses.paper_bank()
  out, pull = jax.vjp(lambda x: apply_rows(bank, x, *drawn, "straight_through"), images)
  # Both, or the forward pass would be dropped where the gradient does not need it.
  return out, pull(jnp.ones_like(out))[0]


def defense(*, family: str, parameter: float, batch: int) -> dict:
  index = defenses.paper_bank().names.index(family)
  images = jnp.asarray(pictures(batch), jnp.float32)
  parameters = jnp.full(batch, parameter, jnp.float32)
  return timed(lambda: _defense(index, images, parameters))


def attack(*, batch: int, steps: int, micro_batch: int) -> dict:
  config = rp.RPFGSMConfig(num_steps=steps, micro_batch=micro_batch)
  nets = [network(name) for name in networks.SEEN]
  return timed(lambda: rp.rp_fgsm(jax.random.key(0), pictures(batch), nets, config).adversarial)


if __name__ == "__main__":
  serve({"setup": setup, "peak": peak, "gradient": gradient, "defense": defense, "attack": attack})
