"""Feature squeezing's detector against its definition in SciPy and NumPy, and its false alarms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rpfgsm_jax.evaluation import (
  detection_rate,
  detection_threshold,
  is_detected,
  joint_distance,
  squeezing_distance,
  wilson_interval,
)


def test_distance_is_the_l1_norm_of_scipys_softmax():
  generator = np.random.default_rng(0)
  first, second = (generator.normal(0, 5, (3, 4, 9)).astype(np.float32) for _ in range(2))
  expected = np.abs(
    scipy.special.softmax(first.astype(float), axis=-1)
    - scipy.special.softmax(second.astype(float), axis=-1)
  ).sum(axis=-1)
  np.testing.assert_allclose(np.asarray(squeezing_distance(first, second)), expected, atol=1e-6)


def test_distance_ends_at_zero_and_two():
  sure = jnp.asarray([[90.0, 0.0, 0.0], [0.0, 90.0, 0.0]])
  assert np.asarray(squeezing_distance(sure, sure)).tolist() == [0.0, 0.0]
  assert np.asarray(squeezing_distance(sure, sure[::-1])).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
  ("count", "place"), [(1, 1), (19, 19), (20, 19), (21, 20), (60, 57), (100, 95), (1000, 950)]
)
def test_threshold_is_the_order_statistic(count, place):
  """Number ceil(0.95 n) of the sorted distances, whatever their order."""
  values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
  assert detection_threshold(values) == place
  assert is_detected(values, place).sum() <= 0.05 * count


def test_a_tie_at_the_threshold_passes_and_the_next_float_does_not():
  threshold = detection_threshold(np.full(50, 0.3))
  values = [np.nextafter(0.3, 0), 0.3, np.nextafter(0.3, 1), np.nan]
  assert is_detected(values, threshold).tolist() == [False, False, True, False]


def test_new_clean_images_are_flagged_as_often_as_agreed():
  """Exchangeable scores: 1000 to learn from; the mean over 400 trials is within 0.1 points."""
  generator = np.random.default_rng(1)
  rates = []
  for _ in range(400):
    threshold = detection_threshold(generator.gamma(2.0, size=1000))
    rates.append(detection_rate(generator.gamma(2.0, size=1000), threshold).value)
  # The expected share above order statistic 950 of 1000 is 51 / 1001.
  assert np.mean(rates) == pytest.approx(51 / 1001, abs=1.5e-3)


def test_parameters_are_joined_by_the_largest():
  distances = np.asarray([[0.1, 0.5, 0.2], [0.3, 0.0, 0.1]])
  assert joint_distance(distances).tolist() == [0.5, 0.3]


def test_rate_has_wilsons_interval():
  rate = detection_rate([0.1, 0.4, 0.5, 0.2], 0.2)
  low, high = wilson_interval(2, 4)
  assert (rate.value, rate.low, rate.high, rate.count) == (0.5, low, high, 4)
  assert np.isnan(detection_rate([], 0.2).value)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: squeezing_distance(np.zeros((2, 3)), np.zeros((2, 4))), "must have one shape"),
    (lambda: joint_distance(np.zeros((2, 0))), r"must be \(\.\.\., P\) with P >= 1"),
    (lambda: detection_threshold([]), r"must be \(n,\) with n >= 1"),
    (lambda: detection_threshold([0.1, np.nan]), "must not hold NaN"),
    (lambda: detection_threshold([0.1], false_positive_rate=1.0), "false_positive_rate must be"),
    (lambda: detection_rate(np.zeros((2, 2)), 0.1), r"must be \(N,\)"),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
