"""What a page is made of: frozen dataclasses, checked where they are made.

Pictures are `(H, W, 3)` uint8, gray levels 0..255. Every text is plain text: the page shows each
character as it is, markup included.
"""

import dataclasses
import numbers
from collections.abc import Sequence

import numpy as np

from rpfgsm_jax.report.checks import (
  check_list,
  check_picture,
  check_pixels,
  check_sections,
  check_text,
  check_title,
  is_png,
)
from rpfgsm_jax.report.written import Bars, Cell, Table, Text

_SVG_HEAD = 2000  # bytes within which an SVG must begin, after its XML declaration and comments


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
  """One picture.

  Attributes:
    title: the heading, and what is read aloud in place of the picture.
    image: `(H, W, 3)` uint8, kept to the last level; or the bytes of a PNG or SVG file.
    caption: a sentence below it.

  Raises:
    ValueError: `image` is something else, or a text is none.
  """

  title: str
  image: np.ndarray | bytes
  caption: str = ""

  def __post_init__(self) -> None:
    check_title(self.title)
    check_text("caption", self.caption)
    if not isinstance(self.image, bytes):
      check_pixels("image", self.image)
    elif not is_png(self.image) and b"<svg" not in self.image[:_SVG_HEAD]:
      raise ValueError(
        f"image must be the bytes of a PNG or SVG file, got {len(self.image)} bytes starting with "
        f"{self.image[:8]!r}; decode it and pass its pixels."
      )


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """Two pictures, one over the other, with a slider between them and their amplified difference.

  Attributes:
    title: the heading, for example the file's name.
    before: `(H, W, 3)` uint8, kept to the last level; or the bytes of a PNG, JPEG or WebP file;
      None, like `after`: there is nothing to show, and `caption` says why.
    after: likewise, the same size.
    caption: a sentence below them.
    facts: (label, text) pairs, for example what a network answers before and after.
    labels: what the two pictures are called.
    amplification: what the difference is multiplied by; None: the largest whole number that keeps
      `|after - before|` within 255.
    difference: the amplified difference, a picture of the same size; None: the reader's browser
      makes it of the pixels, `|after - before|`. Of files it makes none, because what their
      encoders lost would be amplified too.
    details: sections beside the pictures.
    state: a word beside the heading, for example a verdict; None: there is none.

  Raises:
    ValueError: the pictures have two sizes or are none, a `difference` comes without its
      `amplification`, or a text is none.
  """

  title: str
  before: np.ndarray | bytes | None
  after: np.ndarray | bytes | None
  caption: str = ""
  facts: Sequence[tuple[str, str]] = ()
  labels: tuple[str, str] = ("original", "protected")
  amplification: int | None = None
  difference: np.ndarray | bytes | None = None
  details: Sequence[Text | Table | Bars] = ()
  state: Cell | None = None

  def __post_init__(self) -> None:
    check_title(self.title)
    check_text("caption", self.caption)
    self._check_pictures()
    check_list("facts", self.facts)
    for name, pair in [
      *((f"facts[{i}]", f) for i, f in enumerate(self.facts)),
      ("labels", self.labels),
    ]:
      check_list(name, pair)
      if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise ValueError(f"{name} must be two texts, got {pair!r}; write (label, text).")
    check_sections("details", self.details, (Text, Table, Bars))
    if not isinstance(self.state, Cell | None):
      raise ValueError(
        f"state must be a Cell or None, got {type(self.state).__name__}; write Cell(text, None)."
      )

  def _check_pictures(self) -> None:
    """Refuses pictures that do not belong together, and an amplification that is none."""
    shown = {"before": self.before, "after": self.after, "difference": self.difference}
    if self.difference is None:
      del shown["difference"]
    if all(image is None for image in shown.values()):
      return
    sizes = {name: check_picture(name, image) for name, image in shown.items()}
    if len(set(sizes.values())) > 1:
      came = " and ".join(str(getattr(shown[name], "shape", size)) for name, size in sizes.items())
      raise ValueError(
        f"{' and '.join(sizes)} must have one size, got {came}; bring the original to the size of "
        "the other first."
      )
    times = self.amplification
    if times is not None and (not isinstance(times, numbers.Integral) or not 1 <= times <= 255):
      raise ValueError(
        f"amplification must be a whole number in 1..255 or None, got {times!r}; None picks it "
        "from the two pictures."
      )
    if self.difference is not None and times is None:
      raise ValueError(
        "amplification must be given with a difference, got None; name what it was multiplied by."
      )


@dataclasses.dataclass(frozen=True)
class Group:
  """Sections under one heading, side by side where there is room: a gallery of comparisons.

  Attributes:
    title: the heading.
    items: the sections, no groups among them.
    note: a sentence above them.

  Raises:
    ValueError: something else among the items, or a text is none.
  """

  title: str
  items: Sequence[Text | Table | Picture | Bars | Comparison]
  note: str = ""

  def __post_init__(self) -> None:
    check_title(self.title)
    check_text("note", self.note)
    check_sections("items", self.items, (Text, Table, Picture, Bars, Comparison))


Section = Text | Table | Picture | Bars | Comparison | Group
SECTIONS = (Text, Table, Picture, Bars, Comparison, Group)
