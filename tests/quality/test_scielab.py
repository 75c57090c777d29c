"""CIEDE2000 against published pairs and scikit-image; S-CIELAB against closed forms and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import skimage.color
from quality.sharma import PAIRS

from rpfgsm_jax.quality import ciede2000, scielab, scielab_map
from rpfgsm_jax.quality.scielab import frequency_response

XYZ_TO_OPPONENT = np.asarray(  # the release's, thousandths
  [[278.7336, 721.8031, -106.5520], [-448.7736, 289.8056, 77.1569], [85.9513, -589.9859, 501.1089]]
)


# Weights and spreads, degrees: Zhang and Wandell (1997), Table 1.
GAUSSIANS = (
  ((0.921, 0.0283), (0.105, 0.133), (-0.108, 4.336)),
  ((0.531, 0.0392), (0.330, 0.494)),
  ((0.488, 0.0536), (0.371, 0.386)),
)


def lab_colors(count=2000, seed=0):
  generator = np.random.default_rng(seed)
  lightness, colors = generator.uniform(0, 100, count), generator.uniform(-110, 110, (2, count))
  return np.stack([lightness, *colors], axis=-1).astype(np.float32)


def pictures(height=37, width=52, seed=0):
  generator = np.random.default_rng(seed)
  coarse = generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
  original = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
  changed = np.clip(original + generator.integers(-16, 17, original.shape), 0, 255)
  return changed.astype(np.uint8), original.astype(np.uint8)


# CIEDE2000


@pytest.mark.parametrize("turned", [False, True], ids=["as printed", "turned"])
def test_the_published_pairs(turned):
  first, second = PAIRS[:, :3].astype(np.float32), PAIRS[:, 3:6].astype(np.float32)
  pair = (second, first) if turned else (first, second)
  found = np.asarray(jax.jit(ciede2000)(*map(jnp.asarray, pair)))
  np.testing.assert_allclose(found, PAIRS[:, 6], atol=1e-4)


def test_other_colors_are_as_far_apart_as_scikit_image_says():
  first, second = lab_colors(), lab_colors(seed=1)
  near = first + np.random.default_rng(2).normal(size=first.shape).astype(np.float32)
  for other in (second, near):
    expected = skimage.color.deltaE_ciede2000(first.astype(float), other.astype(float))
    found = np.asarray(jax.jit(ciede2000)(jnp.asarray(first), jnp.asarray(other)))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_equal_colors_do_not_differ_and_gradients_are_finite():
  gray, black, color = [50.0, 0.0, 0.0], [0.0, 0.0, 0.0], [50.0, 20.0, -30.0]
  first = jnp.asarray([gray, gray, black, color, color, gray])
  second = jnp.asarray([gray, color, black, color, [60.0, -20.0, 30.0], [51.0, 0.0, 0.0]])
  found, pull_back = jax.vjp(ciede2000, first, second)
  np.testing.assert_array_equal(np.asarray(found) == 0, [True, False, True, True, False, False])
  for gradient in pull_back(jnp.ones_like(found)):
    assert np.isfinite(gradient).all()


def test_its_gradient_is_that_of_finite_differences():
  first, second = (jnp.asarray(lab_colors(40, seed)) for seed in (3, 4))
  gradient = jax.grad(lambda each: jnp.sum(ciede2000(each, second)))(first)
  for channel in range(3):
    steps = [np.asarray(first, np.float64) for _ in range(2)]
    for step, sign in zip(steps, (1, -1), strict=True):
      step[:, channel] += sign * 1e-4
    up, down = (skimage.color.deltaE_ciede2000(x, np.asarray(second, float)) for x in steps)
    np.testing.assert_allclose(gradient[:, channel], (up - down) / 2e-4, rtol=5e-3, atol=2e-3)


# The eye's blur


@pytest.mark.parametrize("gaussians", GAUSSIANS, ids=["light", "red-green", "blue-yellow"])
@pytest.mark.parametrize("samples", [1.0, 23.0, 40.0])
def test_what_is_even_passes_and_nothing_is_turned(gaussians, samples):
  response = frequency_response(gaussians, samples, (90, 77))
  assert response.shape == (90, 39)
  assert response[0, 0] == pytest.approx(1, abs=1e-12)  # the kernels sum to one


@pytest.mark.parametrize("gaussians", GAUSSIANS, ids=["light", "red-green", "blue-yellow"])
def test_patterns_finer_than_the_eye_sees_vanish(gaussians):
  """At 120 pixels a degree, 40 cycles a degree and more; those of color at 15 already."""
  size = 120
  passed = np.abs(frequency_response(gaussians, 120.0, (size, size)))
  cycles = np.arange(size // 2 + 1)
  limit = 40 if gaussians == GAUSSIANS[0] else 25
  assert passed[0, cycles >= limit].max() < 0.01
  assert passed[0, 3] > 0.2


def test_a_gaussian_passes_what_its_closed_form_says():
  """exp(-x^2 / s^2) passes exp(-(pi f s)^2) of f cycles a degree."""
  cycles = np.arange(40)
  found = frequency_response(((1.0, 0.05),), 120.0, (120, 120))[0, :40]
  np.testing.assert_allclose(found, np.exp(-((np.pi * cycles * 0.05) ** 2)), atol=1e-6)


def _kernel(gaussians, samples):
  reach = int(samples / 2)
  place = np.arange(-reach, reach + 1)
  total = 0
  for weight, spread in gaussians:
    one = np.exp(-(place**2) / (spread * samples) ** 2)
    total = total + weight * np.outer(one, one) / one.sum() ** 2
  return total / total.sum()


def _slowly(images, samples):
  opponents = skimage.color.rgb2xyz(images) @ XYZ_TO_OPPONENT.T / 1000
  seen = [
    scipy.signal.convolve2d(
      np.pad(opponents[..., place], int(samples / 2), mode="symmetric"),
      _kernel(gaussians, samples),
      mode="valid",
    )
    for place, gaussians in enumerate(GAUSSIANS)
  ]
  xyz = np.stack(seen, axis=-1) @ np.linalg.inv(XYZ_TO_OPPONENT / 1000).T
  ratio = xyz / skimage.color.xyz_tristimulus_values(illuminant="D65", observer="2")
  above = ratio > 0.008856  # the blur leaves values below zero, of which scikit-image warns
  f = np.where(above, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
  x, y, z = np.moveaxis(f, -1, 0)
  return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@pytest.mark.parametrize("samples", [12.0, 40.0])
@pytest.mark.parametrize("size", [(37, 52), (8, 5)], ids=["picture", "smaller than the kernel"])
def test_it_is_the_difference_of_what_scipy_blurs(size, samples):
  changed, original = pictures(*size)
  expected = skimage.color.deltaE_ciede2000(
    *(_slowly(each, samples) for each in (original, changed))
  )
  found = np.asarray(scielab_map(changed, original, samples_per_degree=samples))
  assert expected.max() > 0.5
  np.testing.assert_allclose(found, expected, atol=0.01)
  mean = float(scielab(changed, original, samples_per_degree=samples))
  assert mean == pytest.approx(expected.mean(), abs=0.002)


@pytest.mark.parametrize("colors", [((10, 200, 90), (12, 190, 95)), ((0, 0, 0), (255, 255, 255))])
def test_even_images_differ_by_plain_ciede2000(colors):
  even = [np.full((30, 41, 3), color, np.uint8) for color in colors]
  lab = [skimage.color.rgb2lab(each[:1, :1]) for each in even]
  expected = float(skimage.color.deltaE_ciede2000(*lab)[0, 0])
  np.testing.assert_allclose(scielab_map(*even), expected, rtol=2e-3)


def test_a_fine_pattern_is_seen_from_near_and_not_from_afar():
  original = np.full((64, 64, 3), 120, np.uint8)
  changed = original.copy()
  changed[(np.arange(64)[:, None] + np.arange(64)) % 2 == 0] += 16
  seen = [float(scielab(changed, original, samples_per_degree=each)) for each in (5, 40, 160)]
  plain = skimage.color.deltaE_ciede2000(*(skimage.color.rgb2lab(x) for x in (original, changed)))
  assert seen[0] > 0.8 * plain.mean()
  assert seen[0] > seen[1] > seen[2]


# As a function of arrays


def test_equal_images_do_not_differ_and_gradients_are_finite():
  changed, original = (jnp.asarray(each, jnp.float32) for each in pictures())
  black = jnp.zeros_like(original)
  for image, before in (
    (original, original),
    (black, black),
    (changed, original),
    (black, original),
  ):
    value, gradient = jax.value_and_grad(scielab)(image, before)
    assert (value == 0) == bool(jnp.all(image == before))
    assert np.isfinite(gradient).all()
  assert jnp.any(jax.grad(scielab)(changed, original) != 0)


def test_batches_vmap_and_jit_are_the_loop():
  pairs = [pictures(seed=seed) for seed in range(3)]
  images, originals = (np.stack(each).astype(np.float32) for each in zip(*pairs, strict=True))
  expected = [float(scielab(*pair)) for pair in pairs]
  assert len(set(expected)) == 3
  for found in (scielab(images, originals), jax.jit(jax.vmap(scielab))(images, originals)):
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
  ("shapes", "samples", "message"),
  [
    (((8, 9, 3), (9, 8, 3)), 40, r"one shape \(\.\.\., H, W, 3\).*\(8, 9, 3\) and \(9, 8, 3\)"),
    (((8, 9, 1), (8, 9, 1)), 40, "one shape"),
    (((8, 3), (8, 3)), 40, "one shape"),
    (((8, 9, 3), (8, 9, 3)), 0, "samples_per_degree must be in 1..1000, got 0"),
    (((8, 9, 3), (8, 9, 3)), np.nan, "samples_per_degree must be in 1..1000, got nan"),
  ],
)
def test_what_means_nothing_is_refused(shapes, samples, message):
  with pytest.raises(ValueError, match=message):
    scielab(*(np.zeros(shape) for shape in shapes), samples_per_degree=samples)


@pytest.mark.parametrize("shapes", [((3,), (2, 3)), ((4,), (4,)), ((), ())])
def test_what_is_no_color_is_refused(shapes):
  with pytest.raises(ValueError, match=r"one shape \(\.\.\., 3\), L a b, got"):
    ciede2000(*(jnp.zeros(shape) for shape in shapes))
