"""What a picture file says before its pixels: kind, size, orientation, frames, what is lost."""

import io
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from rpfgsm_jax.data.stated_colors import Stated, png_chunks, stated_colors

# Named, because Pillow would also try formats that start other programs (PostScript). "JPEG" takes
# the several-pictures variant MPO of some phones along.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs")
_SUBFILE, _BITS, _ORIENTATION, _DNG_VERSION = 0x00FE, 0x0102, 0x0112, 0xC612


class OpenedImage(NamedTuple):
  """An image file whose header has been read and whose pixels may still be encoded."""

  path: pathlib.Path
  picture: Image.Image
  orientation: int  # EXIF 1..8, or what the file says instead
  animated: bool  # several frames or pages
  decoded: bool  # its pixels are in memory already
  colors: Stated  # what its codes stand for
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
  stated, colors_notes = stated_colors(picture, content)
  notes = (*_losses(picture, content), *colors_notes)
  return OpenedImage(path, picture, orientation, animated, decoded, stated, notes)


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
  seen_pixels = False
  for kind, start, _ in png_chunks(content):
    if seen_pixels and (kind in kinds or content.startswith(keywords, start)):
      return True
    seen_pixels |= kind == b"IDAT"
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


def is_raw(picture: Image.Image, content: bytes) -> bool:
  """Tells a camera's raw file that looks like TIFF, whose first picture is but a preview.

  It is DNG, Canon's CR2, or a file that calls its first picture a smaller copy.
  """
  if picture.format != "TIFF":
    return False
  tags = picture.tag_v2
  return _DNG_VERSION in tags or content[8:10] == b"CR" or tags.get(_SUBFILE) == 1
