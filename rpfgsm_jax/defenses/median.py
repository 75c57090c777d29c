"""Median smoothing: every sample becomes the median of the square window around it, per channel.

Gray levels in, the same kind out: the result is always one of the window's own values.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from rpfgsm_jax.defenses import _checks

SIZES = (2, 3, 5)


def median(image: ArrayLike, size: ArrayLike) -> Array:
  """Returns the median-smoothed image.

  Sanchez-Matilla et al. (2020), Sec. III-B; the squeezer is that of Xu et al. (2018). The values
  equal `scipy.ndimage.median_filter(image, size=(size, size, 1), mode="reflect")`: the border
  mirrors, the edge sample included; a window of even size reaches up and left, and its median is
  the upper of the middle two.

  The gradient goes to the one sample of the window that is the median. Where several are equal it
  goes to the first, by rows; it is never split. Reverse mode only: `jax.jvp` raises.

  Args:
    image: image(s), `(..., H, W, C)`, float32 gray levels, integral or not, no NaN.
    size: side of the window, 2, 3 or 5. A Python number computes just that size. A traced scalar
      (int32 or float32) becomes a `lax.switch`: a real branch, unless it is batched by `vmap`,
      which computes all three sizes. A traced value cannot be checked: it is rounded, and one that
      is not allowed acts as the next lower size, or 2.

  Returns:
    Same shape and dtype. `size` gets no gradient.

  Raises:
    ValueError: a wrong shape or dtype, or a known `size` that is not 2, 3 or 5.
  """
  image = _checks.check_image(image)
  remedy = "the paper's median defense has the sizes 2, 3 and 5."
  traced = _checks.as_integer("size", size, SIZES[0], SIZES[-1], remedy)
  if not isinstance(size, jax.core.Tracer):
    known = int(size)  # type: ignore[arg-type]  # a scalar, as_integer has seen to it
    if known not in SIZES:
      raise ValueError(f"size must be one of {SIZES}, got {size}; {remedy}")
    return _median(image, known)
  branch = sum((traced >= larger).astype(jnp.int32) for larger in SIZES[1:])
  return lax.switch(branch, [functools.partial(_median, size=size) for size in SIZES], image)


# Compiled as a whole when called directly: op by op it would be a hundred small programs.
@functools.partial(jax.jit, static_argnums=1, inline=True)
@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _median(image: Array, size: int) -> Array:
  return _from_order(_select(_taps(_to_order(_mirror(image, size)), size)))


def _median_forward(image: Array, size: int) -> tuple[Array, Array]:
  """Returns the median and, as uint8, which tap of the window it is."""
  taps = _taps(_to_order(_mirror(image, size)), size)
  middle = _select(taps)
  winner = jnp.full(image.shape, len(taps) - 1, jnp.int32)
  for number in reversed(range(len(taps) - 1)):
    winner = jnp.where(taps[number] == middle, number, winner)
  return _from_order(middle), winner.astype(jnp.uint8)


def _median_backward(size: int, winner: Array, cotangent: Array) -> tuple[Array]:
  """Adds every cotangent at its winner: one shifted, masked sum per tap, no scatter.

  A scatter is as fast on a CPU, but on a GPU it adds in no fixed order.
  """
  *lead, height, width, channels = winner.shape
  reach = size - 1
  margins = [(0, 0)] * len(lead) + [(reach, reach), (reach, reach), (0, 0)]
  # The mirror is linear: its pullback is its transpose, at any point of the same type.
  _, unmirror = jax.vjp(functools.partial(_mirror, size=size), cotangent)
  winner = jnp.pad(winner, margins, constant_values=size * size)
  cotangent = jnp.pad(cotangent, margins)
  total = jnp.zeros((*lead, height + reach, width + reach, channels), cotangent.dtype)
  for number, (row, column) in enumerate(itertools.product(range(size), repeat=2)):
    rows = slice(reach - row, 2 * reach - row + height)
    columns = slice(reach - column, 2 * reach - column + width)
    chosen = winner[..., rows, columns, :] == number
    total += jnp.where(chosen, cotangent[..., rows, columns, :], 0)
  return unmirror(total)


_median.__wrapped__.defvjp(_median_forward, _median_backward)  # type: ignore[attr-defined]


def _mirror(image: Array, size: int) -> Array:
  """Pads so that every sample has its whole window; the border mirrors, edge sample included."""
  before, after = size // 2, size - 1 - size // 2
  margins = [(0, 0)] * (image.ndim - 3) + [(before, after), (before, after), (0, 0)]
  return jnp.pad(image, margins, mode="symmetric")


def _taps(padded: Array, size: int) -> list[Array]:
  """Returns the `size * size` shifted images, by rows."""
  height, width = (length - size + 1 for length in padded.shape[-3:-1])
  offsets = itertools.product(range(size), repeat=2)
  return [padded[..., i : i + height, j : j + width, :] for i, j in offsets]


def _to_order(values: Array) -> Array:
  """Returns int32 keys in the order of float32 values: integer minima cost a third of float ones.

  The bits of a float are ordered as an integer's but for the sign; negative ones are reversed.
  """
  bits = lax.bitcast_convert_type(values, jnp.int32)
  return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _from_order(keys: Array) -> Array:
  """The inverse of `_to_order`."""
  return lax.bitcast_convert_type(keys ^ ((keys >> 31) & 0x7FFFFFFF), jnp.float32)


def _select(taps: list[Array]) -> Array:
  """Returns element `n // 2` of the n sorted taps by a network of minima and maxima.

  Forgetful selection: of `n // 2 + 2` held values neither the least nor the greatest can be the
  median of all; drop both, take in one more, repeat. 99 comparisons for n = 25, and no sort.
  """
  if len(taps) == 4:
    low, high = _order(taps[0], taps[1]), _order(taps[2], taps[3])
    return lax.max(lax.min(low[1], high[1]), lax.max(low[0], high[0]))
  held, waiting = taps[: len(taps) // 2 + 2], taps[len(taps) // 2 + 2 :]
  while len(held) > 1:
    held = _drop_extremes(held)
    held, waiting = held + waiting[:1], waiting[1:]
  return held[0]


def _order(first: Array, second: Array) -> tuple[Array, Array]:
  return lax.min(first, second), lax.max(first, second)


def _drop_extremes(values: list[Array]) -> list[Array]:
  """Returns the multiset of three or more values without one minimum and one maximum."""
  pairs = [_order(*values[i : i + 2]) for i in range(0, len(values) - 1, 2)]
  lows, highs = [low for low, _ in pairs], [high for _, high in pairs]
  if len(values) % 2:
    lows.append(values[-1])
  kept, least = [], lows[0]
  for value in lows[1:]:
    least, other = _order(least, value)
    kept.append(other)
  if len(values) % 2:
    # The odd one out has only been compared with the low halves: it may be the greatest.
    highs.append(kept.pop())
  greatest = highs[0]
  for value in highs[1:]:
    other, greatest = _order(greatest, value)
    kept.append(other)
  return kept
