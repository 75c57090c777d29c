"""JSMA: the saliency of Eq. 6 from the full Jacobian, the choice of values and of the target."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks import jsma as module

SURE = toys.convolution(2)
# Less sure of itself: with probabilities of 1e-20 the sums of Eq. 6 cancel even in float64.
NET = dataclasses.replace(SURE, params=SURE.params | {"head": SURE.params["head"] * 0.1})
IMAGES = toys.images(6, seed=3)
SHORT = rp.JSMAConfig(num_candidates=2, num_steps=40)


def attack(config=SHORT, images=IMAGES, net=NET, **options):
  return rp.jsma(jax.random.key(0), images, [net], config, **options)


def saliency_by_jacobian(net, image, target):
  """Eq. 6 as it stands, from the Jacobian of all probabilities; float64 from the logits on."""
  image = jnp.asarray(image, jnp.float32)
  logits, pull_back = jax.vjp(lambda x: net(x[None])[0], image)
  of_logits = np.asarray(jax.vmap(pull_back)(jnp.eye(7))[0], np.float64)
  probabilities = np.exp(np.asarray(logits, np.float64) - float(logits.max()))
  probabilities /= probabilities.sum()
  of_softmax = np.diag(probabilities) - np.outer(probabilities, probabilities)
  jacobian = np.tensordot(of_softmax, of_logits, axes=1)
  own = jacobian[target]
  rest = np.delete(jacobian, target, axis=0).sum(axis=0)
  return np.where((own < 0) | (rest > 0), 0.0, np.abs(own) * np.abs(rest))


@pytest.mark.parametrize("target", [0, 4])
def test_saliency_equals_the_full_jacobians(target):
  for image in IMAGES[:3]:
    images = jnp.asarray(image[None], jnp.float32)
    _, _, gradient = module._saliency(NET, images, jnp.asarray([target], jnp.int32))
    probability = float(jax.nn.softmax(NET(images)[0])[target])
    ours = np.maximum(probability * np.asarray(gradient[0], np.float64), 0) ** 2
    expected = saliency_by_jacobian(NET, image, target)
    # float32 gradients of seven classes: good to 1e-6 of the largest, squared.
    np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=1e-5 * expected.max())
    assert (expected > 0).any()


@pytest.mark.parametrize("theta", [255, 30])
def test_each_step_raises_the_two_most_salient_values_with_room(theta):
  config = dataclasses.replace(SHORT, num_steps=1, theta=theta)
  target = (np.argmax(np.asarray(NET(IMAGES)), axis=1) + 3) % 7
  moved = np.asarray(attack(config, target=target).adversarial).astype(int)
  for image, result, each in zip(IMAGES, moved, target, strict=True):
    saliency = saliency_by_jacobian(NET, image, each)
    saliency[image == 255] = 0
    best = np.argsort(-saliency, axis=None)[:2]
    expected = image.astype(int).reshape(-1)
    expected[best] = np.minimum(expected[best] + theta, 255)
    np.testing.assert_array_equal(result.reshape(-1), expected)


def test_negative_theta_takes_away():
  moved = np.asarray(attack(dataclasses.replace(SHORT, theta=-255)).adversarial)
  assert (moved <= IMAGES).all()
  assert (moved[moved != IMAGES] == 0).all()


def test_the_target_reached_first_is_taken_and_no_more_values_are_changed():
  result = attack()
  predicted = np.argmax(np.asarray(NET(result.adversarial)), axis=1)
  success, target = np.asarray(result.success), np.asarray(result.target)
  np.testing.assert_array_equal(success, predicted == target)
  assert success.all()
  likely = np.argsort(-np.asarray(NET(IMAGES)), axis=1)
  changed = (np.asarray(result.adversarial) != IMAGES).sum(axis=(1, 2, 3))
  one = [attack(target=likely[:, place]) for place in (1, 2)]
  alone = np.stack([(np.asarray(r.adversarial) != IMAGES).sum(axis=(1, 2, 3)) for r in one])
  alone = np.where(np.stack([np.asarray(r.success) for r in one]), alone, 10**6)
  np.testing.assert_array_equal(changed, alone.min(axis=0))
  np.testing.assert_array_equal(target, likely[np.arange(6), 1 + alone.argmin(axis=0)])
  # Two candidates, one gradient each: at every step, and at the look that finds the goal reached.
  steps = -(-changed // 2)
  np.testing.assert_array_equal(np.asarray(result.gradient_evaluations), 2 * (steps + 1))


@pytest.mark.parametrize(
  ("change", "most"), [({"num_steps": 3}, 6), ({"largest_share": 0.03}, 10), ({"num_steps": 0}, 0)]
)
def test_caps_bound_the_changed_values(change, most):
  """360 values: a share of 0.03 is 10.8 of them, five pairs."""
  target = np.argmin(np.asarray(NET(IMAGES)), axis=1)
  result = attack(dataclasses.replace(SHORT, **change), target=target)
  changed = (np.asarray(result.adversarial) != IMAGES).sum(axis=(1, 2, 3))
  assert changed.max() == most


def test_an_image_without_room_is_given_back():
  white = np.full((2, *toys.SIZE, 3), 255, np.uint8)
  result = attack(images=white)
  np.testing.assert_array_equal(np.asarray(result.adversarial), white)
  assert not np.asarray(result.success).any()
  assert (np.asarray(result.gradient_evaluations) == 2).all()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"theta": 0}, "theta must be whole gray levels"),
    ({"theta": 1.5}, "theta must be whole gray levels"),
    ({"theta": 256}, "theta must be whole gray levels"),
    ({"num_candidates": 0}, "num_candidates must be an integer >= 1"),
    ({"largest_share": 1.5}, r"largest_share must be in 0\.\.1"),
    ({"budget": "fast"}, "budget must be"),
  ],
)
def test_bad_settings_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    attack(dataclasses.replace(SHORT, **change))
