"""What the measures of an image against its original check, and how they see gray."""

import numpy as np

from rpfgsm_jax.typing import ArrayLike

_LUMA = (0.298936021293775, 0.587043074451121, 0.114020904255103)  # MATLAB's rgb2gray


def check_same_shape(images: ArrayLike, originals: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Returns both as arrays."""
  images, originals = np.asarray(images), np.asarray(originals)
  if images.shape != originals.shape or images.ndim < 3:
    raise ValueError(
      "images and originals must have one shape (..., H, W, C), got "
      f"{images.shape} and {originals.shape}."
    )
  return images, originals


def rounded_gray(image: np.ndarray) -> np.ndarray:
  """Returns the gray plane of an image as MATLAB's `rgb2gray` has it, halves rounded up."""
  if image.shape[-1] == 1:
    return np.floor(image[..., 0].astype(np.float64) + 0.5)
  return np.floor(sum(image[..., c] * weight for c, weight in enumerate(_LUMA)) + 0.5)
