"""What a linear head reads of a network that was not trained for its classes, and the head itself.

Of each chosen layer the class token, the mean over places, or both, behind the network's own last
norm, a plain one or none; all of them behind one another. CLIP projects them and makes their length
one. Without classes a network puts out these features themselves.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import nnx
from jax import lax

from rpfgsm_jax.models.layers import standardize
from rpfgsm_jax.typing import Array

NORMS = ("final", "plain", "none")
POOLINGS = ("class", "mean", "class+mean")
_PLAIN_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
  """The fields of a backbone's config that say what its head reads."""

  layers: tuple[int, ...]  # whose outputs the head reads, counted from 0
  norm: str = "final"  # of each: "final": the network's last norm; "plain": mean 0, variance 1
  pooling: str = "class"  # "class": the class token, or the mean before the norm; "mean"; both
  projection: int = 0  # numbers of unit length that the features are projected to; 0: none
  num_classes: int = 0  # 0: no head, the features themselves come out
  image_size: tuple[int, int] = (224, 224)  # (height, width), pixels


class FeatureHead(nnx.Module):
  """Pooling, projection and dense layer, as `Features` says.

  Args:
    config: what it reads.
    widths: numbers a place of each of the network's layers.
    rngs: source of the initial weights.
  """

  def __init__(self, config: Features, widths: Sequence[int], *, rngs: nnx.Rngs):
    self.norm, self.pooling = config.norm, config.pooling
    width = sum(widths[layer] for layer in config.layers) * len(config.pooling.split("+"))
    projected = config.projection or width
    self.projection = (
      nnx.Linear(width, projected, use_bias=False, rngs=rngs) if config.projection else None
    )
    width = projected
    self.dense = nnx.Linear(width, config.num_classes, rngs=rngs) if config.num_classes else None

  def __call__(
    self, layers: Sequence[tuple[Array, Array]], final: Callable[[Array], Array]
  ) -> Array:
    """Returns logits, or features, of layers' class tokens `(B, C)` and places `(B, P, C)`."""
    plain = functools.partial(standardize, epsilon=_PLAIN_EPSILON)
    norm = {"final": final, "plain": plain, "none": lambda part: part}[self.norm]
    parts = []
    for token, places in layers:
      if "class" in self.pooling:
        parts.append(norm(token))
      if "mean" in self.pooling:
        parts.append(jnp.mean(norm(places), axis=1))
    features = jnp.concatenate(parts, axis=-1)
    if self.projection is not None:
      features = self.projection(features)
      square = jnp.sum(features * features, axis=-1, keepdims=True)
      features = features * lax.rsqrt(square)
    return features if self.dense is None else self.dense(features)
