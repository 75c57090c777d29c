"""Checks that all defenses share: static facts of an image, and parameters known while tracing."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def check_image(image: ArrayLike, channels: tuple[int, ...] | None = None) -> Array:
  """Returns `image` as a JAX array after checking what is static about it.

  Args:
    image: image(s), `(..., H, W, C)`, float32 gray levels.
    channels: the numbers of channels allowed; None allows any.

  Returns:
    The same values as a JAX array.

  Raises:
    ValueError: not float32, fewer than three axes, an empty image, or a wrong number of channels.
  """
  shape, dtype = jnp.shape(image), getattr(image, "dtype", None)
  if dtype != np.float32:
    raise ValueError(
      f"image must be float32 gray levels 0..255, got {dtype or type(image).__name__}; "
      "convert it with jnp.asarray(image, jnp.float32)."
    )
  if len(shape) < 3 or 0 in shape[-3:]:
    raise ValueError(
      f"image must have shape (..., H, W, C) with H, W, C >= 1, got {shape}; "
      "give a gray image a last axis of one channel."
    )
  if channels is not None and shape[-1] not in channels:
    allowed = " or ".join(str(number) for number in channels)
    raise ValueError(f"image must have {allowed} channels last, got shape {shape}.")
  return jnp.asarray(image)


def as_integer(name: str, number: ArrayLike, low: int, high: int, remedy: str) -> Array:
  """Returns a scalar parameter as int32, checked when its value is known while tracing.

  A traced value cannot be checked: a float is rounded to the nearest integer, and an integer out
  of range is clipped to it, so that no shift or index ever leaves its range.

  Args:
    name: the parameter's name, for messages.
    number: Python number or scalar array, int or float, possibly traced.
    low: smallest allowed value.
    high: largest allowed value.
    remedy: what to do instead, the last words of the message.

  Returns:
    int32 scalar in `low..high`.

  Raises:
    ValueError: not a real scalar, or a known value that is not an integer in `low..high`.
  """
  if isinstance(number, bool) or not isinstance(
    number, int | float | np.generic | np.ndarray | Array
  ):
    raise ValueError(f"{name} must be a number in {low}..{high}, got {number!r}; {remedy}")
  dtype = jax.dtypes.result_type(number)
  if jnp.shape(number) != () or not (
    jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)
  ):
    raise ValueError(
      f"{name} must be one real number, got {dtype} of shape {jnp.shape(number)}; "
      f"map over several with jax.vmap."
    )
  if not isinstance(number, jax.core.Tracer):
    known = float(number)
    if not (low <= known <= high and known == round(known)):
      raise ValueError(f"{name} must be an integer in {low}..{high}, got {number}; {remedy}")
  number = jax.lax.stop_gradient(jnp.asarray(number))
  if jnp.issubdtype(dtype, jnp.floating):
    number = jnp.round(number)
  return jnp.clip(number.astype(jnp.int32), low, high)
