"""Encodings of a photo: what they are, hold and refuse."""

import dataclasses
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import (
  Encoding,
  Photo,
  SideLimits,
  check_sides,
  decode_photo,
  encode_photo,
)

FORMATS = ("png", "webp", "jpeg")


def _in_memory(pixels, alpha=None, exif=None):
  return Photo(path=None, pixels=pixels, alpha=alpha, exif=exif, notes=(), sha256="")


def test_noise_fits_into_a_jpeg():
  """Pillow's optimize=True would fail here: "broken data stream"."""
  noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (300, 400, 3))
  encoding = Encoding(format="jpeg", quality=100, subsampling="4:4:4")
  assert decode_photo(encode_photo(_in_memory(noise), noise, encoding), None).shape == noise.shape


@pytest.mark.parametrize("form", FORMATS)
def test_the_suffix_is_the_formats(photo, form):
  content = encode_photo(_in_memory(photo), photo, Encoding(format=form))
  with Image.open(io.BytesIO(content)) as picture:
    assert Image.registered_extensions()[Encoding(format=form).suffix] == picture.format


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("format", "gif"), ("format", None), ("quality", 0), ("quality", 101), ("quality", 90.0),
    ("quality", True), ("subsampling", "4:2:2"), ("subsampling", 0),
  ],
)  # fmt: skip
def test_an_encoding_checks_itself(field, value):
  with pytest.raises(ValueError, match=rf"{field} must be .*, got .*;"):
    Encoding(**{field: value})


def test_an_encoding_is_a_value():
  assert len({Encoding(), Encoding(format="png"), Encoding(quality=80)}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    Encoding().quality = 3


@pytest.mark.parametrize(("form", "most"), [("webp", 16383), ("jpeg", 65500)])
def test_a_photo_too_long_for_a_format_is_refused(form, most):
  encoding = Encoding(format=form)
  longest, longer = (_in_memory(np.zeros((32, most + more, 3), np.uint8)) for more in (0, 1))
  assert decode_photo(encode_photo(longest, longest.pixels, encoding), None).shape[1] == most
  with pytest.raises(ImageError, match=f"at most {most} pixels .*; write it as png"):
    encode_photo(longer, longer.pixels, encoding)
  check_sides("photo", longer.size, SideLimits(format="png"))


@pytest.mark.parametrize(
  "wrong", [lambda a: a[:-1], lambda a: a.astype(np.float32), lambda a: a[..., :1]],
  ids=["size", "dtype", "channels"],
)  # fmt: skip
def test_pixels_of_another_photo_are_refused(photo, wrong):
  with pytest.raises(ValueError, match=r"must (have|be) .*;"):
    encode_photo(_in_memory(photo), wrong(photo), Encoding())


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_file_is_not_decoded(photo, form):
  content = encode_photo(_in_memory(photo), photo, Encoding(format=form))
  with pytest.raises(ImageError, match="new must be a complete picture"):
    decode_photo(content[:-500], pathlib.Path("new"))
  with pytest.raises(ImageError, match="the photo must be a complete picture"):
    decode_photo(content[:-500], None)
