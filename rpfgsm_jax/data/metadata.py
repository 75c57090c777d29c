"""What a picture file says before its pixels: kind, size, orientation, frames, what is lost."""

import io
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from rpfgsm_jax.data import iso_boxes
from rpfgsm_jax.data.stated_colors import Stated, png_chunks, stated_colors

# Named, because Pillow would also try formats that start other programs (PostScript). "JPEG" takes
# the several-pictures variant MPO of some phones along.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF")
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1", b"miaf"}  # of any coding
_AVIF_BRANDS = {b"avif", b"avis"}
_SMALLER_OR_MASK = 0b101  # of TIFF's NewSubfileType
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
  unread: str | None = None  # its kind, where that may be the reason why it cannot be decoded

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
    if not picture.info["primary"]:
      raise ValueError("its primary picture is of a kind that cannot be read here")
  else:
    picture = Image.open(io.BytesIO(content), formats=_FORMATS)
  width, height = picture.size
  if width * height > max_pixels:
    size = f"{width}x{height} = {width * height}"
    raise Image.DecompressionBombError(f"{size} pixels, maybe a decompression bomb")
  animated, left_out = _further_pictures(picture, content)
  # Decoding these parses metadata too; doing it here keeps the decoding threads free of warnings.
  decoded = picture.format == "TIFF" or (picture.format == "PNG" and _has_late_metadata(content))
  if decoded:
    picture.load()
  # The base class's method: PNG's own would decode the picture to look for late metadata.
  orientation = Image.Image.getexif(picture).get(_ORIENTATION, 1)
  stated, colors_notes = stated_colors(picture, content)
  notes = (*left_out, *_losses(picture, content), *colors_notes)
  return OpenedImage(path, picture, orientation, animated, decoded, stated, notes)


def of_picture(path: pathlib.Path, picture: Image.Image) -> OpenedImage:
  """What `parse_header` says, of a copy of a picture that has been opened, and maybe edited."""
  several = picture.format not in ("MPO", "HEIF") and getattr(picture, "is_animated", False)
  copied = picture.copy()
  if picture.format in ("PNG", "HEIF"):  # whose colors are stated in `info` beside a profile
    copied.format = picture.format
  orientation = copied.getexif().get(_ORIENTATION, 1)
  stated, notes = stated_colors(copied, b"")
  return OpenedImage(path, copied, orientation, several, True, stated, tuple(notes))


def _is_heic(content: bytes) -> bool:
  """True for HEIF containers but those of AVIF, which Pillow reads."""
  brands = set(iso_boxes.brands(content))
  return bool(brands & _HEIC_BRANDS or (brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS))


def _further_pictures(picture: Image.Image, content: bytes) -> tuple[bool, list[str]]:
  """Whether there are others of the same rank, frames or pages; else what is left out beside one.

  MPO, HEIF and some TIFF files are one photo with previews, views, a burst or maps around it.
  """
  if picture.format == "MPO":
    return False, ["further pictures (previews or views) left out"]
  several = getattr(picture, "is_animated", False)
  if picture.format == "TIFF" and several:
    ranks = []
    for page in range(1, picture.n_frames):
      picture.seek(page)
      ranks.append(picture.tag_v2.get(_SUBFILE, 0))
    picture.seek(0)
    smaller = all(rank & _SMALLER_OR_MASK for rank in ranks)
    return not smaller, ["smaller copies or masks of the picture left out"] if smaller else []
  if picture.format == "AVIF" and iso_boxes.brands(content)[:1] != (b"avis",):
    return several or iso_boxes.has_track(content), []
  if picture.format != "HEIF":
    return several, []
  counts = {
    "further pictures": picture.n_frames - 1,
    "depth maps": len(picture.info["depth_images"]),
    "auxiliary pictures": sum(map(len, picture.info.get("aux", {}).values())),
  }
  found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
  return iso_boxes.has_track(content), [f"beside the primary picture left out: {found}"] * bool(
    found
  )


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
