"""Pictures as `<img>` elements that hold their own content."""

import base64
import html
import io

import numpy as np

from rpfgsm_jax.report.checks import file_kind
from rpfgsm_jax.report.texts import printable

_SHOWN_WIDTH = 448  # CSS pixels up to which small pictures are enlarged, by a whole factor


def image_of(image: np.ndarray | bytes, alt: str) -> str:
  """Returns pixels without loss, or a file as it is; a small picture's pixels become squares.

  Args:
    image: `(H, W, 3)` uint8, or the bytes of a PNG, JPEG or WebP file.
    alt: what is read aloud in its place.

  Returns:
    The element.
  """
  if isinstance(image, np.ndarray):
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, format="PNG", optimize=True)
    kind, (height, width), image = "png", image.shape[:2], content.getvalue()
  else:
    kind, (height, width) = file_kind(image)
  factor = max(_SHOWN_WIDTH // max(width, height), 1)
  return element(kind, image, alt, (width * factor, height * factor), enlarged=factor > 1)


def element(
  kind: str, content: bytes, alt: str, size: tuple[int, int] | None, *, enlarged: bool = False
) -> str:
  """Returns a file as it is.

  Args:
    kind: of picture, as media types name it: "png", "svg+xml".
    content: the file's bytes.
    alt: what is read aloud in its place.
    size: (width, height) at which it is shown, CSS pixels; None: what the file says.
    enlarged: its pixels are to stay squares.

  Returns:
    The element.
  """
  source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
  sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
  named = ' class="enlarged"' if enlarged else ""
  text = html.escape(printable(alt))
  return f'<img{named} src="{source}" alt="{text}"{sides} decoding="async">'
