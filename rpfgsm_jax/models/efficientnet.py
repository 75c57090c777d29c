"""EfficientNet-Lite (Tan and Le, "EfficientNet", ICML 2019; Google's Lite variants, 2020), NHWC.

Without squeeze-and-excitation and with ReLU6, so that small devices can run them; stem and head
keep their width. Padded as in TensorFlow, where the published weights were trained.
"""

import dataclasses
import math
from collections.abc import Iterator

from flax import nnx
from jax import lax

from rpfgsm_jax.models.convolution import conv
from rpfgsm_jax.models.depthwise import DepthwiseConv
from rpfgsm_jax.models.layers import Block, batch_norm, global_average, normalize
from rpfgsm_jax.typing import Array

_NORM_EPSILON = 1e-3  # TensorFlow's default; part of the weights' meaning
_EXPANSION = 6  # channels of a block's depthwise convolution by those that come in; 1 in stage 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
  """Shape of an EfficientNet-Lite; the defaults are Lite0 with 365 classes."""

  widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)  # channels of each stage
  depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage
  kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)  # sides of a stage's depthwise kernels
  strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)  # of each stage's first block
  stem_width: int = 32  # channels of the first convolution
  head_width: int = 1280  # features that the dense layer sees
  dropout: float = 0.2  # before the dense layer, in training
  num_classes: int = 365
  image_size: tuple[int, int] = (224, 224)  # (height, width), pixels


def scaled(width: float, depth: float, size: int, dropout: float) -> EfficientNetConfig:
  """Returns Lite0 with all stages wider, and all but the first and the last deeper."""
  base = EfficientNetConfig()
  inner = (math.ceil(depth * each) for each in base.depths[1:-1])
  return dataclasses.replace(
    base,
    widths=tuple(_round_to_eights(width * each) for each in base.widths),
    depths=(base.depths[0], *inner, base.depths[-1]),
    dropout=dropout,
    image_size=(size, size),
  )


def _round_to_eights(width: float) -> int:
  """Returns the nearest multiple of eight that is not below nine tenths of `width`."""
  nearest = max(8, int(width + 4) // 8 * 8)
  return nearest + 8 if nearest < 0.9 * width else nearest


class InvertedBlock(Block):
  """1x1 to more channels, depthwise, 1x1 to few; added to what came in where shapes agree."""

  folds = (
    ("expand", "expand_norm"),
    ("depthwise", "depthwise_norm"),
    ("project", "project_norm"),
  )

  def __init__(
    self, in_features: int, out_features: int, expansion: int, size: int, stride: int, *, rngs
  ):
    hidden = expansion * in_features
    self.residual = stride == 1 and in_features == out_features
    self.expand = conv(in_features, hidden, 1, rngs=rngs) if expansion > 1 else None
    self.expand_norm = _norm(hidden, rngs) if expansion > 1 else None
    self.depthwise = DepthwiseConv(hidden, size, stride=stride, use_bias=False, rngs=rngs)
    self.depthwise_norm = _norm(hidden, rngs)
    self.project = conv(hidden, out_features, 1, rngs=rngs)
    self.project_norm = _norm(out_features, rngs)

  def __call__(self, features: Array, *, training: bool) -> Array:
    hidden = features
    if self.expand is not None:
      hidden = _relu6(normalize(self.expand_norm, self.expand(hidden), training=training))
    hidden = _relu6(normalize(self.depthwise_norm, self.depthwise(hidden), training=training))
    hidden = normalize(self.project_norm, self.project(hidden), training=training)
    return features + hidden if self.residual else hidden


def _norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
  return batch_norm(features, epsilon=_NORM_EPSILON, rngs=rngs)


def _relu6(features: Array) -> Array:
  # Not `jax.nn.relu6`, which halves the gradient at 0, where torch has none.
  return lax.clamp(0.0, features, 6.0)


class EfficientNet(Block):
  """An EfficientNet-Lite of any size.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  folds = (("stem_conv", "stem_norm"), ("head_conv", "head_norm"))

  def __init__(self, config: EfficientNetConfig, *, rngs: nnx.Rngs):
    self.stem_conv = conv(3, config.stem_width, 3, stride=2, padding="SAME", rngs=rngs)
    self.stem_norm = _norm(config.stem_width, rngs)
    features, layers = config.stem_width, []
    plan = zip(config.widths, config.depths, config.kernels, config.strides, strict=True)
    for stage, (width, depth, size, stride) in enumerate(plan):
      blocks = []
      for index in range(depth):
        shape = (_EXPANSION if stage else 1, size, 1 if index else stride)
        blocks.append(InvertedBlock(features, width, *shape, rngs=rngs))
        features = width
      layers.append(nnx.List(blocks))
    self.layers = nnx.List(layers)
    self.head_conv = conv(features, config.head_width, 1, rngs=rngs)
    self.head_norm = _norm(config.head_width, rngs)
    self.dropout = nnx.Dropout(config.dropout)
    self.head = nnx.Linear(config.head_width, config.num_classes, rngs=rngs)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of stem, stages, head and logits in forward order; see `__call__`."""
    features = _relu6(normalize(self.stem_norm, self.stem_conv(images), training=training))
    yield "stem", features
    for index, blocks in enumerate(self.layers):
      for block in blocks:
        features = block(features, training=training)
      yield f"stage{index + 1}", features
    features = _relu6(normalize(self.head_norm, self.head_conv(features), training=training))
    yield "features", features
    pooled = self.dropout(global_average(features), deterministic=not training, rngs=rngs)
    yield "logits", self.head(pooled)

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images; when training, running statistics are updated."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits
