"""One picture: read it, bring it to a network's size, write it.

Pictures are uint8 arrays `(H, W, 3)`, 8-bit sRGB, gray levels 0..255; sizes are (height, width).
What a file can get wrong is reported as one exception, `ImageError`; what a file loses on the way
(further frames, transparency, a color profile) is reported as a note.
"""

import os
import pathlib
import stat
import threading
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from rpfgsm_jax import atomic
from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.data import colors, image_errors, metadata
from rpfgsm_jax.data.image_errors import ImageError
from rpfgsm_jax.data.metadata import OpenedImage
from rpfgsm_jax.data.recognition import unread_coding, unread_kind

USUAL_PIXELS = 2**30 // 12
"""Of a picture, unless more are asked for: Pillow's own limit, which a program may have lifted."""

MAX_PIXELS = 2 * USUAL_PIXELS
"""Of a picture; of more, Pillow takes none."""

_MAX_FILE_BYTES = 2**30
_PREPROCESSINGS = ("paper", "places365")
_CATCHING = threading.Lock()
_LONGEST = 16  # aspect ratio, relative to the network's input, beyond which a strip is cut first
_BITS_TAG, _PHOTOMETRIC_TAG = 258, 262
_TRANSPOSES = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


OVER_WHITE = "transparent pixels laid over white"


def read_file(path: pathlib.Path) -> bytes:
  """Reads a file's bytes: of a plain file that is not empty, nor above a gigabyte, nor changing."""
  try:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
      kind = "folder" if stat.S_ISDIR(status.st_mode) else "special file"
      raise ImageError(f"{path} must be an image file, got a {kind}; name a file.")
    if status.st_size > _MAX_FILE_BYTES:
      raise ImageError(
        f"{path} must have at most {_MAX_FILE_BYTES} bytes, got {status.st_size}; "
        "save a smaller copy."
      )
    with open(path, "rb") as file:
      before = os.fstat(file.fileno())
      content = file.read()
      after = os.fstat(file.fileno())
  except FileNotFoundError as error:
    raise ImageError(f"{path} must be an image file, but there is none; check the name.") from error
  except OSError as error:
    raise ImageError(
      f"{path} must be a readable file, got {error.strerror or error}; check its permissions."
    ) from error
  if (before.st_size, before.st_mtime_ns) != (len(content), after.st_mtime_ns):
    raise ImageError(
      f"{path} must stay as it is while it is read, but it changed; try again when it is complete."
    )
  if not content:
    raise ImageError(f"{path} must be an image file, got 0 bytes; copy it again from its source.")
  return content


def open_image(path: PathLike) -> OpenedImage:
  """Reads a file and parses its header: the cheap half of `read_image`.

  Pillow's warnings become notes here. Catching warnings swaps state that all threads share, so one
  thread at a time is in this half, while `decode_image` runs side by side in workers.
  """
  path = pathlib.Path(path)
  return open_bytes(path, read_file(path))


def open_bytes(
  path: pathlib.Path, content: bytes, *, max_pixels: int = USUAL_PIXELS
) -> OpenedImage:
  """Parses the header of a picture in memory, as `open_image` does; `path` is for messages.

  A picture of more than `max_pixels`, at most `MAX_PIXELS`, is refused.
  """
  with _CATCHING, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
    try:
      opened = metadata.parse_header(path, content, max_pixels)
    except UnidentifiedImageError as error:
      came = unread_kind(content) or (
        f"{len(content)} bytes of something else starting with {content[:8]!r}"
      )
      raise image_errors.of_another_kind(path, came) from error
    except Image.DecompressionBombError as error:
      raise image_errors.too_large(path, min(max_pixels, MAX_PIXELS), error) from error
    except ImportError as error:
      raise ImageError(
        f"{path} must be a picture that can be read here, got HEIC without pillow-heif ({error}); "
        "run pip install 'rpfgsm-jax[heic]', or convert it to JPEG or PNG."
      ) from error
    # Whatever a foreign parser raises on a broken file, the file is what is wrong; the cause stays
    # attached.
    except Exception as error:
      raise image_errors.broken(path, error, unread_coding(content)) from error
  notes = [*(f"Pillow warned: {warning.message}" for warning in caught), *opened.notes]
  if opened.animated:
    notes.append("several frames, only the first was read")
  return opened._replace(notes=tuple(notes), unread=unread_coding(content))


