"""Random training views, inside the jitted step: uint8 gray levels in, float32 ones out."""

import jax
import jax.numpy as jnp

from rpfgsm_jax.models.published_config import IMAGENET, Normalization
from rpfgsm_jax.typing import Array, Key

_LUMA = (0.299, 0.587, 0.114)


def normalize(images: Array, normalization: Normalization = IMAGENET) -> Array:
  """Returns `(images / 255 - mean) / deviation` for `(..., 3)` gray levels, float32."""
  scale = jnp.asarray([1.0 / (255.0 * std) for std in normalization[1]], jnp.float32)
  pairs = zip(*normalization, strict=True)
  shift = jnp.asarray([-mean / std for mean, std in pairs], jnp.float32)
  ones = (1,) * (images.ndim - 1)
  return images.astype(jnp.float32) * scale.reshape(*ones, 3) + shift.reshape(*ones, 3)


def random_views(
  key: Key, images: Array, *, size: int, min_crop: Array, jitter: Array, gray: Array
) -> Array:
  """Returns `(B, size, size, 3)` random views of uint8 photographs, gray levels."""
  key_crop, key_color = jax.random.split(key)
  crop_keys = jax.random.split(key_crop, images.shape[0])
  color_keys = jax.random.split(key_color, images.shape[0])
  levels = images.astype(jnp.float32)
  views = jax.vmap(lambda k, image: _crop(k, image, size, min_crop))(crop_keys, levels)
  return jax.vmap(lambda k, view: _recolor(k, view, jitter, gray))(color_keys, views)


def _crop(key: Key, image: Array, size: int, min_crop: Array) -> Array:
  key_area, key_ratio, key_place, key_mirror = jax.random.split(key, 4)
  area = jax.random.uniform(key_area, (), jnp.float32, minval=min_crop, maxval=1.0)
  log_ratio = jax.random.uniform(
    key_ratio, (), jnp.float32, minval=-0.2877, maxval=0.2877
  )  # log 3/4..4/3
  stretch = jnp.exp(jnp.stack([0.5 * log_ratio, -0.5 * log_ratio]))
  share = jnp.minimum(jnp.sqrt(area) * stretch, 1.0)  # of height and width
  start = jax.random.uniform(key_place, (2,), jnp.float32) * (1.0 - share)
  scale = size / (share * jnp.asarray(image.shape[:2], jnp.float32))
  view = jax.image.scale_and_translate(
    image, (size, size, 3), (0, 1), scale, -start * size / share, method="linear", antialias=True
  )
  return jnp.where(jax.random.bernoulli(key_mirror, jnp.float32(0.5)), view[:, ::-1], view)


def _recolor(key: Key, view: Array, jitter: Array, gray: Array) -> Array:
  key_factors, key_gray = jax.random.split(key)
  factors = jax.random.uniform(
    key_factors, (3,), jnp.float32, minval=1.0 - jitter, maxval=1.0 + jitter
  )
  brightness, contrast, saturation = factors
  saturation = jnp.where(jax.random.bernoulli(key_gray, gray), 0.0, saturation)
  luma = jnp.sum(view * jnp.asarray(_LUMA, jnp.float32).reshape(1, 1, 3), axis=-1, keepdims=True)
  view = luma + (view - luma) * saturation
  middle = jnp.mean(luma)
  view = (middle + (view - middle) * contrast) * brightness
  return jnp.clip(view, 0.0, 255.0)
