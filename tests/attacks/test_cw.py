"""CW-L2 against the closed form on a two-class affine network, and its binary search."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp

RAW = rp.CWConfig(search_steps=4, num_steps=60, quantize=False)


def _two_class(params, images):
  flat = images.reshape(images.shape[0], -1)
  margin = flat @ params["normal"] - params["offset"]
  return jnp.stack([margin, -margin], axis=1)


def two_class():
  """An affine network, and images on its class 0 side, all far from black and white."""
  generator = np.random.default_rng(0)
  images = generator.integers(90, 166, (6, *toys.SIZE, 3)).astype(np.uint8)
  normal = generator.normal(size=images[0].size) * 0.02
  margins = images.reshape(6, -1) @ normal
  offset = margins.min() - 2.0
  params = {"normal": jnp.asarray(normal, jnp.float32), "offset": jnp.float32(offset)}
  net = rp.Classifier.from_function(
    _two_class, params, class_names=("in", "out"), image_size=toys.SIZE
  )
  return net, images, (margins - offset) / np.linalg.norm(normal)


def test_two_class_affine_network_comes_within_a_percent_of_the_smallest_perturbation():
  net, images, smallest = two_class()
  # Adam circles the boundary at a distance in proportion to its rate: 0.01 leaves 2 %.
  config = rp.CWConfig(
    search_steps=9, num_steps=1000, initial_c=1e-2, learning_rate=2e-3, quantize=False
  )
  result = rp.cw(jax.random.key(0), images, [net], config)
  assert np.asarray(result.success).all()
  assert np.asarray(result.target).tolist() == [1] * 6
  found = np.sqrt(((np.asarray(result.adversarial, np.float64) - images) ** 2).sum(axis=(1, 2, 3)))
  assert (found >= smallest * (1 - 1e-4)).all()  # float32 at the boundary
  assert (found <= smallest * 1.01).all()


def test_the_target_is_the_second_most_likely_class_or_the_chosen_one():
  net, images = toys.linear(1), toys.images(5)
  logits = np.asarray(net(images))
  result = rp.cw(jax.random.key(0), images, [net], RAW)
  np.testing.assert_array_equal(np.asarray(result.target), np.argsort(-logits, axis=1)[:, 1])
  chosen = np.argsort(-logits, axis=1)[:, 2]
  result = rp.cw(jax.random.key(0), images, [net], RAW, target=chosen)
  np.testing.assert_array_equal(np.asarray(result.target), chosen)
  hit = np.argmax(np.asarray(net(result.adversarial)), axis=1) == chosen
  np.testing.assert_array_equal(np.asarray(result.success), hit)
  assert hit.all()


def test_confidence_is_the_lead_of_the_target_in_logits():
  net, images = toys.linear(1), toys.images(5)
  config = dataclasses.replace(RAW, confidence=0.7, num_steps=200)
  result = rp.cw(jax.random.key(0), images, [net], config)
  logits = np.array(net(result.adversarial))
  rows, target = np.arange(5), np.asarray(result.target)
  own = logits[rows, target]
  logits[rows, target] = -np.inf
  assert (own - logits.max(axis=1) > 0.7 - 1e-3).all()  # the final forward may round differently


def test_an_unreachable_target_leaves_the_image():
  def stubborn(params, images):
    mean = images.mean(axis=(1, 2, 3)) * params
    return jnp.stack([mean, mean - 1.0, mean - 2.0], axis=1)

  net = rp.Classifier.from_function(
    stubborn, jnp.float32(1), class_names=("a", "b", "c"), image_size=toys.SIZE
  )
  images = toys.images(3)
  result = rp.cw(jax.random.key(0), images, [net], RAW)
  np.testing.assert_array_equal(np.asarray(result.adversarial), images)
  assert not np.asarray(result.success).any()


@pytest.mark.parametrize(("num_steps", "evaluations"), [(60, 240), (0, 0)])
def test_without_early_abort_every_search_step_runs_its_length(num_steps, evaluations):
  config = dataclasses.replace(RAW, num_steps=num_steps, abort_early=False)
  result = rp.cw(jax.random.key(0), toys.images(3), [toys.linear(1)], config)
  assert np.asarray(result.gradient_evaluations).tolist() == [evaluations] * 3


def test_early_abort_is_each_images_own():
  """Images that stop early stop at the same step alone and among others."""
  net, images = toys.linear(1), toys.images(6)
  config = dataclasses.replace(RAW, num_steps=300, search_steps=3)
  together = rp.cw(jax.random.key(0), images, [net], config)
  evaluations = np.asarray(together.gradient_evaluations)
  assert (evaluations < 900).any()
  for row in range(6):
    alone = rp.cw(jax.random.key(0), images[row : row + 1], [net], config)
    assert int(alone.gradient_evaluations[0]) == evaluations[row]


def test_budgets():
  """5 x 200 by default; the authors' 9 x 10,000 from c = 0.001 on request."""
  net, images = toys.linear(1), toys.images(2)
  config = rp.CWConfig(abort_early=False, quantize=False)
  result = rp.cw(jax.random.key(0), images, [net], config)
  assert np.asarray(result.gradient_evaluations).tolist() == [1000, 1000]
  paper = rp.CWConfig(budget="paper", num_steps=3, abort_early=False)
  result = rp.cw(jax.random.key(0), images, [net], paper)
  assert np.asarray(result.gradient_evaluations).tolist() == [27, 27]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"budget": "large"}, "budget must be 'quick' or 'paper', got 'large'"),
    ({"search_steps": 0}, "search_steps must be an integer >= 1"),
    ({"num_steps": -1}, "num_steps must be an integer >= 0"),
    ({"initial_c": 0.0}, "initial_c must be > 0"),
    ({"learning_rate": -0.1}, "learning_rate must be > 0"),
    ({"confidence": -1.0}, "confidence must be >= 0"),
  ],
)
def test_bad_settings_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    rp.cw(jax.random.key(0), toys.images(2), [toys.linear(1)], dataclasses.replace(RAW, **change))
