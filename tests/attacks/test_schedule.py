"""Draws: exact balance, uniform marginals, and nothing shared between images."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats

from rpfgsm_jax.attacks.schedule import draw_schedule
from rpfgsm_jax.defenses import DefenseBank, paper_bank

BANK = paper_bank()


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _drawn(key, num_images, num_steps, num_classifiers, draw, bank):
  keys = jax.random.split(key, num_images)
  return jax.vmap(lambda k: draw_schedule(k, num_steps, num_classifiers, bank, draw))(keys)


def draws_of(num_images, num_steps, num_classifiers, draw, bank=BANK, seed=0):
  drawn = _drawn(jax.random.key(seed), num_images, num_steps, num_classifiers, draw, bank)
  return jax.tree.map(np.asarray, drawn)


@pytest.mark.parametrize("num_classifiers", [1, 2, 3, 5])
def test_balanced_meets_each_classifier_exactly_n_over_k_times(num_classifiers):
  draws = draws_of(6, 60, num_classifiers, "balanced")
  for image in draws.classifier:
    assert np.bincount(image, minlength=num_classifiers).tolist() == [60 // num_classifiers] * (
      num_classifiers
    )


def test_remainder_is_spread_over_different_classifiers():
  draws = draws_of(200, 20, 3, "balanced")
  counts = np.stack([np.bincount(image, minlength=3) for image in draws.classifier])
  assert set(counts.reshape(-1)) == {6, 7}
  # Which classifier goes without is itself uniform: chi-square over 200 images, 0.1 % level.
  short = np.argmin(counts, axis=1)
  assert scipy.stats.chisquare(np.bincount(short, minlength=3)).pvalue > 1e-3


@pytest.mark.parametrize("num_steps", [60, 20, 7, 3])
def test_balanced_families_and_parameters_are_as_even_as_arithmetic_allows(num_steps):
  draws = draws_of(5, num_steps, 3, "balanced")
  for family, parameter in zip(draws.family, draws.parameter, strict=True):
    counts = np.bincount(family, minlength=4)
    assert counts.max() - counts.min() <= (0 if num_steps % 4 == 0 else 1)
    for index, defense in enumerate(BANK.families):
      drawn = parameter[family == index]
      assert set(drawn) <= set(defense.parameters)
      within = [np.sum(drawn == value) for value in defense.parameters]
      assert max(within) - min(within) <= 1


def test_balanced_order_is_shuffled_anew_for_each_image():
  draws = draws_of(8, 60, 3, "balanced")
  assert len({image.tobytes() for image in draws.classifier}) == 8
  assert len({image.tobytes() for image in draws.family}) == 8


def test_iid_marginals_are_uniform():
  """Chi-square at the 0.1 % level over 64 x 300 draws; also that it is not the balanced draw."""
  draws = draws_of(64, 300, 3, "iid")
  assert scipy.stats.chisquare(np.bincount(draws.classifier.reshape(-1))).pvalue > 1e-3
  assert scipy.stats.chisquare(np.bincount(draws.family.reshape(-1))).pvalue > 1e-3
  for index, defense in enumerate(BANK.families):
    drawn = draws.parameter[draws.family == index]
    counts = [np.sum(drawn == value) for value in defense.parameters]
    assert sum(counts) == drawn.size
    assert len(counts) == 1 or scipy.stats.chisquare(counts).pvalue > 1e-3
  counts = np.stack([np.bincount(image, minlength=3) for image in draws.classifier])
  # A multinomial count over 300 draws varies by 300 * 2/9; a balanced one not at all.
  assert 0.6 < counts.var(axis=0).mean() / (300 * 2 / 9) < 1.5


@pytest.mark.parametrize("draw", ["balanced", "iid"])
def test_position_carries_no_information(draw):
  """Over 600 images, each iteration meets each classifier a third of the time (0.1 % level)."""
  draws = draws_of(600, 12, 3, draw)
  for step in range(12):
    counts = np.bincount(draws.classifier[:, step], minlength=3)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3 / 12


@pytest.mark.parametrize("draw", ["balanced", "iid"])
def test_defenses_do_not_depend_on_the_number_of_classifiers(draw):
  one, three = (draws_of(4, 60, k, draw) for k in (1, 3))
  np.testing.assert_array_equal(one.family, three.family)
  np.testing.assert_array_equal(one.parameter, three.parameter)


def test_a_bank_of_one_family_draws_only_it():
  draws = draws_of(3, 10, 2, "balanced", bank=DefenseBank(BANK.families[3:]))
  assert not draws.family.any()
  assert set(draws.parameter.reshape(-1)) == {25.0, 50.0, 75.0, 100.0}


def test_unknown_draw_is_refused():
  with pytest.raises(ValueError, match="draw must be 'balanced' or 'iid', got 'even'"):
    draw_schedule(jax.random.key(0), 4, 2, BANK, "even")
