"""Sections of words and numbers, and the cells they are made of."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Literal, get_args

from rpfgsm_jax.report.checks import check_list, check_text, check_title

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
    check_text("text", self.text)
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
    check_text("title", self.title)
    check_list("paragraphs", self.paragraphs)
    for index, paragraph in enumerate(self.paragraphs):
      check_text(f"paragraphs[{index}]", paragraph)


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
    check_text("note", self.note)
    check_list("columns", self.columns)
    check_list("rows", self.rows)
    if not len(self.columns):
      raise ValueError("columns must name at least one column, got none; leave the table out.")
    for index, column in enumerate(self.columns):
      check_text(f"columns[{index}]", column)
    for index, row in enumerate(self.rows):
      check_list(f"rows[{index}]", row)
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
    check_text("note", self.note)
    check_text("marked", self.marked)
    check_list("columns", self.columns)
    for index, column in enumerate(self.columns):
      _check_pair(f"columns[{index}]", column, "(heading, bars)")
      check_text(f"columns[{index}][0]", column[0])
      check_list(f"columns[{index}][1]", column[1])
      for place, bar in enumerate(column[1]):
        name = f"columns[{index}][1][{place}]"
        _check_pair(name, bar, "(text, share)")
        check_text(f"{name}[0]", bar[0])
        if not isinstance(bar[1], numbers.Real) or not 0 <= bar[1] <= 1:
          raise ValueError(
            f"{name}[1] must be a share in 0..1, got {bar[1]!r}; divide by the whole first."
          )


def _check_pair(name: str, pair: tuple, form: str) -> None:
  check_list(name, pair)
  if len(pair) != 2:
    raise ValueError(f"{name} must be a pair, got {len(pair)} values; write {form}.")
