"""JPEG without its rounding and clipping: the linear map whose derivative the backward pass uses.

Images are float32, `(..., H, W, C)`; planes and blocks are shaped as in `_jpeg_integer`, but the
coefficients here are orthonormal. All steps are linear except what a caller puts between the DCT
and its inverse. Gray 128 is the origin: `128 + through(image - 128, ...)` needs no other bias,
because the rows of the color matrix sum to 1, 0 and 0.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rpfgsm_jax.defenses._jpeg_integer import BLOCK, pad_to_multiple, to_blocks

# libjpeg's five-digit constants (jccolor.c, jdcolor.c).
_TO_YCC = ((0.299, 0.587, 0.114), (-0.16874, -0.33126, 0.5), (0.5, -0.41869, -0.08131))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.34414, -0.71414), (1.0, 1.772, 0.0))

_FREQUENCY, _SAMPLE = np.mgrid[0:BLOCK, 0:BLOCK]
_DCT = np.cos((2 * _SAMPLE + 1) * _FREQUENCY * np.pi / (2 * BLOCK)) / 2
_DCT[0] /= np.sqrt(2)
_DCT = _DCT.astype(np.float32)


def _mix(planes: list[Array], matrix: tuple[tuple[float, ...], ...]) -> list[Array]:
  """Multiplies three planes by a 3x3 matrix."""
  return [
    jnp.asarray(sum(weight * plane for weight, plane in zip(row, planes, strict=True) if weight))
    for row in matrix
  ]


def _multiply(blocks: Array, matrix: np.ndarray) -> Array:
  """Applies `matrix` to both axes of every block."""
  *lead, tall, _, wide, _ = blocks.shape
  precision = jax.lax.Precision.HIGHEST
  blocks = jnp.matmul(blocks, matrix.T, precision=precision)
  strips = blocks.reshape(*lead, tall, BLOCK, wide * BLOCK)
  return jnp.matmul(matrix, strips, precision=precision).reshape(blocks.shape)


def _downsample(planes: Array) -> Array:
  """Averages 2x2 samples, padded as `_jpeg_integer.downsample` does, to whole blocks."""
  planes = pad_to_multiple(planes, 2, 2 * BLOCK)
  pairs = planes[..., 0::2, :] + planes[..., 1::2, :]
  return pad_to_multiple((pairs[..., 0::2] + pairs[..., 1::2]) / 4, BLOCK, BLOCK)


def _double(planes: Array, axis: int) -> Array:
  """Doubles axis -2 or -1 with the triangle filter: 3/4 of the near sample, 1/4 of the next."""
  size = planes.shape[axis]
  edges = [(0, 0)] * planes.ndim
  edges[axis] = (1, 1)
  padded = jnp.pad(planes, edges, mode="edge")
  near = 0.75 * planes
  before = 0.25 * jax.lax.slice_in_dim(padded, 0, size, axis=axis)
  after = 0.25 * jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
  shape = list(planes.shape)
  shape[axis] = 2 * size
  return jnp.stack([near + before, near + after], axis).reshape(shape)


def _upsample(planes: Array, height: int, width: int) -> Array:
  """Doubles both axes by libjpeg's rule (see `_jpeg_integer.upsample`), then crops."""
  if planes.shape[-1] <= 2:
    planes = jnp.repeat(jnp.repeat(planes, 2, -2), 2, -1)
  else:
    planes = _double(_double(planes, -2), -1)
  return planes[..., :height, :width]


def split(image: Array, subsampling: str) -> list[Array]:
  """The linear part of `_jpeg_integer.split`: same arguments and shapes, float32."""
  if image.shape[-1] == 1:
    return [pad_to_multiple(jnp.moveaxis(image, -1, -3), BLOCK, BLOCK)]
  luma, *chroma = _mix([image[..., channel] for channel in range(3)], _TO_YCC)
  if subsampling == "4:4:4":
    return [pad_to_multiple(jnp.stack([luma, *chroma], -3), BLOCK, BLOCK)]
  luma = pad_to_multiple(jnp.expand_dims(luma, -3), BLOCK, BLOCK)
  return [luma, _downsample(jnp.stack(chroma, -3))]


def merge(groups: list[Array], shape: tuple[int, ...]) -> Array:
  """The linear part of `_jpeg_integer.merge`: same arguments and shapes, float32."""
  height, width, channels = shape[-3:]
  planes = groups[0][..., :height, :width]
  if channels == 1:
    return jnp.moveaxis(planes, -3, -1)
  luma, chroma = planes[..., 0, :, :], planes[..., 1:, :, :]
  if len(groups) == 2:
    chroma = groups[1][..., : -(-height // 2), : -(-width // 2)]
    chroma = _upsample(chroma, height, width)
  return jnp.stack(_mix([luma, chroma[..., 0, :, :], chroma[..., 1, :, :]], _TO_RGB), -1)


def through(
  image: Array, subsampling: str, between: Sequence[Callable[[Array], Array]] | None
) -> Array:
  """Returns the image after color transform, DCT, `between`, and all of it inverted.

  `between` changes each group's orthonormal coefficients, `(..., P, H/8, 8, W/8, 8)`; None leaves
  them as they are, and the DCT out. Nothing is rounded or clipped.
  """
  groups = split(image, subsampling)
  if between is not None:
    coded = []
    for planes, change in zip(groups, between, strict=True):
      coefficients = change(_multiply(to_blocks(planes), _DCT))
      coded.append(_multiply(coefficients, _DCT.T).reshape(planes.shape))
    groups = coded
  return merge(groups, image.shape)
