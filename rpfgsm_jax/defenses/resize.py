"""Resizing as Pillow does it (bilinear filter, antialiased), differentiable.

What classifiers and platforms do to a photo before they look at it. Pillow weighs each result's
neighbors by a triangle that is as wide as the reduction, and rounds to whole gray levels after each
of its two passes. Both roundings are straight through here, so that the derivative is that of the
linear map.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.defenses import _checks
from rpfgsm_jax.typing import Array, ArrayLike

_STRIPS = 8  # of rows, on a CPU


def resize(image: ArrayLike, size: tuple[int, int]) -> Array:
  """Returns the image resized, its aspect ratio as `size` says.

  Each pass equals that of `PIL.Image.resize((width, height), Image.Resampling.BILINEAR)` of an
  8-bit image, but for values within 1e-4 of half a gray level (in a reduction, that many times
  1e-4): there Pillow's fixed-point weights decide, and the results may differ by one level. Those
  are few, up to 3% where the ratio is a simple one such as 5:4. The order of the passes is Pillow
  13's: horizontal first, unless the height loses more than twice the pixels that the width does.
  Before 13 it was horizontal first always: where that differs, a tenth of the values or more do, by
  a level. Reverse mode only: `jax.jvp` raises.

  Args:
    image: image(s), `(..., H, W, C)`, float32 gray levels 0..255.
    size: (height, width) of the result, pixels; static.

  Returns:
    `(..., height, width, C)`, whole gray levels where `image` has such.

  Raises:
    ValueError: a wrong shape or dtype, or a size that is not two integers of at least 1.
  """
  image = _checks.check_image(image)
  height, width = _check_size(size)
  old_height, old_width = image.shape[-3:-1]
  passes = [(image.ndim - 2, old_width, width), (image.ndim - 3, old_height, height)]
  if old_height - height > max(0, 2 * (old_width - width)):  # Pillow's rule, from version 13 on
    passes.reverse()
  for axis, old, new in passes:
    if new != old:
      image = _round_half_up(_along(image, axis, old, new))
  return image


def bilinear_weights(old: int, new: int) -> np.ndarray:
  """Returns Pillow's bilinear weights `(new, old)`, before it turns them into fixed point."""
  ratio = old / new
  centers = (np.arange(new) + 0.5) * ratio
  places = np.arange(old) + 0.5
  triangle = 1.0 - np.abs(places[None, :] - centers[:, None]) / max(ratio, 1.0)
  values = np.clip(triangle, 0.0, None)
  return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _along(image: Array, axis: int, old: int, new: int, adjoint: bool = False) -> Array:
  """Applies the weights, or their transpose, as a sum over the few that are not zero.

  A product with the matrix would cost four to eight times as much, of any size.
  """
  starts, taps = _bands(old, new, adjoint)
  if jax.default_backend() != "cpu" or image.shape[-3] < _STRIPS:
    return _weighted_sum(image, axis, starts, taps)
  return _in_strips(image, axis, starts, taps)


def _along_forward(image, axis, old, new, adjoint):
  return _along(image, axis, old, new, adjoint), None


def _along_backward(axis, old, new, adjoint, _, cotangent):
  return (_along(cotangent, axis, old, new, not adjoint),)


_along.defvjp(_along_forward, _along_backward)


def _weighted_sum(image: Array, axis: int, starts: np.ndarray, taps: np.ndarray) -> Array:
  shape = [-1 if place == axis else 1 for place in range(image.ndim)]
  terms = (
    jnp.take(image, starts + tap, axis=axis, mode="clip") * taps[:, tap].reshape(shape)
    for tap in range(taps.shape[1])
  )
  return functools.reduce(jnp.add, terms)


def _in_strips(image: Array, axis: int, starts: np.ndarray, taps: np.ndarray) -> Array:
  """The same sum in a loop over strips of rows.

  A loop has its operand in memory. Without one, XLA on a CPU computes what comes before (another
  pass, the end of JPEG) anew for each tap, and keeps no barrier that would forbid it.
  """
  rows_axis = image.ndim - 3
  rows = len(starts) if axis == rows_axis else image.shape[rows_axis]
  height = -(-rows // _STRIPS)
  spare = _STRIPS * height - rows
  if axis == rows_axis:  # strips of the result
    chosen = np.pad(starts, (0, spare)).reshape(_STRIPS, height)
    weighed = np.pad(taps, ((0, spare), (0, 0))).reshape(_STRIPS, height, -1)
    strips = jax.lax.map(lambda part: _weighted_sum(image, axis, *part), (chosen, weighed))
  else:
    margins = [(0, spare if place == rows_axis else 0) for place in range(image.ndim)]
    padded = jnp.pad(image, margins) if spare else image

    def strip(number: Array) -> Array:
      part = jax.lax.dynamic_slice_in_dim(padded, number * height, height, rows_axis)
      return _weighted_sum(part, axis, starts, taps)

    strips = jax.lax.map(strip, jnp.arange(_STRIPS))
  joined = jnp.moveaxis(strips, 0, rows_axis)
  shape = (*joined.shape[:rows_axis], _STRIPS * height, *joined.shape[rows_axis + 2 :])
  return jax.lax.slice_in_dim(joined.reshape(shape), 0, rows, axis=rows_axis)


# The whole matrix of a large photo has tens of megabytes: only the bands are kept.
@functools.lru_cache(maxsize=64)
def _bands(old: int, new: int, adjoint: bool) -> tuple[np.ndarray, np.ndarray]:
  """Returns where each row's weights begin, `(rows,)`, and the weights, `(rows, taps)`."""
  matrix = bilinear_weights(old, new).T if adjoint else bilinear_weights(old, new)
  used = matrix > 0
  first = used.argmax(axis=1)
  last = matrix.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
  count = int((last - first).max()) + 1
  starts = np.minimum(first, matrix.shape[1] - count).astype(np.int32)
  taps = np.take_along_axis(matrix, starts[:, None] + np.arange(count)[None, :], axis=1)
  return starts, taps


@jax.custom_jvp
def _round_half_up(values: Array) -> Array:
  return jnp.floor(values + 0.5)


@_round_half_up.defjvp
def _round_half_up_jvp(primals, tangents):
  return _round_half_up(primals[0]), tangents[0]


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
  try:
    height, width = size
    valid = height >= 1 and width >= 1 and (int(height), int(width)) == (height, width)
  except (TypeError, ValueError, OverflowError):  # the last: of infinity
    valid = False
  if not valid:
    raise ValueError(
      f"size must be (height, width), two integers of at least 1, got {size!r}; "
      "round what was computed."
    )
  return int(height), int(width)
