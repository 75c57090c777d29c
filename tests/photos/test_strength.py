"""How large a change is allowed: the docstring's formula, written out slowly, and its ends."""

import numpy as np
import pytest

from rpfgsm_jax.photos.strength import STRENGTHS, allowed_change

C2 = (0.03 * 255) ** 2  # SSIM's


def _window(side):
  """A Gaussian's weights, cut off at four standard deviations."""
  deviation = max(side / 170, 1.5)
  reach = int(4 * deviation + 0.5)
  places = np.arange(-reach, reach + 1)
  one = np.exp(-(places**2) / (2 * deviation**2))
  return np.outer(one, one) / one.sum() ** 2, reach


def _allowed_slowly(photo, epsilon, pixels):
  """The formula before it is rounded, at some pixels; the variance from its definition."""
  luma = photo.astype(np.float64) @ (0.299, 0.587, 0.114)
  weights, reach = _window(min(luma.shape))
  padded = np.pad(luma, reach, mode="symmetric")
  found = []
  for row, column in pixels:
    seen = padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
    mean = (weights * seen).sum()
    variance = (weights * (seen - mean) ** 2).sum()
    found.append(epsilon * np.sqrt((variance + C2 / 2) / (20.0**2 + C2 / 2)))
  return np.clip(found, 1, np.floor(epsilon))


def _pixels_of(shape, count, seed=0):
  generator = np.random.default_rng(seed)
  inside = np.stack([generator.integers(0, side, count) for side in shape[:2]], axis=1)
  corners = [(row, column) for row in (0, shape[0] - 1) for column in (0, shape[1] - 1)]
  return [*corners, *inside.tolist()]


@pytest.mark.parametrize("epsilon", [8, 16.0, 24.0, 11.7])
@pytest.mark.parametrize("enlarged", [1, 2], ids=["smallest window", "larger window"])
def test_it_is_the_formula(photo, enlarged, epsilon):
  image = photo.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
  pixels = _pixels_of(image.shape, 600)
  allowed = allowed_change(image, epsilon)
  rows, columns = np.transpose(pixels)
  expected = _allowed_slowly(image, epsilon, pixels)
  assert len(np.unique(expected.round())) >= 4  # the photo has smooth and textured places
  # Half a level is the rounding; the rest float32, and 5.4 for sqrt(C2 / 2) = 5.409.
  assert np.abs(allowed[rows, columns, 0] - expected).max() <= 0.5 + 0.02


@pytest.mark.parametrize("epsilon", [1, 1.5, 8.0, 16, 24.99])
def test_changes_are_whole_levels_in_one_to_epsilon(photo, epsilon):
  allowed = allowed_change(photo, epsilon)
  assert allowed.shape == (*photo.shape[:2], 1)
  assert allowed.dtype == np.float32
  np.testing.assert_array_equal(allowed, np.rint(allowed))
  assert 1 <= allowed.min() <= allowed.max() <= epsilon


@pytest.mark.parametrize("epsilon", [0, 0.3, 0.99])
def test_below_one_level_nothing_is_allowed(photo, epsilon):
  allowed = allowed_change(photo, epsilon)
  assert allowed.dtype == np.float32
  assert not allowed.any()


@pytest.mark.parametrize("level", [0, 3, 128, 254, 255])
@pytest.mark.parametrize(("epsilon", "quarter"), [(8, 2), (16, 4), (24, 6)])
def test_a_flat_photo_gets_about_a_quarter_however_bright_it_is(level, epsilon, quarter):
  flat = np.full((33, 47, 3), level, np.uint8)
  assert np.all(allowed_change(flat, epsilon) == quarter)


def test_texture_gets_all_and_a_smooth_place_beside_it_does_not():
  photo = np.full((60, 90, 3), 120, np.uint8)
  photo[:, 45:] += np.random.default_rng(0).integers(0, 120, (60, 45, 1), np.uint8)
  allowed = allowed_change(photo, 16)[..., 0]
  assert np.all(allowed[:, :38] == 4)
  assert np.all(allowed[:, 52:] == 16)
  assert len(np.unique(allowed[30, 38:52])) > 2  # it grows from one to the other


def test_more_contrast_allows_no_less(photo):
  mild = np.rint(photo * 0.5).astype(np.uint8)
  assert np.all(allowed_change(mild, 16) <= allowed_change(photo, 16))


@pytest.mark.parametrize("shape", [(32, 32, 3), (32, 500, 3), (1, 1, 3), (3, 2, 3)])
def test_small_photos_are_taken(shape):
  photo = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
  allowed = allowed_change(photo, 16)
  assert allowed.shape == (*shape[:2], 1)
  assert np.all(np.isfinite(allowed))


def test_the_photo_is_left_as_it_is(photo):
  before = photo.copy()
  allowed_change(photo, 16)
  np.testing.assert_array_equal(photo, before)


def test_strengths_are_in_order_and_whole():
  assert list(STRENGTHS) == ["gentle", "medium", "strong"]
  assert list(STRENGTHS.values()) == sorted(STRENGTHS.values())
  assert all(value == int(value) for value in STRENGTHS.values())
