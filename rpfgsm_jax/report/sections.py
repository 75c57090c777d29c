"""What a page is made of: frozen dataclasses, checked where they are made.

Pictures are `(H, W, 3)` uint8, gray levels 0..255. Every text is plain text: the page shows each
character as it is, markup included.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from rpfgsm_jax.report.checks import (
  TEXT,
  check_each,
  check_kind,
  check_list,
  check_pair,
  check_sections,
  check_title,
)
from rpfgsm_jax.report.pictures import check_picture

Tone = Literal["", "good", "fair", "bad"]


@dataclasses.dataclass(frozen=True)
class Cell:
  """A table's cell whose text is not what it is sorted by.

  Attributes:
    text: what is shown.
    value: what sorting uses: a number, a text, or None. In a column numbers come before texts;
      None comes last, ascending and descending. Infinity is a number, NaN is refused.
    tone: a colored mark before the text; the text must say it too.
    target: a section of the same page that the text leads to, itself; None: it leads nowhere.

  Raises:
    ValueError: text, value or tone is of another kind.
  """

  text: str
  value: float | str | None
  tone: Tone = ""
  target: object | None = None

  def __post_init__(self) -> None:
    check_kind("text", self.text, *TEXT)
    known = self.value is None or isinstance(self.value, str | numbers.Real)
    if not known or self.value != self.value:
      came = "NaN" if known else type(self.value).__name__
      raise ValueError(
        f"value must be a number, a text or None, got {came}; use None for what is missing, and "
        "float(value) for an array's scalar."
      )
    if self.tone not in get_args(Tone):
      raise ValueError(f"tone must be one of {get_args(Tone)}, got {self.tone!r}; pick one.")


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
    check_kind("title", self.title, *TEXT)
    check_each("paragraphs", self.paragraphs, *TEXT)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that the reader sorts and filters; the first column names the row.

  Attributes:
    title: the heading.
    columns: their names.
    rows: one cell for each column; a plain text is sorted by itself, numbers within it by their
      size ("9.jpg" before "10.jpg"), and an empty one comes last like a `Cell` without value.
    note: a sentence above the table.
    sortable: False: it stays as it is, without anything to click.

  Raises:
    ValueError: a row with more or fewer cells than columns, or something else than texts.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str | Cell]]
  note: str = ""
  sortable: bool = True

  def __post_init__(self) -> None:
    check_title(self.title)
    check_kind("note", self.note, *TEXT)
    check_each("columns", self.columns, *TEXT)
    if not len(self.columns):
      raise ValueError("columns must name at least one column, got none; leave the table out.")
    check_list("rows", self.rows)
    number = 'for a number write Cell(f"{number:.1f}", number)'
    for index, row in enumerate(self.rows):
      check_each(f"rows[{index}]", row, str | Cell, "a text or a Cell", number)
      if len(row) != len(self.columns):
        raise ValueError(
          f"rows[{index}] must have one cell for each of the {len(self.columns)} columns, got "
          f'{len(row)}; write "" for an empty cell.'
        )


@dataclasses.dataclass(frozen=True)
class Bars:
  """Shares in columns side by side, each a text, a number in % and a bar: what a network answers.

  The texts and numbers are what is read aloud; the bars are decoration.

  Attributes:
    title: the heading, for example the network's name.
    columns: (heading, bars) pairs; a bar is a (text, share) pair, its share in 0..1.
    note: a sentence above them.
    marked: the text whose bars stand out in every column; "": none do.

  Raises:
    ValueError: a share is no number in 0..1, or a text is none.
  """

  title: str
  columns: Sequence[tuple[str, Sequence[tuple[str, float]]]]
  note: str = ""
  marked: str = ""

  def __post_init__(self) -> None:
    check_title(self.title)
    check_kind("note", self.note, *TEXT)
    check_kind("marked", self.marked, *TEXT)
    check_list("columns", self.columns)
    for index, column in enumerate(self.columns):
      check_pair(f"columns[{index}]", column, "(heading, bars)")
      check_kind(f"columns[{index}][0]", column[0], *TEXT)
      check_list(f"columns[{index}][1]", column[1])
      for place, bar in enumerate(column[1]):
        name = f"columns[{index}][1][{place}]"
        check_pair(name, bar, "(text, share)")
        check_kind(f"{name}[0]", bar[0], *TEXT)
        if not isinstance(bar[1], numbers.Real) or not 0 <= bar[1] <= 1:
          raise ValueError(
            f"{name}[1] must be a share in 0..1, got {bar[1]!r}; divide by the whole first."
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
    check_title(self.title)
    check_kind("caption", self.caption, *TEXT)
    check_picture("image", self.image, drawing=True)


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
    check_kind("caption", self.caption, *TEXT)
    self._check_pictures()
    check_list("facts", self.facts)
    facts = {f"facts[{index}]": fact for index, fact in enumerate(self.facts)}
    for name, pair in {**facts, "labels": self.labels}.items():
      check_pair(name, pair, "(text, text)")
      check_each(name, pair, *TEXT)
    check_sections("details", self.details, Text | Table | Bars)
    check_kind("state", self.state, Cell | None, "a Cell or None", "write Cell(text, None)")

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
    check_kind("note", self.note, *TEXT)
    check_sections("items", self.items, Text | Table | Picture | Bars | Comparison)


Section = Text | Table | Picture | Bars | Comparison | Group
