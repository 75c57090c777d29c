"""Tables as CSV, and the cells that only experiments need: differences and shares."""

import csv
import io
from collections.abc import Sequence

from rpfgsm_jax.evaluation import Difference
from rpfgsm_jax.report import Cell, Table
from rpfgsm_jax.report.cells import NOT_AVAILABLE

NOTHING = Cell("", None)


def csv_text(tables: Sequence[Table]) -> str:
  """Returns tables as CSV, one after the other under their titles; numbers unrounded."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator="\n")
  for place, table in enumerate(tables):
    if place:
      writer.writerow([])
    writer.writerow([table.title])
    writer.writerow(table.columns)
    for row in table.rows:
      writer.writerow([_value(cell) for cell in row])
  return buffer.getvalue()


def difference_cell(difference: Difference | None) -> Cell:
  """Returns a difference in percentage points; a star where its interval leaves out zero."""
  if difference is None or not difference.count:
    return NOT_AVAILABLE
  star = "*" if difference.sign else ""
  return Cell(f"{100 * difference.value:+.1f}{star}", difference.value)


def interval_cell(difference: Difference) -> Cell:
  """Returns a difference in percentage points with its interval."""
  if not difference.count:
    return NOT_AVAILABLE
  value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
  return Cell(f"{value:+.1f} [{low:+.1f}, {high:+.1f}]", difference.value)


def percent_cell(value: float | None) -> Cell:
  """Returns a share in %."""
  return NOTHING if value is None else Cell(f"{100 * value:.0f} %", value)


def _value(cell: str | Cell) -> str | float | None:
  if isinstance(cell, str):
    return cell
  return cell.text if cell.value is None else cell.value
