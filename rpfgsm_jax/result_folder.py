"""Rules for the folders that results are written to, the same for every command.

Photos and results lie apart. What is already in a folder is ours or is left alone. Results that
were begun with other settings are not gone on with; another environment is worth a note.
"""

import itertools
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

PathLike = str | os.PathLike[str]
_ABSENT = "nothing"
_SHOWN = 3  # names in a message


class FolderError(ValueError):
  """A folder that results must not be written to; the message says why and what to do."""


class Record(NamedTuple):
  """What results were made with; JSON values, mappings may be nested."""

  settings: Mapping[str, Any]  # decide the results
  environment: Mapping[str, Any]  # may decide last bits: versions, the kind of device


def check_words(words: Sequence[str]) -> None:
  """Refuses a command line with an empty word, which as a path would be the current folder."""
  for before, word in itertools.pairwise(["", *words]):
    if word.startswith("--") and word.endswith("="):
      before, word = word.removesuffix("="), ""
    if not word:
      what = before if before.startswith("-") else f"the word after {before or 'the command'}"
      raise FolderError(
        f"{what} must not be empty; is a variable not set? The current folder is written as a dot."
      )


def check_apart(
  first: PathLike, second: PathLike, names: str, remedy: str = "change one of them"
) -> None:
  """Refuses places that are one or lie in one another, links followed; they need not exist.

  Results inside a folder of photos would be taken for photos by the next run. `names` says which
  two options gave the places, as in "SOURCE and --out".
  """
  # os.path.realpath takes loops of links, which Path.resolve refuses.
  one, other = (pathlib.Path(os.path.realpath(place)) for place in (first, second))
  if one.is_relative_to(other) or other.is_relative_to(one):
    raise FolderError(f"{names} must lie apart, got {first} and {second}; {remedy}.")


def check_place(
  place: PathLike,
  maker: str,
  is_ours: Callable[[pathlib.Path], bool],
  *,
  entries: Collection[str] | None = None,
  option: str = "--out",
) -> None:
  """Refuses a place for the results of `maker` that is not new, empty or an earlier result of it.

  `is_ours` recognizes an earlier result; `entries` are all names that such a result may hold, where
  a new one replaces the whole folder, and None where it is added to.
  """
  folder = pathlib.Path(os.path.realpath(place))
  if os.path.lexists(folder) and not folder.is_dir():
    raise FolderError(f"{option} must name a folder, got the file {place}; name another place.")
  found = sorted(os.listdir(folder)) if folder.is_dir() else []
  if found and not is_ours(folder):
    raise FolderError(
      f"{option} must be new, empty, or an earlier result of {maker}, got {place}, which holds "
      f"{', '.join(found[:_SHOWN])} and was not written by it; name another folder."
    )
  foreign = [] if entries is None else [name for name in found if name not in entries]
  if foreign:
    raise FolderError(
      f"{option} holds {', '.join(foreign[:_SHOWN])} beside an earlier result ({place}); a new "
      "result replaces the whole folder, so move that away first."
    )
  check_writable(folder.parent if entries is not None else folder, option)


def check_writable(folder: pathlib.Path, option: str = "--out") -> None:
  """Refuses a folder that cannot be made or written to."""
  existing = folder
  while not os.path.lexists(existing):
    existing = existing.parent
  if not existing.is_dir():
    raise FolderError(f"{existing} is in the way: {folder} must be a folder; move the file away.")
  if not os.access(existing, os.W_OK | os.X_OK):
    raise FolderError(
      f"{existing} cannot be written to; change its permissions or name another {option}."
    )


def compare_records(
  what: object,
  recorded: Record,
  current: Record,
  *,
  remedy: str = "give the options of the first run, or another --out",
) -> list[str]:
  """Refuses to go on with `what` under other settings; returns notes about another environment."""
  for field, there, here in _differences(recorded.settings, current.settings):
    raise FolderError(f"{what} was begun with {field} = {there}, got {here}; {remedy}.")
  changed = [
    f"{field} {there} -> {here}"
    for field, there, here in _differences(recorded.environment, current.environment)
  ]
  if not changed:
    return []
  return [f"{what} was begun elsewhere ({'; '.join(changed)}): last bits of results may differ."]


def _differences(
  recorded: Mapping[str, Any], current: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
  """Yields the leaves that differ: dotted name, recorded value, current value."""
  as_read = json.loads(json.dumps([recorded, current]))  # tuples are lists in a file
  there, here = (dict(_leaves(each)) for each in as_read)
  for field in there | here:
    values = there.get(field, _ABSENT), here.get(field, _ABSENT)
    if values[0] != values[1]:
      yield field, *values


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
  """Yields the leaves of nested mappings and lists with their dotted names."""
  if isinstance(value, dict | list):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
      yield from _leaves(inner, f"{name}.{key}" if name else str(key))
  else:
    yield name, value
