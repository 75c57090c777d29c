"""JPEG compression and decompression, as Pillow (libjpeg-turbo) does it, bit for bit.

Gray levels 0..255 in, integral gray levels out. The forward pass is libjpeg's integer arithmetic
(`_jpeg_integer`); the backward pass is that of the same map without rounding and clipping
(`_jpeg_linear`), with a stated rule at the quantization of the coefficients.
"""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rpfgsm_jax.defenses import _checks, _jpeg_integer, _jpeg_linear
from rpfgsm_jax.rounding import (
  Rounding,
  check_rounding,
  clip_values,
  cubic_slope,
  round_cubic_value,
)

Subsampling = Literal["4:2:0", "4:4:4"]
MIN_QUALITY = 1
MAX_QUALITY = 100


def jpeg(
  image: ArrayLike,
  quality: ArrayLike,
  *,
  subsampling: Subsampling = "4:2:0",
  rounding: Rounding = "straight_through",
) -> Array:
  """Returns the image after JPEG compression and decompression.

  Sanchez-Matilla et al. (2020), Sec. III-B. For images with integral gray levels the values equal
  those of Pillow's `save(format="JPEG", quality=quality, subsampling=subsampling)` and `open`,
  without exception; an image with one channel is coded as mode "L".

  Derivatives, by `rounding`:
  - `"straight_through"`: every rounding and clipping counts as the identity. The quantization then
    cancels: the derivative is color transform, chroma averaging and upsampling, and their inverses,
    the same for every quality.
  - `"cubic"`: the rounding of the quantized coefficients has the derivative `3 (u - round(u))^2`,
    all other rounding and clipping counts as the identity.
  - `"cubic_value"`: the paper's surrogate as the value too: float arithmetic in which nothing is
    rounded but the coefficients, by `round(u) + (u - round(u))^3`; its own derivative, one on the
    closed interval 0..255 where the result is clipped and zero outside.

  Note:
    Only the rounding of coefficients follows `rounding`, as in the paper's source for the surrogate
    (Shin and Song, 2017); libjpeg's other roundings are below one gray level.

  Args:
    image: image(s), `(..., H, W, C)`, C 1 or 3, float32 gray levels 0..255. Other values than
      integers are first rounded, half to even, and clipped to 0..255, straight through
      (not under `"cubic_value"`).
    quality: integer in 1..100, a number or a traced scalar (int32 or float32). A traced value
      cannot be checked: it is rounded and clipped to 1..100.
    subsampling: "4:2:0" (chroma at half size in both directions) or "4:4:4"; no meaning for C = 1.
    rounding: rule for the derivative, see above and `rpfgsm_jax.rounding`.

  Returns:
    Same shape and dtype, gray levels 0..255, integral except under `"cubic_value"`. `quality` gets
    no gradient.

  Raises:
    ValueError: a wrong shape or dtype, an unknown option, or a known `quality` outside 1..100.
  """
  check_rounding(rounding)
  if subsampling not in get_args(Subsampling):
    raise ValueError(f'subsampling must be "4:2:0" or "4:4:4", got {subsampling!r}.')
  image = _checks.check_image(image, channels=(1, 3))
  remedy = "libjpeg knows no other; for no compression leave the defense out."
  quality = _checks.as_integer("quality", quality, MIN_QUALITY, MAX_QUALITY, remedy)
  tables = _jpeg_integer.quantization_tables(quality)
  if rounding == "cubic_value":
    return _surrogate(image, tables, subsampling)
  return _jpeg(image, tables, subsampling, rounding)


def _tables_by_group(groups: list[Array], tables: Array) -> list[Array]:
  """Returns the tables of every group of planes."""
  first = groups[0].shape[-3]
  return [tables[:first], tables[first:]][: len(groups)]


def _code(image: Array, tables: Array, subsampling: str) -> tuple[Array, list[Array]]:
  """Returns the decoded image and, per group, `u - round(u)` of the coefficients in table steps."""
  integral = jnp.clip(jnp.round(image), 0, 255).astype(jnp.int32)
  groups = _jpeg_integer.split(integral, subsampling)
  decoded, residuals = [], []
  for planes, table in zip(groups, _tables_by_group(groups, tables), strict=True):
    coefficients = _jpeg_integer.forward_dct(planes - 128)
    levels = _jpeg_integer.quantize(coefficients, table)
    decoded.append(_jpeg_integer.decode(levels, table))
    steps = 8 * _jpeg_integer.tables_for(levels, table)
    remainders = (coefficients - levels * steps).astype(jnp.float32)
    residuals.append(remainders / steps.astype(jnp.float32))
  return _jpeg_integer.merge(decoded, image.shape).astype(jnp.float32), residuals


# Compiled as a whole when called directly: op by op it would be a hundred small programs.
@functools.partial(jax.jit, static_argnums=(2, 3), inline=True)
@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _jpeg(image: Array, tables: Array, subsampling: str, rounding: str) -> Array:
  return _code(image, tables, subsampling)[0]


@_jpeg.__wrapped__.defjvp  # type: ignore[attr-defined]
def _jpeg_jvp(subsampling, rounding, primals, tangents):
  decoded, residuals = _code(*primals, subsampling)
  between = None
  if rounding == "cubic":
    between = [functools.partial(jnp.multiply, cubic_slope(r)) for r in residuals]
  return decoded, _jpeg_linear.through(tangents[0], subsampling, between)


@functools.partial(jax.jit, static_argnums=2, inline=True)
def _surrogate(image: Array, tables: Array, subsampling: str) -> Array:
  """Returns JPEG in float arithmetic with the cubic surrogate at the quantization."""

  def quantize(coefficients: Array, table: Array) -> Array:
    steps = _jpeg_integer.tables_for(coefficients, table).astype(jnp.float32)
    return round_cubic_value(coefficients / steps) * steps

  groups = jax.eval_shape(lambda x: _jpeg_linear.split(x, subsampling), image)
  between = [functools.partial(quantize, table=table) for table in _tables_by_group(groups, tables)]
  decoded = 128 + _jpeg_linear.through(image - 128, subsampling, between)
  return clip_values(decoded, 0, 255, "cubic_value")
