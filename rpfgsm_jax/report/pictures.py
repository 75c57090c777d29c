"""Pictures as a page takes and holds them: pixels, `(H, W, 3)` uint8, or the bytes of a file."""

import base64
import io
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

_SHOWN_WIDTH = 448  # CSS pixels up to which small pictures are enlarged, by a whole factor
_SVG, _SVG_HEAD = "svg+xml", 2000  # its first tag must stand within so many bytes


class Embedded(NamedTuple):
  """What an `<img>` element needs; `size` is (width, height), CSS pixels, None if the file says."""

  source: Markup
  size: tuple[int, int] | None
  enlarged: bool


def check_picture(
  name: str, image: np.ndarray | bytes, *, drawing: bool = False
) -> tuple[int, int] | None:
  """Returns (height, width), None for an SVG file; refuses what a page cannot show."""
  if not isinstance(image, bytes):
    _check_pixels(name, image)
    return image.shape[:2]
  kind, size = _kind_and_size(image)
  allowed = ("png", _SVG) if drawing else ("png", "jpeg", "webp")
  if kind not in allowed:
    raise ValueError(
      f"{name} must be the bytes of a {'PNG or SVG' if drawing else 'PNG, JPEG or WebP'} file, got "
      f"{len(image)} bytes starting with {image[:8]!r}; decode it and pass its pixels."
    )
  return size and size[::-1]


def embed(image: np.ndarray | bytes, *, drawing: bool = False) -> Embedded:
  """Returns pixels without loss, or a file as it is; small ones enlarged, but no drawing's file."""
  enlarge = not (drawing and isinstance(image, bytes))
  if isinstance(image, np.ndarray):
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, format="PNG", optimize=True)
    image = content.getvalue()
  kind, size = _kind_and_size(image)
  source = Markup(f"data:image/{kind};base64,{base64.b64encode(image).decode()}")
  factor = max(_SHOWN_WIDTH // max(size), 1) if size and enlarge else 1
  return Embedded(source, size and (size[0] * factor, size[1] * factor), factor > 1)


def _check_pixels(name: str, image: np.ndarray) -> None:
  if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
    came = f"dtype {image.dtype}" if hasattr(image, "dtype") else type(image).__name__
    raise ValueError(
      f"{name} must be a NumPy array of uint8 (0..255), got {came}; round, clip and cast it first: "
      "np.clip(np.round(image), 0, 255).astype(np.uint8)."
    )
  if image.ndim != 3 or image.shape[-1] != 3 or image.size == 0:
    raise ValueError(
      f"{name} must be one picture of shape (H, W, 3) with H, W >= 1, got {image.shape}; pass the "
      "images of a batch one by one, channels last."
    )


def _kind_and_size(content: bytes) -> tuple[str | None, tuple[int, int] | None]:
  """Returns a file's kind as media types name it, None for others, and its (width, height)."""
  try:
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
      # Of a JPEG with more pictures behind the first one, the first is shown.
      return {"MPO": "jpeg"}.get(picture.format, picture.format.lower()), picture.size
  except (OSError, ValueError, SyntaxError):  # as Pillow's parsers put it
    return (_SVG if b"<svg" in content[:_SVG_HEAD] else None), None
