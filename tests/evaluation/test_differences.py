"""Paired differences: against SciPy's bootstrap, closed forms, and their coverage by simulation."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from rpfgsm_jax.evaluation import Difference, paired_difference

GENERATOR = np.random.default_rng(5)
FIRST = GENERATOR.integers(0, 15, 60) / 14  # shares of 14 defenses
SECOND = GENERATOR.integers(0, 12, 60) / 14
SKEWED = GENERATOR.exponential(3.0, 60)  # no two alike, as PSNR


def numbers(difference):
  return dataclasses.astuple(difference)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("values", [FIRST, SKEWED], ids=["shares", "skewed"])
def test_interval_equals_scipys_percentile_bootstrap(values, confidence):
  found = paired_difference(values, SECOND, confidence=confidence)
  expected = scipy.stats.bootstrap(
    (values - SECOND,),
    np.mean,
    n_resamples=40_000,
    confidence_level=confidence,
    method="percentile",
    random_state=np.random.default_rng(0),
  )
  # Both are Monte Carlo: of 4,000 means the 0.5 % quantile scatters by about 0.055 standard errors
  # (sqrt(p (1 - p) / 4000) over the normal density there), the inner ones by less.
  tolerance = 4 * 0.055 * expected.standard_error
  low, high = expected.confidence_interval
  np.testing.assert_allclose((found.low, found.high), (low, high), rtol=0, atol=tolerance)


def test_value_is_the_mean_of_the_differences_over_all_photos():
  found = paired_difference(FIRST, SECOND)
  assert found.value == pytest.approx(sum(FIRST - SECOND) / 60, abs=1e-15)
  assert found.count == 60


def test_what_both_have_in_common_cancels():
  easy_or_hard = np.random.default_rng(1).normal(0, 100, 60)
  found = paired_difference(FIRST + easy_or_hard, SECOND + easy_or_hard)
  # Not the same levels to the last bit, hence not the same resamples; the spread is the same.
  expected = paired_difference(FIRST, SECOND)
  assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.1)


@pytest.mark.parametrize("constant", [0.25, 0.0, -0.5])
def test_a_constant_difference_is_known_exactly(constant):
  found = paired_difference(np.arange(8) + constant, np.arange(8))
  assert numbers(found) == (constant, constant, constant, 8)


def test_one_photo_has_a_single_point():
  assert numbers(paired_difference([1], [0])) == (1.0, 1.0, 1.0, 1)


def test_two_photos_with_opposite_differences_have_the_widest_interval():
  """Both drawn alike happens in a quarter of the resamples at either end."""
  assert numbers(paired_difference([1, 0], [0, 1])) == (0.0, -1.0, 1.0, 2)


def test_swapping_the_arguments_flips_the_sign():
  there, back = paired_difference(FIRST, SECOND), paired_difference(SECOND, FIRST)
  assert back.value == -there.value
  # The levels come in the other order, so other resamples are drawn: Monte Carlo, as above.
  tolerance = 4 * 0.055 * (there.high - there.low) / 4
  np.testing.assert_allclose((-back.high, -back.low), (there.low, there.high), atol=tolerance)


def test_a_higher_confidence_is_a_wider_interval():
  intervals = [paired_difference(FIRST, SECOND, confidence=each) for each in (0.5, 0.9, 0.99)]
  lows, highs = [each.low for each in intervals], [each.high for each in intervals]
  assert lows == sorted(lows, reverse=True)
  assert highs == sorted(highs)
  assert len({*lows, *highs}) == 6


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
  first, again = (paired_difference(SKEWED, SECOND, seed=3) for _ in range(2))
  other = paired_difference(SKEWED, SECOND, seed=4)
  assert first == again
  assert (first.low, first.high) != (other.low, other.high)
  assert first.value == other.value


def test_the_order_of_the_photos_does_not_matter():
  order = np.random.default_rng(0).permutation(60)
  found, expected = paired_difference(FIRST[order], SECOND[order]), paired_difference(FIRST, SECOND)
  assert (found.low, found.high) == (expected.low, expected.high)


@pytest.mark.parametrize(
  ("mean", "count"), [(0.0, 40), (0.3, 40), (0.1, 200)], ids=["none", "some", "many-photos"]
)
def test_the_interval_holds_the_true_difference_as_often_as_it_says(mean, count):
  """Shares of four defenses, more often misled behind one attack by `mean`; 600 studies."""
  generator = np.random.default_rng(7)
  held = 0
  for _ in range(600):
    found = paired_difference(
      generator.binomial(4, 0.3 + mean, count) / 4, generator.binomial(4, 0.3, count) / 4
    )
    held += found.low <= mean <= found.high
  # Of 40 photographs the percentile bootstrap holds about 94 % instead of 95; then 4 binomial
  # standard errors of 600 studies, 3.6 %.
  assert abs(held / 600 - 0.945) < 0.036


@pytest.mark.parametrize(
  ("low", "high", "sign"),
  [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0.0, 0.1, 0), (-0.1, 0.0, 0), (0.0, 0.0, 0)],
)
def test_the_sign_is_that_of_an_interval_without_zero(low, high, sign):
  assert Difference(value=0.0, low=low, high=high, count=2).sign == sign


def test_of_no_photo_nothing_is_known():
  found = paired_difference([], [])
  assert all(math.isnan(each) for each in (found.value, found.low, found.high))
  assert (found.count, found.sign) == (0, 0)


@pytest.mark.parametrize(
  ("values", "others", "options", "message"),
  [
    ([1, 2], [1], {}, r"both be \(N,\) with the same N, got shapes \(2,\) and \(1,\)"),
    ([[1, 2]], [[1, 2]], {}, r"both be \(N,\)"),
    (1.0, 0.0, {}, r"both be \(N,\)"),
    ([1, math.nan], [1, 1], {}, "must be finite"),
    ([1, 1], [math.inf, 1], {}, "must be finite"),
    ([1], [1], {"confidence": 1.0}, "confidence must be between 0 and 1, got 1.0"),
    ([1], [1], {"confidence": 0.0}, "confidence must be between 0 and 1"),
  ],
  ids=["lengths", "two-axes", "no-axis", "nan", "infinite", "certain", "never"],
)
def test_what_cannot_be_compared_is_refused(values, others, options, message):
  with pytest.raises(ValueError, match=message):
    paired_difference(values, others, **options)
