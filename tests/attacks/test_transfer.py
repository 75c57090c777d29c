"""Options of transfer attacks and the steps' schedule: against NumPy and SciPy, and in the loop."""

import dataclasses
import fractions
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.transfer import (
  accumulate,
  checked_transfer,
  look_ahead,
  smooth,
  step_sizes,
)

NET = toys.convolution(2)
IMAGES = toys.images(5)


@pytest.mark.parametrize("side", [1, 3, 7, 15, 31])
def test_smoothing_equals_scipys_correlation(side):
  """A product of two Gaussian densities on -3..3, normalized, zero beyond the border."""
  gradients = np.random.default_rng(0).normal(size=(2, 12, 10, 3))
  kernel = np.exp(-(np.linspace(-3, 3, side) ** 2) / 2) if side > 1 else np.ones(1)
  kernel /= kernel.sum()
  expected = gradients
  for axis in (1, 2):
    expected = scipy.ndimage.correlate1d(expected, kernel, axis=axis, mode="constant")
  result = smooth(jnp.asarray(gradients, jnp.float32), side)
  np.testing.assert_allclose(np.asarray(result), expected, atol=1e-6)


def test_momentum_is_each_images_own():
  generator = np.random.default_rng(1)
  velocity, gradients = (generator.normal(size=(3, 4, 5, 3)).astype(np.float32) for _ in range(2))
  gradients *= np.asarray([1e-8, 1.0, 1e5], np.float32)[:, None, None, None]
  gradients[2] = 0.0
  scale = np.abs(gradients).mean(axis=(1, 2, 3), keepdims=True)
  expected = 0.9 * velocity + gradients / np.where(scale > 0, scale, 1)
  np.testing.assert_allclose(np.asarray(accumulate(velocity, gradients, 0.9)), expected, rtol=1e-5)


def test_a_broken_gradient_does_not_spoil_the_momentum():
  gradients = jnp.asarray([np.nan, 2.0, -2.0, 0.0]).reshape(1, 2, 2, 1)
  result = np.asarray(accumulate(jnp.ones((1, 2, 2, 1)), gradients, 1.0)).reshape(-1)
  np.testing.assert_allclose(result, [1.0, 3.0, -1.0, 1.0])


def test_look_ahead_stays_in_range():
  images = jnp.asarray([0.0, 100.0, 250.0]).reshape(1, 1, 3, 1)
  velocity = jnp.asarray([-3.0, 3.0, 30.0]).reshape(1, 1, 3, 1)
  out = look_ahead(images, velocity, jnp.asarray([2.0]))
  assert np.asarray(out).reshape(-1).tolist() == [0.0, 106.0, 255.0]


