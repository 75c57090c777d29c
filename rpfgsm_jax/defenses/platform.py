"""What platforms do to a photo of full size: the paper's defenses, and an upload.

Platforms shrink what is wider than they show, and compress the result. `UPLOAD` does both, and
brings the photo back to its size, so that it can stand in one bank with the others.
"""

import dataclasses

from rpfgsm_jax.defenses.bank import Defense, DefenseBank, paper_bank
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
  size = image.shape[:2]
  shrunk = jpeg(resize(image, upload_size(size)), parameter, rounding=rounding)
  return resize(shrunk, size)


UPLOAD = Defense("upload", _upload, (50.0, 75.0, 90.0))


def platform_bank() -> DefenseBank:
  """Returns the paper's set and `UPLOAD`, for photos of full size.

  Sanchez-Matilla et al. (2020), Sec. V-B, for the others.
  """
  return DefenseBank((*paper_bank().families, UPLOAD))


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
