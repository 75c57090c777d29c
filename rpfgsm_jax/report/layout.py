"""What the templates need to know of sections beyond their fields: ids, ranks, amplification."""

import numbers
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpfgsm_jax.report.sections import Cell, Comparison, Group, Section, Table

_DIGITS = re.compile("([0-9]+)")


class Column(NamedTuple):
  """A table's column: whether it is one of numbers, and each cell's place when it is sorted."""

  numeric: bool
  ranks: list[int | None]


class Views(NamedTuple):
  """The (label, picture) pairs of a comparison, and what a difference is multiplied by, if any."""

  pictures: list[tuple[str, np.ndarray | bytes]]
  amplification: int | None


def ids_of(sections: Sequence[Section]) -> dict[int, str]:
  """Returns the ids on their page by `id()` of the section, also of what sections contain."""
  ids: dict[int, str] = {}

  def name(inner: Sequence[Section], outer: str) -> None:
    for place, section in enumerate(inner, start=1):
      ids.setdefault(id(section), f"{outer}-{place}")
      contained = section.items if isinstance(section, Group) else getattr(section, "details", ())
      name(contained, f"{outer}-{place}")

  name(sections, "section")
  return ids


def columns_of(table: Table) -> list[Column]:
  """Returns what is known of each column; the page's script compares whole ranks, nothing else."""
  columns = []
  for place in range(len(table.columns)):
    cells = [row[place] for row in table.rows]
    keys = [_sort_key(cell.value if isinstance(cell, Cell) else cell) for cell in cells]
    order = sorted({key for key in keys if key is not None})
    ranks = {key: rank for rank, key in enumerate(order)} if table.sortable else {}
    numeric = bool(order) and not any(is_text for is_text, *_ in order)
    columns.append(Column(numeric, [ranks.get(key) for key in keys]))
  return columns


def views_of(comparison: Comparison) -> Views:
  """Returns the pictures of a comparison with their labels, and their amplification."""
  before, after, times = comparison.before, comparison.after, comparison.amplification
  views = list(zip(comparison.labels, (before, after), strict=True))
  if before is None:
    return Views([], None)
  if comparison.difference is not None:
    return Views([*views, (f"difference × {times}", comparison.difference)], times)
  if isinstance(before, bytes) or isinstance(after, bytes):
    return Views(views, None)
  largest = int(np.abs(after.astype(np.int16) - before).max())
  return Views(views, times or 255 // (largest or 255))


def _sort_key(value: float | str | None) -> tuple | None:
  if value is None or value == "":
    return None
  if isinstance(value, numbers.Real):
    return (False, value)
  # Texts and digits alternate, so that like is compared with like; digits by their size.
  parts = _DIGITS.split(value.casefold())
  parts[1::2] = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in parts[1::2]]
  return (True, tuple(parts), value)
