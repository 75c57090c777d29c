"""Differences between two attacks on the same photographs."""

import dataclasses

import numpy as np

from rpfgsm_jax.typing import ArrayLike

_RESAMPLES = 4000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
  """A mean difference with its interval.

  Attributes:
    value: in -1..1 for rates; NaN when `count` is 0.
    low: lower end of the interval; NaN when `count` is 0.
    high: upper end of the interval; NaN when `count` is 0.
    count: the number of photographs it speaks of.
  """

  value: float
  low: float
  high: float
  count: int

  @property
  def sign(self) -> int:
    """1 or -1 where the whole interval lies on one side of 0, else 0."""
    return int(self.low > 0) - int(self.high < 0)


def paired_difference(
  values: ArrayLike, others: ArrayLike, *, confidence: float = 0.95, seed: int = 0
) -> Difference:
  """Returns the mean of `values - others` over photographs, with its bootstrap interval.

  Both speak of the same photographs in the same order, so what makes a photograph easy or hard
  cancels. Percentile bootstrap over photographs (Efron 1979), 4,000 resamples.

  Args:
    values: `(N,)`, one an image, such as the share of defenses behind which it misleads.
    others: `(N,)`, likewise.
    confidence: of the interval, in 0..1 without the ends.
    seed: of the resampling; the same seed gives the same interval.

  Returns:
    The difference; its interval is a single point where no image differs from another.

  Raises:
    ValueError: not `(N,)` both, a value is not finite, or `confidence` is out of range.
  """
  values, others = np.asarray(values, np.float64), np.asarray(others, np.float64)
  if values.ndim != 1 or values.shape != others.shape:
    raise ValueError(
      "values and others must both be (N,) with the same N, got shapes "
      f"{values.shape} and {others.shape}."
    )
  if not 0 < confidence < 1:
    raise ValueError(f"confidence must be between 0 and 1, got {confidence}; 0.95 is usual.")
  if not (np.isfinite(values).all() and np.isfinite(others).all()):
    raise ValueError(
      "values and others must be finite, got NaN or infinity; leave these photographs out of both."
    )
  each = values - others
  count = each.size
  if not count:
    return Difference(value=np.nan, low=np.nan, high=np.nan, count=0)
  # Differences have few levels: how often each is drawn is multinomial, which needs no (4000, N).
  levels, counts = np.unique(each, return_counts=True)
  drawn = np.random.default_rng(seed).multinomial(count, counts / count, size=_RESAMPLES)
  tails = [50 * (1 - confidence), 50 * (1 + confidence)]
  low, high = np.percentile(drawn @ levels / count, tails)
  return Difference(value=float(each.mean()), low=float(low), high=float(high), count=count)