def open_picture(
  name: pathlib.Path, picture: Image.Image, *, max_pixels: int = USUAL_PIXELS
) -> OpenedImage:
  """Takes a picture that Pillow has opened, as `open_bytes` does; it stays as it is."""
  width, height = picture.size
  if width * height > min(max_pixels, MAX_PIXELS):
    raise image_errors.too_large(name, min(max_pixels, MAX_PIXELS), f"{width}x{height}")
  try:
    return metadata.of_picture(name, picture)
  except Exception as error:  # as in open_bytes
    raise image_errors.broken(name, error, None) from error


def decode_image(opened: OpenedImage) -> tuple[np.ndarray, list[str]]:
  """Decodes an opened image, once, to `(H, W, 3)` uint8 over white, and its notes.

  This is the costly half of `read_image`, safe in a worker thread.
  """
  pixels, alpha, notes = decode_layers(opened)
  if alpha is None:
    return pixels, notes
  notes.append(f"{opened.path}: {OVER_WHITE}")
  return colors.over_white(pixels, alpha), notes


def decode_layers(opened: OpenedImage) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
  """Decodes an opened image, once: colors `(H, W, 3)`, alpha `(H, W)` or None, and the notes."""
  picture, notes = opened.picture, list(opened.notes)
  tags = getattr(picture, "tag_v2", {})  # TIFF only
  bits = (tags.get(_BITS_TAG) or (16,))[0]
  if picture.mode == "I" and picture.format == "TIFF":
    raise ImageError(
      f"{opened.path} must have at most 16 unsigned bits a channel, got {bits}-bit signed or wider "
      "integers; save it as an 8-bit PNG or JPEG."
    )
  try:
    picture.load()
  except Exception as error:  # as in open_image
    raise image_errors.broken(opened.path, error, opened.unread) from error
  if opened.orientation in _TRANSPOSES:
    picture = picture.transpose(_TRANSPOSES[opened.orientation])
    opened.picture.close()
  try:
    deep_inverted = tags.get(_PHOTOMETRIC_TAG) == 0
    layer, alpha = colors.to_srgb(
      picture, opened.colors, notes, top=2**bits - 1, inverted=deep_inverted
    )
  except Exception as error:  # as in open_image
    raise ImageError(
      f"{opened.path} must have pixels that convert to 8-bit sRGB, got {picture.mode} pixels "
      f"({error}); save it as an 8-bit PNG or JPEG."
    ) from error
  if layer is not picture:
    picture.close()
    opened.picture.close()
  pixels = colors.to_array(layer)
  layer.close()
  transparency = None if alpha is None else colors.to_array(alpha)
  return pixels, transparency, [f"{opened.path}: {note}" for note in notes]


def read_image(
  path: PathLike, size: tuple[int, int] | None = None, *, notes: list[str] | None = None
) -> np.ndarray:
  """Reads an image file as 8-bit sRGB, upright.

  The EXIF orientation is applied. Channels of more than 8 bits are scaled, not clipped: gray is
  rounded to the nearest of 256 levels, of 16-bit color Pillow keeps the upper 8 bits. CMYK, gray,
  1-bit and palette pictures become RGB; an embedded color profile is applied; transparent pixels
  are laid over white. Of an animation or a file of several pages the first frame is read.

  Args:
    path: a JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP or PPM file, or with pillow-heif a HEIC file, of
      up to `USUAL_PIXELS`, about 89 million.
    size: (height, width) to resize to, as `resize` does; None keeps the file's size.
    notes: a list that receives one sentence, naming the file, for each thing that was lost or
      changed: further frames, bits, transparency, colors outside sRGB, what Pillow warned about.

  Returns:
    The picture, `(H, W, 3)` uint8.

  Raises:
    ImageError: there is no such file, it is empty, truncated, no picture, or too large.
    ValueError: `size` is not two positive integers.
  """
  if size is not None:
    check_size(size)
  image, found = decode_image(open_image(path))
  if notes is not None:
    notes.extend(found)
  return image if size is None else resize(image, size)


def check_size(image_size: tuple[int, int]) -> None:
  """Refuses anything but a (height, width) of positive integers."""
  try:
    height, width = (int(side) for side in image_size)
    valid = height >= 1 and width >= 1 and (height, width) == tuple(image_size)
  except (TypeError, ValueError):
    valid = False
  if not valid:
    raise ValueError(
      f"image_size must be (height, width), two integers of at least 1, got {image_size!r}; "
      "use for example a classifier's image_size."
    )


