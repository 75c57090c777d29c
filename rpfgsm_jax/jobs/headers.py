"""What a photo's file says of itself before its pixels are decoded."""

import pathlib

from rpfgsm_jax.data import images, metadata
from rpfgsm_jax.data.folders import RAW_SUFFIXES
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import MIN_SIDE


def size_of(path: pathlib.Path, max_pixels: int = images.MAX_PIXELS) -> tuple[int, int]:
  """Returns a photo's size, or why it will be refused when it is read.

  Args:
    path: its file.
    max_pixels: larger photos are refused.

  Returns:
    (width, height) as the file is stored, pixels.

  Raises:
    ImageError: `read_photo` will not take it; that it takes what is left shows when it decodes it.
  """
  raw = f"{path} must be a finished picture, got a camera's raw file; export it as JPEG or PNG."
  if path.suffix.lower() in RAW_SUFFIXES:
    raise ImageError(raw)
  content = images.read_file(path)
  opened = images.open_bytes(path, content, max_pixels=max_pixels)
  width, height = opened.picture.size
  if metadata.is_raw(opened.picture, content):
    raise ImageError(raw)
  if opened.animated:
    raise ImageError(f"{path} must be a single still picture, got several frames or pages.")
  if min(width, height) < MIN_SIDE:
    raise ImageError(f"{path} must have sides of {MIN_SIDE} pixels or more, got {width}x{height}.")
  return width, height
