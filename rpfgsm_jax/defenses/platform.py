"""What platforms do to a photo of full size: an upload, a thumbnail, an encoder before all else.

Platforms shrink what is wider than they show, and compress the result. Whatever shrinks here brings
the photo back to its size, so that it can stand in one bank with the others.
"""

import dataclasses
import math

from rpfgsm_jax.checks import as_int
from rpfgsm_jax.defenses.bank import IDENTITY, Defense, DefenseBank, paper_bank
from rpfgsm_jax.defenses.jpeg import Subsampling, jpeg
from rpfgsm_jax.defenses.resize import resize
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, Image

UPLOAD_SIDES = (2048, 1600, 1280, 1080, 720, 480, 320)
"""Longest sides, pixels, to which photos are commonly shrunk when they are uploaded or sent."""
_WORTH_SHRINKING = 0.9  # of the photo's longest side; a platform leaves a photo near its size alone


def upload_size(size: tuple[int, int]) -> tuple[int, int]:
  """Returns the size that a platform is likely to shrink a photo to.

  Args:
    size: (height, width) of the photo, pixels.

  Returns:
    (height, width), aspect ratio kept; the longest side is the largest of `UPLOAD_SIDES` that is
    clearly smaller than the photo's. `size` itself where there is none.
  """
  longest = max(size)
  side = next((side for side in UPLOAD_SIDES if side <= _WORTH_SHRINKING * longest), longest)
  height, width = (max(round(length * side / longest), 1) for length in size)
  return height, width


def _upload(image: Image, parameter: Array, rounding: Rounding) -> Image:
  size = (image.shape[0], image.shape[1])
  shrunk = jpeg(resize(image, upload_size(size)), parameter, rounding=rounding)
  return resize(shrunk, size)


UPLOAD = Defense("upload", _upload, (50.0, 75.0, 90.0))
"""What a platform does: shrunk to `upload_size`, JPEG at quality 50, 75 or 90, brought back."""


def platform_bank() -> DefenseBank:
  """Returns the paper's set and `UPLOAD`, for photos of full size.

  Sanchez-Matilla et al. (2020), Sec. V-B, for the others.
  """
  return DefenseBank((*paper_bank().families, UPLOAD))


def shrunk_bank(bank: DefenseBank, side: int) -> DefenseBank:
  """Returns the set with each member, the identity aside, applied to a thumbnail.

  At full size a median over five pixels, or a JPEG's blocks, are far below what a network sees of a
  photo of megapixels. On a thumbnail they act at the scale at which it looks.

  Args:
    bank: the set.
    side: of a square with as many pixels as the thumbnail, pixels; photos of fewer stay.

  Returns:
    The set; equal arguments give equal sets, so that nothing is compiled anew.

  Raises:
    ValueError: `side` is no integer of at least 1.
  """
  pixels = as_int(side)
  if pixels is None or pixels < 1:
    raise ValueError(f"side must be an integer of at least 1 pixel, got {side!r}; 256 is usual.")
  return DefenseBank(
    tuple(
      family if family == IDENTITY else dataclasses.replace(family, apply=_Shrunk(family, pixels))
      for family in bank.families
    )
  )


@dataclasses.dataclass(frozen=True)
class _Shrunk:
  """A member's function on a thumbnail; compared by its fields."""

  family: Defense
  side: int

  def __call__(self, image: Image, parameter: Array, rounding: Rounding, *key: Array) -> Image:
    height, width = image.shape[:2]
    factor = self.side / math.sqrt(height * width)
    if factor >= 1:
      return self.family.apply(image, parameter, rounding, *key)
    size = (max(round(height * factor), 1), max(round(width * factor), 1))
    changed = self.family.apply(resize(image, size), parameter, rounding, *key)
    return resize(changed, (height, width))


def encoded_bank(bank: DefenseBank, quality: int, subsampling: Subsampling) -> DefenseBank:
  """Returns the set with each member behind a JPEG encoder.

  For photos that are written as JPEG: whoever defends sees them decoded. The exact encoder becomes
  part of what the attack differentiates.

  Args:
    bank: the set.
    quality: of the encoder, 1..100.
    subsampling: of the encoder, see `jpeg`.

  Returns:
    The set; equal arguments give equal sets, so that nothing is compiled anew.
  """
  return DefenseBank(
    tuple(
      dataclasses.replace(family, apply=_Encoded(family, quality, subsampling))
      for family in bank.families
    )
  )


@dataclasses.dataclass(frozen=True)
class _Encoded:
  """A member's function behind the encoder; compared by its fields."""

  family: Defense
  quality: int
  subsampling: Subsampling

  def __call__(self, image: Image, parameter: Array, rounding: Rounding, *key: Array) -> Image:
    decoded = jpeg(image, self.quality, subsampling=self.subsampling, rounding=rounding)
    return self.family.apply(decoded, parameter, rounding, *key)
