"""DeepFool against the closed form on affine networks, and what it does where there is none."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp

NET = toys.linear(1)
IMAGES = toys.images(8)
RAW = rp.DeepFoolConfig(quantize=False)
PUSH = 1e-4 * 255  # gray levels, the release's own surplus


def attack(config=RAW, images=IMAGES, net=NET, **options):
  return rp.deepfool(jax.random.key(0), images, [net], config, **options)


def nearest_projection(net, images):
  """The smallest L2 step out of the predicted class of an affine network, float64."""
  kernel = np.asarray(net.params["kernel"], np.float64)
  flat = images.reshape(len(images), -1).astype(np.float64)
  logits = flat @ kernel + np.asarray(net.params["bias"], np.float64)
  steps = []
  for z in logits:
    own, best = z.argmax(), None
    for k in range(len(z)):
      if k == own:
        continue
      normal = kernel[:, k] - kernel[:, own]
      step = (z[own] - z[k]) / (normal @ normal) * normal
      if best is None or np.linalg.norm(step) < np.linalg.norm(best):
        best = step
    steps.append(best)
  return np.stack(steps).reshape(images.shape)


@pytest.mark.parametrize("overshoot", [0.0, 0.02, 0.5])
def test_affine_network_gives_the_orthogonal_projection_times_one_plus_eta(overshoot):
  """Moosavi-Dezfooli et al. (2016), Eq. 6; the release goes PUSH gray levels beyond."""
  result = attack(dataclasses.replace(RAW, overshoot=overshoot))
  step = np.asarray(result.adversarial, np.float64) - IMAGES
  projection = nearest_projection(NET, IMAGES)
  lengths = np.sqrt((projection**2).sum(axis=(1, 2, 3)))
  expected = projection * ((1 + overshoot) * (1 + PUSH / lengths))[:, None, None, None]
  # float32 logits of 360 terms are good to 1e-6 of their size, which a gap of 0.1 % of it shows.
  np.testing.assert_allclose(step, expected, rtol=1e-3, atol=1e-3)
  assert np.asarray(result.success).all()
  assert (np.asarray(result.gradient_evaluations) == 7).all()  # one step, seven classes


def test_a_bent_boundary_takes_several_steps_and_is_crossed():
  net = toys.convolution(2)
  result = attack(net=net, images=toys.images(30, seed=5))
  evaluations = np.asarray(result.gradient_evaluations)
  assert np.asarray(result.success).all()
  assert (evaluations % 7 == 0).all()
  assert len(set(evaluations.tolist())) > 1
  before = np.argmax(np.asarray(net(toys.images(30, seed=5))), axis=1)
  assert (np.argmax(np.asarray(net(result.adversarial)), axis=1) != before).all()


def test_only_the_likeliest_classes_are_looked_at():
  result = attack(dataclasses.replace(RAW, num_classes=2))
  logits = np.asarray(NET(IMAGES))
  second = np.argsort(-logits, axis=1)[:, 1]
  np.testing.assert_array_equal(np.argmax(np.asarray(NET(result.adversarial)), axis=1), second)
  assert (np.asarray(result.gradient_evaluations) == 2).all()


def test_the_step_cap_ends_the_search():
  net = toys.convolution(2)
  images = toys.images(30, seed=5)
  result = attack(dataclasses.replace(RAW, num_steps=1), net=net, images=images)
  assert (np.asarray(result.gradient_evaluations) == 7).all()
  assert not np.asarray(result.success).all()


def test_written_to_8_bits_most_of_so_small_a_change_is_lost():
  raw, written = attack(), attack(rp.DeepFoolConfig())
  expected = np.clip(np.rint(np.asarray(raw.adversarial)), 0, 255)
  np.testing.assert_array_equal(np.asarray(written.adversarial), expected)
  predicted = np.argmax(np.asarray(NET(written.adversarial)), axis=1)
  clean = np.argmax(np.asarray(NET(IMAGES)), axis=1)
  np.testing.assert_array_equal(np.asarray(written.success), predicted != clean)
  assert np.asarray(written.success).sum() < np.asarray(raw.success).sum()


def test_a_network_without_gradient_leaves_the_image_alone():
  def constant(params, images):
    return jnp.broadcast_to(params[None, :], (images.shape[0], 3))

  net = rp.Classifier.from_function(
    constant, jnp.asarray([2.0, 1.0, 0.0]), class_names=("a", "b", "c"), image_size=toys.SIZE
  )
  # Inside jit: outside, such a network is refused by name.
  result = jax.jit(lambda: attack(dataclasses.replace(RAW, num_steps=3), net=net))()
  np.testing.assert_array_equal(np.asarray(result.adversarial), IMAGES)
  assert not np.asarray(result.success).any()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"overshoot": -0.1}, "overshoot must be >= 0"),
    ({"overshoot": float("nan")}, "overshoot must be >= 0"),
    ({"num_steps": -1}, "num_steps must be an integer >= 0"),
    ({"num_classes": 1}, "num_classes must be an integer >= 2"),
    ({"micro_batch": 0}, "micro_batch must be an integer >= 1"),
  ],
)
def test_bad_settings_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    attack(dataclasses.replace(RAW, **change))
