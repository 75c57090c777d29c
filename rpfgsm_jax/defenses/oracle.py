"""The paper's defenses as Pillow and SciPy make them, on the host: what ours are compared with."""

import io
from collections.abc import Callable

import numpy as np

from rpfgsm_jax.defenses.bank import IDENTITY, JPEG, MEDIAN, REQUANTIZE, Defense


def oracle_member(defense: Defense, parameter: float) -> Callable[[np.ndarray], np.ndarray]:
  """Returns one of the paper's defenses at one parameter as a function of one 8-bit image.

  `(H, W, 3)` uint8 to float32 gray levels; fewer bits give values between whole ones.
  """
  # By what they apply: a bank may have these families with other parameters.
  members = {
    IDENTITY.apply: _as_it_is,
    REQUANTIZE.apply: _requantize,
    MEDIAN.apply: _median,
    JPEG.apply: _jpeg,
  }
  if defense.apply not in members:
    raise ValueError(
      f"oracle defenses must be requantize, median or jpeg, got {defense.name!r}; Pillow and SciPy "
      "have no other."
    )
  return lambda image: members[defense.apply](image, parameter).astype(np.float32)


def _as_it_is(image: np.ndarray, parameter: float) -> np.ndarray:
  del parameter
  return image


def _requantize(image: np.ndarray, bits: float) -> np.ndarray:
  levels = 2.0**bits - 1
  return np.rint(image / 255.0 * levels) / levels * 255.0


def _median(image: np.ndarray, size: float) -> np.ndarray:
  import scipy.ndimage

  return scipy.ndimage.median_filter(image, size=(int(size), int(size), 1), mode="reflect")


def _jpeg(image: np.ndarray, quality: float) -> np.ndarray:
  from PIL import Image

  # Coding and decoding in memory: no file of anybody's is read here, so `data` is not asked.
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "JPEG", quality=int(quality), subsampling="4:2:0")
  return np.asarray(Image.open(buffer))
