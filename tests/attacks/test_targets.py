"""Eq. 17 against a literal NumPy transcription, and the rule for an empty candidate set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from rpfgsm_jax.attacks.targets import candidate_mass, draw_target, effective_gamma


def eq17(logits, gamma):
  """Candidates by the letter: y_{j+1} for every j whose first j sorted probabilities pass gamma."""
  sets = []
  for row in logits:
    probabilities = scipy.special.softmax(row.astype(np.float64))
    order = np.argsort(-probabilities, kind="stable")
    total = np.cumsum(probabilities[order])
    sets.append({int(order[j]) for j in range(1, len(row)) if total[j - 1] > gamma})
  return set.intersection(*sets)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("num_networks", [1, 3])
def test_candidates_equal_the_equation(gamma, num_networks):
  logits = np.random.default_rng(4).normal(0, 3, size=(20, num_networks, 30)).astype(np.float32)
  for image in logits:
    mass = np.asarray(candidate_mass(jnp.asarray(image)))
    expected = eq17(image, gamma)
    # The empty intersection has a rule of its own, tested below.
    assert set(np.flatnonzero(mass > gamma).tolist()) == expected


def test_a_prediction_is_never_a_candidate():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 9)), jnp.float32)
  mass = candidate_mass(logits)
  assert np.all(np.asarray(mass)[np.asarray(jnp.argmax(logits, axis=-1))] == 0.0)


def test_targets_are_drawn_uniformly_from_the_candidates():
  logits = np.random.default_rng(5).normal(0, 2, size=(2, 12)).astype(np.float32)
  expected = sorted(eq17(logits, 0.8))
  assert 3 <= len(expected) <= 10
  keys = jax.random.split(jax.random.key(0), 3000)
  targets, gammas = jax.vmap(lambda key: draw_target(key, jnp.asarray(logits), 0.8))(keys)
  values, counts = np.unique(np.asarray(targets), return_counts=True)
  assert values.tolist() == expected
  assert scipy.stats.chisquare(counts).pvalue > 1e-3
  np.testing.assert_allclose(np.asarray(gammas), 0.8, rtol=1e-6)


def test_empty_set_lowers_gamma_to_the_largest_that_leaves_a_class():
  # Two sure networks that disagree: mass before any third class is nearly 1, but never above it.
  logits = jnp.asarray([[9.0, 0.0, 1.0, 0.5], [0.0, 9.0, 0.2, 1.0]], jnp.float32)
  mass = np.asarray(candidate_mass(logits))
  assert not eq17(np.asarray(logits), 1.0)
  target, gamma = draw_target(jax.random.key(1), logits, 1.0)
  assert int(target) == int(np.argmax(mass))
  assert float(gamma) < mass.max()
  assert np.nextafter(np.float32(gamma), np.float32(2)) == mass.max()


def test_gamma_is_kept_where_it_leaves_a_class():
  mass = jnp.asarray([0.0, 0.4, 0.7], jnp.float32)
  assert float(effective_gamma(mass, 0.5)) == 0.5


def test_ties_go_by_class_number():
  mass = np.asarray(candidate_mass(jnp.zeros((1, 4), jnp.float32)))
  np.testing.assert_allclose(mass, [0.0, 0.25, 0.5, 0.75], atol=1e-6)


def test_no_candidate_is_reported_as_minus_one():
  target, _ = draw_target(
    jax.random.key(0), jnp.asarray([[3.0, 0.0], [0.0, 3.0]], jnp.float32), 0.9
  )
  assert int(target) == -1