def check_pixels(image: np.ndarray, *, channels: tuple[int, ...]) -> None:
  """Refuses anything but one picture of bytes with one of these numbers of channels."""
  if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
    came = f"dtype {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
    raise ValueError(
      f"image must be a NumPy array of uint8 (0..255), got {came}; round, clip and cast it first: "
      "np.clip(np.round(image), 0, 255).astype(np.uint8)."
    )
  if image.ndim != 3 or image.shape[-1] not in channels or image.size == 0:
    expected = " or ".join(f"(H, W, {count})" for count in channels)
    raise ValueError(
      f"image must be one picture of shape {expected} with H, W >= 1, got {image.shape}; "
      "pass the images of a batch one by one, channels last."
    )


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes a picture directly, its aspect ratio not kept: Pillow's bilinear filter, antialiased.

  Args:
    image: `(H, W, 3)` uint8.
    size: (height, width) of the result.

  Returns:
    `(height, width, 3)` uint8, a new array.

  Raises:
    ValueError: `image` or `size` is of the wrong kind.
  """
  check_pixels(image, channels=(3,))
  check_size(size)
  height, width = size
  return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _crop_center(image: np.ndarray, height: int, width: int) -> np.ndarray:
  top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
  return image[top : top + height, left : left + width]


def _resize_and_crop(image: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
  """Covers 256/224 of `image_size`, aspect kept, and takes the center, rounding as torchvision."""
  height, width = image_size
  # Resized whole, a long strip could take gigabytes; its ends cannot reach the center.
  old_height = min(image.shape[0], -(-_LONGEST * image.shape[1] * height // width))
  old_width = min(image.shape[1], -(-_LONGEST * image.shape[0] * width // height))
  image = np.ascontiguousarray(_crop_center(image, old_height, old_width))
  cover_height, cover_width = round(height * 256 / 224), round(width * 256 / 224)
  if cover_height * old_width >= cover_width * old_height:
    new_height, new_width = cover_height, int(cover_height * old_width / old_height)
  else:
    new_height, new_width = int(cover_width * old_height / old_width), cover_width
  resized = resize(image, (max(new_height, height), max(new_width, width)))
  return _crop_center(resized, height, width).copy()


def preprocess(image: np.ndarray, image_size: tuple[int, int], how: str = "paper") -> np.ndarray:
  """Brings a picture to a network's input size.

  Args:
    image: `(H, W, 3)` uint8.
    image_size: (height, width) of the network's input.
    how: "paper": resized directly to `image_size`, aspect ratio not kept, as RP-FGSM's evaluation
      does. "places365": resized with its aspect ratio kept so that it just covers 256/224 of
      `image_size` (for a square input: the shorter side), then cropped to the center, as the
      published Places365 networks were validated.

  Returns:
    `(height, width, 3)` uint8, a new array.

  Raises:
    ValueError: an unknown `how`, or `image` or `image_size` is of the wrong kind.
  """
  check_how(how)
  if how == "paper":
    return resize(image, image_size)
  check_pixels(image, channels=(3,))
  check_size(image_size)
  return _resize_and_crop(image, image_size)


def check_how(how: str) -> None:
  """Refuses an unknown preprocessing."""
  if how not in _PREPROCESSINGS:
    raise ValueError(f"how must be one of {', '.join(_PREPROCESSINGS)}, got {how!r}; pick one.")


def write_png(path: PathLike, image: np.ndarray) -> None:
  """Writes a picture without loss, in one step: an older file stays whole until it is replaced.

  Args:
    path: the file, ending in `.png`; missing parent folders are created.
    image: `(H, W, 3)` uint8, or gray: `(H, W, 1)` or `(H, W)`.

  Raises:
    ValueError: another suffix, dtype or shape.
    OSError: it could not be written; an older file of that name is untouched.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() != ".png":
    raise ValueError(
      f"path must end in .png, got {path}; PNG is the only format here that keeps every level."
    )
  if isinstance(image, np.ndarray) and image.ndim == 2:
    image = image[..., None]
  check_pixels(image, channels=(3, 1))
  picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
  with atomic.replacing(path) as temporary:
    picture.save(temporary, format="PNG")
