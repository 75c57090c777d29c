"""The iterative FGSM family: one step in closed form, and the class that each member speaks of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp

# The first is unsure: log_softmax in float32, used below, loses the gradient of a sure network.
NETS = [toys.linear(1, scale=0.002), *toys.three()[1:]]
IMAGES = toys.images(6)
ONE_STEP = rp.FGSMConfig(num_steps=1)


def hand_written_step(nets, labels, direction):
  """x + direction * sign of the summed gradients of -log softmax, by jax.grad alone."""

  def loss(image, label):
    return -sum(jax.nn.log_softmax(net(image[None])[0])[label] for net in nets)

  images = jnp.asarray(IMAGES, jnp.float32)
  gradient = np.asarray(jax.vmap(jax.grad(loss))(images, jnp.asarray(labels)))
  # Where a gradient is as good as zero, its sign is rounding.
  sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
  assert sure.mean() > 0.5
  return np.clip(IMAGES + direction * np.sign(gradient), 0, 255), sure


@pytest.mark.parametrize("name", ["u_fgsm", "r_fgsm", "l_fgsm", "p_fgsm", "e_fgsm"])
def test_one_step_equals_the_hand_written_sign(name):
  nets = NETS if name == "e_fgsm" else NETS[:1]
  result = getattr(rp, name)(jax.random.key(0), IMAGES, nets, ONE_STEP)
  untargeted = name == "u_fgsm"
  labels = np.argmax(np.asarray(nets[0](IMAGES)), axis=1) if untargeted else result.target
  expected, sure = hand_written_step(nets, labels, 1 if untargeted else -1)
  np.testing.assert_array_equal(np.asarray(result.adversarial)[sure], expected[sure])


def test_targets():
  """L: the least likely class. R, E: any but the predicted ones. P: Eq. 17."""
  logits = np.asarray(NETS[1](IMAGES))
  least = rp.l_fgsm(jax.random.key(0), IMAGES, NETS[1:2], ONE_STEP).target
  np.testing.assert_array_equal(np.asarray(least), np.argmin(logits, axis=1))
  probabilities = np.asarray(jax.nn.softmax(NETS[0](IMAGES[:1]))[0], np.float64)
  order = np.argsort(-probabilities)
  mass = np.cumsum(probabilities[order])
  gamma = (mass[1] + mass[2]) / 2  # passed by the first three classes, not by two
  behind = {int(c) for c, before in zip(order[1:], mass, strict=False) if before > gamma}
  assert len(behind) == 4
  drawn = {}
  image = np.repeat(IMAGES[:1], 400, axis=0)
  config = rp.FGSMConfig(num_steps=0, gamma=gamma)
  for name in ("r_fgsm", "p_fgsm"):
    result = getattr(rp, name)(jax.random.key(1), image, NETS[:1], config)
    drawn[name] = set(np.asarray(result.target).tolist())
    assert (result.gamma is None) == (name == "r_fgsm")
  assert drawn == {"r_fgsm": set(range(7)) - {int(order[0])}, "p_fgsm": behind}


def test_e_fgsm_never_draws_what_any_network_predicts():
  image = np.repeat(IMAGES[:1], 300, axis=0)
  result = rp.e_fgsm(jax.random.key(1), image, NETS, dataclasses.replace(ONE_STEP, num_steps=0))
  predicted = {int(np.argmax(np.asarray(net(IMAGES[:1])))) for net in NETS}
  assert set(np.asarray(result.target).tolist()) == set(range(7)) - predicted


def test_twenty_steps_and_no_random_start():
  config = rp.FGSMConfig(epsilon=16.0)
  result = rp.u_fgsm(jax.random.key(0), IMAGES, NETS[:1], config)
  again = rp.u_fgsm(jax.random.key(9), IMAGES, NETS[:1], config, image_ids=np.arange(6) + 50)
  assert np.asarray(result.gradient_evaluations).tolist() == [20] * 6
  np.testing.assert_array_equal(np.asarray(result.adversarial), np.asarray(again.adversarial))
  ensemble = rp.e_fgsm(jax.random.key(0), IMAGES, NETS, config)
  assert np.asarray(ensemble.gradient_evaluations).tolist() == [60] * 6


def test_u_fgsm_is_rp_fgsm_without_its_random_choices():
  """K = 1 and the identity alone: the paper's attack falls back to the basic iterative method."""
  plain = rp.RPFGSMConfig(defenses=rp.defenses.no_defenses())
  ours = rp.rp_fgsm(jax.random.key(0), IMAGES, NETS[1:2], plain).adversarial
  basic = rp.u_fgsm(jax.random.key(0), IMAGES, NETS[1:2]).adversarial
  np.testing.assert_array_equal(np.asarray(ours), np.asarray(basic))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"epsilon": -1.0}, "epsilon must be >= 0"),
    ({"step_size": 1.5}, "step_size must be whole gray levels"),
    ({"num_steps": -2}, "num_steps must be an integer >= 0"),
    ({"gamma": -0.1}, "gamma must be a probability"),
  ],
)
def test_bad_settings_are_named(change, message):
  config = dataclasses.replace(rp.FGSMConfig(), **change)
  with pytest.raises(ValueError, match=message):
    rp.p_fgsm(jax.random.key(0), IMAGES, NETS[:1], config)
