"""The folder of an experiment's results: made beside its place, and put there when it is complete.

An older result of the same experiment stays until the new one is whole; anything else in the folder
is somebody's, and is never removed.
"""

import json
import os
import pathlib
import secrets
import shutil

RECORD = "run.json"


class FolderError(ValueError):
  """A results folder that must not be written to; the message says why and what to do."""


def check_place(place: pathlib.Path, experiment: str, entries: tuple[str, ...] | None) -> None:
  """Checks that a result may be put at `place`.

  Args:
    place: the results folder.
    experiment: its name, as `run.json` gives it.
    entries: what a result of this experiment consists of; None: a new run adds to an earlier one
      and replaces nothing else.

  Raises:
    FolderError: there is a file, another experiment's result, or anything that is not ours.
  """
  if not os.path.lexists(place):
    return
  if not place.is_dir():
    raise FolderError(f"--out must name a folder, got the file {place}; name another place.")
  found = sorted(path.name for path in place.iterdir())
  if not found:
    return
  try:
    record = json.loads((place / RECORD).read_bytes())
    ours = record.get("experiment") == experiment
  except (OSError, ValueError, AttributeError):
    ours = False
  if not ours:
    raise FolderError(
      f"--out must be new, empty, or an earlier result of '{experiment}', got {place}, which holds "
      f"{found[0]} and was not written by this experiment; name another folder."
    )
  foreign = [name for name in found if entries is not None and name not in entries]
  if foreign:
    raise FolderError(
      f"--out holds {', '.join(foreign[:3])} beside an earlier result ({place}); a new result "
      "replaces the whole folder, so move that away first."
    )


def check_apart(place: pathlib.Path, data: pathlib.Path) -> None:
  """Checks that results and photographs do not lie in one another.

  Raises:
    FolderError: they do; results inside would be taken for photographs by the next run.
  """
  out, photos = place.resolve(), data.resolve()
  if out == photos or photos in out.parents or out in photos.parents:
    raise FolderError(f"--out and --data must lie apart, got {place} and {data}; change one.")


def make_temporary(place: pathlib.Path) -> pathlib.Path:
  """Makes an empty folder beside `place` and returns it."""
  temporary = place.with_name(f"{place.name}.partial-{secrets.token_hex(4)}")
  temporary.mkdir(parents=True)
  return temporary


def remove(folder: pathlib.Path) -> None:
  """Removes a folder that `make_temporary` made."""
  shutil.rmtree(folder)
