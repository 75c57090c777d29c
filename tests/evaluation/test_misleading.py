"""Ranks, misleading rates and intervals: against sorting, against SciPy, on ties and edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rpfgsm_jax import evaluation

LOGITS = np.random.default_rng(3).normal(size=(40, 11)).astype(np.float32)
LABELS = np.random.default_rng(4).integers(0, 11, 40).astype(np.int32)


def test_rank_equals_the_place_in_a_stable_sort_also_with_ties():
  tied = np.round(LOGITS)  # many equal logits
  order = np.argsort(-tied, axis=-1, kind="stable")
  expected = (order == LABELS[:, None]).argmax(axis=-1)
  np.testing.assert_array_equal(evaluation.rank_of_label(tied, LABELS), expected)


def test_rank_is_the_same_jitted_mapped_and_with_more_axes():
  expected = np.asarray(evaluation.rank_of_label(LOGITS, LABELS))
  np.testing.assert_array_equal(jax.jit(evaluation.rank_of_label)(LOGITS, LABELS), expected)
  np.testing.assert_array_equal(jax.vmap(evaluation.rank_of_label)(LOGITS, LABELS), expected)
  found = evaluation.rank_of_label(LOGITS.reshape(8, 5, 11), LABELS.reshape(8, 5))
  np.testing.assert_array_equal(found, expected.reshape(8, 5))


def test_top_1_is_a_change_of_the_prediction_and_top_5_is_leaving_the_first_five():
  np.testing.assert_array_equal(
    evaluation.is_misled(LOGITS, LABELS), LOGITS.argmax(axis=-1) != LABELS
  )
  first = np.argsort(-LOGITS, axis=-1)[:, :5]
  expected = [label not in some for label, some in zip(LABELS, first, strict=True)]
  np.testing.assert_array_equal(evaluation.is_misled(LOGITS, LABELS, top=5), expected)


def test_a_network_that_breaks_down_is_not_misled():
  logits = jnp.full((1, 6), jnp.nan)
  assert not evaluation.is_misled(logits, jnp.asarray([4], jnp.int32))[0]


def test_of_equal_logits_the_lower_index_comes_first():
  logits = jnp.asarray([[1.0, 2.0, 2.0, 0.0]])
  neighbor = jnp.asarray([[1.0, 2.0, np.nextafter(np.float32(2), np.float32(3)), 0.0]])
  for label, rank, rank_beside in ((1, 0, 1), (2, 1, 0)):
    label = jnp.asarray([label], jnp.int32)
    assert int(evaluation.rank_of_label(logits, label)[0]) == rank
    assert int(evaluation.rank_of_label(neighbor, label)[0]) == rank_beside


@pytest.mark.parametrize("top", [0, 11, -1])
def test_top_out_of_range_is_refused(top):
  with pytest.raises(ValueError, match=r"top must be in 1\.\.10 for 11 classes"):
    evaluation.is_misled(LOGITS, LABELS, top=top)


def test_labels_of_another_shape_are_refused():
  with pytest.raises(ValueError, match="leading shape of logits"):
    evaluation.rank_of_label(LOGITS, LABELS[:3])


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 24), (3, 7), (24, 24), (499, 1000)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(successes, trials, confidence):
  found = evaluation.wilson_interval(successes, trials, confidence=confidence)
  test = scipy.stats.binomtest(successes, trials)
  expected = test.proportion_ci(confidence_level=confidence, method="wilson")
  np.testing.assert_allclose(found, (expected.low, expected.high), atol=1e-12)


def test_wilson_ends_are_exact_and_nothing_is_known_without_trials():
  assert evaluation.wilson_interval(0, 37)[0] == 0.0
  assert evaluation.wilson_interval(37, 37)[1] == 1.0
  assert evaluation.wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
  ("arguments", "confidence", "message"),
  [
    ((5, 4), 0.95, "successes must be in 0..trials"),
    ((-1, 4), 0.95, "successes must be in 0..trials"),
    ((math.nan, 4), 0.95, "successes must be in 0..trials"),
    ((1, 4), 1.0, "confidence must be between"),
  ],
)
def test_wilson_refuses_what_is_no_proportion(arguments, confidence, message):
  with pytest.raises(ValueError, match=message):
    evaluation.wilson_interval(*arguments, confidence=confidence)


def test_rate_of_images():
  rate = evaluation.misleading_rate([True, False, True, True])
  assert (rate.value, rate.count) == (0.75, 4)
  assert (rate.low, rate.high) == evaluation.wilson_interval(3, 4)


def test_settings_are_averaged_for_each_image_and_do_not_narrow_the_interval():
  misled = np.asarray([[True, True, False], [False, False, False]])
  rate = evaluation.misleading_rate(misled)
  assert rate.value == pytest.approx(1 / 3)
  assert rate.count == 2
  many = evaluation.misleading_rate(np.tile(misled, (1, 100)))
  np.testing.assert_allclose((many.low, many.high), (rate.low, rate.high), atol=1e-12)


def test_rate_of_no_image_is_unknown():
  rate = evaluation.misleading_rate(np.zeros((0, 3), bool))
  assert math.isnan(rate.value)
  assert (rate.low, rate.high, rate.count) == (0.0, 1.0, 0)


@pytest.mark.parametrize("shape", [(), (3, 0), (2, 2, 2)])
def test_rate_refuses_other_shapes(shape):
  with pytest.raises(ValueError, match="misled must be"):
    evaluation.misleading_rate(np.zeros(shape, bool))
