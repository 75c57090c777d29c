"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022), NHWC."""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from rpfgsm_jax.models.depthwise import DepthwiseConv
from rpfgsm_jax.models.features import FeatureHead, Features
from rpfgsm_jax.models.layers import LayerNorm, Patches, global_average
from rpfgsm_jax.typing import Array

_NORM_EPSILON = 1e-6  # of all norms but the last


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig(Features):
  """Shape of a ConvNeXt; the defaults are the tiny one without a head."""

  layers: tuple[int, ...] = (3,)  # stages whose outputs the head reads, counted from 0
  patch_size: int = 4  # pixels, of the stem
  widths: tuple[int, ...] = (96, 192, 384, 768)  # channels of each stage
  depths: tuple[int, ...] = (3, 3, 9, 3)  # blocks of each stage
  layer_scale: bool = True
  norm_epsilon: float = 1e-6  # of the last norm


class ConvNeXtBlock(nnx.Module):
  """A 7x7 depthwise convolution, a norm and two dense layers, added to what came in."""

  def __init__(self, width: int, *, layer_scale: bool, rngs: nnx.Rngs):
    self.conv = DepthwiseConv(width, 7, rngs=rngs)
    self.norm = LayerNorm(width, _NORM_EPSILON)
    self.dense1 = nnx.Linear(width, 4 * width, rngs=rngs)
    self.dense2 = nnx.Linear(4 * width, width, rngs=rngs)
    self.scale = nnx.Param(jnp.full(width, 1e-6)) if layer_scale else None

  def __call__(self, features: Array) -> Array:
    """Returns `(B, H, W, width)` of the same."""
    hidden = jax.nn.gelu(self.dense1(self.norm(self.conv(features))), approximate=False)
    branch = self.dense2(hidden)
    if self.scale is not None:
      branch = branch * self.scale[...][None, None, None]
    return features + branch


class Downsampling(nnx.Module):
  """A norm and a convolution of 2x2 windows that do not overlap."""

  def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
    self.norm = LayerNorm(in_features, _NORM_EPSILON)
    self.conv = Patches(in_features, out_features, 2, rngs=rngs)

  def __call__(self, features: Array) -> Array:
    return self.conv(self.norm(features))


class ConvNeXt(nnx.Module):
  """A ConvNeXt of any size.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  def __init__(self, config: ConvNeXtConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.stem = Patches(3, config.widths[0], config.patch_size, rngs=rngs)
    self.stem_norm = LayerNorm(config.widths[0], _NORM_EPSILON)
    downsamplings, layers = [None], []
    for before, after in zip(config.widths[:-1], config.widths[1:], strict=True):
      downsamplings.append(Downsampling(before, after, rngs=rngs))
    block = functools.partial(ConvNeXtBlock, layer_scale=config.layer_scale, rngs=rngs)
    for width, depth in zip(config.widths, config.depths, strict=True):
      layers.append(nnx.List(block(width) for _ in range(depth)))
    self.downsamplings, self.layers = nnx.List(downsamplings), nnx.List(layers)
    self.norm = LayerNorm(config.widths[-1], config.norm_epsilon)
    self.head = FeatureHead(config, config.widths, rngs=rngs)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of stem, stages and logits in forward order; see `__call__`."""
    del training, rngs  # neither batch statistics nor dropout
    features = self.stem_norm(self.stem(images))
    yield "stem", features
    outputs = []
    for index, (downsampling, blocks) in enumerate(
      zip(self.downsamplings, self.layers, strict=True)
    ):
      if downsampling is not None:
        features = downsampling(features)
      for block in blocks:
        features = block(features)
      yield f"stage{index + 1}", features
      outputs.append(features)
    # Without a class token the mean stands in for it: the last norm comes behind it.
    chosen = [outputs[layer] for layer in self.config.layers]
    parts = [
      (global_average(each), each.reshape(each.shape[0], -1, each.shape[-1])) for each in chosen
    ]
    yield "logits", self.head(parts, self.norm)

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images, or their features where there are no classes."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits
