"""CIEDE2000: the difference between two colors as people see it; 1 is about just visible."""

import math

import jax.numpy as jnp

from rpfgsm_jax.typing import Array

_TWENTY_FIVE = 25.0**7
_TIE = 1e-6  # radians; what float32 leaves of two hues that are opposite


def ciede2000(first: Array, second: Array) -> Array:
  """Returns the CIEDE2000 difference of colors, with weights of 1.

  CIE 142-2001; hue means as Sharma, Wu, Dalal (2005) settle them. Jit-able; its gradient is finite
  everywhere, and zero where the colors are equal or a color is gray.

  Args:
    first: `(..., 3)`, CIELAB coordinates L, a, b.
    second: same shape.

  Returns:
    `(...)`, Delta E; 0 where the colors are equal.

  Raises:
    ValueError: the shapes differ, or are no colors.
  """
  if first.shape != second.shape or first.ndim < 1 or first.shape[-1] != 3:
    raise ValueError(
      f"first and second must have one shape (..., 3), L a b, got {first.shape} and {second.shape}."
    )
  (light, *one), (other_light, *two) = (jnp.moveaxis(each, -1, 0) for each in (first, second))
  grayness = 0.5 * (1 - _saturation((_length(*one) + _length(*two)) / 2))
  (a, b), (other_a, other_b) = (((1 + grayness) * a, b) for a, b in (one, two))
  chroma, other_chroma = _length(a, b), _length(other_a, other_b)
  turn, hue = _hues(a, b, other_a, other_b)

  mean_light, mean_chroma = (light + other_light) / 2, (chroma + other_chroma) / 2
  from_middle = (mean_light - 50) ** 2
  by_hue = (
    1
    - 0.17 * jnp.cos(hue - math.radians(30))
    + 0.24 * jnp.cos(2 * hue)
    + 0.32 * jnp.cos(3 * hue + math.radians(6))
    - 0.20 * jnp.cos(4 * hue - math.radians(63))
  )
  of_light = (other_light - light) / (1 + 0.015 * from_middle / jnp.sqrt(20 + from_middle))
  of_chroma = (other_chroma - chroma) / (1 + 0.045 * mean_chroma)
  of_hue = 2 * _root(chroma * other_chroma) * jnp.sin(turn / 2) / (1 + 0.015 * mean_chroma * by_hue)
  from_blue = (jnp.degrees(hue) % 360 - 275) / 25
  rotation = jnp.sin(math.radians(60) * jnp.exp(-(from_blue**2)))
  rotation = -2 * _saturation(mean_chroma) * rotation
  return _root(of_light**2 + of_chroma**2 + of_hue**2 + rotation * of_chroma * of_hue)


def _hues(a: Array, b: Array, other_a: Array, other_b: Array) -> tuple[Array, Array]:
  """Returns the turn from the first hue to the second, in -pi..pi, and their mean, radians."""
  across, along = a * other_b - b * other_a, a * other_a + b * other_b
  colored = _length(a, b) * _length(other_a, other_b) > 0
  turn = jnp.where(colored, _angle(across, along), 0.0)
  # Of opposite hues the mean is the half of the sum, each in 0..360 degrees: the turn goes down
  # where the first is the larger one.
  opposite = colored & (along < 0) & (jnp.abs(across) <= -_TIE * along)
  turn = jnp.where(opposite, jnp.where((b < 0) | ((b == 0) & (a < 0)), -math.pi, math.pi), turn)
  gray = (a == 0) & (b == 0)
  return turn, jnp.where(gray, _angle(other_b, other_a), _angle(b, a) + turn / 2)


# Each has a value and a gradient of 0 at the origin, where the plain function's is not finite.


def _root(value: Array) -> Array:
  positive = value > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1.0)), 0.0)


def _length(a: Array, b: Array) -> Array:
  return _root(a * a + b * b)


def _angle(y: Array, x: Array) -> Array:
  origin = (x == 0) & (y == 0)
  return jnp.where(origin, 0.0, jnp.arctan2(y, jnp.where(origin, 1.0, x)))


def _saturation(chroma: Array) -> Array:
  """sqrt(C^7 / (C^7 + 25^7)), the root of the numerator taken first."""
  return chroma**3 * _root(chroma) / jnp.sqrt(chroma**7 + _TWENTY_FIVE)