def linear_steps(first, num_steps):
  """The formula in whole numbers: s less one level each N / s iterations."""
  return [first - first * n // num_steps for n in range(num_steps)]


def steps_of(schedule, first, num_steps):
  return np.asarray(step_sizes(schedule, jnp.asarray([first], jnp.float32), num_steps))[0].tolist()


@pytest.mark.parametrize(
  ("schedule", "first", "expected"),
  [
    ("constant", 3, [3, 3, 3, 3, 3]),
    ("linear", 4, [4, 4, 3, 3, 2, 2, 1, 1]),
    ("linear", 4, [4, 4, 4, 3, 3, 2, 2, 2, 1, 1]),
    ("cosine", 4, [4, 4, 4, 3, 2, 2, 1, 1]),
    ("cosine", 2, [2, 2, 2, 1, 1, 1]),
    ("linear", 6, [6, 3]),
    ("cosine", 5, []),
  ],
)
def test_steps_written_out(schedule, first, expected):
  assert steps_of(schedule, first, len(expected)) == expected


# Of 21 levels in 7 steps float32's product alone goes beyond a whole level.
@pytest.mark.parametrize("first", [1, 2, 3, 7, 16, 21, 255])
def test_linear_steps_equal_the_formula_in_whole_numbers(first):
  for num_steps in (1, 2, 3, 7, 20, 30, 60, 61, 120, 997):
    expected = linear_steps(first, num_steps)
    assert steps_of("linear", first, num_steps) == expected
    share = [fractions.Fraction(num_steps - n, num_steps) for n in range(num_steps)]
    assert expected == [math.ceil(first * each) for each in share]


@pytest.mark.parametrize("first", [1, 2, 3, 4, 7, 16, 255])
def test_cosine_steps_pass_each_level_where_the_arc_cosine_says(first):
  """s_n >= k exactly while n / N < arccos(2 (k - 1) / s - 1) / pi."""
  ends = [math.acos(2 * (level - 1) / first - 1) / math.pi for level in range(1, first + 1)]
  for num_steps in (1, 2, 3, 7, 20, 30, 60, 61, 120, 997):
    # The ends that are met exactly are 1 / 3, 1 / 2 and 2 / 3.
    expected = [sum(n / num_steps < end - 1e-12 for end in ends) for n in range(num_steps)]
    assert steps_of("cosine", first, num_steps) == expected


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_are_whole_start_with_the_first_never_grow_and_end_with_one(schedule):
  first = jnp.asarray([1.0, 2.0, 5.0, 16.0], jnp.float32)
  steps = np.asarray(jax.jit(step_sizes, static_argnums=(0, 2))(schedule, first, 40))
  assert steps.shape == (4, 40)
  np.testing.assert_array_equal(steps, np.rint(steps))
  np.testing.assert_array_equal(steps[:, 0], first)
  np.testing.assert_array_equal(steps[:, -1], 1)
  assert (np.diff(steps) <= 0).all()
  assert (np.abs(steps.sum(axis=1) - 40 * (np.asarray(first) + 1) / 2) < first).all()


def slow_attack(images, transfer, num_steps, epsilon=16.0, first=1):
  """The untargeted loop in plain NumPy around jax.grad: Dong (2018, 2019), Lin (2020)."""
  label = np.argmax(np.asarray(NET(images)), axis=1)
  x, velocity = images.astype(np.float32), np.zeros(images.shape, np.float32)

  def loss(point, label):
    return -jax.nn.log_softmax(NET(point[None])[0])[label]

  grad = jax.jit(jax.vmap(jax.grad(loss)))
  linear = transfer.step_schedule == "linear"
  for step in linear_steps(first, num_steps) if linear else [first] * num_steps:
    point = x
    if transfer.nesterov:
      point = np.clip(x + step * transfer.momentum * velocity, 0, 255)
    gradient = 0
    for copy in range(transfer.scale_copies):
      factor = 0.5**copy
      gradient = gradient + factor * np.asarray(grad(jnp.asarray(point * factor), label))
    kernel = np.exp(-(np.linspace(-3, 3, transfer.smoothing) ** 2) / 2)
    if transfer.smoothing > 1:
      for axis in (1, 2):
        gradient = scipy.ndimage.correlate1d(
          gradient, kernel / kernel.sum(), axis=axis, mode="constant"
        )
    if transfer.momentum:
      scale = np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)
      velocity = gradient = transfer.momentum * velocity + gradient / scale
    x = np.clip(np.clip(x + step * np.sign(gradient), images - epsilon, images + epsilon), 0, 255)
  return x


@pytest.mark.parametrize(
  ("options", "first"),
  [
    ({"momentum": 1.0}, 1),
    ({"momentum": 0.5, "nesterov": True}, 1),
    ({"smoothing": 5}, 1),
    ({"scale_copies": 3}, 1),
    ({"momentum": 1.0, "nesterov": True, "smoothing": 3, "scale_copies": 2}, 1),
    ({"step_schedule": "linear"}, 4),
    ({"momentum": 0.5, "nesterov": True, "step_schedule": "linear"}, 3),
  ],
  ids=["MI", "NI", "TI", "SI", "SI-NI-TI", "linear", "NI-linear"],
)
def test_the_loop_equals_a_slow_one(options, first):
  transfer = rp.TransferOptions(**options)
  config = rp.FGSMConfig(num_steps=5, step_size=first, transfer=transfer)
  result = rp.u_fgsm(jax.random.key(0), IMAGES, [NET], config)
  expected = slow_attack(IMAGES, transfer, 5, first=first)
  # A sign where the gradient is as good as zero may fall either way, and later steps follow it.
  assert (np.asarray(result.adversarial) == expected).mean() > 0.99
  usual = rp.FGSMConfig(num_steps=5, step_size=first)
  plain = rp.u_fgsm(jax.random.key(0), IMAGES, [NET], usual)
  assert (np.asarray(plain.adversarial) != expected).mean() > 0.01
  assert np.asarray(result.gradient_evaluations).tolist() == [5 * transfer.scale_copies] * 5


