"""DI-FGSM: its step by hand, with the diverse input that was drawn; how often one is drawn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toy_classifiers as toys

from rpfgsm_jax.attacks.di_fgsm import DIFGSMConfig, di_fgsm
from rpfgsm_jax.defenses import IDENTITY, INPUT_DIVERSITY, DefenseBank
from rpfgsm_jax.defenses.bank import apply_member

NETS = toys.three()[:2]
IMAGES = toys.images(6)
BANK = DefenseBank((IDENTITY, INPUT_DIVERSITY))
SHORT = DIFGSMConfig(epsilon=6.0, num_steps=7)
TARGETED = dataclasses.replace(SHORT, targeted=True)


def attack(images=IMAGES, config=SHORT, nets=NETS, seed=0, **options):
  return di_fgsm(jax.random.key(seed), images, nets, config, **options)


def as_numpy(result):
  return np.asarray(result.adversarial)


def predictions(images=IMAGES):
  return np.stack([np.argmax(np.asarray(net(images)), axis=1) for net in NETS])


@functools.lru_cache
def ten_runs(config):
  """Draws `(60, 7)` and targets `(10, 6)` of ten keys."""
  config = dataclasses.replace(config, record_draws=True)
  results = [attack(config=config, seed=seed) for seed in range(10)]
  draws = jax.tree.map(
    lambda *values: np.concatenate(values), *[result.draws for result in results]
  )
  return draws, np.stack([np.asarray(result.target) for result in results])


def logit_slope(logits, labels):
  """The gradient of cross-entropy by the logits, in float64: softmax less one at the label.

  Less one is minus the others' sum: these networks are sure, and 1 - p would be nothing but noise.
  """
  slope = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
  rows = np.arange(len(slope))
  slope[rows, labels] = 0
  slope[rows, labels] = -slope.sum(axis=1)
  return jnp.asarray(slope, jnp.float32)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_one_step_is_the_hand_written_gradient_sign(targeted):
  """K = 2: one drawn transformation, and the sum of both networks' gradients behind it."""
  config = dataclasses.replace(SHORT, num_steps=1, targeted=targeted, record_draws=True)
  result = attack(config=config, seed=2)
  draws = result.draws
  drawn = tuple(values[:, 0] for values in (draws.family, draws.parameter, draws.noise))
  assert set(np.asarray(drawn[0]).tolist()) == {0, 1}
  labels = [np.asarray(result.target)] * 2 if targeted else predictions()
  assert targeted or np.any(labels[0] != labels[1])

  transform = jax.vmap(lambda image, *drawn: apply_member(BANK, image, *drawn, "straight_through"))
  transformed, pull = jax.vjp(lambda x: transform(x, *drawn), jnp.asarray(IMAGES, jnp.float32))
  slope = jnp.zeros_like(transformed)
  for net, label in zip(NETS, labels, strict=True):
    logits, pull_logits = jax.vjp(net, transformed)
    slope += pull_logits(logit_slope(logits, label))[0]
  slope = np.asarray(pull(slope)[0])
  largest = np.abs(slope).max(axis=(1, 2, 3), keepdims=True)
  # Far from 0, or exactly 0 because no result's pixel looks at this one.
  sure = (np.abs(slope) > 1e-4 * largest) | (slope == 0)
  assert sure.mean() > 0.8
  expected = np.clip(IMAGES + (-1 if targeted else 1) * np.sign(slope), 0, 255)
  np.testing.assert_array_equal(as_numpy(result)[sure], expected[sure])


def test_targets_are_classes_that_no_network_predicts():
  _, targets = ten_runs(TARGETED)
  assert np.all(targets[:, None] != predictions())
  assert set(targets.ravel().tolist()) == set(range(7))
  np.testing.assert_array_equal(attack().target, -1)


def test_diversity_comes_in_half_of_the_iterations_with_every_size():
  """420 independent draws, within 3 standard deviations; 11 or 12 of 12 pixels, 9 or 10 of 10."""
  draws, _ = ten_runs(SHORT)
  assert abs(draws.family.mean() - 0.5) < 3 * 0.5 / np.sqrt(draws.family.size)
  assert set(draws.family.sum(axis=1).tolist()) > {2, 3, 4, 5}  # balanced rows have 3 or 4
  diverse = draws.family == 1
  np.testing.assert_array_equal(draws.parameter[diverse], np.float32(200 / 224))
  white = jnp.full((12, 10, 1), 255.0)
  member = lambda word: apply_member(  # noqa: E731
    BANK, white, jnp.int32(1), jnp.float32(200 / 224), word, "straight_through"
  )
  seen = np.asarray(jax.jit(jax.vmap(member))(draws.noise[diverse]))[..., 0] > 0
  heights, widths = seen.any(axis=2).sum(axis=1), seen.any(axis=1).sum(axis=1)
  np.testing.assert_array_equal(np.unique(heights), [11, 12])
  assert abs(np.mean(heights == 11) - 0.5) < 3 * 0.5 / np.sqrt(heights.size)
  np.testing.assert_array_equal(widths, np.where(heights == 12, 10, 9))
  padded_above = ~seen[heights == 11, 0].any(axis=1)
  assert abs(padded_above.mean() - 0.5) < 3 * 0.5 / np.sqrt(padded_above.size)


def test_the_paper_defaults():
  config = DIFGSMConfig(record_draws=True)
  assert (config.epsilon, config.step_size, config.targeted) == (16.0, 1.0, False)
  # Not times K: each iteration asks all networks.
  assert jax.eval_shape(lambda: attack(config=config)).draws.family.shape == (6, 20)


def test_success_is_to_mislead_every_network():
  result = attack(config=dataclasses.replace(SHORT, epsilon=64.0, step_size=12.0))
  left = np.all(predictions(result.adversarial) != predictions(), axis=0)
  np.testing.assert_array_equal(result.success, left)
  assert left.any()


def test_one_network_leaves_a_chosen_label():
  result = attack(nets=NETS[:1], label=4)
  before, after = (
    np.asarray(jax.nn.log_softmax(NETS[0](x)))[:, 4] for x in (IMAGES, result.adversarial)
  )
  assert np.all(after < before)
  np.testing.assert_array_equal(result.gradient_evaluations, 7)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"target": 1}, r"target needs a targeted attack \(targeted=True"),
    (
      {"label": 1, "config": TARGETED},
      "label is for the untargeted attacks; di_fgsm approaches a class",
    ),
    ({"config": DIFGSMConfig(step_size=0.5)}, "step_size must be whole gray levels"),
    ({"config": DIFGSMConfig(micro_batch=0)}, "micro_batch must be an integer >= 1"),
    ({"nets": []}, "at least one Classifier"),
  ],
  ids=lambda part: part if isinstance(part, str) else "",
)
def test_bad_arguments_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    attack(**options)
