"""EXIF: fields are looked up in one TIFF structure, and copied byte for byte into a new one.

The new one holds nothing but fields named here: a field nobody has named may show the picture
(thumbnails, makers' previews).
"""

import struct
from typing import NamedTuple

from PIL import Image

_ORIENTATION = 0x0112
_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_COLOR_SPACE, _WIDTH, _HEIGHT, _GAMMA = 0xA001, 0xA002, 0xA003, 0xA500
_TRANSFER_TABLE, _WHITE, _PRIMARIES, _INDEX = 0x012D, 0x013E, 0x013F, 0x0001

SRGB, ADOBE_RGB, UNCALIBRATED = 1, 2, 0xFFFF
"""Values of EXIF's ColorSpace; the second is what some programs write beside the standard."""

ADOBE_RGB_INDEX = b"R03"
"""The interoperability index of cameras' files in Adobe RGB (DCF)."""

# Description, maker, model, resolution, software, date, artist, computer, rating, copyright, and
# Windows' title, comment, author, keywords, subject.
_KEPT_MAIN = {
  0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749,
  0x8298, *range(0x9C9B, 0x9CA0),
}  # fmt: skip
# Exif 3.0's fields about exposure, time, lens, owner and serial numbers. Left out: the maker's
# note, what describes the original file's pixels, places in them, and references to other fields.
_KEPT_EXIF = {
  0x829A, 0x829D, 0x8822, 0x8824, 0x8827, *range(0x8830, 0x8836), 0x9000, 0x9003, 0x9004,
  *range(0x9010, 0x9013), *range(0x9201, 0x920B), 0x9286, *range(0x9290, 0x9293),
  *range(0x9400, 0x9406), 0xA000, 0xA20B, *range(0xA20E, 0xA211), 0xA215, 0xA217, 0xA300, 0xA301,
  *range(0xA401, 0xA40B), 0xA40C, 0xA420, *range(0xA430, 0xA43D),
}  # fmt: skip
_KEPT_GPS = set(range(0x20))
_LONGEST_FIELD = 4096  # bytes; words are shorter, pictures longer
_LONGEST_EXIF = 65533  # bytes of a JPEG segment
_PREFIX = b"Exif\0\0"
_TYPE_SIZES = {
  1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1,
}  # fmt: skip
_SHORT, _LONG, _RATIONAL, _DIRECTORY = 3, 4, 5, 13

_Directory = dict[int, tuple[int, int, bytes]]  # tag: type, number of values, their bytes


class ColorFields(NamedTuple):
  """What EXIF says of colors; None: nothing."""

  space: int | None  # ColorSpace
  index: bytes  # InteroperabilityIndex, three letters
  gamma: float | None
  chromaticities: tuple[float, ...] | None  # x, y of red, green, blue and white
  has_table: bool  # TIFF's TransferFunction


def color_fields(picture: Image.Image, content: bytes) -> ColorFields:
  """Reads what a photo's EXIF says of its colors; a field that is broken is none."""
  tiff, order, top = _top(picture, content)
  inside = _below(tiff, order, top, _EXIF)
  index = _below(tiff, order, inside, _INTEROPERABILITY).get(_INDEX, (0, 0, b""))[2][:3]
  kind, count, value = inside.get(_COLOR_SPACE, (0, 0, b""))
  space = struct.unpack(order + "H", value)[0] if (kind, count) == (_SHORT, 1) else None
  gamma = _rationals(order, inside, _GAMMA, 1)
  primaries, white = (
    _rationals(order, top, tag, number) for tag, number in ((_PRIMARIES, 6), (_WHITE, 2))
  )
  chromaticities = (*primaries, *(white or (0.3127, 0.3290))) if primaries else None
  return ColorFields(space, index, gamma and gamma[0], chromaticities, _TRANSFER_TABLE in top)


