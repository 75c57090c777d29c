"""ResNets (He et al., "Deep residual learning for image recognition", CVPR 2016), NHWC.

The v1.5 arrangement of torchvision and of the Places365 checkpoints: a bottleneck's stride sits in
its 3x3 convolution.
"""

import dataclasses
from collections.abc import Iterator

import jax
from flax import nnx

from rpfgsm_jax.models.convolution import conv
from rpfgsm_jax.models.layers import (
  Block,
  batch_norm,
  global_average,
  max_pool,
  normalize,
)
from rpfgsm_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig:
  """Shape of a ResNet; the defaults are ResNet18 as trained on Places365."""

  stage_sizes: tuple[int, ...] = (2, 2, 2, 2)  # blocks a stage
  bottleneck: bool = False  # 1x1-3x3-1x1 blocks, four times as wide at their end
  width: int = 64  # channels of the stem and the first stage
  num_classes: int = 365
  image_size: tuple[int, int] = (224, 224)  # (height, width), pixels


class BasicBlock(Block):
  """Two 3x3 convolutions and a shortcut."""

  expansion = 1
  folds = (("conv1", "norm1"), ("conv2", "norm2"), ("shortcut_conv", "shortcut_norm"))

  def __init__(self, in_features: int, width: int, stride: int, *, rngs: nnx.Rngs):
    self.conv1 = conv(in_features, width, 3, stride=stride, padding=1, rngs=rngs)
    self.norm1 = batch_norm(width, rngs=rngs)
    self.conv2 = conv(width, width, 3, padding=1, rngs=rngs)
    self.norm2 = batch_norm(width, rngs=rngs)
    self.shortcut_conv, self.shortcut_norm = _shortcut(in_features, width, stride, rngs)

  def __call__(self, features: Array, *, training: bool) -> Array:
    residual = self.conv1(features)
    residual = self.conv2(jax.nn.relu(normalize(self.norm1, residual, training=training)))
    residual = normalize(self.norm2, residual, training=training)
    return jax.nn.relu(residual + _apply_shortcut(self, features, training))


class BottleneckBlock(Block):
  """1x1, 3x3 (strided), 1x1 convolutions and a shortcut."""

  expansion = 4
  folds = (
    ("conv1", "norm1"),
    ("conv2", "norm2"),
    ("conv3", "norm3"),
    ("shortcut_conv", "shortcut_norm"),
  )

  def __init__(self, in_features: int, width: int, stride: int, *, rngs: nnx.Rngs):
    out_features = width * self.expansion
    self.conv1 = conv(in_features, width, 1, rngs=rngs)
    self.norm1 = batch_norm(width, rngs=rngs)
    self.conv2 = conv(width, width, 3, stride=stride, padding=1, rngs=rngs)
    self.norm2 = batch_norm(width, rngs=rngs)
    self.conv3 = conv(width, out_features, 1, rngs=rngs)
    self.norm3 = batch_norm(out_features, rngs=rngs)
    self.shortcut_conv, self.shortcut_norm = _shortcut(in_features, out_features, stride, rngs)

  def __call__(self, features: Array, *, training: bool) -> Array:
    residual = self.conv1(features)
    residual = self.conv2(jax.nn.relu(normalize(self.norm1, residual, training=training)))
    residual = self.conv3(jax.nn.relu(normalize(self.norm2, residual, training=training)))
    residual = normalize(self.norm3, residual, training=training)
    return jax.nn.relu(residual + _apply_shortcut(self, features, training))


def _shortcut(
  in_features: int, out_features: int, stride: int, rngs: nnx.Rngs
) -> tuple[nnx.Conv | None, nnx.BatchNorm | None]:
  if stride == 1 and in_features == out_features:
    return None, None
  return conv(in_features, out_features, 1, stride=stride, rngs=rngs), batch_norm(
    out_features, rngs=rngs
  )


def _apply_shortcut(block: Block, features: Array, training: bool) -> Array:
  if block.shortcut_conv is None:
    return features
  return normalize(block.shortcut_norm, block.shortcut_conv(features), training=training)


class ResNet(Block):
  """A ResNet of any depth and width.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  folds = (("stem_conv", "stem_norm"),)

  def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
    block = BottleneckBlock if config.bottleneck else BasicBlock
    self.stem_conv = conv(3, config.width, 7, stride=2, padding=3, rngs=rngs)
    self.stem_norm = batch_norm(config.width, rngs=rngs)
    features, layers = config.width, []
    for stage, size in enumerate(config.stage_sizes):
      blocks = []
      for index in range(size):
        stride = 2 if stage > 0 and index == 0 else 1
        blocks.append(block(features, config.width * 2**stage, stride, rngs=rngs))
        features = config.width * 2**stage * block.expansion
      layers.append(nnx.List(blocks))
    self.layers = nnx.List(layers)
    self.head = nnx.Linear(features, config.num_classes, rngs=rngs)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of stem, stages and logits in forward order; see `__call__`."""
    del rngs  # no dropout
    stem = normalize(self.stem_norm, self.stem_conv(images), training=training)
    features = max_pool(jax.nn.relu(stem), padding=1)
    yield "stem", features
    for index, blocks in enumerate(self.layers):
      for block in blocks:
        features = block(features, training=training)
      yield f"layer{index + 1}", features
    yield "logits", self.head(global_average(features))

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images; when training, running statistics are updated."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits
