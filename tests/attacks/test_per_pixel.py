"""RP-FGSM with a bound for each pixel, and in gray: one step for all channels of a pixel.

Compiling takes the time: tests share a few programs, which the shape of epsilon, the networks and
what is static in the config tell apart.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks import signed
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.defenses import no_defenses

IMAGES = toys.images(4, seed=5)
BATCH, HEIGHT, WIDTH, _ = IMAGES.shape
ONE, TWO = [toys.linear(1)], [toys.linear(2), toys.convolution(3)]
PLAIN = rp.RPFGSMConfig(epsilon=6.0, num_steps=9, defenses=no_defenses())


def attack(images=IMAGES, nets=ONE, image_ids=None, **changes):
  config = dataclasses.replace(PLAIN, **changes)
  return rp.rp_fgsm(jax.random.key(0), images, nets, config, image_ids=image_ids)


def change_of(result):
  return np.asarray(result.adversarial) - IMAGES.astype(np.float32)


def bounds(channels, seed=0):
  """Bounds of 0..8 gray levels in quarters: a number for every pixel, or for each channel."""
  quarters = np.random.default_rng(seed).integers(0, 33, (BATCH, HEIGHT, WIDTH, channels))
  return (quarters / 4).astype(np.float32)


def assert_on_the_grid(adversarial):
  np.testing.assert_array_equal(adversarial, np.rint(adversarial))
  assert adversarial.min() >= 0
  assert adversarial.max() <= 255


@pytest.mark.parametrize(("nets", "channels"), [(ONE, 1), (TWO, 3)], ids=["pixel", "channel"])
def test_the_ball_holds_pixel_by_pixel(nets, channels):
  epsilon = bounds(channels)
  result = attack(nets=nets, epsilon=epsilon, step_size=2.0)
  assert_on_the_grid(np.asarray(result.adversarial))
  allowed = np.floor(np.broadcast_to(epsilon, IMAGES.shape))
  change = np.abs(change_of(result))
  assert np.all(change <= allowed)
  # And each is used: where the image leaves room, bounds of all sizes are reached.
  room = (IMAGES >= 8) & (IMAGES <= 247)
  for level in range(9):
    assert change[room & (allowed == level)].max() == level


@pytest.mark.parametrize("numbers", [5.5, np.asarray([0.0, 1.5, 4.0, 7.0])], ids=["one", "four"])
def test_a_constant_map_is_the_number_bit_for_bit(numbers):
  expected = attack(epsilon=numbers)
  assert np.any(change_of(expected))
  spread = np.broadcast_to(np.reshape(numbers, (-1, 1, 1, 1)), (BATCH, HEIGHT, WIDTH, 1))
  got = attack(epsilon=spread)
  np.testing.assert_array_equal(np.asarray(got.adversarial), np.asarray(expected.adversarial))


def test_pixels_without_a_bound_of_their_own_stay():
  """A channel, a half and a pixel are fixed; the rest of those images moves."""
  epsilon = np.full(IMAGES.shape, 3.0)
  epsilon[0, ..., 1] = 0.0
  epsilon[1, :, :5] = 0.0
  epsilon[2, 7, 3] = 0.9
  change = change_of(attack(nets=TWO, epsilon=epsilon))
  assert np.all(change[epsilon < 1] == 0)
  assert np.mean(change[epsilon >= 1] != 0) > 0.5
  assert np.abs(change).max() == 3


@pytest.mark.parametrize(("nets", "rounds"), [(ONE, 1), (TWO, 2)], ids=["one", "two"])
def test_the_number_of_iterations_comes_from_the_largest_bound(nets, rounds):
  epsilon = np.zeros((BATCH, HEIGHT, WIDTH, 1))
  epsilon[2, 4, 5] = 16.0
  run = lambda: attack(nets=nets, num_steps=None, record_draws=True, epsilon=epsilon)  # noqa: E731
  assert jax.eval_shape(run).draws.classifier.shape == (BATCH, 20 * rounds)


def test_a_traced_map_needs_the_number_of_iterations():
  traced = jax.jit(lambda epsilon: attack(num_steps=None, epsilon=epsilon).adversarial)
  with pytest.raises(ValueError, match="num_steps must be given when epsilon is traced"):
    traced(bounds(1))


def test_vmap_over_traced_maps_equals_the_loop_over_known_ones():
  maps = np.stack([bounds(1, seed) for seed in range(3)])
  run = lambda epsilon: attack(epsilon=epsilon).adversarial  # noqa: E731
  together = np.asarray(jax.jit(jax.vmap(run))(maps))
  np.testing.assert_array_equal(together, [np.asarray(run(epsilon)) for epsilon in maps])
  assert np.any(together[0] != together[1])


def test_a_new_map_does_not_compile_anew():
  attack(epsilon=bounds(1))
  compiled = signed._run._cache_size()
  attack(epsilon=bounds(1, seed=1).astype(np.float64))
  attack(epsilon=jnp.asarray(bounds(1, seed=2)))
  assert signed._run._cache_size() == compiled


def test_an_image_keeps_its_own_map_wherever_it_stands():
  epsilon, ids, order = bounds(3), np.arange(BATCH), np.asarray([2, 0, 3, 1])

  def run(rows):
    return attack(IMAGES[rows], TWO, ids[rows], epsilon=epsilon[rows]).adversarial

  np.testing.assert_array_equal(np.asarray(run(order)), np.asarray(run(ids))[order])


WRONG = {
  "no batch": (HEIGHT, WIDTH, 1),
  "no channel": (BATCH, HEIGHT, WIDTH),
  "neither": (HEIGHT, WIDTH),
  "two channels": (BATCH, HEIGHT, WIDTH, 2),
  "another batch": (BATCH - 1, HEIGHT, WIDTH, 1),
  "one for all": (1, HEIGHT, WIDTH, 1),
  "turned": (BATCH, WIDTH, HEIGHT, 1),
  "five axes": (1, BATCH, HEIGHT, WIDTH, 1),
}


@pytest.mark.parametrize("traced", [False, True], ids=["known", "traced"])
@pytest.mark.parametrize("shape", WRONG.values(), ids=WRONG)
def test_other_shapes_are_refused(shape, traced):
  run = lambda epsilon: attack(epsilon=epsilon).adversarial  # noqa: E731
  message = (
    r"epsilon must be one number, one an image, \(4,\), or one a pixel, \(4, 12, 10, 1\) or "
    r"\(4, 12, 10, 3\), got shape "
  )
  with pytest.raises(ValueError, match=message) as error:
    (jax.jit(run) if traced else run)(np.ones(shape, np.float32))
  assert str(error.value).endswith(f"got shape {shape}.")


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_one_bad_bound_is_refused(value):
  epsilon = bounds(1)
  epsilon[1, 2, 3] = value
  with pytest.raises(ValueError, match="epsilon must be >= 0 gray levels and finite, got"):
    attack(epsilon=epsilon)


GRAY = {
  "drawn": {},
  "more": {
    "targeted": True,
    "classifier_choice": "ensemble",
    "transfer": TransferOptions(momentum=0.9),
    "epsilon": 12 + bounds(1),
  },
}
FREE = np.all((IMAGES >= 9) & (IMAGES <= 246), axis=-1)  # nine steps of one level stay in 0..255


@pytest.mark.parametrize("options", GRAY.values(), ids=GRAY)
def test_gray_changes_all_channels_alike_where_none_meets_a_bound(options):
  change = change_of(attack(nets=TWO, gray=True, **{"epsilon": 12.0, **options}))[FREE]
  assert 0.2 < FREE.mean() < 0.9
  np.testing.assert_array_equal(change, np.repeat(change[:, :1], 3, axis=1))
  assert len(np.unique(change)) > 3


def test_without_gray_the_channels_part():
  change = change_of(attack(nets=TWO, epsilon=np.full(IMAGES.shape, 12.0)))[FREE]
  assert np.mean(change != change[:, :1]) > 0.2


def test_gray_at_its_bounds_is_on_the_grid_and_in_the_ball():
  result = attack(gray=True, epsilon=3.0, step_size=2.0)
  assert_on_the_grid(np.asarray(result.adversarial))
  change = change_of(result)
  assert np.abs(change).max() == 3.0
  # An affine network's gradient keeps its sign here: each channel goes all the way that it may.
  way = np.sign(np.sum(change, axis=-1, keepdims=True))
  expected = np.clip(IMAGES + 3 * way, 0, 255) - IMAGES
  np.testing.assert_array_equal(change, expected)


def test_gray_lowers_the_probability_of_the_class():
  result = attack(gray=True, epsilon=24.0, step_size=3.0)
  before, after = (np.asarray(ONE[0](x)) for x in (IMAGES, result.adversarial))
  label = np.argmax(before, axis=1)[:, None]
  gap = lambda logits: np.take_along_axis(logits, label, 1)[:, 0] - logits.mean(axis=1)  # noqa: E731
  assert np.all(gap(after) < gap(before))
  assert np.mean(np.argmax(after, axis=1) != label[:, 0]) >= 3 / 4


def test_one_gray_step_is_the_sign_of_the_summed_gradient():
  """K = 1, N = 1, an affine network: in closed form, in NumPy float64."""
  change = change_of(attack(gray=True, num_steps=1))
  kernel = np.asarray(ONE[0].params["kernel"], np.float64)
  flat = IMAGES.reshape(BATCH, -1).astype(np.float64)
  logits = flat @ kernel + np.asarray(ONE[0].params["bias"], np.float64)
  softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
  softmax /= softmax.sum(axis=1, keepdims=True)
  gradient = (softmax - np.eye(logits.shape[1])[logits.argmax(axis=1)]) @ kernel.T
  gradient = gradient.reshape(IMAGES.shape)
  total = gradient.sum(axis=-1, keepdims=True)
  scale = np.abs(gradient).max(axis=(1, 2, 3), keepdims=True)
  # Where the float64 sum is far from 0, its sign leaves no room for float32 rounding.
  sure = np.broadcast_to(np.abs(total) > 1e-4 * scale, IMAGES.shape)
  assert sure.mean() > 0.95
  expected = np.clip(IMAGES + np.sign(total), 0, 255) - IMAGES
  np.testing.assert_array_equal(change[sure], expected[sure])
  assert np.mean(np.sign(gradient) != np.sign(total)) > 0.1  # single channels say otherwise


def _of_brightness(params, images):
  brightness = jnp.mean(images, axis=-1).reshape(images.shape[0], -1)
  return jnp.tanh(brightness / 128.0 - 1.0) @ params


def test_gray_is_the_plain_attack_on_a_network_that_sees_no_color():
  kernel = np.random.default_rng(3).normal(size=(HEIGHT * WIDTH, len(toys.CLASS_NAMES)))
  net = rp.Classifier.from_function(
    _of_brightness,
    jnp.asarray(kernel, jnp.float32),
    class_names=toys.CLASS_NAMES,
    image_size=toys.SIZE,
  )
  # Bounds of the channels' own: each channel is still stopped by its own.
  gray, color = (attack(nets=[net], epsilon=bounds(3), gray=gray) for gray in (True, False))
  np.testing.assert_array_equal(np.asarray(gray.adversarial), np.asarray(color.adversarial))
  assert np.mean(change_of(gray) != 0) > 0.5