def kept_exif(picture: Image.Image, content: bytes, size: tuple[int, int]) -> bytes | None:
  """Returns a photo's EXIF, as Pillow takes it, without anything that shows its pixels.

  Kept are the fields about exposure, time, place (GPS), camera, lens, owner and serial numbers, and
  texts. Left out are thumbnails, the maker's note, what described the original file's pixels, and
  values too long for words. Orientation, size and color space are set to those of an upright sRGB
  picture of (height, width) `size`. None: there is nothing to keep.
  """
  tiff, order, top = _top(picture, content)
  main = _only(top, _KEPT_MAIN)
  exif = _only(_below(tiff, order, top, _EXIF), _KEPT_EXIF)
  gps = _only(_below(tiff, order, top, _GPS), _KEPT_GPS)
  if not (main or exif or gps):
    return None
  one = struct.pack(order + "H", 1)
  main[_ORIENTATION] = exif[_COLOR_SPACE] = (_SHORT, 1, one)
  for tag, side in ((_HEIGHT, size[0]), (_WIDTH, size[1])):
    exif[tag] = (_LONG, 1, struct.pack(order + "I", side))
  written = _PREFIX + tiff[:4] + _write_directories(order, main, {_EXIF: exif, _GPS: gps})
  # Only a file made for it has so many long texts.
  return written if len(written) <= _LONGEST_EXIF else None


def _exif_structure(picture: Image.Image, content: bytes) -> bytes:
  """The bytes of the TIFF structure that EXIF is; empty when there is none."""
  if picture.format == "TIFF":
    return content
  exif, text = (picture.info.get(key) for key in ("exif", "Raw profile type exif"))
  if exif is None and isinstance(text, str):  # ImageMagick's way into a PNG
    try:
      exif = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
      return b""
  return (exif or b"").removeprefix(_PREFIX)


def _top(picture: Image.Image, content: bytes) -> tuple[bytes, str, _Directory]:
  """The structure, the order of its bytes, and its first directory; empty where there is none."""
  tiff = _exif_structure(picture, content)
  order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
  if order is None or len(tiff) < 8:
    return tiff, "<", {}
  return tiff, order, _read_directory(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])


def _rationals(order: str, fields: _Directory, tag: int, number: int) -> tuple[float, ...] | None:
  """The positive numbers in a field of exactly so many."""
  kind, count, value = fields.get(tag, (0, 0, b""))
  if (kind, count) != (_RATIONAL, number):
    return None
  parts = struct.unpack(f"{order}{2 * number}I", value)
  if not all(parts):
    return None
  return tuple(above / below for above, below in zip(parts[::2], parts[1::2], strict=True))


def _read_directory(tiff: bytes, order: str, offset: int) -> _Directory:
  """The fields that lie within the file and are not too long; of a cut table what is there."""
  fields: _Directory = {}
  try:
    (number,) = struct.unpack_from(order + "H", tiff, offset)
    for start in range(offset + 2, offset + 2 + 12 * number, 12):
      tag, kind, count, where = struct.unpack_from(order + "HHII", tiff, start)
      length = _TYPE_SIZES.get(kind, 0) * count
      where = start + 8 if length <= 4 else where
      if 0 < length <= min(_LONGEST_FIELD, len(tiff) - where):
        fields[tag] = (kind, count, tiff[where : where + length])
  except struct.error:
    pass
  return fields


def _below(tiff: bytes, order: str, top: _Directory, tag: int) -> _Directory:
  kind, count, place = top.get(tag, (0, 0, b""))
  if kind not in (_LONG, _DIRECTORY) or count != 1:
    return {}
  return _read_directory(tiff, order, struct.unpack(order + "I", place)[0])


def _only(directory: _Directory, tags: set[int]) -> _Directory:
  return {tag: field for tag, field in directory.items() if tag in tags}


def _write_directories(order: str, main: _Directory, below: dict[int, _Directory]) -> bytes:
  """What follows a TIFF structure's first four bytes: the main directory, then those below it."""
  below = {tag: fields for tag, fields in below.items() if fields}
  main = main | {tag: (_LONG, 1, bytes(4)) for tag in below}
  end = 8 + len(_write_directory(order, main, 8))
  parts = []
  for tag, fields in below.items():
    main[tag] = (_LONG, 1, struct.pack(order + "I", end))
    parts.append(_write_directory(order, fields, end))
    end += len(parts[-1])
  return struct.pack(order + "I", 8) + _write_directory(order, main, 8) + b"".join(parts)


def _write_directory(order: str, fields: _Directory, offset: int) -> bytes:
  """One directory at `offset`, none after it; values of more than four bytes follow its table."""
  table, values = struct.pack(order + "H", len(fields)), b""
  start = offset + len(table) + 12 * len(fields) + 4
  for tag in sorted(fields):
    kind, count, content = fields[tag]
    place = content.ljust(4, b"\0")
    if len(content) > 4:
      place = struct.pack(order + "I", start + len(values))
      values += content + bytes(len(content) % 2)
    table += struct.pack(order + "HHI", tag, kind, count) + place
  return table + bytes(4) + values
