"""A short attack on toy networks, and photos for it, as files and in memory."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import toy_classifiers as toys
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.attacks.masking import pixel_limits
from rpfgsm_jax.photos import Encoding, PhotoConfig, photo_attack

NETWORKS = (toys.linear(1, name="linear"), toys.convolution(2, name="convolution"))
HELD_OUT = (toys.convolution(3, name="stranger"),)
EPSILON = 3.0
# More steps than levels: a change could leave the ball. Other numbers would be compiled anew.
ATTACK = dataclasses.replace(
  photo_attack(),
  epsilon=EPSILON,
  num_steps=6,
  defenses=defenses.no_defenses(),
  masking=rp.TextureMasking(),
)
CONFIG = PhotoConfig(attack=ATTACK)


def allowed_change(pixels):
  """The limits of `(H, W, 1)` that the attack gives a photo's pixels."""
  images = jnp.asarray(pixels[None], jnp.float32)
  return np.asarray(pixel_limits(ATTACK.masking, images, jnp.full(1, EPSILON)))[0]


SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


def run(photo, config=CONFIG, **options):
  return rp.protect_photo(photo, NETWORKS, config, **{"seed": 7} | options)


def with_encoding(form, quality=40, subsampling="4:4:4"):
  encoding = Encoding(format=form, quality=quality, subsampling=subsampling)
  return dataclasses.replace(CONFIG, encoding=encoding)


def change_of(done, original):
  return np.abs(done.pixels.astype(int) - original)


def save(path, pixels):
  Image.fromarray(pixels).save(path)
  return path
