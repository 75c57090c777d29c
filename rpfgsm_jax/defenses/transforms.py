"""Random geometric and photometric transformations: members for the banks of EOT and DI-FGSM.

One image `(H, W, C)` of float32 gray levels in, one of the same shape out. Amounts may be traced;
gradients go to the image, amounts get none. Two rules hold throughout:

A moved photo stays an area of H x W square pixels: where a result's pixel center falls into that
area it is the bilinear interpolation of the pixels, the border's repeated; elsewhere it is black.
Nothing is smoothed beforehand: down to 0.8 of the size there is little to alias.

What leaves 0..255 is clipped, as a photo would be, with derivative one for results in [0, 255], the
bounds included, and zero outside: what is clipped away cannot carry a change. `jnp.clip` would have
one half at the bounds, where saturated photos have many pixels. Interpolation does not leave the
range but by float32 rounding, and is not clipped: that would cut off white pixels at random.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.defenses import _checks
from rpfgsm_jax.defenses.bank import Defense, DefenseBank
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, ArrayLike, Image, Key


def resize_and_pad(image: Image, size: ArrayLike, top: ArrayLike, left: ArrayLike) -> Image:
  """Returns the image made smaller, on a black canvas of its original size.

  Xie et al. (2019), "Improving transferability of adversarial examples with input diversity";
  Sanchez-Matilla et al. (2020), Sec. V-B. Equals `jax.image.resize(..., "linear",
  antialias=False)` and padding, with sizes that may be traced.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    size: `(2,)` integers, the new height in 1..H and width in 1..W, pixels.
    top: rows above it, integer in 0..H-1; what does not fit on the canvas is cut off.
    left: columns to its left, integer in 0..W-1.

  Returns:
    Same shape, gray levels 0..255.

  Raises:
    ValueError: a wrong shape or dtype, or a known size or place out of range; a traced one is
      clipped.
  """
  image = _checks.check_one_image(image)
  if np.shape(size) != (2,):
    raise ValueError(f"size must be two integers (height, width), got shape {np.shape(size)}.")
  old, remedy = image.shape[:2], "the result is no larger than the image."
  height_width: Any = size
  new = [_checks.as_integer("size", height_width[i], 1, old[i], remedy) for i in (0, 1)]
  place = [
    _checks.as_integer(name, offset, 0, length - 1, remedy)
    for name, offset, length in (("top", top, old[0]), ("left", left, old[1]))
  ]
  ratios = [side.astype(jnp.float32) / length for side, length in zip(new, old, strict=True)]
  return stretch(image, ratios, [offset.astype(jnp.float32) for offset in place])


def scale(image: Image, factor: ArrayLike) -> Image:
  """Returns the image enlarged or shrunk about its center.

  Athalye et al. (2018), "Synthesizing robust adversarial examples"; Sanchez-Matilla et al. (2020),
  Sec. V-B.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    factor: > 0; above one enlarges, 1 changes nothing.

  Returns:
    Same shape, gray levels 0..255; black around a shrunk image.

  Raises:
    ValueError: a wrong shape or dtype, or a known factor that is not finite and above zero.
  """
  image, factor = _checks.check_one_image(image), _checks.check_amount("factor", factor, above=0.0)
  return stretch(image, [factor] * 2, [(1 - factor) * (n / 2) for n in image.shape[:2]])


def translate(image: Image, down: ArrayLike, right: ArrayLike) -> Image:
  """Returns the image shifted, black where it came from.

  Athalye et al. (2018); Sanchez-Matilla et al. (2020), Sec. V-B.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    down: pixels, fractions interpolate; negative moves up.
    right: pixels, likewise; negative moves left.

  Returns:
    Same shape, gray levels 0..255.

  Raises:
    ValueError: a wrong shape or dtype, or a known amount that is not finite.
  """
  return stretch(
    _checks.check_one_image(image),
    [jnp.float32(1)] * 2,
    [_checks.check_amount("down", down), _checks.check_amount("right", right)],
  )


def rotate(image: Image, degrees: ArrayLike) -> Image:
  """Returns the image turned about its center.

  Athalye et al. (2018); Sanchez-Matilla et al. (2020), Sec. V-B. The values equal Pillow's
  `Image.rotate` with bilinear resampling. Reverse mode only: `jax.jvp` raises.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    degrees: counterclockwise as seen; 0 changes nothing.

  Returns:
    Same shape, gray levels 0..255; black outside the turned image.

  Raises:
    ValueError: a wrong shape or dtype, or a known angle that is not finite.
  """
  return _rotate(_checks.check_one_image(image), _checks.check_amount("degrees", degrees))


def add_levels(image: Image, levels: ArrayLike) -> Image:
  """Returns the image lighter or darker, clipped to 0..255: lightening, darkening and noise.

  Athalye et al. (2018); Sanchez-Matilla et al. (2020), Sec. V-B.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    levels: what is added, gray levels: one number, or one for each value, `(H, W, C)`.

  Returns:
    Same shape, gray levels 0..255. The derivative is one where the sum is in [0, 255], both
    included, and zero where it was clipped.

  Raises:
    ValueError: a wrong shape or dtype.
  """
  image = _checks.check_one_image(image)
  if jnp.shape(levels) not in ((), image.shape):
    raise ValueError(f"levels must be one number or {image.shape}, got shape {jnp.shape(levels)}.")
  total = image + jax.lax.stop_gradient(jnp.asarray(levels, jnp.float32))
  return jnp.where((total >= 0) & (total <= 255), total, jnp.where(total > 0, 255.0, 0.0))


def stretch(image: Image, factors: list[Array], offsets: list[Array]) -> Image:
  """Returns `factor * position + offset` along rows and columns: two banded matrix products."""
  return jax.image.scale_and_translate(
    image, image.shape, (0, 1), jnp.stack(factors), jnp.stack(offsets), "linear", antialias=False
  )


# Compiled as a whole when called directly: op by op it would be dozens of small programs.
@functools.partial(jax.jit, inline=True)
@jax.custom_vjp
def _rotate(image: Image, degrees: Array) -> Image:
  height, width, channels = image.shape
  (y, x), inside = _sources(image.shape, degrees, *_grid(image.shape))
  above, before = jnp.floor(y), jnp.floor(x)
  lower, later = (y - above)[..., None], (x - before)[..., None]
  below, after = jnp.minimum(above + 1, height - 1), jnp.minimum(before + 1, width - 1)
  pick = functools.partial(_pick, image.reshape(-1, channels), width)
  upper_row = (1 - later) * pick(above, before) + later * pick(above, after)
  lower_row = (1 - later) * pick(below, before) + later * pick(below, after)
  return jnp.where(inside[..., None], (1 - lower) * upper_row + lower * lower_row, 0.0)


def _rotate_forward(image: Image, degrees: Array) -> tuple[Image, Array]:
  return _rotate(image, degrees), degrees


def _rotate_backward(degrees: Array, cotangent: Image) -> tuple[Image, None]:
  """Collects, for each pixel, the results it went into; a scatter would add in no fixed order.

  They lie within one pixel of it, along the turned axes: within sqrt(2) of where its center went,
  so among the 3 x 3 around that.
  """
  height, width, channels = cotangent.shape
  row, column = _grid(cotangent.shape)
  middle = [jnp.round(each) for each in _turn(cotangent.shape, -degrees, row, column)]
  flat, total = jnp.asarray(cotangent).reshape(-1, channels), jnp.zeros_like(cotangent)
  for down, right in itertools.product((-1, 0, 1), repeat=2):
    r, c = middle[0] + down, middle[1] + right
    (y, x), inside = _sources(cotangent.shape, degrees, r, c)
    counts = inside & (r >= 0) & (r < height) & (c >= 0) & (c < width)
    share = jnp.maximum(1 - jnp.abs(y - row), 0) * jnp.maximum(1 - jnp.abs(x - column), 0)
    value = _pick(flat, width, jnp.clip(r, 0, height - 1), jnp.clip(c, 0, width - 1))
    total += jnp.where(counts, share, 0.0)[..., None] * value
  return total, None


_rotate.__wrapped__.defvjp(_rotate_forward, _rotate_backward)  # type: ignore[attr-defined]


def _grid(shape: tuple[int, ...]) -> tuple[Array, Array]:
  """Returns row and column numbers, `(H, 1)` and `(1, W)` float32."""
  rows, columns = (jnp.arange(length, dtype=jnp.float32) for length in shape[:2])
  return rows[:, None], columns[None, :]


def _turn(shape: tuple[int, ...], degrees: Array, row: Array, column: Array) -> list[Array]:
  """Returns positions turned clockwise about the center: where a result's pixel comes from."""
  middle = [(length - 1) / 2 for length in shape[:2]]
  down, right = row - middle[0], column - middle[1]
  cosine, sine = jnp.cos(jnp.deg2rad(degrees)), jnp.sin(jnp.deg2rad(degrees))
  return [
    middle[0] + (cosine * down + sine * right),
    middle[1] + (cosine * right - sine * down),
  ]


