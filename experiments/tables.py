"""Tables as CSV, and the cells that rates, differences and means are shown in."""

import csv
import io
from collections.abc import Sequence

from rpfgsm_jax.evaluation import Difference, Rate
from rpfgsm_jax.report import Cell, Table

NOT_AVAILABLE = Cell("n/a", None)
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


def rate_cell(rate: Rate | None) -> Cell:
  """Returns a rate in % with its interval."""
  if rate is None or not rate.count:
    return NOT_AVAILABLE
  return Cell(f"{100 * rate.value:.0f} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]", rate.value)


def difference_cell(difference: Difference | None) -> Cell:
  """Returns a difference in percentage points; a star where its interval leaves out zero."""
  if difference is None or not difference.count:
    return NOT_AVAILABLE
  star = "*" if difference.sign else ""
  return Cell(f"{100 * difference.value:+.1f}{star}", difference.value)


def number_cell(value: float | None, digits: int = 1) -> Cell:
  """Returns a number with that many decimals."""
  return NOT_AVAILABLE if value is None else Cell(f"{value:,.{digits}f}", value)


def percent_cell(value: float | None) -> Cell:
  """Returns a share in %."""
  return NOTHING if value is None else Cell(f"{100 * value:.0f} %", value)


def _value(cell: str | Cell) -> str | float | None:
  if isinstance(cell, str):
    return cell
  return cell.text if cell.value is None else cell.value
