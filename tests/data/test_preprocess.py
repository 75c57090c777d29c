"""Images brought to a network's size, the paper's way and Places365's, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data.images import preprocess, resize


@pytest.mark.parametrize("size", [(64, 96), (219, 331), (400, 500), (1, 1)])
def test_paper_is_pillows_bilinear_resize(photo, size):
  expected = Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(preprocess(photo, size, "paper"), np.asarray(expected))


def test_resize_is_antialiased(photo):
  """Shrinking eightfold is a triangle-weighted mean over 16 pixels, not two neighbors."""
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 254
  shrunk = resize(stripes, (8, 8))[:, 1:-1]
  assert np.abs(shrunk.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
@pytest.mark.parametrize("side", [224, 128, 101])
def test_places365_is_resize_of_the_shorter_side_and_center_crop(photo, side, turned):
  image = np.ascontiguousarray(photo.swapaxes(0, 1)) if turned else photo
  height, width = image.shape[:2]
  short = round(side * 256 / 224)
  scaled = (short, int(short * width / height)) if width > height else (
    int(short * height / width), short)  # fmt: skip
  whole = Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR)
  top, left = round((scaled[0] - side) / 2), round((scaled[1] - side) / 2)
  expected = np.asarray(whole)[top : top + side, left : left + side]
  np.testing.assert_array_equal(preprocess(image, (side, side), "places365"), expected)


def test_places365_covers_a_rectangle(photo):
  image = preprocess(photo, (50, 200), "places365")
  assert image.shape == (50, 200, 3)
  # 331 x 219 must cover 229 x 57: the width decides; the center is kept.
  wide = Image.fromarray(photo).resize((229, int(229 * 219 / 331)), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(image, np.asarray(wide)[50:100, 14:214])


def test_places365_takes_the_center_of_a_long_strip():
  strip = np.zeros((2, 200_000, 3), np.uint8)
  strip[:, 99_999:100_001] = 200
  image = preprocess(strip, (64, 64), "places365")
  assert (image[:, 31:33] == 200).all()
  np.testing.assert_array_equal(image, image[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 10_000_000, 3), (9000, 2, 3)])
def test_places365_takes_any_shape(shape):
  image = preprocess(np.full(shape, 77, np.uint8), (32, 48), "places365")
  np.testing.assert_array_equal(image, np.full((32, 48, 3), 77))


def test_an_unknown_preprocessing_is_refused(photo):
  with pytest.raises(ValueError, match="how must be one of paper, places365, got 'crop'"):
    preprocess(photo, (8, 8), "crop")


@pytest.mark.parametrize(
  "image",
  [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), [[1]]],
  ids=["float", "gray", "batch", "list"],
)
@pytest.mark.parametrize("how", ["paper", "places365"])
def test_preprocess_refuses_other_arrays(image, how):
  with pytest.raises(ValueError, match="image must be"):
    preprocess(image, (8, 8), how)
