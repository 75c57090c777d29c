"""Which colors a file's codes stand for: an ICC profile, else what the format or EXIF states."""

import struct
from collections.abc import Iterator

from PIL import Image

from rpfgsm_jax.data import color_spaces, exif, iso_boxes
from rpfgsm_jax.data.color_spaces import RGBSpace

Stated = bytes | RGBSpace | None  # an ICC profile, a space by its numbers, or sRGB

_BMP_EMBEDDED, _BMP_LINKED = b"DEBM", b"KNIL"


def stated_colors(picture: Image.Image, content: bytes) -> tuple[Stated, list[str]]:
  """What a file says of its colors, and what is to be noted.

  The order is that of the formats: in a PNG cICP, iCCP, sRGB, gAMA with cHRM; elsewhere the ICC
  profile, then HEIF's or AVIF's code points; EXIF comes last.
  """
  if picture.format == "PNG":
    stated, notes = _of_png(picture, content)
  elif picture.format == "BMP":
    stated, notes = _of_bmp(content)
  elif profile := picture.info.get("icc_profile"):
    return profile, []
  else:
    points = _nclx(picture, content)
    stated, notes = color_spaces.of_code_points(*points) if points else (None, [])
  if stated is not None or notes or "srgb" in picture.info:
    return stated, notes
  return _of_exif(exif.color_fields(picture, content))


def _of_png(picture: Image.Image, content: bytes) -> tuple[Stated, list[str]]:
  """What the first of its chunks that can be used says; the others are fallbacks."""
  notes = []
  points = _cicp(content)
  if points is not None:
    space, notes = color_spaces.of_code_points(*points)
    if space is not None:
      return space, notes
  profile = picture.info.get("icc_profile")
  if profile or "srgb" in picture.info:
    return profile, []
  chromaticities, gamma = picture.info.get("chromaticity"), picture.info.get("gamma")
  if not (chromaticities or gamma):
    return None, notes
  # cHRM begins with white; a gamma of 0 is none.
  turned = chromaticities and (*chromaticities[2:], *chromaticities[:2])
  return color_spaces.of_gamma("the file's gAMA or cHRM", turned, 1 / gamma if gamma else None), []


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
  """The kind of each chunk of a PNG, and where its content begins and ends."""
  start = 8
  while len(head := content[start : start + 8]) == 8:
    length, kind = struct.unpack(">I4s", head)
    yield kind, start + 8, start + 8 + length
    start += length + 12


def _cicp(content: bytes) -> tuple[int, int, bool] | None:
  """Primaries, curve and narrow range that a PNG's cICP chunk states; None: none."""
  for kind, start, end in png_chunks(content):
    if kind == b"IDAT":
      return None
    if kind == b"cICP" and end - start == 4 and end <= len(content):
      primaries, transfer, matrix, full = content[start:end]
      return None if matrix else (primaries, transfer, not full)
  return None


def _nclx(picture: Image.Image, content: bytes) -> tuple[int, int] | None:
  if picture.format == "AVIF":
    return iso_boxes.code_points(content)
  coded = picture.info.get("nclx_profile") if picture.format == "HEIF" else None
  return coded and (coded["color_primaries"], coded["transfer_characteristics"])


def _of_bmp(content: bytes) -> tuple[bytes | None, list[str]]:
  """A BMP's embedded profile, which Pillow does not look for."""
  if len(content) < 138 or struct.unpack_from("<I", content, 14)[0] < 124:
    return None, []
  kind, place, size = content[70:74], *struct.unpack_from("<II", content, 126)
  if kind == _BMP_LINKED:
    return None, ["a color profile in another file, colors read as sRGB"]
  return (content[14 + place : 14 + place + size] or None) if kind == _BMP_EMBEDDED else None, []


def _of_exif(fields: exif.ColorFields) -> tuple[Stated, list[str]]:
  if fields.space == exif.SRGB:
    return None, []
  if fields.space == exif.ADOBE_RGB or fields.index == exif.ADOBE_RGB_INDEX:
    return color_spaces.ADOBE_RGB, []
  if fields.has_table:
    return None, ["a table of its own for the brightness of codes ignored, colors read as sRGB"]
  if fields.chromaticities or fields.gamma:
    name = "the primaries or the gamma in its EXIF"
    gamma = fields.gamma or 2.2  # TIFF's own default
    return color_spaces.of_gamma(name, fields.chromaticities, gamma), []
  if fields.space == exif.UNCALIBRATED:
    return None, ["a color space that is not sRGB and not named (EXIF), read as sRGB"]
  return None, []