def _sources(
  shape: tuple[int, ...], degrees: Array, row: Array, column: Array
) -> tuple[list[Array], Array]:
  """Returns where each result's pixel comes from, moved into the grid, and whether it is inside."""
  place = _turn(shape, degrees, row, column)
  inside = [(p >= -0.5) & (p <= n - 0.5) for p, n in zip(place, shape[:2], strict=True)]
  return [jnp.clip(p, 0, n - 1) for p, n in zip(place, shape[:2], strict=True)], (
    inside[0] & inside[1]
  )


def _pick(flat: Array, width: int, row: Array, column: Array) -> Array:
  """Returns the pixels at whole positions, which are inside."""
  return flat.at[(row * width + column).astype(jnp.int32)].get(mode="promise_in_bounds")


def _draw_within(key: Key, most: Array) -> Array:
  return jax.random.uniform(key, (), jnp.float32, minval=-most, maxval=most)


def _diverse_input(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  key_size, key_top, key_left = jax.random.split(key, 3)
  height, width, longer = *image.shape[:2], max(image.shape[:2])
  smallest = jnp.round(parameter * longer).astype(jnp.int32)
  side = jax.random.randint(key_size, (), smallest, longer + 1, jnp.int32)
  # The nearest whole number of pixels, in integers: exact for the longer side.
  new = [(2 * side * length + longer) // (2 * longer) for length in (height, width)]
  top = jax.random.randint(key_top, (), 0, height - new[0] + 1, jnp.int32)
  left = jax.random.randint(key_left, (), 0, width - new[1] + 1, jnp.int32)
  return resize_and_pad(image, jnp.stack(new), top, left)


def _random_scale(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  return scale(image, 1 + _draw_within(key, parameter))


def _random_translation(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  key_down, key_right = jax.random.split(key)
  down = image.shape[0] * _draw_within(key_down, parameter)
  return translate(image, down, image.shape[1] * _draw_within(key_right, parameter))


def _random_rotation(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  return rotate(image, _draw_within(key, parameter))


def _lighten(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  return add_levels(image, parameter * jax.random.uniform(key, (), jnp.float32))


def _darken(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  return add_levels(image, -parameter * jax.random.uniform(key, (), jnp.float32))


def _gaussian_noise(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  return add_levels(image, jnp.sqrt(parameter) * jax.random.normal(key, image.shape, jnp.float32))


INPUT_DIVERSITY = Defense("input diversity", _diverse_input, (200 / 224,), random=True)
"""DI-FGSM: shrunk and padded, the place uniform.

The longer side is a uniform integer from this share of itself (200 of 224 pixels) to all of it, the
other side in proportion. Always applied: the probability of one half is that of a bank
(`IDENTITY`, `INPUT_DIVERSITY`) drawn "iid".
"""

# EOT: uniform up to the parameter, in both directions where there are two.
SCALE = Defense("scale", _random_scale, (0.2,), random=True)
"""Scaling by a factor of 0.8 to 1.2, drawn uniformly."""

TRANSLATE = Defense("translate", _random_translation, (0.2,), random=True)
"""Translation by up to 0.2 of the width and of the height, each drawn uniformly."""

ROTATE = Defense("rotate", _random_rotation, (60.0,), random=True)
"""Rotation by up to 60 degrees either way, drawn uniformly."""

LIGHTEN = Defense("lighten", _lighten, (13.0,), random=True)
"""Up to 13 gray levels added, drawn uniformly."""

DARKEN = Defense("darken", _darken, (13.0,), random=True)
"""Up to 13 gray levels subtracted, drawn uniformly."""

GAUSSIAN_NOISE = Defense("gaussian noise", _gaussian_noise, (25.0,), random=True)
"""Gaussian noise of variance 25, in gray levels squared, added."""


def eot_bank() -> DefenseBank:
  """Returns EOT's six transformations, each as probable as the others.

  Sanchez-Matilla et al. (2020), Sec. V-B: scaling by 0.8 to 1.2, translation by up to 0.2 W
  (vertically: 0.2 H), rotation by up to 60 degrees, lightening and darkening by up to 13 gray
  levels, and Gaussian noise of variance 25.
  """
  return DefenseBank((SCALE, TRANSLATE, ROTATE, LIGHTEN, DARKEN, GAUSSIAN_NOISE))
