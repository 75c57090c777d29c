"""How much each pixel may change: epsilon everywhere, or less where a change is easily seen.

A texture covers a change that a clear sky shows. The limits are computed once, from the original
image, before a signed-gradient loop; all of them are whole gray levels within epsilon.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.typing import Array, ArrayLike, Images

_LUMA = (299, 587, 114)  # thousandths
_SMALLEST_WINDOW, _LARGEST_WINDOW = 7, 255  # pixels; larger sums of squares might leave int32
_WINDOWS_PER_SIDE = 49


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["smooth", "textured"],
  meta_fields=["channels", "window"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class TextureMasking:
  """Gives smooth places less of epsilon than textured ones: `masking` of the signed attacks.

  With s the standard deviation of the brightness around a pixel, its share of epsilon is
  `sqrt(smooth^2 + (1 - smooth^2) min(s / textured, 1)^2)`. A change of variance v costs a window of
  SSIM (Wang et al. 2004) about v / (2 s^2 + C2 + v): the default `smooth` makes this cost nearly
  the same everywhere. `smooth` and `textured` are data, as in `RPFGSMConfig`; the rest is static.
  """

  smooth: ArrayLike = 0.26  # share of epsilon of a flat place, in 0..1; 1: all, everywhere
  textured: ArrayLike = 20.0  # gray levels > 0, the deviation from which all of epsilon is allowed
  channels: tuple[float, float, float] = (1.0, 1.0, 1.0)  # shares of red, green, blue in 0..1
  window: int | None = None  # odd side, pixels; None: the image's shorter side / 49, at least 7


def checked_masking(masking: TextureMasking | None, *, gray: bool = False) -> TextureMasking | None:
  """Returns the masking with plain numbers, or refuses it; data only where it is known."""
  if masking is None:
    return None
  if not isinstance(masking, TextureMasking):
    raise ValueError(
      f"masking must be a TextureMasking, or None for epsilon at every pixel, got {masking!r}."
    )
  smooth, textured = map(inputs.concrete_or_none, (masking.smooth, masking.textured))
  if np.ndim(masking.smooth) or (smooth is not None and not 0 <= smooth <= 1):
    raise ValueError(f"smooth must be a share of epsilon in 0..1, got {masking.smooth!r}.")
  if np.ndim(masking.textured) or (textured is not None and not 0 < textured < np.inf):
    raise ValueError(f"textured must be gray levels > 0 and finite, got {masking.textured!r}.")
  channels = np.asarray(masking.channels, np.float64)
  if channels.shape != (3,) or not np.all((channels >= 0) & (channels <= 1)):
    raise ValueError(
      f"channels must be three shares in 0..1, red green blue, got {masking.channels!r}."
    )
  if gray and len(set(channels)) > 1:
    raise ValueError(
      f"channels must be equal beside gray=True, which moves them alike, got {masking.channels!r}."
    )
  window = None if masking.window is None else as_int(masking.window)
  if masking.window is not None and (window is None or window % 2 == 0 or not 3 <= window <= 255):
    raise ValueError(
      f"window must be an odd number of pixels in 3..255, or None, got {masking.window!r}."
    )
  return dataclasses.replace(masking, channels=tuple(channels.tolist()), window=window)


def pixel_limits(masking: TextureMasking | None, images: Images, epsilon: Array) -> Array:
  """Returns the largest change of each pixel, whole gray levels: all that epsilon holds, or less.

  `epsilon` is `(B,)` or `(B, H, W, 1 or 3)`, and comes back so without masking. With it the
  share is rounded to the nearest level, and is at least one level unless it is zero.
  """
  whole = jnp.floor(epsilon)
  if masking is None:
    return whole
  if epsilon.ndim == 1:
    epsilon, whole = epsilon[:, None, None, None], whole[:, None, None, None]
  deviation = local_deviation(images, masking.window or default_window(images.shape[1:3]))
  flat, active = jnp.square(masking.smooth), jnp.minimum(deviation / masking.textured, 1.0)
  share = jnp.sqrt(flat + (1.0 - flat) * jnp.square(active))[..., None]
  if set(masking.channels) != {1.0}:
    share = jnp.concatenate([share * each for each in masking.channels], axis=-1)
  return jnp.clip(jnp.round(epsilon * share), jnp.minimum(jnp.sign(share), whole), whole)


def default_window(size: tuple[int, int]) -> int:
  """Returns the odd side of the window for images of a (height, width)."""
  return min(max(min(size) // _WINDOWS_PER_SIDE | 1, _SMALLEST_WINDOW), _LARGEST_WINDOW)


def local_deviation(images: Images, window: int) -> Array:
  """Returns the standard deviation of the brightness around each pixel, `(B, H, W)`, gray levels.

  Of `(B, H, W, 3)` whole gray levels, in a square window, the image mirrored at its border.
  Brightness is rounded to whole levels and summed as integers, so that neither the device nor
  other images change a bit of the sums.
  """
  levels = jnp.rint(images).astype(jnp.int32)
  luma = sum(levels[..., channel] * weight for channel, weight in enumerate(_LUMA))
  luma = (luma + 500) // 1000 - 128  # centered: small squares
  reach = window // 2
  luma = jnp.pad(luma, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
  total, square = _box_sum(luma, window), _box_sum(luma * luma, window)
  mean = total / window**2
  return jnp.sqrt(jnp.maximum(square / window**2 - mean * mean, 0.0))


def _box_sum(planes: Array, side: int) -> Array:
  """Sums of `(B, H, W)` integers over every window inside, in float32 afterwards."""
  for window in ((1, side, 1), (1, 1, side)):
    planes = jax.lax.reduce_window(planes, 0, jax.lax.add, window, (1, 1, 1), "VALID")
  return planes.astype(jnp.float32)
