"""Norms of a perturbation, in gray levels."""

import dataclasses

import numpy as np

from rpfgsm_jax.quality._pairs import check_same_shape
from rpfgsm_jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerturbationNorms:
  """The sizes of N perturbations.

  Attributes:
    l0: `(...)` int, how many values (pixels times channels) differ.
    l2: `(...)` float64, Euclidean length, gray levels.
    linf: `(...)` float64, the largest absolute change, gray levels.
  """

  l0: np.ndarray
  l2: np.ndarray
  linf: np.ndarray


def perturbation_norms(images: ArrayLike, originals: ArrayLike) -> PerturbationNorms:
  """Returns the L0, L2 and L-infinity norm of each image's difference from its original.

  Args:
    images: `(..., H, W, C)`, gray levels.
    originals: same shape.

  Returns:
    The norms, `(...)` each.

  Raises:
    ValueError: the shapes differ, or there are fewer than three axes.
  """
  images, originals = check_same_shape(images, originals)
  change, axes = np.abs(images.astype(np.float64) - originals), (-3, -2, -1)
  return PerturbationNorms(
    l0=np.count_nonzero(change, axis=axes),
    l2=np.sqrt(np.sum(change**2, axis=axes)),
    linf=np.max(change, axis=axes),
  )
