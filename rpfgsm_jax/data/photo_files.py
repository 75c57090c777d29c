"""Photos of people: read whole or refused, encoded for good, decoded as a classifier's owner would.

A photo keeps its size and its transparency. Where it would lose something its owner cannot see (the
other frames of an animation, the picture of a raw file), it is refused; what it loses otherwise is
noted. A written photo tells nothing but its pixels, unless its EXIF is to be kept.
"""

import dataclasses
import hashlib
import io
import os
import pathlib
from typing import Any, BinaryIO, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.data import colors, exif, images, metadata
from rpfgsm_jax.data.folders import RAW_SUFFIXES
from rpfgsm_jax.data.images import ImageError

Source = PathLike | bytes | BinaryIO | Image.Image  # a file, its content, or what Pillow opened
Format = Literal["png", "webp", "jpeg"]
Subsampling = Literal["4:2:0", "4:4:4"]

MIN_SIDE = 32
"""Pixels of a photo's shorter side; in fewer no scene can be recognized."""

LONGEST_SIDES = {"webp": 16383, "jpeg": 65500}
"""Pixels that the formats, or their encoders, can say."""

_SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
# The change to a protected photo is noise. On noise, run lengths and Huffman codes alone are as
# small as zlib's best search for repetitions (18.8 MB for 12 megapixels) and four times faster
# (0.7 s for 3.3 s); WebP's slower methods win 1 %.
_PNG_OPTIONS = {"compress_level": 1, "compress_type": 3}  # 3: zlib's Z_RLE
_WEBP_OPTIONS = {"lossless": True, "exact": True, "method": 1, "quality": 0}


class SideLimits(NamedTuple):
  """What is asked of a photo's sides before it is decoded."""

  shortest: int = MIN_SIDE
  format: Format | None = None  # in which it is written at its own size; None: at another one


_USUAL = SideLimits()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding:
  """How a protected photo is written."""

  format: Format = "png"  # "png" and "webp" are lossless and keep transparency; "jpeg" is smaller
  quality: int = 90  # of a JPEG, 1..100
  subsampling: Subsampling = "4:2:0"  # of a JPEG's colors: half size in both directions, or "4:4:4"

  def __post_init__(self) -> None:
    for name, choices in (("format", Format), ("subsampling", Subsampling)):
      value = getattr(self, name)
      if value not in get_args(choices):
        raise ValueError(
          f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}; pick one."
        )
    quality = as_int(self.quality)
    if quality is None or not 1 <= quality <= 100:
      raise ValueError(
        f"quality must be an integer in 1..100, got {self.quality!r}; 90 is the default, png and "
        "webp have no loss at all."
      )
    object.__setattr__(self, "quality", quality)

  @property
  def suffix(self) -> str:
    """Of the files: ".png", ".webp" or ".jpg"."""
    return _SUFFIXES[self.format]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
  """A photo in memory, upright and in sRGB; what is read from a file cannot be written to.

  Attributes:
    path: its file; None: there is none.
    pixels: `(H, W, 3)` uint8, laid over nothing; white where alpha is 0, since the hidden colors
      would tell the original.
    alpha: `(H, W)` uint8; None: opaque.
    exif: what may be kept of its EXIF, see `rpfgsm_jax.data.exif.kept_exif`; None: nothing.
    notes: what was lost or changed when it was read; each names the file.
    sha256: of the file's bytes, hexadecimal; "" without a file.
  """

  path: pathlib.Path | None = None
  pixels: np.ndarray
  alpha: np.ndarray | None = None
  exif: bytes | None = None
  notes: tuple[str, ...] = ()
  sha256: str = ""

  @property
  def size(self) -> tuple[int, int]:
    """(height, width), pixels."""
    return self.pixels.shape[:2]

  def seen(self) -> np.ndarray:
    """Returns what a classifier is shown: the photo over white.

    Returns:
      `(H, W, 3)` uint8; `pixels` itself when the photo is opaque.
    """
    return self.pixels if self.alpha is None else colors.over_white(self.pixels, self.alpha)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OpenedPhoto:
  """A photo whose header says that it can be read; its pixels may still be encoded."""

  path: pathlib.Path | None  # None: it is in memory
  size: tuple[int, int]  # (height, width) of the upright photo, pixels
  sha256: str  # of the file's bytes, hexadecimal; "" without a file
  _image: images.OpenedImage
  _exif: bytes | None

  def decode(self) -> Photo:
    """Returns the photo, or raises ImageError where its pixels are damaged; to be called once."""
    pixels, alpha, notes = images.decode_layers(self._image)
    if alpha is not None:
      pixels[alpha == 0] = 255
      alpha.setflags(write=False)
    pixels.setflags(write=False)
    return Photo(
      path=self.path,
      pixels=pixels,
      alpha=alpha,
      exif=self._exif,
      notes=tuple(notes),
      sha256=self.sha256,
    )


def open_photo(
  photo: Source, *, max_pixels: int = images.USUAL_PIXELS, limits: SideLimits = _USUAL
) -> OpenedPhoto:
  """Reads a photo's file and checks its header: all of `read_photo` but the decoding of pixels."""
  most = as_int(max_pixels)
  if most is None or most < 1:
    raise ValueError(
      f"max_pixels must be a positive integer, got {max_pixels!r}; leave it out for "
      f"{images.USUAL_PIXELS}."
    )
  path, content = file_of(photo), b""
  name = _name(path)
  if isinstance(photo, Image.Image):
    opened = images.open_picture(name, photo, max_pixels=max_pixels)
  else:
    if name.suffix.lower() in RAW_SUFFIXES:
      raise _raw(name)
    content = _content(photo)
    opened = images.open_bytes(name, content, max_pixels=max_pixels)
  if metadata.is_raw(opened.picture, content):
    raise _raw(name)
  if opened.animated:
    raise ImageError(
      f"{name} must be a single still picture, got several frames or pages, of which all but one "
      "would be lost; export those you want one by one, as PNG or JPEG."
    )
  check_sides(name, opened.size, limits)
  return OpenedPhoto(
    path=path,
    size=opened.size,
    sha256=hashlib.sha256(content).hexdigest() if content else "",
    _image=opened,
    _exif=exif.kept_exif(opened.picture, content, opened.size),
  )


