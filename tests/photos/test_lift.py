"""Working sizes by hand, and lifted changes against linear interpolation written out."""

import numpy as np
import pytest

from rpfgsm_jax.photos.lift import lift, working_size

MEGA = 2**20


@pytest.mark.parametrize(
  ("size", "pixels", "expected"),
  [
    ((3000, 4000), MEGA, (880, 1168)),  # 12 megapixels, 4:3: sqrt(2^20 * 3 / 4) = 887
    ((4000, 6000), MEGA, (832, 1248)),  # 24 megapixels, 3:2
    ((2160, 3840), MEGA, (768, 1360)),  # 4K, 16:9
    ((3000, 3000), MEGA, (1024, 1024)),
    ((3000, 4000), 2**22, (1776, 2368)),
    ((96, 128), 2**12, (48, 64)),
  ],
)
def test_usual_photos(size, pixels, expected):
  assert working_size(size, pixels) == expected
  assert working_size(size[::-1], pixels) == expected[::-1]


@pytest.mark.parametrize("size", [(1024, 1024), (1, 1), (32, 32768), (700, 900)])
def test_photos_of_few_pixels_stay_as_they_are(size):
  assert working_size(size, MEGA) is None


def test_one_pixel_more_is_enough():
  assert working_size((1024, 1025), MEGA) == (1024, 1024)


def _sizes(count, most_ratio):
  """Photos of 1.1 to 60 megapixels, (height, width); short side up or across."""
  generator = np.random.default_rng(0)
  ratios = most_ratio ** generator.uniform(-1, 1, count)
  pixels = MEGA * 60 ** generator.uniform(0.02, 1, count)
  return [
    (round(float(np.sqrt(area / ratio))), round(float(np.sqrt(area * ratio))))
    for area, ratio in zip(pixels, ratios, strict=True)
  ]


@pytest.mark.parametrize("pixels", [MEGA // 4, MEGA])
def test_there_are_few_shapes_of_about_the_pixels_and_the_aspect(pixels):
  shapes = set()
  for size in _sizes(2000, 13.0):
    height, width = working_size(size, pixels)
    shapes.add((height, width))
    assert height % 16 == width % 16 == 0
    assert abs(height * width / pixels - 1) <= 0.1
    change = (width / height) / (size[1] / size[0])
    # Half of the largest gap between two ratios, and sides that are multiples of 16.
    gap = 1.13 if max(size) <= 2 * min(size) else 1.24
    assert 1 / (gap * 1.04) <= change <= gap * 1.04, size
    assert (height > width) <= (size[0] > size[1])
  assert len(shapes) <= 23  # twelve ratios, both ways; a square is one


@pytest.mark.parametrize("size", [(32, 100_000), (40, 30_000), (200, 20_000)])
def test_the_longest_strips_have_a_size_too(size):
  shape = working_size(size, MEGA)
  assert shape == (288, 3744)
  assert working_size(size[::-1], MEGA) == (3744, 288)


def test_of_few_pixels_no_side_becomes_too_short():
  assert working_size((64, 900), 2**12) == (32, 416)


# The change


def _linear(change, size):
  """Bilinear interpolation between pixels' centers, the ends continued; for larger sizes only."""

  def along(values, new):
    old = len(values)
    places = (np.arange(new) + 0.5) * old / new - 0.5
    flat = values.reshape(old, -1).astype(np.float64)
    columns = [np.interp(places, np.arange(old), column) for column in flat.T]
    return np.stack(columns, axis=1).reshape(new, *values.shape[1:])

  return along(along(change, size[0]).swapaxes(0, 1), size[1]).swapaxes(0, 1)


def _attacked(shape, seed=0, most=16):
  """A photo at a working size, and the same attacked."""
  generator = np.random.default_rng(seed)
  before = generator.integers(0, 256, (*shape, 3), np.uint8)
  change = generator.integers(-most, most + 1, before.shape)
  return before, np.clip(before + change, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(73, 110), (219, 110), (31, 331), (218, 330), (1, 1)])
def test_a_lifted_change_is_interpolated_linearly(photo, shape):
  before, after = _attacked(shape)
  expected = photo + _linear(after.astype(int) - before, photo.shape[:2])
  lifted = lift(photo, before, after)
  assert lifted.dtype == np.uint8
  # Half a level is the rounding, the rest Pillow's float32.
  assert np.abs(lifted - np.clip(expected, 0, 255)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("shape", [(73, 110), (100, 331), (10, 16)])
def test_no_change_is_larger_than_the_largest_of_its_neighborhood(shape):
  """At a photo of mid gray, where nothing is clipped; most of the change is zero."""
  photo = np.full((219, 331, 3), 128, np.uint8)
  generator = np.random.default_rng(2)
  before = np.full((*shape, 3), 100, np.uint8)
  change = generator.integers(-16, 17, before.shape) * (generator.random(before.shape) < 0.2)
  after = (before + change).astype(np.uint8)
  lifted = lift(photo, before, after).astype(int) - photo
  rows, columns = (
    np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    for new, old in zip((219, 331), shape, strict=True)
  )
  corners = np.stack(
    [
      change[near(rows).astype(int)][:, far(columns).astype(int)]
      for near in (np.floor, np.ceil)
      for far in (np.floor, np.ceil)
    ]
  )
  assert np.all(lifted <= corners.max(axis=0))
  assert np.all(lifted >= corners.min(axis=0))
  assert np.abs(lifted).max() >= 10  # not just small everywhere


def test_no_change_changes_nothing(photo):
  before, _ = _attacked((50, 80))
  np.testing.assert_array_equal(lift(photo, before, before), photo)


@pytest.mark.parametrize("change", [-7, 1, 16])
def test_a_change_that_is_the_same_everywhere_stays_so(change):
  photo = np.full((61, 45, 3), 100, np.uint8)
  before = np.full((20, 15, 3), 90, np.uint8)
  lifted = lift(photo, before, np.full((20, 15, 3), 90 + change, np.uint8))
  assert np.all(lifted == 100 + change)


def test_channels_have_changes_of_their_own():
  photo = np.full((40, 40, 3), 100, np.uint8)
  before = np.full((16, 16, 3), 100, np.uint8)
  lifted = lift(photo, before, before + np.array([3, 0, 9], np.uint8))
  assert np.all(lifted == (103, 100, 109))


@pytest.mark.parametrize(("level", "change", "expected"), [(250, 16, 255), (3, -16, 0)])
def test_the_range_is_not_left(level, change, expected):
  photo = np.full((40, 52, 3), level, np.uint8)
  before = np.full((16, 16, 3), 128, np.uint8)
  assert np.all(lift(photo, before, np.full((16, 16, 3), 128 + change, np.uint8)) == expected)


def test_the_photo_is_left_as_it_is(photo):
  before, after = _attacked((50, 80))
  kept = photo.copy()
  kept.setflags(write=False)
  lifted = lift(kept, before, after)
  np.testing.assert_array_equal(kept, photo)
  assert not np.shares_memory(lifted, kept)
