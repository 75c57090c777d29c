"""Checks that all defenses share: static facts of an image, and parameters known while tracing."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def check_image(image: ArrayLike, channels: tuple[int, ...] | None = None) -> Array:
  """Returns `(..., H, W, C)` float32 as a JAX array after checking what is static about it."""
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
  """Returns a scalar parameter as int32 in `low..high`, checked when its value is known.

  A traced value cannot be checked: a float is rounded to the nearest integer, and an integer out
  of range is clipped to it, so that no shift or index ever leaves its range.
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


def check_one_image(image: ArrayLike) -> Array:
  """Returns one `(H, W, C)` float32 image as a JAX array after checking what is static about it."""
  image = check_image(image)
  if image.ndim != 3:
    raise ValueError(f"image must be one image (H, W, C), got shape {image.shape}; use jax.vmap.")
  return image


def check_amount(
  name: str, amount: ArrayLike, above: float = -np.inf, at_most: float = np.inf
) -> Array:
  """Returns a scalar as float32 without a gradient, its value checked where it is known."""
  if jnp.shape(amount) != ():
    raise ValueError(f"{name} must be one number, got shape {jnp.shape(amount)}; use jax.vmap.")
  if not isinstance(amount, jax.core.Tracer):
    known = float(np.asarray(amount))
    if not (above < known <= at_most and np.isfinite(known)):
      bounds = f" above {above:g}" if np.isfinite(above) else ""
      bounds += f" and at most {at_most:g}" if np.isfinite(at_most) else ""
      raise ValueError(f"{name} must be a finite number{bounds}, got {amount}.")
  return jax.lax.stop_gradient(jnp.asarray(amount, jnp.float32))
