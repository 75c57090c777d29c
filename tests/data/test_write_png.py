"""PNGs that are written whole or not at all, and come back exactly."""

import os

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data import images
from rpfgsm_jax.data.images import read_image, write_png


def test_written_pictures_come_back_exactly(tmp_path, photo):
  write_png(tmp_path / "new" / "photo.png", photo)
  np.testing.assert_array_equal(read_image(tmp_path / "new" / "photo.png"), photo)
  assert os.listdir(tmp_path / "new") == ["photo.png"]


@pytest.mark.parametrize("index", [np.s_[..., :1], np.s_[..., 0]], ids=["(H,W,1)", "(H,W)"])
def test_gray_is_written_as_gray(tmp_path, photo, index):
  write_png(tmp_path / "gray.png", photo[index])
  with Image.open(tmp_path / "gray.png") as picture:
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), photo[..., 0])


def test_views_that_are_not_contiguous_are_written_right(tmp_path, photo):
  write_png(tmp_path / "view.png", photo[::-2, ::3])
  np.testing.assert_array_equal(read_image(tmp_path / "view.png"), photo[::-2, ::3])


@pytest.mark.parametrize(
  "image",
  [
    np.zeros((4, 4, 3), np.float32),
    np.full((4, 4, 3), 300, np.int32),
    np.zeros((4, 4, 3), bool),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((2, 4, 4, 3), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros(4, np.uint8),
  ],
  ids=["float", "int", "bool", "four-channels", "batch", "empty", "flat"],
)
def test_wrong_arrays_are_not_written(tmp_path, image):
  with pytest.raises(ValueError, match="image must be"):
    write_png(tmp_path / "new.png", image)
  assert os.listdir(tmp_path) == []


def test_another_suffix_is_not_written(tmp_path, photo):
  with pytest.raises(ValueError, match=r"path must end in \.png, got .*new\.jpg"):
    write_png(tmp_path / "new.jpg", photo)


def test_a_failure_while_encoding_keeps_the_old_picture(tmp_path, photo, monkeypatch):
  path = tmp_path / "photo.png"
  write_png(path, photo)

  def fail_midway(self, file, format=None):
    file.write_bytes(b"\x89PNG half")
    raise OSError("disk full")

  monkeypatch.setattr(Image.Image, "save", fail_midway)
  with pytest.raises(OSError, match="disk full"):
    write_png(path, photo[::2])
  monkeypatch.undo()
  np.testing.assert_array_equal(images.read_image(path), photo)
  assert os.listdir(tmp_path) == ["photo.png"]
