"""Which file of one folder is which file of another: as `rpfgsm protect` names results, else by
relative path, suffix aside.
"""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Sequence

from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.data import ImageRecord, list_images
from rpfgsm_jax.data.folders import IMAGE_SUFFIXES, PHOTO_SUFFIXES
from rpfgsm_jax.data.result_names import disk_key, output_names

_SHOWN = 3  # names of each side in a message


class ComparisonError(ValueError):
  """Folders, or options, that cannot be compared; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Pair:
  """A photograph and what was made of it."""

  name: str  # relative path of the result without suffix, forward slashes
  original: ImageRecord
  protected: ImageRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderPairs:
  """What two folders have in common."""

  pairs: tuple[Pair, ...]  # at least one, sorted by name
  only_original: tuple[str, ...]  # relative paths without a partner
  only_protected: tuple[str, ...]  # likewise
  ambiguous: tuple[str, ...]  # "FOLDER: RELATIVE" of files with several possible partners


def pair_folders(original: PathLike, protected: PathLike) -> FolderPairs:
  """Finds the photographs that two folders share; opens none of them.

  A pair has one relative path but for the suffix: `lake/a.jpg` and `lake/a.png`. Where a folder has
  several files of one name (`a.jpg`, `a.png`), they are paired with what `rpfgsm protect` calls
  their results (`a.jpg.png`, `a.png.png`), else only those of the same suffix are. One folder may
  lie in the other; its files then do not count as the outer one's.

  Args:
    original: the folder of photographs as they were.
    protected: the folder of what was made of them.

  Returns:
    The pairs and what has no partner.

  Raises:
    ComparisonError: a folder is missing or has no image, both are the same, or they share no name.
  """
  folders = {"original": pathlib.Path(original), "protected": pathlib.Path(protected)}
  suffixes = (PHOTO_SUFFIXES, IMAGE_SUFFIXES)  # also photos that cannot be read share in the names
  listed = [
    list_folder(name, folder, kinds)
    for (name, folder), kinds in zip(folders.items(), suffixes, strict=True)
  ]
  if os.path.samefile(original, protected):
    raise ComparisonError(
      f"original and protected must be two folders, got {original} twice; name the folder of the "
      "changed photos second."
    )
  listed = [
    _outside(name, folder, records, other)
    for (name, folder), records, other in zip(
      folders.items(), listed, reversed(folders.values()), strict=True
    )
  ]
  pairs, ambiguous = _results(*listed), []
  paired = {record.path for pair in pairs for record in (pair.original, pair.protected)}
  sides = [_by_name([each for each in some if each.path not in paired]) for some in listed]
  alone: tuple[list[str], list[str]] = ([], [])
  for name in sorted({*sides[0], *sides[1]}):
    candidates = [side.get(name, []) for side in sides]
    found, left = _match(name, *candidates)
    pairs += found
    for side, records in enumerate(left):
      if all(candidates):
        ambiguous += [f"{list(folders)[side]}: {each.relative}" for each in records]
      else:
        alone[side].extend(each.relative for each in records)
  if not pairs:
    raise ComparisonError(_nothing_shared(folders, listed))
  return FolderPairs(
    pairs=tuple(sorted(pairs, key=lambda pair: pair.name)),
    only_original=tuple(alone[0]),
    only_protected=tuple(alone[1]),
    ambiguous=tuple(ambiguous),
  )


def list_folder(
  name: str, folder: PathLike, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[ImageRecord]:
  """Returns the image files of a folder, at least one; `name` is what a message calls it."""
  try:
    return list_images(folder, suffixes=suffixes)
  except ValueError as error:
    raise ComparisonError(f"{name}{str(error).removeprefix('folder')}") from error


def _outside(
  name: str, folder: pathlib.Path, records: list[ImageRecord], other: pathlib.Path
) -> list[ImageRecord]:
  """Returns a folder's images outside `other`, at least one."""
  if other.resolve().is_relative_to(folder.resolve()):
    inner = f"{other.resolve().relative_to(folder.resolve()).as_posix()}/"
    records = [record for record in records if not record.relative.startswith(inner)]
    if not records:
      raise ComparisonError(
        f"{name} must have images of its own, got {folder}, which has none outside {other}; name "
        "the folder that holds them."
      )
  return records


def _results(originals: Sequence[ImageRecord], protecteds: Sequence[ImageRecord]) -> list[Pair]:
  """Returns the pairs of an original and the one file that has a name of its results."""
  relatives = [record.relative for record in originals]
  expected = {}
  for suffix in {pathlib.PurePosixPath(record.relative).suffix for record in protecteds}:
    for original, name in zip(originals, output_names(relatives, suffix), strict=True):
      expected[name] = original, name.removesuffix(suffix)
  # A disk or an archive may have changed case or the form of accents on the way.
  expected = {disk_key(name): what for name, what in expected.items()} | expected
  found = collections.defaultdict(list)
  for protected in protecteds:
    names = (protected.relative, disk_key(protected.relative))
    original, name = next((expected[each] for each in names if each in expected), (None, ""))
    if original is not None:
      found[original.relative].append(Pair(name, original, protected))
  return [pairs[0] for pairs in found.values() if len(pairs) == 1]


def _by_name(records: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
  """Returns images by relative path without suffix."""
  found = collections.defaultdict(list)
  for record in records:
    found[pathlib.PurePosixPath(record.relative).with_suffix("").as_posix()].append(record)
  return found


def _match(
  name: str, originals: Sequence[ImageRecord], protecteds: Sequence[ImageRecord]
) -> tuple[list[Pair], tuple[list[ImageRecord], list[ImageRecord]]]:
  """Returns the pairs among the files of one name, and the files of each side that are left."""
  if len(originals) == len(protecteds) == 1:
    return [Pair(name, originals[0], protecteds[0])], ([], [])
  exact = {record.relative: record for record in protecteds}
  # Several photos of one name: the suffix tells them apart, also in the report.
  pairs = [
    Pair(record.relative, record, exact[record.relative])
    for record in originals
    if record.relative in exact
  ]
  taken = {pair.name for pair in pairs}
  left = tuple(
    [record for record in side if record.relative not in taken] for side in (originals, protecteds)
  )
  return pairs, left


def _nothing_shared(
  folders: dict[str, pathlib.Path], listed: Sequence[Sequence[ImageRecord]]
) -> str:
  parts = []
  for folder, records in zip(folders.values(), listed, strict=True):
    names = [record.relative for record in records]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    parts.append(f"{folder} has {', '.join(names[:_SHOWN])}{more}")
  return (
    "original and protected must share relative paths, suffixes aside, got none in common: "
    f"{'; '.join(parts)}; rename the files, or name the folders at the same depth."
  )
