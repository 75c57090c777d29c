"""DenseNets (Huang et al., "Densely connected convolutional networks", CVPR 2017), NHWC."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from rpfgsm_jax.models.convolution import conv
from rpfgsm_jax.models.layers import (
  Block,
  average_pool,
  batch_norm,
  global_average,
  max_pool,
  normalize,
)
from rpfgsm_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
  """Shape of a DenseNet; the defaults are DenseNet161 as trained on Places365."""

  stage_sizes: tuple[int, ...] = (6, 12, 36, 24)  # layers a dense block
  growth: int = 48  # channels that each layer adds
  stem_width: int = 96  # channels of the first convolution
  bottleneck: int = 4  # width of the 1x1 convolution, in growths
  num_classes: int = 365
  image_size: tuple[int, int] = (224, 224)  # (height, width), pixels


class DenseLayer(Block):
  """Norm, 1x1, norm, 3x3; only the second norm stands right behind a convolution."""

  folds = (("conv1", "norm2"),)

  def __init__(self, in_features: int, growth: int, bottleneck: int, *, rngs: nnx.Rngs):
    self.norm1 = batch_norm(in_features, rngs=rngs)
    self.conv1 = conv(in_features, bottleneck * growth, 1, rngs=rngs)
    self.norm2 = batch_norm(bottleneck * growth, rngs=rngs)
    self.conv2 = conv(bottleneck * growth, growth, 3, padding=1, rngs=rngs)

  def __call__(self, features: Array, *, training: bool) -> Array:
    added = self.conv1(jax.nn.relu(normalize(self.norm1, features, training=training)))
    added = self.conv2(jax.nn.relu(normalize(self.norm2, added, training=training)))
    return jnp.concatenate([features, added], axis=-1)


class Transition(Block):
  """Norm, 1x1 convolution to half the channels, 2x2 average at stride 2."""

  def __init__(self, in_features: int, *, rngs: nnx.Rngs):
    self.norm = batch_norm(in_features, rngs=rngs)
    self.conv = conv(in_features, in_features // 2, 1, rngs=rngs)

  def __call__(self, features: Array, *, training: bool) -> Array:
    features = self.conv(jax.nn.relu(normalize(self.norm, features, training=training)))
    return average_pool(features)


class DenseNet(Block):
  """A DenseNet-BC of any depth and width.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  folds = (("stem_conv", "stem_norm"),)

  def __init__(self, config: DenseNetConfig, *, rngs: nnx.Rngs):
    self.stem_conv = conv(3, config.stem_width, 7, stride=2, padding=3, rngs=rngs)
    self.stem_norm = batch_norm(config.stem_width, rngs=rngs)
    features, blocks, transitions = config.stem_width, [], []
    for stage, size in enumerate(config.stage_sizes):
      layers = []
      for _ in range(size):
        layers.append(DenseLayer(features, config.growth, config.bottleneck, rngs=rngs))
        features += config.growth
      blocks.append(nnx.List(layers))
      if stage < len(config.stage_sizes) - 1:
        transitions.append(Transition(features, rngs=rngs))
        features //= 2
    self.blocks = nnx.List(blocks)
    self.transitions = nnx.List(transitions)
    self.final_norm = batch_norm(features, rngs=rngs)
    self.head = nnx.Linear(features, config.num_classes, rngs=rngs)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of stem, blocks, transitions and logits in forward order."""
    del rngs  # no dropout
    stem = normalize(self.stem_norm, self.stem_conv(images), training=training)
    features = max_pool(jax.nn.relu(stem), padding=1)
    yield "stem", features
    for index, layers in enumerate(self.blocks):
      for layer in layers:
        features = layer(features, training=training)
      yield f"block{index + 1}", features
      if index < len(self.transitions):
        features = self.transitions[index](features, training=training)
        yield f"transition{index + 1}", features
    features = jax.nn.relu(normalize(self.final_norm, features, training=training))
    yield "logits", self.head(global_average(features))

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images; when training, running statistics are updated."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits
