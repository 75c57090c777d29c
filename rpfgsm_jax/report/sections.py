"""What a page is made of: frozen dataclasses, checked where they are made.

Pictures are `(H, W, 3)` uint8, gray levels 0..255. Every text is plain text: the page shows each
character as it is, markup included. A field that holds something else than its annotation and its
description say is refused by a ValueError that names it.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import numpy as np

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
  """

  text: str
  value: float | str | None
  tone: Tone = ""
  target: object | None = None

  def __post_init__(self) -> None:
    check("text", self.text, str)
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
  """

  paragraphs: Sequence[str]
  title: str = ""

  def __post_init__(self) -> None:
    _check_fields(self)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table that the reader sorts and filters; the first column names the row.

  Attributes:
    title: the heading.
    columns: their names, at least one.
    rows: one cell for each column; a plain text is sorted by itself, numbers within it by their
      size ("9.jpg" before "10.jpg"), and an empty one comes last like a `Cell` without value.
    note: a sentence above the table.
    sortable: False: it stays as it is, without anything to click.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str | Cell]]
  note: str = ""
  sortable: bool = True

  def __post_init__(self) -> None:
    _check_fields(self)
    if not len(self.columns):
      raise ValueError("columns must name at least one column, got none; leave the table out.")
    for index, row in enumerate(self.rows):
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
  """

  title: str
  columns: Sequence[tuple[str, Sequence[tuple[str, float]]]]
  note: str = ""
  marked: str = ""

  def __post_init__(self) -> None:
    _check_fields(self)
    for index, (_, bars) in enumerate(self.columns):
      for place, (_, share) in enumerate(bars):
        if not isinstance(share, numbers.Real) or not 0 <= share <= 1:
          raise ValueError(
            f"columns[{index}][1][{place}][1] must be a share in 0..1, got {share!r}; divide by "
            "the whole first."
          )


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
  """One picture.

  Attributes:
    title: the heading, and what is read aloud in place of the picture.
    image: `(H, W, 3)` uint8, kept to the last level; or the bytes of a PNG or SVG file.
    caption: a sentence below it.
  """

  title: str
  image: np.ndarray | bytes
  caption: str = ""

  def __post_init__(self) -> None:
    _check_fields(self)
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
    difference: the amplified difference, a picture of the same size, with its `amplification`;
      None: the reader's browser makes it of the pixels, `|after - before|`. Of files it makes none,
      because what their encoders lost would be amplified too.
    details: sections beside the pictures.
    state: a word beside the heading, for example a verdict; None: there is none.
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
    _check_fields(self)
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
  """

  title: str
  items: Sequence[Text | Table | Picture | Bars | Comparison]
  note: str = ""

  def __post_init__(self) -> None:
    _check_fields(self)


Section = Text | Table | Picture | Bars | Comparison | Group
"""What a page is made of."""

_WORDS = {str: "text", float: "number", NoneType: "None", Sequence: "list"}
_REMEDIES = {
  str: "pass a str",
  str | Cell: 'for a number write Cell(f"{number:.1f}", number)',
  Cell | None: "write Cell(text, None)",
}


def check(name: str, value: object, kind: Any) -> None:
  """Refuses what an annotation forbids that is made of texts, cells, sections, lists and pairs."""
  origin, inner = get_origin(kind), get_args(kind) or (kind,)
  if origin in (Sequence, tuple):
    # A text is a sequence too, of its letters.
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
      came = type(value).__name__
      raise ValueError(f"{name} must be a list or tuple, got {came}; wrap it in one.")
    if origin is tuple and len(value) != len(inner):
      form = ", ".join(_words(inner))
      raise ValueError(f"{name} must be a pair, got {len(value)} values; write ({form}).")
    for index, item in enumerate(value):
      check(f"{name}[{index}]", item, inner[index if origin is tuple else 0])
    return
  ours = all(each in (str, NoneType) or dataclasses.is_dataclass(each) for each in inner)
  if ours and not isinstance(value, kind):
    *others, last = _words(inner)
    rule = f"{', '.join(others)} or {last}" if others else last
    remedy = _REMEDIES.get(kind, "wrap it in one")
    raise ValueError(f"{name} must be a {rule}, got {type(value).__name__}; {remedy}.")


def _words(kinds: Sequence[Any]) -> list[str]:
  return [_WORDS.get(get_origin(kind) or kind) or kind.__name__ for kind in kinds]


def _check_fields(section: "Section") -> None:
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    check(field.name, value, field.type)
    if field.name == "title" and field.default is dataclasses.MISSING and not value.strip():
      raise ValueError(f"title must not be empty, got {value!r}; headings are how a page is read.")