def test_all_of_it_composes_with_rp_fgsm():
  """Every option, and input diversity in the bank, through the one shared loop."""
  bank = rp.defenses.DefenseBank(
    (rp.defenses.IDENTITY, rp.defenses.REQUANTIZE, rp.defenses.INPUT_DIVERSITY)
  )
  config = rp.RPFGSMConfig(
    num_steps=12,
    defenses=bank,
    record_draws=True,
    transfer=rp.TransferOptions(momentum=1.0, nesterov=True, smoothing=3, scale_copies=2),
  )
  nets = toys.three()
  result = rp.rp_fgsm(jax.random.key(0), IMAGES, nets, config)
  order = np.asarray([3, 1, 4, 0, 2])
  mixed = rp.rp_fgsm(jax.random.key(0), IMAGES[order], nets, config, image_ids=order)
  np.testing.assert_array_equal(
    np.asarray(mixed.adversarial), np.asarray(result.adversarial)[order]
  )
  assert np.asarray(result.gradient_evaluations).tolist() == [24] * 5
  assert np.abs(np.asarray(result.adversarial) - IMAGES).max() == 12
  counts = [np.bincount(row, minlength=3).tolist() for row in np.asarray(result.draws.family)]
  assert counts == [[4, 4, 4]] * 5


def test_every_image_has_its_own_steps_whatever_its_mates():
  """Traced, swept without a new compilation, images at their own pace through three networks."""
  nets, traces = toys.three(), []
  transfer = rp.TransferOptions(step_schedule="cosine")

  @jax.jit
  def attack(images, ids, step_size):
    traces.append(1)
    config = rp.RPFGSMConfig(
      epsilon=64.0,
      step_size=step_size,
      num_steps=9,
      transfer=transfer,
      defenses=rp.defenses.no_defenses(),
    )
    return rp.rp_fgsm(jax.random.key(0), images, nets, config, image_ids=ids).adversarial

  images, ids = np.full((5, *toys.SIZE, 3), 128, np.uint8), np.arange(5)
  first = np.asarray([2.0, 5.0, 1.0, 3.0, 4.0], np.float32)
  together = np.asarray(attack(images, ids, first))
  order = np.asarray([4, 1, 3, 0, 2])
  mixed = np.asarray(attack(images, ids[order], first[order]))
  assert len(traces) == 1
  np.testing.assert_array_equal(mixed, together[order])
  # Some pixel's sign is the same all along: it goes as far as the steps together.
  reach = [sum(steps_of("cosine", each, 9)) for each in first.tolist()]
  assert np.abs(together - 128.0).max(axis=(1, 2, 3)).tolist() == reach


def test_a_schedule_without_a_larger_first_step_is_refused():
  transfer = rp.TransferOptions(step_schedule="linear")
  with pytest.raises(ValueError, match=r"'linear' goes from step_size down to 1.*got 1\.0"):
    rp.u_fgsm(jax.random.key(0), IMAGES, [NET], rp.FGSMConfig(transfer=transfer))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"step_schedule": "halved"}, "step_schedule must be one of 'constant', 'linear', 'cosine'"),
    ({"momentum": -0.1}, r"momentum must be in 0\.\.1"),
    ({"momentum": 1.1}, r"momentum must be in 0\.\.1"),
    ({"nesterov": True}, "nesterov looks ahead along the momentum"),
    ({"smoothing": 4}, "smoothing must be an odd number"),
    ({"smoothing": -1}, "smoothing must be an odd number"),
    ({"smoothing": 3.0}, "smoothing must be an odd number"),
    ({"scale_copies": 0}, r"scale_copies must be an integer in 1\.\.8"),
    ({"scale_copies": 9}, r"scale_copies must be an integer in 1\.\.8"),
  ],
)
def test_bad_options_are_named(change, message):
  transfer = dataclasses.replace(rp.TransferOptions(), **change)
  with pytest.raises(ValueError, match=message):
    checked_transfer(transfer)
  with pytest.raises(ValueError, match=message):
    rp.u_fgsm(jax.random.key(0), IMAGES, [NET], rp.FGSMConfig(transfer=transfer))