def file_of(photo: object) -> pathlib.Path | None:
  """The file that a photo is, or was opened from; None: it is in memory."""
  if not isinstance(photo, str | os.PathLike):
    named = getattr(photo, "filename", None) or getattr(photo, "name", None)
    photo = named if isinstance(named, str | os.PathLike) else ""
  return pathlib.Path(photo) if photo else None


def _content(photo: PathLike | bytes | BinaryIO) -> bytes:
  if isinstance(photo, str | os.PathLike):
    return images.read_file(pathlib.Path(photo))
  if not isinstance(photo, bytes):
    if photo.seekable():
      photo.seek(0)
    photo = photo.read()
  if not isinstance(photo, bytes) or not photo:
    came = "text" if isinstance(photo, str) else "0 bytes"
    raise ImageError(
      f"the photo must be an image file's bytes, got {came}; open it in binary mode."
    )
  return photo


def read_photo(path: PathLike, *, max_pixels: int = images.USUAL_PIXELS) -> Photo:
  """Reads a photo with all that a protected copy of it will need.

  Colors become 8-bit sRGB as `read_image` says; what the file holds decides, not its suffix.

  Args:
    path: a JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP or PPM file, or with pillow-heif a HEIC file, of
      one picture whose sides have at least 32 pixels.
    max_pixels: larger photos are refused before they are decoded; above
      `rpfgsm_jax.data.images.MAX_PIXELS` all are.

  Returns:
    The photo; its `seen()` equals `read_image(path)`.

  Raises:
    ImageError: there is no such file; it is empty, truncated, changing, no picture, a raw photo,
      animated or of several pages, too large or too small.
    ValueError: `max_pixels` is no positive integer.
  """
  return open_photo(path, max_pixels=max_pixels).decode()


def check_sides(name: object, size: tuple[int, int], limits: SideLimits) -> None:
  """Refuses a photo, (height, width) pixels, without a scene or too long for its format."""
  height, width = size
  if min(height, width) < limits.shortest:
    raise ImageError(
      f"{name} must have at least {limits.shortest} pixels on both sides, got {width}x{height}; so "
      "few show no scene that could be hidden, leave it out."
    )
  longest = LONGEST_SIDES.get(limits.format or "")
  if longest is not None and max(height, width) > longest:
    raise ImageError(
      f"{name} must have sides of at most {longest} pixels to be written as {limits.format}, got "
      f"{width}x{height}; write it as png."
    )


def encode_photo(
  photo: Photo, pixels: np.ndarray, encoding: Encoding, *, keep_metadata: bool = False
) -> bytes:
  """Returns the bytes of a protected photo's file; `pixels` is the protected `photo.seen()`.

  PNG and WebP keep the photo's transparency; the change is added to its colors as it is, so what is
  seen through half transparent pixels changes half as much. A JPEG is laid over white. Nothing
  beside the pixels is written but `photo.exif`, if metadata is to be kept.
  """
  images.check_pixels(pixels, channels=(3,))
  if pixels.shape != photo.pixels.shape:
    raise ValueError(
      f"pixels must have the photo's shape {photo.pixels.shape}, got {pixels.shape}; encode each "
      "protected picture with its own original."
    )
  check_sides(_name(photo.path), photo.size, SideLimits(1, encoding.format))
  if photo.alpha is not None and encoding.format != "jpeg":
    pixels = _with_alpha(photo, photo.alpha, pixels)
  formats: dict[str, dict[str, Any]] = {
    "png": _PNG_OPTIONS,
    "webp": _WEBP_OPTIONS,
    # Without optimize=True: Pillow's buffer for it is too small for noise, and encoding would fail.
    "jpeg": {"quality": encoding.quality, "subsampling": encoding.subsampling},
  }
  options = formats[encoding.format]
  if keep_metadata and photo.exif is not None:
    options = options | {"exif": photo.exif}
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, encoding.format.upper(), **options)
  return file.getvalue()


def decode_photo(content: bytes, name: PathLike | None) -> np.ndarray:
  """Returns what a classifier is shown of a written file: `(H, W, 3)` uint8, over white."""
  opened = images.open_bytes(_name(name), content, max_pixels=images.MAX_PIXELS)
  return images.decode_image(opened)[0]


def _name(path: PathLike | None) -> pathlib.Path:
  return pathlib.Path("the photo" if path is None else path)


def _raw(path: pathlib.Path) -> ImageError:
  return ImageError(
    f"{path} must be a finished picture, got a camera's raw file; export it as JPEG, PNG or TIFF."
  )


def _with_alpha(photo: Photo, alpha: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  """The protected colors with the photo's transparency: `(H, W, 4)` uint8."""
  layer = np.empty((*alpha.shape, 4), np.uint8)
  for rows in colors.bands(len(layer)):
    original = photo.pixels[rows]
    change = pixels[rows].astype(np.int16) - colors.over_white(original, alpha[rows])
    layer[rows, :, :3] = np.clip(original + change, 0, 255)
  layer[alpha == 0, :3] = 255
  layer[..., 3] = alpha
  return layer
