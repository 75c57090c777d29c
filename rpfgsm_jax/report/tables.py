"""Tables as HTML: where each cell stands in its column is worked out here, not by the script."""

import numbers
import re
from collections.abc import Callable, Iterator, Sequence

from rpfgsm_jax.report.written import Cell, Table

_DIGITS = re.compile("([0-9]+)")
_LONG = 24  # rows up to which a table is shown whole
Show = Callable[[str | Cell], str]


def lines_of(table: Table, name: str, show: Show) -> Iterator[str]:
  """Yields a table as HTML, its note aside.

  Args:
    table: the table.
    name: its id on the page; that of its heading ends in `-title`.
    show: returns a text or a cell as HTML.

  Yields:
    Lines.
  """
  columns = [[_sort_value(row[place]) for row in table.rows] for place in range(len(table.columns))]
  ranks = [_ranks(values) if table.sortable else [""] * len(values) for values in columns]
  numeric = [
    any(v is not None for v in values) and not any(isinstance(v, str) for v in values)
    for values in columns
  ]
  kinds = [' class="number"' if is_numeric else "" for is_numeric in numeric]
  long = " long" if len(table.rows) > _LONG else ""
  # A region that scrolls must be reachable by keyboard.
  yield f'<div class="scroll{long}" tabindex="0" role="region" aria-labelledby="{name}-title">'
  fixed = "" if table.sortable else ' class="fixed"'
  yield f'<table{fixed} aria-labelledby="{name}-title">'
  heads = zip(table.columns, kinds, strict=True)
  names = "".join(f'<th scope="col"{kind}>{show(column)}</th>' for column, kind in heads)
  yield f"<thead><tr>{names}</tr></thead>"
  yield "<tbody>"
  for index, row in enumerate(table.rows):
    cells = []
    for place, cell in enumerate(row):
      tag, scope = ("td", "") if place else ("th", ' scope="row"')
      cells.append(f"<{tag}{scope}{kinds[place]}{ranks[place][index]}>{show(cell)}</{tag}>")
    yield f"<tr>{''.join(cells)}</tr>"
  yield "</tbody></table></div>"


def _sort_value(cell: str | Cell) -> float | str | None:
  value = cell.value if isinstance(cell, Cell) else cell
  return None if value == "" else value


def _sort_key(value: float | str) -> tuple:
  if isinstance(value, numbers.Real):
    return (0, value)
  # Texts and digits alternate, so that like is compared with like; digits by their size.
  parts = _DIGITS.split(value.casefold())
  parts[1::2] = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in parts[1::2]]
  return (1, parts, value)


def _ranks(values: Sequence[float | str | None]) -> list[str]:
  """Each value's place as an attribute: the script compares whole numbers and nothing else."""
  keys = [None if value is None else _sort_key(value) for value in values]
  order: dict[int, int] = {}
  previous, rank = None, -1
  for index in sorted((i for i, key in enumerate(keys) if key), key=lambda i: keys[i]):
    rank += keys[index] != previous
    previous, order[index] = keys[index], rank
  return [f' data-rank="{order[i]}"' if i in order else "" for i in range(len(keys))]
