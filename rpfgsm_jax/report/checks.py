"""What sections refuse where they are made.

Each message names the argument (`name`), the rule, what came, and the remedy.
"""

import io
from collections.abc import Sequence

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILES = ("PNG", "JPEG", "WEBP")


def is_png(content: bytes) -> bool:
  """True for the bytes of a PNG file, judged by its first chunk."""
  return content.startswith(PNG_SIGNATURE) and content[12:16] == b"IHDR" and len(content) > 32


def check_text(name: str, text: str) -> None:
  """Refuses anything but a text."""
  if not isinstance(text, str):
    raise ValueError(f"{name} must be a text, got {type(text).__name__}; pass a str.")


def check_title(title: str) -> None:
  """Refuses an empty heading."""
  check_text("title", title)
  if not title.strip():
    raise ValueError(f"title must not be empty, got {title!r}; headings are how a page is read.")


def check_list(name: str, items: Sequence) -> None:
  """Refuses anything but a list or tuple."""
  # A text is a sequence too, of its letters.
  if isinstance(items, str | bytes) or not isinstance(items, Sequence):
    raise ValueError(f"{name} must be a list or tuple, got {type(items).__name__}; wrap it in one.")


def check_sections(name: str, sections: Sequence, kinds: tuple[type, ...]) -> None:
  """Refuses anything but a list of sections of the given kinds."""
  check_list(name, sections)
  for index, section in enumerate(sections):
    if not isinstance(section, kinds):
      expected = ", ".join(kind.__name__ for kind in kinds)
      raise ValueError(
        f"{name}[{index}] must be one of {expected}, got {type(section).__name__}; wrap it in one."
      )


def check_pixels(name: str, image: np.ndarray) -> None:
  """Refuses anything but one picture of bytes, `(H, W, 3)`."""
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


def check_picture(name: str, image: np.ndarray | bytes) -> tuple[int, int]:
  """Refuses anything but pixels or a file that every browser shows; returns (height, width)."""
  if not isinstance(image, bytes):
    check_pixels(name, image)
    return image.shape[:2]
  try:
    return file_kind(image)[1]
  except (OSError, ValueError, SyntaxError) as error:  # as Pillow's parsers put it
    raise ValueError(
      f"{name} must be the bytes of a PNG, JPEG or WebP file, got {len(image)} bytes starting with "
      f"{image[:8]!r}; decode it and pass its pixels."
    ) from error


def file_kind(content: bytes) -> tuple[str, tuple[int, int]]:
  """Returns ("png", "jpeg" or "webp", (height, width)); OSError where it is none of them."""
  from PIL import Image

  with Image.open(io.BytesIO(content), formats=_FILES) as picture:
    return picture.format.lower(), picture.size[::-1]
