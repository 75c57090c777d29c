"""What a picture file says beside its pixels: the header, and the EXIF fields that may be kept.

EXIF fields are copied byte for byte from one TIFF structure into a new one, which holds nothing but
fields named here: a field nobody has named may show the picture (thumbnails, makers' previews).
"""

import io
import pathlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

# Named, because Pillow would also try formats that start other programs (PostScript). "JPEG" takes
# the several-pictures variant MPO of some phones along.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_SUBFILE, _BITS, _ORIENTATION, _DNG_VERSION = 0x00FE, 0x0102, 0x0112, 0xC612
_EXIF, _GPS = 0x8769, 0x8825
_WIDE_PRIMARIES, _HDR_TRANSFERS = (9, 11, 12), (16, 18)  # codes of ITU-T H.273
_COLOR_SPACE, _WIDTH, _HEIGHT = 0xA001, 0xA002, 0xA003

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
_SHORT, _LONG, _DIRECTORY = 3, 4, 13

_Directory = dict[int, tuple[int, int, bytes]]  # tag: type, number of values, their bytes


class OpenedImage(NamedTuple):
  """An image file whose header has been read and whose pixels may still be encoded."""

  path: pathlib.Path
  picture: Image.Image
  orientation: int  # EXIF 1..8, or what the file says instead
  animated: bool  # several frames or pages
  decoded: bool  # its pixels are in memory already
  notes: tuple[str, ...]  # what decoding it will lose

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of the upright picture, pixels."""
    width, height = self.picture.size
    return (width, height) if self.orientation in range(5, 9) else (height, width)


def parse_header(path: pathlib.Path, content: bytes, max_pixels: int) -> OpenedImage:
  """Parses what stands before the pixels of a picture of at most `max_pixels`.

  Raises Pillow's errors: of another format, too many pixels (`DecompressionBombError`), a broken
  file; and ImportError of a HEIC picture where pillow-heif is not installed.
  """
  if _is_heic(content):
    import pillow_heif

    picture = pillow_heif.HeifImageFile(io.BytesIO(content))
  else:
    picture = Image.open(io.BytesIO(content), formats=_FORMATS)
  width, height = picture.size
  if width * height > max_pixels:
    size = f"{width}x{height} = {width * height}"
    raise Image.DecompressionBombError(f"{size} pixels, maybe a decompression bomb")
  # Decoding these parses metadata too; doing it here keeps the decoding threads free of warnings.
  decoded = picture.format == "TIFF" or (picture.format == "PNG" and _has_late_metadata(content))
  if decoded:
    picture.load()
  # The base class's method: PNG's own would decode the picture to look for late metadata.
  orientation = Image.Image.getexif(picture).get(_ORIENTATION, 1)
  # An MPO file is a photograph with a preview or a second view; its first picture is the photo.
  animated = picture.format != "MPO" and getattr(picture, "is_animated", False)
  notes = tuple(_losses(picture, content))
  return OpenedImage(path, picture, orientation, animated, decoded, notes)


def _is_heic(content: bytes) -> bool:
  """True for HEVC in a HEIF container; AVIF shares the container."""
  if content[4:8] != b"ftyp":
    return False
  brands = content[8 : min(int.from_bytes(content[:4], "big"), 256)]
  return any(brands[at : at + 4] in _HEIC_BRANDS for at in range(0, len(brands), 4))


def _has_late_metadata(content: bytes) -> bool:
  """True for a PNG that states its orientation or animation after its first pixels."""
  kinds = (b"eXIf", b"acTL")
  keywords = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
  seen_pixels, start = False, 8
  while len(head := content[start : start + 8]) == 8:
    length, kind = struct.unpack(">I4s", head)
    if seen_pixels and (kind in kinds or content.startswith(keywords, start + 8)):
      return True
    seen_pixels |= kind == b"IDAT"
    start += length + 12
  return False


def _losses(picture: Image.Image, content: bytes) -> Iterator[str]:
  bits = 8
  if picture.format == "PNG":
    bits = content[24]  # IHDR always stands first
  elif picture.format == "TIFF":
    bits = max(picture.tag_v2.get(_BITS) or (8,))
  elif picture.format == "HEIF":
    bits = picture.info.get("bit_depth", 8)
  # Gray of 16 bits comes with all of them, and is rounded later.
  if bits > 8 and not picture.mode.startswith(("I", "F")):
    yield "more than 8 bits a color channel, the upper 8 kept"
  coded = picture.info.get("nclx_profile") if picture.format == "HEIF" else None
  if coded and "icc_profile" not in picture.info:
    primaries, transfer = coded["color_primaries"], coded["transfer_characteristics"]
    if primaries in _WIDE_PRIMARIES or transfer in _HDR_TRANSFERS:
      yield f"colors of another space (primaries {primaries}, curve {transfer}) read as sRGB"


def is_raw(picture: Image.Image, content: bytes) -> bool:
  """Tells a camera's raw file that looks like TIFF, whose first picture is but a preview.

  It is DNG, Canon's CR2, or a file that calls its first picture a smaller copy.
  """
  if picture.format != "TIFF":
    return False
  tags = picture.tag_v2
  return _DNG_VERSION in tags or content[8:10] == b"CR" or tags.get(_SUBFILE) == 1


def kept_exif(picture: Image.Image, content: bytes, size: tuple[int, int]) -> bytes | None:
  """Returns a photo's EXIF, as Pillow takes it, without anything that shows its pixels.

  Kept are the fields about exposure, time, place (GPS), camera, lens, owner and serial numbers, and
  texts. Left out are thumbnails, the maker's note, what described the original file's pixels, and
  values too long for words. Orientation, size and color space are set to those of an upright sRGB
  picture of (height, width) `size`. None: there is nothing to keep.
  """
  tiff = _exif_structure(picture, content)
  order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
  if order is None or len(tiff) < 8:
    return None
  top = _read_directory(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
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
