"""What is wrong with an image file, in sentences: the file, the rule, what came, the remedy."""

import pathlib


class ImageError(ValueError):
  """An image file that cannot be read; the message names the file, the rule and the remedy."""


def too_large(path: pathlib.Path, max_pixels: int, came: object) -> ImageError:
  """More pixels than are taken."""
  return ImageError(
    f"{path} must have at most {max_pixels} pixels, got a picture that says "
    f"it has more ({came}); save a smaller copy."
  )


def of_another_kind(path: pathlib.Path, came: str) -> ImageError:
  """No picture, or one of a coding that is not read."""
  return ImageError(
    f"{path} must be a JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, PPM or HEIC picture of a usual "
    f"coding, got {came}; convert it to JPEG or PNG."
  )


def broken(path: pathlib.Path, error: Exception, unread: str | None) -> ImageError:
  """A picture that its own reader cannot read to its end."""
  if unread is not None:
    return of_another_kind(path, f"{unread} ({error})")
  return ImageError(
    f"{path} must be a complete picture, got a truncated or damaged file "
    f"({type(error).__name__}: {error}); copy it again from its source."
  )
