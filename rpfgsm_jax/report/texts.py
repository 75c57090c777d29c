"""Tables as text: Markdown for files, aligned columns for a terminal."""

import re
from collections.abc import Iterable, Sequence

from rpfgsm_jax.report.sections import Cell, Table

# Characters that HTML forbids, browsers drop or terminals obey, and surrogates, which UTF-8 cannot
# hold.
_UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
  """Returns a text that can be written anywhere.

  Args:
    text: any, such as a file name; a byte of it that is no UTF-8 becomes `\\xff`.

  Returns:
    The text with control characters and the like spelled out; line feeds and tabs stay.
  """

  def spell(match: re.Match[str]) -> str:
    code = ord(match[0])
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # Python's stand-in for an undecodable byte
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

  return _UNWRITABLE.sub(spell, text)


def markdown(tables: Iterable[Table]) -> str:
  """Returns tables as Markdown, each under its title and note.

  Args:
    tables: in their order.

  Returns:
    The text; every cell shows each character as it is.
  """
  lines: list[str] = []
  for table in tables:
    lines += [f"## {escape_markdown(table.title)}", ""]
    if table.note:
      lines += [escape_markdown(table.note), ""]
    head, *rows = (f"| {' | '.join(map(escape_markdown, row))} |" for row in _lines(table))
    lines += [head, f"|{' --- |' * len(table.columns)}", *rows, ""]
  return "\n".join(lines)


def escape_markdown(text: str) -> str:
  """Returns Markdown that shows a text as it is, on one line.

  Args:
    text: any.

  Returns:
    The text with what Markdown would take for its own escaped.
  """
  return re.sub(r"([\\`*_|<\[])", r"\\\1", printable(" ".join(text.split())))


def plain(table: Table) -> str:
  """Returns a table as aligned columns under its title, without its note.

  Args:
    table: what to show.

  Returns:
    The text: the first column flush left, the others flush right.
  """
  rows = [[printable(" ".join(cell.split())) for cell in row] for row in _lines(table)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [table.title]
  for row in rows:
    first, *others = (
      cell.rjust(width) if place else cell.ljust(width)
      for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    lines.append("  ".join(["", first, *others]).rstrip())
  return "\n".join(lines)


def _lines(table: Table) -> list[Sequence[str]]:
  rows = [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
  return [table.columns, *rows]
