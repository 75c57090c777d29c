"""The bundled sample photographs."""

import socket

import numpy as np
import pytest
import skimage.data
from PIL import Image

from rpfgsm_jax.data import sample_photos
from rpfgsm_jax.data.samples import SAMPLE_NAMES, SAMPLE_VIEWS


@pytest.fixture(scope="module")
def samples():
  """All samples, taken with the network shut."""

  def refuse(*arguments, **options):
    raise AssertionError("a sample photograph asked for the network")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(socket, "socket", refuse)
    return sample_photos((48, 48))


def test_there_are_enough_and_all_differ(samples):
  names = [name for name, _ in samples]
  assert len(set(names)) == len(names) == len(SAMPLE_NAMES) * len(SAMPLE_VIEWS) >= 24
  assert "coffee-center" in names
  assert len({image.tobytes() for _, image in samples}) == len(samples)


def test_all_are_color_photographs_of_the_size_asked_for(samples):
  for name, image in samples:
    assert image.shape == (48, 48, 3), name
    assert image.dtype == np.uint8, name
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 300, name
    assert (image[..., 0] != image[..., 2]).mean() > 0.1, name


def test_they_are_the_same_every_time(samples):
  for (name, image), (again, same) in zip(samples, sample_photos((48, 48)), strict=True):
    assert name == again
    np.testing.assert_array_equal(image, same)


def test_whole_is_the_centered_square_resized(samples):
  coffee = skimage.data.coffee()  # 400 x 600
  square = Image.fromarray(coffee[:, 100:500]).resize((48, 48), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(dict(samples)["coffee-whole"], np.asarray(square))


def test_flipped_is_the_mirror_image(samples):
  views = dict(samples)
  # Pillow's filter weights are rounded, so that the mirror may differ by a level.
  difference = views["rocket-whole-flipped"].astype(int) - views["rocket-whole"][:, ::-1]
  assert np.abs(difference).max() <= 1


def test_a_corner_view_is_the_corner(samples):
  coffee = skimage.data.coffee()
  corner = Image.fromarray(coffee[-280:, -280:]).resize((48, 48), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(dict(samples)["coffee-bottom-right"], np.asarray(corner))


def test_a_rectangle_keeps_the_aspect_ratio():
  ((name, image),) = [
    pair for pair in sample_photos((40, 80), views=("whole",)) if pair[0].startswith("astronaut")
  ]
  assert name == "astronaut-whole"
  middle = Image.fromarray(skimage.data.astronaut()[128:384])
  expected = middle.resize((80, 40), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(image, np.asarray(expected))


def test_an_unknown_view_is_refused():
  with pytest.raises(ValueError, match=r"views must be among whole, .*got \['upside-down'\]"):
    sample_photos((8, 8), views=("whole", "upside-down"))
