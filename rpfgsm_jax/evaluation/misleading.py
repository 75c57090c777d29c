"""The misleading rate: how often a given class is no longer among a network's first k.

Logits and classes in, ranks, booleans and rates out. Which class is given, the network's own
prediction on the clean image or the true one, is the caller's choice and belongs beside every
number: against the true class, an error on the clean image already counts as misled.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import scipy.special

from rpfgsm_jax.typing import Array, ArrayLike, Labels, Logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
  """A rate with its interval.

  Attributes:
    value: in 0..1; NaN when `count` is 0.
    low: lower end of the interval; 0 when `count` is 0.
    high: upper end of the interval; 1 when `count` is 0.
    count: the number of images it speaks of.
  """

  value: float
  low: float
  high: float
  count: int


def rank_of_label(logits: Logits, labels: Labels) -> Array:
  """Returns how many classes a network places before the given one; 0 is its prediction.

  Of equal logits the lower index comes first, as in `argmax` and `top_k`. A NaN logit places
  nothing before or behind: a network that breaks down is not counted as misled.

  Args:
    logits: `(..., D)`.
    labels: `(...)` int, in 0..D-1.

  Returns:
    `(...)` int32, in 0..D-1.

  Raises:
    ValueError: the leading shapes differ.
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  if logits.shape[:-1] != labels.shape:
    raise ValueError(
      f"labels must have the leading shape of logits, {logits.shape[:-1]}, got {labels.shape}."
    )
  own = jnp.take_along_axis(logits, labels[..., None], axis=-1)
  classes = jnp.arange(logits.shape[-1], dtype=labels.dtype)
  earlier = classes.reshape((1,) * labels.ndim + (-1,)) < labels[..., None]
  return jnp.sum((logits > own) | ((logits == own) & earlier), axis=-1, dtype=jnp.int32)


def is_misled(logits: Logits, labels: Labels, *, top: int = 1) -> Array:
  """Returns whether the given class is not among the `top` first ones.

  Sanchez-Matilla et al. (2020), Sec. V-A; top-1 and top-5 there.

  Args:
    logits: `(..., D)`.
    labels: `(...)` int, in 0..D-1.
    top: k, in 1..D-1; with k = D nothing could ever mislead.

  Returns:
    `(...)` bool.

  Raises:
    ValueError: `top` is outside 1..D-1, or the leading shapes differ.
  """
  num_classes = jnp.shape(logits)[-1]
  if not 1 <= top < num_classes:
    raise ValueError(f"top must be in 1..{num_classes - 1} for {num_classes} classes, got {top}.")
  return rank_of_label(logits, labels) >= top


def misleading_rate(misled: ArrayLike, *, confidence: float = 0.95) -> Rate:
  """Returns the share of misled images with its Wilson interval.

  Args:
    misled: `(N,)` bool, one an image; or `(N, S)`, an image under S settings, which are averaged
      for each image first. The interval takes the images, not the settings, as independent.
    confidence: of the interval, in 0..1 without the ends.

  Returns:
    The rate; a NaN value and the interval 0..1 when N is 0.

  Raises:
    ValueError: not one or two axes, S is 0, or `confidence` is out of range.
  """
  misled = np.asarray(misled, np.float64)
  if misled.ndim not in (1, 2) or (misled.ndim == 2 and misled.shape[1] == 0):
    raise ValueError(f"misled must be (N,) or (N, S) with S >= 1, got shape {misled.shape}.")
  each = misled if misled.ndim == 1 else misled.mean(axis=1)
  low, high = wilson_interval(each.sum(), each.size, confidence=confidence)
  value = float(each.mean()) if each.size else float("nan")
  return Rate(value=value, low=low, high=high, count=each.size)


def wilson_interval(
  successes: float, trials: int, *, confidence: float = 0.95
) -> tuple[float, float]:
  """Returns Wilson's score interval of a proportion; sensible at 0, at 1 and for few trials.

  Wilson (1927), "Probable inference, the law of succession, and statistical inference".

  Args:
    successes: in 0..trials; a fraction is allowed (a mean over settings).
    trials: n >= 0.
    confidence: in 0..1 without the ends.

  Returns:
    `(low, high)`, in 0..1; `(0, 1)` when there are no trials.

  Raises:
    ValueError: an argument breaks its rule.
  """
  if not 0 < confidence < 1:
    raise ValueError(f"confidence must be between 0 and 1, got {confidence}; 0.95 is usual.")
  if not 0 <= successes <= trials:
    raise ValueError(f"successes must be in 0..trials = 0..{trials}, got {successes}.")
  if trials == 0:
    return 0.0, 1.0
  z = float(scipy.special.ndtri(0.5 + confidence / 2))
  share, weight = successes / trials, z * z / trials
  center = (share + weight / 2) / (1 + weight)
  half = z * np.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
  # At 0 and at 1 the formula's end is exact, its rounding is not.
  low = 0.0 if successes == 0 else float(max(center - half, 0.0))
  high = 1.0 if successes == trials else float(min(center + half, 1.0))
  return low, high
