"""Detectability: does a defense change a network's mind more than it does on clean images?

Xu, Evans, Qi (2018), "Feature squeezing"; Sanchez-Matilla et al. (2020), Eq. 4. An image counts as
adversarial when the network's probabilities with and without a defense lie farther apart than they
do for 95 % of clean training images. Attacked images are never used to set the threshold.

Logits in, scores, thresholds and rates out; which defenses and which training images is the
caller's choice.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.evaluation.misleading import Rate, misleading_rate
from rpfgsm_jax.typing import Array, ArrayLike, Logits


def squeezing_distance(logits: Logits, defended_logits: Logits) -> Array:
  """Returns the L1 distance between the probabilities of an image and of its defended version.

  Sanchez-Matilla et al. (2020), Eq. 4.

  Args:
    logits: `(..., D)`, of the image as it is.
    defended_logits: same shape, of the image behind a defense.

  Returns:
    `(...)` float32 in 0..2.

  Raises:
    ValueError: the shapes differ.
  """
  logits, defended_logits = jnp.asarray(logits), jnp.asarray(defended_logits)
  if logits.shape != defended_logits.shape:
    raise ValueError(
      "logits and defended_logits must have one shape, got "
      f"{logits.shape} and {defended_logits.shape}."
    )
  difference = jax.nn.softmax(logits, axis=-1) - jax.nn.softmax(defended_logits, axis=-1)
  return jnp.sum(jnp.abs(difference), axis=-1)


def joint_distance(distances: ArrayLike) -> np.ndarray:
  """Returns the largest distance over a family's parameters: one detector a family.

  Xu et al. (2018), Sec. V-B: squeezers are joined by the maximum.

  Args:
    distances: `(..., P)`, one for each of the family's P parameters.

  Returns:
    `(...)` float64.

  Raises:
    ValueError: there is no parameter.
  """
  distances = np.asarray(distances, np.float64)
  if distances.ndim == 0 or distances.shape[-1] == 0:
    raise ValueError(f"distances must be (..., P) with P >= 1, got shape {distances.shape}.")
  return distances.max(axis=-1)


def detection_threshold(distances: ArrayLike, *, false_positive_rate: float = 0.05) -> float:
  """Returns the smallest tau that at most this share of clean training images exceed.

  The order statistic number ceil((1 - rate) n), counted from 1. Of new clean images about the
  rate, plus its sampling error, are flagged: 5.4 % +- 1.3 for n = 300, 5.2 +- 0.7 for n = 1000.

  Args:
    distances: `(n,)`, of clean training images, from `squeezing_distance` or `joint_distance`.
    false_positive_rate: in 0..1 without 1.

  Returns:
    tau; `is_detected` is strict, so that an image at tau passes.

  Raises:
    ValueError: no images, a NaN, or a rate out of range.
  """
  distances = np.asarray(distances, np.float64)
  if distances.ndim != 1 or not distances.size:
    raise ValueError(f"distances must be (n,) with n >= 1, got shape {distances.shape}.")
  if np.isnan(distances).any():
    raise ValueError("distances must not hold NaN: a network broke down on a clean image.")
  if not 0 <= false_positive_rate < 1:
    raise ValueError(f"false_positive_rate must be in 0..1 without 1, got {false_positive_rate}.")
  count = distances.size
  above = math.floor(
    false_positive_rate * count + 1e-9
  )  # 0.05 * 60 is 3 though floats may say less
  return float(np.sort(distances)[count - above - 1])


def is_detected(distances: ArrayLike, threshold: float) -> np.ndarray:
  """Returns whether images are flagged as adversarial: strictly above the threshold.

  Args:
    distances: `(...)`.
    threshold: tau, from `detection_threshold`.

  Returns:
    `(...)` bool; False for NaN.
  """
  return np.asarray(distances, np.float64) > threshold


def detection_rate(distances: ArrayLike, threshold: float, *, confidence: float = 0.95) -> Rate:
  """Returns the share of images that are flagged, with its Wilson interval.

  Args:
    distances: `(N,)`, of adversarial images; of all, or of the successful ones only: say which.
    threshold: tau, from `detection_threshold`.
    confidence: of the interval.

  Returns:
    The rate; NaN with the interval 0..1 when N is 0.

  Raises:
    ValueError: not one axis, or `confidence` out of range.
  """
  distances = np.asarray(distances, np.float64)
  if distances.ndim != 1:
    raise ValueError(f"distances must be (N,), got shape {distances.shape}.")
  return misleading_rate(is_detected(distances, threshold), confidence=confidence)
