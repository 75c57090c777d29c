"""A short attack on toy networks, and photos for it, as files and in memory."""

import dataclasses

import numpy as np
import toy_classifiers as toys
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.photos import Encoding, PhotoConfig, photo_attack

NETWORKS = (toys.linear(1, name="linear"), toys.convolution(2, name="convolution"))
HELD_OUT = (toys.convolution(3, name="stranger"),)
EPSILON = 3.0
# More steps than levels: a change could leave the ball. Other numbers would be compiled anew.
ATTACK = dataclasses.replace(
  photo_attack(), epsilon=EPSILON, num_steps=6, defenses=defenses.no_defenses()
)
CONFIG = PhotoConfig(attack=ATTACK, texture=True)
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
