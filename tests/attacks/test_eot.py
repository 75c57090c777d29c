"""EOT: its step by hand, with the transformation that was drawn; what its weight does; rules."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

from rpfgsm_jax.attacks import signed
from rpfgsm_jax.attacks.eot import EOTConfig, eot
from rpfgsm_jax.attacks.lab import lab_distance, rgb_to_lab
from rpfgsm_jax.defenses import LIGHTEN, TRANSLATE, DefenseBank, eot_bank
from rpfgsm_jax.defenses.bank import apply_member

NET = toys.convolution(2)
IMAGES = toys.images(6)
# With this weight both terms of Eq. 12 are about as strong as each other, on this network.
WEIGHT = 3.0
# Two transformations that compile in a moment, and all six.
SHORT = EOTConfig(
  epsilon=6.0, num_steps=7, visual_weight=WEIGHT, transforms=DefenseBank((LIGHTEN, TRANSLATE))
)
FREE = dataclasses.replace(SHORT, visual_weight=0.0)
TWO_STEPS = EOTConfig(epsilon=6.0, num_steps=2, visual_weight=WEIGHT, record_draws=True)


def attack(images=IMAGES, config=SHORT, nets=(NET,), seed=0, **options):
  return eot(jax.random.key(seed), images, nets, config, **options)


def as_numpy(result):
  return np.asarray(result.adversarial)


@functools.lru_cache
def ten_runs():
  """Draws `(60, 7)` and targets `(10, 6)` of ten keys."""
  config = dataclasses.replace(SHORT, record_draws=True)
  results = [attack(config=config, seed=seed) for seed in range(10)]
  family = np.concatenate([np.asarray(result.draws.family) for result in results])
  return family, np.stack([np.asarray(result.target) for result in results])


def loss_by_hand(image, original, drawn, weight, is_first):
  """Eq. 12; at the original image the distance has a corner, and its gradient counts as zero."""
  bank = TWO_STEPS.transforms
  transform = lambda x: apply_member(bank, x, *drawn, "straight_through")  # noqa: E731
  transformed = transform(image)
  difference = (rgb_to_lab(transformed) - rgb_to_lab(transform(original))) / 100
  distance = jnp.sqrt(jnp.where(is_first, 1.0, jnp.sum(difference**2)))
  cross_entropy = -jax.nn.log_softmax(NET(transformed[None])[0])[4]
  return cross_entropy + jnp.where(is_first, 0.0, weight * distance)


def by_hand(draws, weights):
  """The images after the two steps of each weight, and which of their signs are sure."""
  slope_of = jax.jit(jax.vmap(jax.grad(loss_by_hand), in_axes=(0, 0, 0, None, None)))
  originals, found = jnp.asarray(IMAGES, jnp.float32), []
  for weight in weights:
    images, sure = originals, np.ones(IMAGES.shape, bool)
    for step in range(2):
      drawn = tuple(values[:, step] for values in (draws.family, draws.parameter, draws.noise))
      slope = np.asarray(slope_of(images, originals, drawn, weight, step == 0))
      # Far from 0, or exactly 0 because the pixel was moved out or clipped.
      largest = np.abs(slope).max(axis=(1, 2, 3), keepdims=True)
      sure &= (np.abs(slope) > 1e-3 * largest) | (slope == 0)
      images = jnp.clip(images - np.sign(slope), 0, 255)
    found.append((np.asarray(images), sure))
  return found


def test_steps_are_the_hand_written_gradient_sign():
  """Two of them: the second has the distance, with the original in the same noise and place."""
  result = attack(config=TWO_STEPS, target=4, seed=3)
  (expected, sure), (without_distance, _) = by_hand(result.draws, (WEIGHT, 0.0))
  np.testing.assert_array_equal(as_numpy(result)[sure], expected[sure])
  assert sure.mean() > 0.9
  # The example is one: each transformation in the second step, and a distance that matters.
  assert set(np.asarray(result.draws.family)[:, 1].tolist()) == set(range(6))
  assert np.mean(without_distance != expected) > 0.1


def test_the_first_step_knows_nothing_of_the_distance():
  """At the original both terms of the distance are one image: no NaN, and no rounding noise."""
  heavy, without = (
    as_numpy(attack(config=dataclasses.replace(SHORT, num_steps=1, visual_weight=weight)))
    for weight in (1e6, 0.0)
  )
  # Without the term it is another program, which may round a gradient near zero differently.
  assert np.mean(heavy != without) < 0.01
  assert np.mean(heavy != IMAGES) > 0.5


def test_a_weight_stays_nearer():
  originals = jnp.asarray(IMAGES, jnp.float32)
  held, free = (lab_distance(attack(config=each).adversarial, originals) for each in (SHORT, FREE))
  assert np.all(np.asarray(held) < np.asarray(free))
  assert np.all(np.asarray(held) > 0)


def test_the_paper_defaults():
  config = EOTConfig()
  assert (config.epsilon, config.step_size, config.visual_weight) == (16.0, 1.0, 0.5)
  assert config.transforms == eot_bank()
  config = dataclasses.replace(config, record_draws=True)
  assert jax.eval_shape(lambda: attack(config=config)).draws.family.shape == (6, 20)


def test_success_is_judged_on_the_untransformed_image():
  result = attack(config=dataclasses.replace(FREE, epsilon=40.0, step_size=8.0))
  reached = np.argmax(np.asarray(NET(result.adversarial)), axis=1) == np.asarray(result.target)
  np.testing.assert_array_equal(result.success, reached)
  assert reached.any()


def test_targets_are_random_other_classes():
  _, targets = ten_runs()
  assert np.all(targets != np.argmax(np.asarray(NET(IMAGES)), axis=1))
  assert set(targets.ravel().tolist()) == set(range(7))


def test_transformations_are_drawn_independently_and_uniformly():
  """`iid`: of 420 draws the share of a family is within 3 standard deviations of one half."""
  family, _ = ten_runs()
  assert abs(family.mean() - 0.5) < 3 * 0.5 / np.sqrt(family.size)
  assert set(family.sum(axis=1).tolist()) > {2, 3, 4, 5}  # balanced rows would all have 3 or 4


def test_a_new_epsilon_or_an_equal_weight_does_not_compile_anew():
  attack()
  compiled = signed._run._cache_size()
  attack(config=dataclasses.replace(SHORT, epsilon=3.0))
  attack(config=dataclasses.replace(SHORT, visual_weight=float("3.0")))
  attack(config=dataclasses.replace(SHORT, visual_weight=3))
  assert signed._run._cache_size() == compiled


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"label": 1}, "label is for the untargeted attacks; eot approaches a class"),
    ({"nets": toys.three()}, "classifiers must be one network for eot, got 3"),
    ({"target": 7}, r"target must be classes in 0\.\.6"),
    ({"config": EOTConfig(visual_weight=-0.1)}, "visual_weight must be a finite number >= 0"),
    ({"config": EOTConfig(visual_weight=jnp.ones(()))}, "visual_weight must be a finite number"),
    ({"config": EOTConfig(transforms=DefenseBank(()))}, "transforms must be a DefenseBank"),
    ({"config": EOTConfig(num_steps=-1)}, "num_steps must be an integer >= 0"),
  ],
  ids=lambda part: part if isinstance(part, str) else "",
)
def test_bad_arguments_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    attack(**options)
