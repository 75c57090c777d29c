"""The draws of EOT's and DI-FGSM's transformations: their distributions, read off results."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from rpfgsm_jax import defenses

SHAPE = (23, 17, 3)


def name_of(member):
  return member.name


@functools.lru_cache
def drawn(member, count=400):
  """A member's results on an image whose channels are 100 + row, 100 + column and 100."""
  rows, columns = np.indices(SHAPE[:2])
  ramps = np.stack([100 + rows, 100 + columns, np.full_like(rows, 100)], axis=-1)
  ramps = jnp.asarray(ramps, jnp.float32)
  parameter = jnp.float32(member.parameters[0])
  keys = jax.random.split(jax.random.key(7), count)
  run = lambda key: member.apply(ramps, parameter, "straight_through", key)  # noqa: E731
  return np.asarray(jax.jit(jax.vmap(run))(keys), np.float64)


def amounts(member):
  """Each draw's amount, read off the ramps around the center, and its range."""
  results = drawn(member)
  # How the source's row changes down a column and along a row, and the center's source.
  down, right = (
    results[:, 12, 8, 0] - results[:, 11, 8, 0],
    (results[:, 11, 9, 0] - results[:, 11, 8, 0]),
  )
  moved = np.array([111, 108]) - results[:, 11, 8, :2]
  return {
    "scale": [(1 / down, 0.8, 1.2)],
    "translate": [(moved[:, 0], -0.2 * 23, 0.2 * 23), (moved[:, 1], -0.2 * 17, 0.2 * 17)],
    "rotate": [(np.rad2deg(np.arctan2(right, down)), -60, 60)],
    "lighten": [(results[:, 0, 0, 2] - 100, 0, 13)],
    "darken": [(results[:, 0, 0, 2] - 100, -13, 0)],
  }[member.name]


@pytest.mark.parametrize("member", defenses.eot_bank().families[:5], ids=name_of)
def test_amounts_are_uniform_over_the_papers_range(member):
  for amount, low, high in amounts(member):
    assert low - 1e-4 <= amount.min() < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < amount.max() <= high + 1e-4
    assert scipy.stats.kstest(amount, "uniform", (low, high - low)).pvalue > 0.01


def test_the_two_translations_are_independent():
  (down, _, _), (right, _, _) = amounts(defenses.TRANSLATE)
  assert abs(np.corrcoef(down, right)[0, 1]) < 0.13  # 2.6 standard deviations of 400 draws


def test_noise_is_gaussian_with_variance_25():
  noise = drawn(defenses.GAUSSIAN_NOISE)[..., 2] - 100
  standard_error = 5 / np.sqrt(noise.size)
  assert abs(noise.mean()) < 4 * standard_error
  assert abs(noise.var() - 25) < 4 * 25 * np.sqrt(2 / noise.size)
  assert scipy.stats.kstest(noise[::4].ravel(), "norm", (0, 5)).pvalue > 0.01


@functools.lru_cache
def rectangles(shape, count=600):
  """Top, left, height and width of the diverse inputs of a white image."""
  white = jnp.full(shape, 255.0)
  member = defenses.INPUT_DIVERSITY
  run = lambda key: member.apply(white, jnp.float32(200 / 224), "straight_through", key)  # noqa: E731
  results = np.asarray(
    jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(2), count)), np.float64
  )[..., 0]
  found = []
  for result in results:
    rows, columns = np.flatnonzero(result.any(1)), np.flatnonzero(result.any(0))
    inner = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_allclose(inner, 255, atol=1e-3)
    found.append((rows[0], columns[0], len(rows), len(columns)))
  return np.array(found).T


@pytest.mark.parametrize("shape", [(56, 56, 1), (28, 20, 1), (20, 28, 1)])
def test_diverse_sizes_are_uniform_from_200_of_224_pixels_to_all(shape):
  _, _, height, width = rectangles(shape)
  longer, side = max(shape), height if shape[0] == max(shape) else width
  sizes, counts = np.unique(side, return_counts=True)
  assert sizes.tolist() == list(range(round(longer * 200 / 224), longer + 1))
  assert scipy.stats.chisquare(counts).pvalue > 0.01
  # One ratio for both sides, to the nearest pixel.
  np.testing.assert_array_equal(height, np.floor(side * shape[0] / longer + 0.5))
  np.testing.assert_array_equal(width, np.floor(side * shape[1] / longer + 0.5))


def test_diverse_places_are_uniform():
  top, left, height, width = rectangles((28, 20, 1))
  for place, free in ((top, 28 - height), (left, 20 - width)):
    assert np.all((place >= 0) & (place <= free))
    for room in np.unique(free):
      values, counts = np.unique(place[free == room], return_counts=True)
      assert values.tolist() == list(range(room + 1))
      assert room == 0 or scipy.stats.chisquare(counts).pvalue > 0.01
