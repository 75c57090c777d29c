"""AlexNet in torchvision's single-column form (Krizhevsky, "One weird trick", 2014), NHWC."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rpfgsm_jax.models.convolution import conv
from rpfgsm_jax.models.layers import Block, batch_norm, max_pool, normalize
from rpfgsm_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
  """Shape of an AlexNet; the defaults are the one trained on Places365."""

  widths: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)  # channels a convolution
  hidden: int = 4096  # features of the two hidden dense layers
  pool_size: int = 6  # side of the grid that the dense layers see
  batch_norm: bool = False  # a norm behind each convolution; the original has none
  dropout: float = 0.5  # before each hidden dense layer, in training
  num_classes: int = 365
  image_size: tuple[int, int] = (224, 224)  # (height, width), pixels


class AlexNet(Block):
  """Five convolutions and three dense layers.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  folds = tuple((f"conv{i}", f"norm{i}") for i in range(1, 6))

  def __init__(self, config: AlexNetConfig, *, rngs: nnx.Rngs):
    bias, widths = not config.batch_norm, config.widths
    self.pool_size = config.pool_size
    self.conv1 = conv(3, widths[0], 11, stride=4, padding=2, use_bias=bias, rngs=rngs)
    self.conv2 = conv(widths[0], widths[1], 5, padding=2, use_bias=bias, rngs=rngs)
    self.conv3 = conv(widths[1], widths[2], 3, padding=1, use_bias=bias, rngs=rngs)
    self.conv4 = conv(widths[2], widths[3], 3, padding=1, use_bias=bias, rngs=rngs)
    self.conv5 = conv(widths[3], widths[4], 3, padding=1, use_bias=bias, rngs=rngs)
    for index, width in enumerate(widths, start=1):
      norm = batch_norm(width, rngs=rngs) if config.batch_norm else None
      setattr(self, f"norm{index}", norm)
    self.dropout = nnx.Dropout(config.dropout)
    self.dense1 = nnx.Linear(widths[4] * config.pool_size**2, config.hidden, rngs=rngs)
    self.dense2 = nnx.Linear(config.hidden, config.hidden, rngs=rngs)
    self.head = nnx.Linear(config.hidden, config.num_classes, rngs=rngs)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of each convolution's stage, dense layer and logits, in order."""
    features = images
    for index in range(1, 6):
      features = getattr(self, f"conv{index}")(features)
      norm = getattr(self, f"norm{index}")
      features = jax.nn.relu(normalize(norm, features, training=training))
      if index in (1, 2, 5):
        features = max_pool(features)
      yield f"conv{index}", features
    features = adaptive_average(features, self.pool_size)
    features = features.reshape(features.shape[0], -1)
    for index, dense in enumerate((self.dense1, self.dense2), start=1):
      features = self.dropout(features, deterministic=not training, rngs=rngs)
      features = jax.nn.relu(dense(features))
      yield f"dense{index}", features
    yield "logits", self.head(features)

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images; when training, `rngs` draw dropout masks."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits


def adaptive_average(features: Array, size: int) -> Array:
  """Returns means over a `size` x `size` grid of cells, as `torch.nn.AdaptiveAvgPool2d`.

  Cell i of a side of length L covers floor(i L / size) .. ceil((i + 1) L / size) - 1; cells overlap
  when `size` does not divide L.
  """
  height, width = features.shape[1:3]
  if (height, width) == (size, size):
    return features
  rows, columns = (
    jnp.asarray(_cell_weights(side, size), features.dtype) for side in (height, width)
  )
  return jnp.einsum("ih,bhwc,jw->bijc", rows, features, columns)


def _cell_weights(length: int, size: int) -> np.ndarray:
  weights = np.zeros((size, length), np.float32)
  for cell in range(size):
    start, stop = cell * length // size, -(-(cell + 1) * length // size)
    weights[cell, start:stop] = 1.0 / (stop - start)
  return weights
