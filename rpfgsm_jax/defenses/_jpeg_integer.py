"""The exact forward of JPEG: libjpeg's integer arithmetic (as Pillow uses it) in int32.

Planes are int32, `(..., P, H, W)`, P planes with one table each; as blocks they are
`(..., P, H/8, 8, W/8, 8)`, a block's rows on axis -3 and its columns on axis -1. Coefficients are 8
times the orthonormal DCT, as in libjpeg. Every step names the libjpeg file that defines its
rounding: baseline, slow-integer DCT, fancy upsampling.

Both 1-D transforms are sums of products without rounding inside, then one rounding shift, so that
any order of the sums gives libjpeg's integers, and a product of matrices too. Where a value leaves
0..255 the result saturates, as in libjpeg-turbo's vector code.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

BLOCK = 8
_COLOR_BITS = 16
_DCT_BITS = 13
_PASS_BITS = 2

# Rec. ITU-T T.81, Annex K, tables K.1 and K.2.
_LUMA_TABLE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ],
  np.int32,
)
_CHROMA_TABLE = np.full((BLOCK, BLOCK), 99, np.int32)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def _scaled_tables(quality: int) -> np.ndarray:
  """The tables of Y, Cb and Cr at a quality (jcparam.c, baseline), `(3, 8, 8)`, 1..255."""
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  tables = np.stack([_LUMA_TABLE, _CHROMA_TABLE, _CHROMA_TABLE])
  return np.clip((tables * scale + 50) // 100, 1, 255)


_TABLES = np.stack([_scaled_tables(quality) for quality in range(1, 101)])


def quantization_tables(quality: Array) -> Array:
  """Returns the tables of Y, Cb and Cr at a quality.

  Looked up, not computed: XLA would fuse the arithmetic into every coefficient's division, at the
  price of half the defense. `(3, 8, 8)`, 1..255, rows by vertical frequency.
  """
  return jax.lax.dynamic_index_in_dim(jnp.asarray(_TABLES), quality - 1, keepdims=False)


def _fixed(number: float, bits: int = _COLOR_BITS) -> int:
  return int(number * (1 << bits) + 0.5)


def _descale(values: Array, bits: int) -> Array:
  return (values + (1 << (bits - 1))) >> bits


def rgb_to_ycc(image: Array) -> list[Array]:
  """Returns the planes Y, Cb, Cr, 0..255 (jccolor.c)."""
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  half = 1 << (_COLOR_BITS - 1)
  center = (128 << _COLOR_BITS) + half - 1
  luma = _fixed(0.299) * red + _fixed(0.587) * green + _fixed(0.114) * blue + half
  chroma_blue = _fixed(0.5) * blue - _fixed(0.16874) * red - _fixed(0.33126) * green + center
  chroma_red = _fixed(0.5) * red - _fixed(0.41869) * green - _fixed(0.08131) * blue + center
  return [plane >> _COLOR_BITS for plane in (luma, chroma_blue, chroma_red)]


def ycc_to_rgb(luma: Array, chroma_blue: Array, chroma_red: Array) -> Array:
  """Returns the clipped color image (jdcolor.c)."""
  half = 1 << (_COLOR_BITS - 1)
  by_blue = np.array([0, -_fixed(0.34414), _fixed(1.772)], np.int32)
  by_red = np.array([_fixed(1.402), -_fixed(0.71414), 0], np.int32)
  blue, red = jnp.expand_dims(chroma_blue - 128, -1), jnp.expand_dims(chroma_red - 128, -1)
  lead = (1,) * luma.ndim
  difference = blue * by_blue.reshape(*lead, 3) + red * by_red.reshape(*lead, 3)
  image = jnp.expand_dims(luma, -1) + ((difference + half) >> _COLOR_BITS)
  return jnp.clip(image, 0, 255)


def pad_to_multiple(plane: Array, rows: int, columns: int) -> Array:
  """Repeats the last row and column up to multiples of `rows` and `columns` (jcprepct.c)."""
  height, width = plane.shape[-2:]
  missing = (-height % rows, -width % columns)
  if missing == (0, 0):
    return plane
  return jnp.pad(plane, [(0, 0)] * (plane.ndim - 2) + [(0, n) for n in missing], mode="edge")


def downsample(plane: Array) -> Array:
  """Halves both axes (h2v2_downsample, jcsample.c), padded to whole blocks.

  Columns are padded before the averaging, up to two blocks; rows only to an even number, and the
  last averaged row is then repeated. The bias alternates 1, 2 along a row.
  """
  plane = pad_to_multiple(plane, 2, 2 * BLOCK)
  width = plane.shape[-1]
  pairs = plane[..., 0::2, :] + plane[..., 1::2, :]
  bias = 1 + np.arange(width // 2, dtype=np.int32) % 2
  bias = bias.reshape((1,) * (plane.ndim - 1) + bias.shape)
  averaged = (pairs[..., 0::2] + pairs[..., 1::2] + bias) >> 2
  return pad_to_multiple(averaged, BLOCK, BLOCK)


def upsample(plane: Array, height: int, width: int) -> Array:
  """Doubles both axes (h2v2_fancy_upsample, jdsample.c; h2v2_upsample for one or two columns)."""
  rows, columns = plane.shape[-2:]
  if columns <= 2:
    return jnp.repeat(jnp.repeat(plane, 2, -2), 2, -1)[..., :height, :width]
  lead = [(0, 0)] * (plane.ndim - 2)
  padded = jnp.pad(plane, [*lead, (1, 1), (1, 1)], mode="edge")
  center = 3 * padded[..., 1:-1, :]
  tall = jnp.stack([center + padded[..., :-2, :], center + padded[..., 2:, :]], -2)
  tall = tall.reshape(*plane.shape[:-2], 2 * rows, columns + 2)[..., :height, :]
  center = 3 * tall[..., 1:-1]
  wide = jnp.stack([(center + tall[..., :-2] + 8) >> 4, (center + tall[..., 2:] + 7) >> 4], -1)
  return wide.reshape(*plane.shape[:-2], height, 2 * columns)[..., :width]


def to_blocks(plane: Array) -> Array:
  """Returns `(..., H/8, 8, W/8, 8)` from `(..., H, W)`."""
  height, width = plane.shape[-2:]
  return plane.reshape(*plane.shape[:-2], height // BLOCK, BLOCK, width // BLOCK, BLOCK)


def split(image: Array, subsampling: str) -> list[Array]:
  """Returns the planes that JPEG codes, grouped by size and padded to whole blocks.

  `[(..., C, H8, W8)]`, or luma and chroma `[(..., 1, H8, W8), (..., 2, H16 / 2, W16 / 2)]`.
  """
  if image.shape[-1] == 1:
    return [pad_to_multiple(jnp.moveaxis(image, -1, -3), BLOCK, BLOCK)]
  luma, *chroma = rgb_to_ycc(image)
  if subsampling == "4:4:4":
    return [pad_to_multiple(jnp.stack([luma, *chroma], -3), BLOCK, BLOCK)]
  luma = pad_to_multiple(jnp.expand_dims(luma, -3), BLOCK, BLOCK)
  return [luma, downsample(jnp.stack(chroma, -3))]


def merge(groups: list[Array], shape: tuple[int, ...]) -> Array:
  """Returns the image of decoded planes; the inverse of `split` up to JPEG's own loss."""
  height, width, channels = shape[-3:]
  planes = groups[0][..., :height, :width]
  if channels == 1:
    return jnp.moveaxis(planes, -3, -1)
  luma, chroma = planes[..., 0, :, :], planes[..., 1:, :, :]
  if len(groups) == 2:
    chroma = groups[1][..., : -(-height // 2), : -(-width // 2)]
    chroma = upsample(chroma, height, width)
  return ycc_to_rgb(luma, chroma[..., 0, :, :], chroma[..., 1, :, :])


def _odd_part(t0: Any, t1: Any, t2: Any, t3: Any) -> list[Any]:
  """The odd half of a 1-D transform; the two directions differ in the order of in- and outputs."""
  z1, z2, z3, z4 = t0 + t3, t1 + t2, t0 + t2, t1 + t3
  z5 = (z3 + z4) * _fixed(1.175875602, _DCT_BITS)
  z1, z2 = z1 * -_fixed(0.899976223, _DCT_BITS), z2 * -_fixed(2.562915447, _DCT_BITS)
  z3 = z3 * -_fixed(1.961570560, _DCT_BITS) + z5
  z4 = z4 * -_fixed(0.390180644, _DCT_BITS) + z5
  return [
    t0 * _fixed(0.298631336, _DCT_BITS) + z1 + z3,
    t1 * _fixed(2.053119869, _DCT_BITS) + z2 + z4,
    t2 * _fixed(3.072711026, _DCT_BITS) + z2 + z3,
    t3 * _fixed(1.501321110, _DCT_BITS) + z1 + z4,
  ]


def _forward_1d(x: Sequence[Any]) -> list[Any]:
  """Eight samples to eight coefficients, with the factor 2^13 (jfdctint.c)."""
  t0, t7, t1, t6 = x[0] + x[7], x[0] - x[7], x[1] + x[6], x[1] - x[6]
  t2, t5, t3, t4 = x[2] + x[5], x[2] - x[5], x[3] + x[4], x[3] - x[4]
  t10, t13, t11, t12 = t0 + t3, t0 - t3, t1 + t2, t1 - t2
  z1 = (t12 + t13) * _fixed(0.541196100, _DCT_BITS)
  out2 = z1 + t13 * _fixed(0.765366865, _DCT_BITS)
  out6 = z1 - t12 * _fixed(1.847759065, _DCT_BITS)
  out0, out4 = (t10 + t11) << _DCT_BITS, (t10 - t11) << _DCT_BITS
  out7, out5, out3, out1 = _odd_part(t4, t5, t6, t7)
  return [out0, out1, out2, out3, out4, out5, out6, out7]


def _inverse_1d(x: Sequence[Any]) -> list[Any]:
  """Eight coefficients to eight samples, with the factor 2^13 (jidctint.c)."""
  z1 = (x[2] + x[6]) * _fixed(0.541196100, _DCT_BITS)
  t2 = z1 - x[6] * _fixed(1.847759065, _DCT_BITS)
  t3 = z1 + x[2] * _fixed(0.765366865, _DCT_BITS)
  t0, t1 = (x[0] + x[4]) << _DCT_BITS, (x[0] - x[4]) << _DCT_BITS
  t10, t13, t11, t12 = t0 + t3, t0 - t3, t1 + t2, t1 - t2
  o0, o1, o2, o3 = _odd_part(x[7], x[5], x[3], x[1])
  return [t10 + o3, t11 + o2, t12 + o1, t13 + o0, t13 - o0, t12 - o1, t11 - o2, t10 - o3]


# The same transforms as int32 matrices, (output, input). A product with one is a boundary for XLA's
# fusion; two sums of slices in a row would make it compute the first eight times over.
_UNIT_VECTORS = list(np.eye(BLOCK, dtype=np.int32))
_FORWARD = np.stack(_forward_1d(_UNIT_VECTORS))
_INVERSE = np.stack(_inverse_1d(_UNIT_VECTORS))


def forward_dct(planes: Array) -> Array:
  """Returns the coefficients, 8 times orthonormal (jpeg_fdct_islow): rows first, then columns."""
  rows = _descale(jnp.matmul(to_blocks(planes), _FORWARD.T), _DCT_BITS - _PASS_BITS)
  slices = [rows[..., row, :, :] for row in range(BLOCK)]
  return jnp.stack([_descale(y, _DCT_BITS + _PASS_BITS) for y in _forward_1d(slices)], -3)


def inverse_dct(coefficients: Array) -> Array:
  """Returns the samples before centering (jpeg_idct_islow): columns first, then rows."""
  *lead, tall, _, wide, _ = coefficients.shape
  strips = coefficients.reshape(*lead, tall, BLOCK, wide * BLOCK)
  columns = _descale(jnp.matmul(_INVERSE, strips), _DCT_BITS - _PASS_BITS)
  rows = jnp.matmul(columns.reshape(*lead, tall * BLOCK, wide, BLOCK), _INVERSE.T)
  return _descale(rows, _DCT_BITS + _PASS_BITS + 3).reshape(*lead, tall * BLOCK, wide * BLOCK)


def tables_for(blocks: Array, tables: Array) -> Array:
  """Returns `(P, 8, 8)` tables with ones for the other axes of `blocks`, to broadcast with it."""
  return tables.reshape((1,) * (blocks.ndim - 5) + (-1, 1, BLOCK, 1, BLOCK))


def quantize(coefficients: Array, tables: Array) -> Array:
  """Returns the coefficients quantized by `(P, 8, 8)` tables, half away from zero (jcdctmgr.c)."""
  divisor = (tables_for(coefficients, tables) * 8).astype(jnp.float32)
  # Integer division is slow. The added 1/2 keeps the quotient 1 / (2 divisor) away from integers,
  # at least 2^-15 of its size: no rounding of float32, not even of a reciprocal, crosses one.
  size = jnp.abs(coefficients).astype(jnp.float32) + (divisor / 2 + 0.5)
  size = jnp.floor(size * (1 / divisor)).astype(jnp.int32)
  return jnp.where(coefficients < 0, -size, size)


def decode(levels: Array, tables: Array) -> Array:
  """Returns the planes `(..., P, H, W)` of quantized coefficients, 0..255."""
  return jnp.clip(inverse_dct(levels * tables_for(levels, tables)) + 128, 0, 255)
