"""Rows of an experiment: one JSON object a line, appended as results come, never rewritten.

A process may be killed while it writes, so the last line can be cut in the middle. Readers and
writers refuse such a file until `recover_rows` has repaired it and said what it did.
"""

import gzip
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from rpfgsm_jax import atomic
from rpfgsm_jax.atomic import strict_json

PathLike = str | os.PathLike[str]
Row = dict[str, Any]


class RowsError(ValueError):
  """A file of rows that cannot be read; the message names the file and the line."""


def append_rows(path: PathLike, rows: Iterable[Row]) -> None:
  """Appends rows in one write and waits until the disk has them; NaN and infinity are refused."""
  path = pathlib.Path(path)
  content = "".join(f"{strict_json(row, compact=True)}\n" for row in rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "ab+") as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      if file.read(1) != b"\n":
        raise RowsError(f"{path} ends in a line cut in the middle; repair it with recover_rows.")
    file.write(content.encode())
    file.flush()
    os.fsync(file.fileno())


def read_rows(path: PathLike) -> Iterator[Row]:
  """Yields the rows in order, reading as it goes; a file that ends in .gz is read as gzip."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise RowsError(f"{path} must be a file of rows, but there is none; run the experiment first.")
  with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
    for number, line in enumerate(file, start=1):
      row = _parse(line)
      if not line.endswith(b"\n"):
        raise RowsError(
          f"{path}, line {number}, the last one, was cut in the middle; "
          "repair the file with recover_rows."
        )
      if row is None:
        raise RowsError(
          f"{path}, line {number} must be a JSON object, got {line[:60]!r}; the file was damaged "
          "after it was written: run the experiment again."
        )
      yield row


def read_run(path: PathLike) -> tuple[Row, Iterator[Row]]:
  """Returns the first row, which says what was run, and the rows after it, read when asked for."""
  found = read_rows(path)
  header = next(found, {})
  if header.get("kind") != "run":
    raise RowsError(f"{path} must begin with a row of kind 'run'; it is no experiment's file.")
  return header, found


def find_rows(folder: PathLike) -> pathlib.Path:
  """Returns the file of rows in a results folder, plain or compressed."""
  folder = pathlib.Path(folder)
  for name in ("rows.jsonl", "rows.jsonl.gz"):
    if (folder / name).is_file():
      return folder / name
  raise RowsError(f"{folder} must hold rows.jsonl or rows.jsonl.gz; run the experiment first.")


def recover_rows(path: PathLike) -> str | None:
  """Repairs a file whose last line was cut, and returns a sentence about it; None if it was not."""
  path = pathlib.Path(path)
  if not path.is_file():
    return None
  content = path.read_bytes()
  if not content or content.endswith(b"\n"):
    return None
  start = content.rfind(b"\n") + 1
  number, piece = content.count(b"\n") + 1, content[start:]
  with open(path, "rb+") as file:
    if _parse(piece) is not None:  # an object ends with its brace: only the line feed is missing
      file.seek(0, os.SEEK_END)
      file.write(b"\n")
      done = f"line {number} was whole but for its line feed, and is kept"
    else:
      file.truncate(start)
      done = f"line {number} was cut after {len(piece)} bytes, and was taken away"
    file.flush()
    os.fsync(file.fileno())
  return f"{path}: {done}."


def write_private(path: PathLike, record: Row) -> None:
  """Writes one JSON object, readable for its owner only: a run's seed and settings."""
  path = pathlib.Path(path)
  with atomic.replacing(path) as temporary:
    os.chmod(temporary, 0o600)
    temporary.write_text(strict_json(record, indent=2) + "\n", encoding="utf-8")


def _parse(line: bytes) -> Row | None:
  try:
    row = json.loads(line)
  except ValueError:
    return None
  return row if isinstance(row, dict) else None
