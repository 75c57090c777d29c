"""What a page is made of: frozen dataclasses, checked where they are made.

Pictures are `(H, W, 3)` uint8, gray levels 0..255. Every text is plain text: the page shows each
character as it is, markup included.
"""

import dataclasses
import numbers
from collections.abc import Sequence

import numpy as np

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SVG_HEAD = 2000  # bytes within which an SVG must begin, after its XML declaration and comments


@dataclasses.dataclass(frozen=True)
class Cell:
  """A table's cell whose text is not what it is sorted by.

  Attributes:
    text: what is shown.
    value: what sorting uses: a number, a text, or None. In a column numbers come before texts;
      None comes last, ascending and descending. Infinity is a number, NaN is refused.

  Raises:
    ValueError: either is of another kind.
  """

  text: str
  value: float | str | None

  def __post_init__(self) -> None:
    _check_text("text", self.text)
    known = self.value is None or isinstance(self.value, str | numbers.Real)
    if not known or self.value != self.value:
      came = "NaN" if known else type(self.value).__name__
      raise ValueError(
        f"value must be a number, a text or None, got {came}; use None for what is missing, and "
        "float(value) for an array's scalar."
      )


@dataclasses.dataclass(frozen=True)
class Text:
  """Paragraphs.

  Attributes:
    paragraphs: one text each.
    title: a heading above them; "" for none.

  Raises:
    ValueError: one of them is no text.
  """

  paragraphs: Sequence[str]
  title: str = ""

  def __post_init__(self) -> None:
    _check_text("title", self.title)
    _check_list("paragraphs", self.paragraphs)
    for index, paragraph in enumerate(self.paragraphs):
      _check_text(f"paragraphs[{index}]", paragraph)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that the reader sorts and filters; the first column names the row.

  Attributes:
    title: the heading.
    columns: their names.
    rows: one cell for each column; a plain text is sorted by itself, numbers within it by their
      size ("9.jpg" before "10.jpg"), and an empty one comes last like a `Cell` without value.
    note: a sentence above the table.

  Raises:
    ValueError: a row with more or fewer cells than columns, or something else than texts.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str | Cell]]
  note: str = ""

  def __post_init__(self) -> None:
    _check_title(self.title)
    _check_text("note", self.note)
    _check_list("columns", self.columns)
    _check_list("rows", self.rows)
    if not len(self.columns):
      raise ValueError("columns must name at least one column, got none; leave the table out.")
    for index, column in enumerate(self.columns):
      _check_text(f"columns[{index}]", column)
    for index, row in enumerate(self.rows):
      _check_list(f"rows[{index}]", row)
      if len(row) != len(self.columns):
        raise ValueError(
          f"rows[{index}] must have one cell for each of the {len(self.columns)} columns, got "
          f'{len(row)}; write "" for an empty cell.'
        )
      for place, cell in enumerate(row):
        if not isinstance(cell, str | Cell):
          raise ValueError(
            f"rows[{index}][{place}] must be a text or a Cell, got {type(cell).__name__}; for a "
            'number write Cell(f"{number:.1f}", number).'
          )


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
    _check_title(self.title)
    _check_text("caption", self.caption)
    if not isinstance(self.image, bytes):
      _check_pixels("image", self.image)
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
    before: `(H, W, 3)` uint8.
    after: `(H, W, 3)` uint8, the same size.
    caption: a sentence below them.
    facts: (label, text) pairs, for example what a network answers before and after.
    labels: what the two pictures are called.
    amplification: what the difference `|after - before|` is multiplied by; None: the largest whole
      number that keeps it within 255.

  Raises:
    ValueError: the pictures have two sizes or are none, or a text is none.
  """

  title: str
  before: np.ndarray
  after: np.ndarray
  caption: str = ""
  facts: Sequence[tuple[str, str]] = ()
  labels: tuple[str, str] = ("original", "protected")
  amplification: int | None = None

  def __post_init__(self) -> None:
    _check_title(self.title)
    _check_text("caption", self.caption)
    _check_pixels("before", self.before)
    _check_pixels("after", self.after)
    if self.before.shape != self.after.shape:
      raise ValueError(
        f"before and after must have one size, got {self.before.shape} and {self.after.shape}; "
        "bring the original to the size of the other first."
      )
    _check_list("facts", self.facts)
    for name, pair in [
      *((f"facts[{i}]", f) for i, f in enumerate(self.facts)),
      ("labels", self.labels),
    ]:
      _check_list(name, pair)
      if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
        raise ValueError(f"{name} must be two texts, got {pair!r}; write (label, text).")
    times = self.amplification
    if times is not None and (not isinstance(times, numbers.Integral) or not 1 <= times <= 255):
      raise ValueError(
        f"amplification must be a whole number in 1..255 or None, got {times!r}; None picks it "
        "from the two pictures."
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
  items: Sequence[Text | Table | Picture | Comparison]
  note: str = ""

  def __post_init__(self) -> None:
    _check_title(self.title)
    _check_text("note", self.note)
    check_sections("items", self.items, (Text, Table, Picture, Comparison))


Section = Text | Table | Picture | Comparison | Group


def is_png(content: bytes) -> bool:
  """True for the bytes of a PNG file, judged by its first chunk."""
  return content.startswith(PNG_SIGNATURE) and content[12:16] == b"IHDR" and len(content) > 32


def check_sections(name: str, sections: Sequence[Section], kinds: tuple[type, ...]) -> None:
  """Refuses anything but a list of sections of the given kinds; `name` is for the message."""
  _check_list(name, sections)
  for index, section in enumerate(sections):
    if not isinstance(section, kinds):
      expected = ", ".join(kind.__name__ for kind in kinds)
      raise ValueError(
        f"{name}[{index}] must be one of {expected}, got {type(section).__name__}; wrap it in one."
      )


def _check_text(name: str, text: str) -> None:
  if not isinstance(text, str):
    raise ValueError(f"{name} must be a text, got {type(text).__name__}; pass a str.")


def _check_title(title: str) -> None:
  _check_text("title", title)
  if not title.strip():
    raise ValueError(f"title must not be empty, got {title!r}; headings are how a page is read.")


def _check_list(name: str, items: Sequence) -> None:
  # A text is a sequence too, of its letters.
  if isinstance(items, str | bytes) or not isinstance(items, Sequence):
    raise ValueError(f"{name} must be a list or tuple, got {type(items).__name__}; wrap it in one.")


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
