"""A limit for each pixel: the docstring's formula written out slowly, and attacks inside it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks import signed
from rpfgsm_jax.attacks.masking import TextureMasking, default_window, local_deviation, pixel_limits
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.defenses import no_defenses


def photo(height=60, width=90, seed=0):
  """From a flat left to more and more noise at the right, in three different channels."""
  noise = np.random.default_rng(seed).uniform(-1, 1, (height, width, 3))
  contrast = np.maximum(np.linspace(-30, 100, width), 0)[None, :, None]
  return np.rint((120, 90, 150) + contrast * noise).astype(np.float32)


def limits(images, epsilon, masking):
  images = jnp.asarray(images, jnp.float32)
  return np.asarray(jax.jit(pixel_limits)(masking, images, jnp.asarray(epsilon, jnp.float32)))


def limits_of_one(image, epsilon, **changes):
  return limits(image[None], [epsilon], TextureMasking(**changes))[0]


def _deviation_slowly(image, window):
  luma = np.floor(image.astype(np.float64) @ (0.299, 0.587, 0.114) + 0.5 + 1e-9)
  reach = window // 2
  padded = np.pad(luma, reach, mode="symmetric")
  seen = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
  return seen.std(axis=(-2, -1))


@pytest.mark.parametrize("window", [3, 7, 11])
@pytest.mark.parametrize("shape", [(60, 90), (32, 500), (1, 1), (3, 2)], ids=str)
def test_the_deviation_is_that_of_the_window(shape, window):
  image = photo(*shape)
  found = np.asarray(local_deviation(image[None], window))[0]
  # float32 squares of up to 128^2: an error of 0.002 in a variance is 0.05 where it is zero.
  np.testing.assert_allclose(found**2, _deviation_slowly(image, window) ** 2, atol=0.01, rtol=1e-5)


@pytest.mark.parametrize(
  ("size", "window"),
  [((128, 128), 7), ((392, 999), 9), ((512, 512), 11), ((4000, 3000), 61), ((20000, 20000), 255)],
)
def test_the_window_grows_with_the_image(size, window):
  assert default_window(size) == window


@pytest.mark.parametrize("epsilon", [8.0, 16.0, 11.7])
@pytest.mark.parametrize(
  "options",
  [{}, {"smooth": 0.5, "textured": 9.0, "window": 9}, {"smooth": 0.0, "channels": (1, 0.5, 0)}],
  ids=["default", "other numbers", "channels"],
)
def test_it_is_the_formula(epsilon, options):
  image, masking = photo(), TextureMasking(**options)
  activity = np.minimum(_deviation_slowly(image, masking.window or 7) / masking.textured, 1)
  share = np.sqrt(masking.smooth**2 + (1 - masking.smooth**2) * activity**2)
  expected = np.clip(epsilon * share[..., None] * masking.channels, 0, np.floor(epsilon))
  assert len(np.unique(expected.round())) >= 5  # smooth and textured places
  found = limits_of_one(image, epsilon, **options)
  assert found.shape[-1] == (3 if "channels" in options else 1)
  # At least one level where any is left; else half a level is the rounding, the rest float32.
  assert np.abs(found - np.maximum(expected, np.sign(expected))).max() <= 0.5 + 0.01


@pytest.mark.parametrize("epsilon", [1, 1.5, 8.0, 24.99])
def test_limits_are_whole_levels_in_one_to_epsilon(epsilon):
  found = limits_of_one(photo(), epsilon, smooth=0.01)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, np.rint(found))
  assert found.min() == 1
  assert found.max() == np.floor(epsilon)


@pytest.mark.parametrize(("epsilon", "smooth"), [(0, 0.3), (0.99, 0.3), (16, 0)], ids=str)
def test_without_a_level_or_a_share_nothing_is_allowed(epsilon, smooth):
  assert not limits_of_one(photo(), epsilon, smooth=smooth)[:, :5].any()


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(("epsilon", "quarter"), [(8, 2), (16, 4), (24, 6)])
def test_a_flat_image_gets_about_a_quarter_however_bright_it_is(level, epsilon, quarter):
  assert np.all(limits_of_one(np.full((33, 47, 3), level, np.float32), epsilon) == quarter)


def test_texture_gets_all_and_more_contrast_no_less():
  image = photo()
  found = limits_of_one(image, 16)
  assert np.all(found[:, :15] == 4)
  assert np.all(found[:, 82:] == 16)
  mild = np.rint(image.mean() + (image - image.mean()) / 2)
  assert np.all(limits_of_one(mild, 16) <= found)


def test_an_image_has_its_own_limits_whoever_is_beside_it():
  images = np.stack([photo(seed=seed) for seed in range(5)])
  epsilon = np.asarray([2.0, 16.0, 8.0, 0.5, 31.0])
  together = limits(images, epsilon, TextureMasking())
  alone = [limits_of_one(*each) for each in zip(images, epsilon, strict=True)]
  np.testing.assert_array_equal(together, alone)


def test_a_map_of_bounds_is_shared_out_too():
  bounds = np.random.default_rng(3).uniform(0, 16, (1, 60, 90, 3))
  found = limits(photo()[None], bounds, TextureMasking(smooth=1.0))
  np.testing.assert_array_equal(found, np.minimum(np.round(bounds), np.floor(bounds)))


# In the attacks

IMAGES = toys.images(4, seed=5)
IMAGES[:, :, :5] = 77  # a smooth part
IMAGES[:2] = IMAGES[:2] // 6 + 100  # and two mild images
NETS = [toys.linear(2), toys.convolution(3)]
PLAIN = rp.RPFGSMConfig(epsilon=6.0, num_steps=12, defenses=no_defenses(), step_size=2.0)
MASKING = TextureMasking(window=3)


def attack(images=IMAGES, config=PLAIN, **changes):
  return rp.rp_fgsm(jax.random.key(0), images, NETS, dataclasses.replace(config, **changes))


def change_of(result):
  return np.abs(np.asarray(result.adversarial) - IMAGES.astype(np.float32))


ATTACKS = {
  "drawn": {},
  "channels": {"masking": dataclasses.replace(MASKING, channels=(1.0, 0.5, 0.0))},
  "more": {
    "random_start": True,
    "gray": True,
    "transfer": TransferOptions(momentum=1.0, step_schedule="linear"),
  },
}


@pytest.mark.parametrize("changes", ATTACKS.values(), ids=ATTACKS)
def test_no_pixel_leaves_its_limit(changes):
  changes = {"masking": MASKING} | changes
  result = attack(**changes)
  allowed = np.broadcast_to(limits(IMAGES, [6.0] * 4, changes["masking"]), IMAGES.shape)
  adversarial, change = np.asarray(result.adversarial), change_of(result)
  np.testing.assert_array_equal(adversarial, np.rint(adversarial))
  assert adversarial.min() >= 0
  assert adversarial.max() <= 255
  assert np.all(change <= allowed)
  for level in np.unique(allowed):  # and each is used
    assert change[allowed == level].max() == level
  assert len(np.unique(allowed)) >= 4


@pytest.mark.parametrize("kind", [rp.FGSMConfig, rp.DIFGSMConfig, rp.EOTConfig])
def test_every_signed_attack_takes_it(kind):
  run = {rp.FGSMConfig: rp.u_fgsm, rp.DIFGSMConfig: rp.di_fgsm, rp.EOTConfig: rp.eot}[kind]
  config = kind(epsilon=6.0, num_steps=7, masking=MASKING)
  change = change_of(run(jax.random.key(0), IMAGES, NETS[:1], config))
  allowed = limits(IMAGES, [6.0] * 4, MASKING)
  assert np.all(change <= allowed)
  assert change.max() == 6


def test_all_of_epsilon_everywhere_is_the_attack_without_masking():
  expected, even = attack(), attack(masking=dataclasses.replace(MASKING, smooth=1.0))
  assert change_of(expected).max() == 6
  np.testing.assert_array_equal(np.asarray(even.adversarial), np.asarray(expected.adversarial))


def test_the_number_of_iterations_is_that_of_epsilon_itself():
  flat = np.full((2, *IMAGES.shape[1:]), 99, np.uint8)
  run = lambda: attack(flat, masking=MASKING, num_steps=None, record_draws=True)  # noqa: E731
  assert jax.eval_shape(run).draws.classifier.shape == (2, 2 * 7)


def test_other_numbers_do_not_compile_anew_and_may_be_traced():
  before = attack(masking=MASKING)
  compiled = signed._run._cache_size()
  other = dataclasses.replace(MASKING, smooth=0.5, textured=9.0)
  expected = attack(masking=other)
  assert signed._run._cache_size() == compiled
  assert np.any(np.asarray(expected.adversarial) != np.asarray(before.adversarial))
  traced = jax.jit(lambda masking: attack(masking=masking).adversarial)(other)
  np.testing.assert_array_equal(np.asarray(traced), np.asarray(expected.adversarial))


WRONG = {
  "a word": ("texture", "masking must be a TextureMasking, or None"),
  "smooth": (TextureMasking(smooth=1.5), "smooth must be a share of epsilon in 0..1, got 1.5"),
  "smooth NaN": (TextureMasking(smooth=np.nan), "smooth must be a share"),
  "smooth map": (TextureMasking(smooth=np.ones(4)), "smooth must be a share"),
  "textured": (TextureMasking(textured=0), "textured must be gray levels > 0 and finite, got 0"),
  "channels": (TextureMasking(channels=(1, 1)), "channels must be three shares in 0..1"),
  "a channel": (TextureMasking(channels=(1, 1, 2)), "channels must be three shares in 0..1"),
  "even window": (TextureMasking(window=8), "window must be an odd number of pixels in 3..255"),
  "no window": (TextureMasking(window=1), "window must be an odd number"),
  "wide window": (TextureMasking(window=257), "window must be an odd number"),
}


@pytest.mark.parametrize(("masking", "message"), WRONG.values(), ids=WRONG)
def test_what_means_nothing_is_refused(masking, message):
  with pytest.raises(ValueError, match=message):
    attack(masking=masking)


def test_channels_that_part_are_refused_beside_gray():
  with pytest.raises(ValueError, match="channels must be equal beside gray=True"):
    attack(masking=TextureMasking(channels=(1.0, 1.0, 0.5)), gray=True)
