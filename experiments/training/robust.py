"""Views moved against the network in training: one gradient step from a random start in a ball.

Training on them makes a network robust to small changes; attacks on robust networks were found to
carry over further (Springer et al., "A little robustness goes a long way", NeurIPS 2021). The
step is that of Wong et al., "Fast is better than free", ICLR 2020, as long as the radius.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rpfgsm_jax.typing import Array, Key

NORMS = ("linf", "l2")
_SIDES = (-3, -2, -1)  # height, width and channels of an image


def move(
  key: Key, images: Array, gradient: Callable[[Array], Array], *, radius: Array, norm: str
) -> Array:
  """Returns `(B, H, W, 3)` images one step up `gradient`, inside the ball and 0..255, gray levels.

  `radius` bounds the largest change of an image's values with norm "linf", their root mean square
  with "l2".
  """
  key_place, key_length = jax.random.split(key)
  if norm == "linf":
    offset = jax.random.uniform(key_place, images.shape, minval=-1.0, maxval=1.0)
  else:
    lengths = jax.random.uniform(key_length, (images.shape[0], 1, 1, 1))
    offset = lengths * _unit(jax.random.normal(key_place, images.shape))
  start = jnp.clip(images + radius * offset, 0.0, 255.0)
  slope = gradient(start)
  step = jnp.sign(slope) if norm == "linf" else _unit(slope)
  change = start + radius * step - images
  if norm == "linf":
    change = jnp.clip(change, -radius, radius)
  else:
    change = change * jnp.minimum(1.0, radius / jnp.maximum(_size(change), 1e-12))
  return jax.lax.stop_gradient(jnp.clip(images + change, 0.0, 255.0))


def _size(values: Array) -> Array:
  return jnp.sqrt(jnp.mean(values * values, axis=_SIDES, keepdims=True))


def _unit(values: Array) -> Array:
  # A gradient's squares may fall below the smallest float: its largest value first becomes 1.
  largest = jnp.max(jnp.abs(values), axis=_SIDES, keepdims=True)
  values = values / jnp.where(largest > 0.0, largest, 1.0)
  return values / jnp.maximum(_size(values), 1e-12)
