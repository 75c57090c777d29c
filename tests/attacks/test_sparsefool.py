"""SparseFool: its solver against a walk along the coordinates, and the whole on small networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.sparsefool import cross_plane

RAW = rp.SparseFoolConfig(quantize=False)
BEYOND = 1e-3 * 255


def walk(image, normal, tangent):
  """Modas et al. (2019), Algorithm 1, one coordinate at a time, in float64."""
  x = image.astype(np.float64).reshape(-1).copy()
  w = normal.astype(np.float64).reshape(-1)
  w = w / np.linalg.norm(w)
  b = tangent.astype(np.float64).reshape(-1)
  for place in np.argsort(-np.abs(w), kind="stable"):
    gap = w @ (b - x)
    if gap <= 0 or w[place] == 0:
      break
    x[place] += np.sign(w[place]) * (gap + BEYOND) / abs(w[place])
    x[place] = np.clip(x[place], 0, 255)
  return x.reshape(image.shape)


@pytest.mark.parametrize("distance", [0.5, 20.0, 40.0, 5000.0], ids=lambda d: f"{d:g} levels")
@pytest.mark.parametrize("seed", range(4))
def test_solver_equals_the_walk_along_the_coordinates(seed, distance):
  """From one value to, at 5000 levels, every value at its limit and the plane out of reach."""
  generator = np.random.default_rng(seed)
  image = toys.images(1, seed)[0].astype(np.float32)
  normal = (generator.normal(size=image.shape) ** 3).astype(np.float32)
  normal[generator.random(image.shape) < 0.2] = 0.0
  unit = normal / np.linalg.norm(normal)
  tangent = image + np.float32(distance) * unit
  moved = np.asarray(cross_plane(jnp.asarray(image), jnp.asarray(normal), jnp.asarray(tangent)))
  expected = walk(image, normal, tangent)
  # The last value moved is a quotient by its slope: float32 sums of 360 terms, divided by it.
  np.testing.assert_allclose(moved, expected, atol=0.02, rtol=0)
  assert (np.abs(moved - image) > 0.02).sum() == (np.abs(expected - image) > 0.02).sum()
  reached = ((moved - tangent) * unit).sum() > 0
  assert reached == (((expected - tangent) * unit).sum() > 0) == (distance < 5000)


def test_solver_stays_where_there_is_nothing_to_cross():
  image = jnp.asarray(toys.images(1)[0], jnp.float32)
  normal = jnp.ones_like(image)
  for tangent, direction in ((image - 5.0, normal), (image + 5.0, normal * 0)):
    np.testing.assert_array_equal(np.asarray(cross_plane(image, direction, tangent)), image)


def test_saturated_values_give_way_to_the_next_steepest():
  image = jnp.full((2, 2, 1), 100.0).at[0, 0, 0].set(255.0)
  normal = jnp.asarray([4.0, 3.0, -2.0, 1.0]).reshape(2, 2, 1)
  moved = cross_plane(image, normal, image + 10.0 * normal / jnp.linalg.norm(normal.reshape(-1)))
  change = np.asarray(moved - image).reshape(-1)
  assert change[0] == 0  # the steepest is white already
  assert change[1] > 0
  assert (change[2:] == 0).all()


@pytest.mark.parametrize("seed", [2, 3])
def test_leaves_the_class_by_few_values_inside_the_range(seed):
  net, images = toys.convolution(seed), toys.images(12, seed=4)
  result = rp.sparsefool(jax.random.key(0), images, [net], RAW)
  adversarial = np.asarray(result.adversarial)
  assert adversarial.min() >= 0
  assert adversarial.max() <= 255
  clean = np.argmax(np.asarray(net(images)), axis=1)
  left = np.argmax(np.asarray(net(adversarial)), axis=1) != clean
  np.testing.assert_array_equal(np.asarray(result.success), left)
  assert left.all()
  changed = (adversarial != images).sum(axis=(1, 2, 3))
  dense = np.asarray(rp.deepfool(jax.random.key(0), images, [net]).adversarial) != images
  assert np.median(changed) < 0.25 * images[0].size
  assert changed.sum() < 0.5 * dense.sum()


def test_caps_of_the_budgets():
  """A network that never changes its mind: the caps are met and the image comes back."""

  def constant(params, images):
    return jnp.broadcast_to(params[None, :], (images.shape[0], 3)) + 1e-9 * images.mean()

  net = rp.Classifier.from_function(
    constant, jnp.asarray([2.0, 1.0, 0.0]), class_names=("a", "b", "c"), image_size=toys.SIZE
  )
  images = toys.images(2)
  for budget, steps in (("quick", 10), ("paper", 50)):
    config = rp.SparseFoolConfig(budget=budget)
    result = rp.sparsefool(jax.random.key(0), images, [net], config)
    # One boundary sought in vain by 3 gradients a step, and the look at its tangent.
    assert np.asarray(result.gradient_evaluations).tolist() == [3 * steps + 1] * 2
    assert not np.asarray(result.success).any()
    np.testing.assert_array_equal(np.asarray(result.adversarial), images)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"budget": None}, "budget must be 'quick' or 'paper'"),
    ({"num_loops": -1}, "num_loops must be an integer >= 0"),
    ({"num_steps": 0}, "num_steps must be an integer >= 1"),
    ({"distance_factor": 0.5}, "distance_factor must be >= 1"),
    ({"overshoot": -1.0}, "overshoot must be >= 0"),
  ],
)
def test_bad_settings_are_named(change, message):
  config = dataclasses.replace(RAW, **change)
  with pytest.raises(ValueError, match=message):
    rp.sparsefool(jax.random.key(0), toys.images(2), [toys.linear(1)], config)
