"""CIELAB colors and the distance between images in them, with gradients that are always finite.

Gray levels 0..255 of sRGB in; L in 0..100, a and b in about -110..110 out.
"""

import jax.numpy as jnp

from rpfgsm_jax.typing import Array, Images

# ITU-R BT.709 primaries and the D65 white of the 2 degree observer, rounded as scikit-image has
# them: white comes out with a and b up to 0.005.
_XYZ_OF_RGB = (
  (0.412453, 0.357580, 0.180423),
  (0.212671, 0.715160, 0.072169),
  (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_KNEE = 216 / 24389  # CIE 15: exact, so that the two branches meet
_SLOPE = 24389 / 27 / 116


def rgb_to_lab(images: Images) -> Array:
  """Returns the CIELAB coordinates (L, a, b last) of sRGB colors `(..., H, W, 3)`, D65 white.

  CIE 15:2004, Sec. 8.2.1, after the transfer function of IEC 61966-2-1. Colors outside 0..255
  continue the two functions.
  """
  return xyz_to_lab(*rgb_to_xyz(images))


def rgb_to_xyz(images: Images) -> tuple[Array, Array, Array]:
  """Returns X, Y and Z, `(..., H, W)` each, of sRGB colors; the Y of white is 1."""
  if images.ndim < 3 or images.shape[-1] != 3:
    raise ValueError(f"images must be (..., H, W, 3), red green blue, got {images.shape}.")
  value = images / 255.0
  bright = value > 0.04045
  # The branch not taken must be finite too, or its NaN derivative times zero is NaN: here a
  # fractional power of what may be negative, below the infinite slope of the root at black.
  power = _power((jnp.where(bright, value, 1.0) + 0.055) / 1.055, 2.4)
  linear = jnp.where(bright, power, value / 12.92)
  red, green, blue = linear[..., 0], linear[..., 1], linear[..., 2]
  return tuple(
    of_red * red + of_green * green + of_blue * blue for of_red, of_green, of_blue in _XYZ_OF_RGB
  )


def xyz_to_lab(x: Array, y: Array, z: Array) -> Array:
  """Returns the CIELAB coordinates of X, Y and Z, stacked last."""
  x, y, z = (_cube_root(each / white) for each, white in zip((x, y, z), _WHITE, strict=True))
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_distance(first: Images, second: Images) -> Array:
  """Returns the L2 norm, not squared, of the difference in CIELAB, over each whole image.

  The second term of Sanchez-Matilla et al. (2020), Eq. 12, `(..., H, W, 3)` to `(...)`. Its
  gradient is zero, not NaN, where the images are equal.
  """
  if first.shape != second.shape:
    raise ValueError(f"images must have one shape, got {first.shape} and {second.shape}.")
  difference = rgb_to_lab(first) - rgb_to_lab(second)
  # Compiled together, the two conversions may round differently; and however short the difference,
  # the norm's gradient has the length one: at equal images it would be all noise.
  equal = jnp.all(first == second, axis=-1, keepdims=True)
  difference = jnp.where(equal, 0.0, difference)
  squared = jnp.sum(difference**2, axis=(-3, -2, -1))
  differs = squared > 0
  return jnp.where(differs, jnp.sqrt(jnp.where(differs, squared, 1.0)), 0.0)


def _cube_root(ratio: Array) -> Array:
  """The f of CIELAB: a cube root, and its tangent below the knee."""
  above = ratio > _KNEE
  return jnp.where(above, _power(jnp.where(above, ratio, 1.0), 1 / 3), _SLOPE * ratio + 16 / 116)


def _power(base: Array, exponent: float) -> Array:
  """A power of bases in about 0.01..1: as exact there as `pow` and `cbrt`, five times as fast."""
  return jnp.exp(exponent * jnp.log(base))
