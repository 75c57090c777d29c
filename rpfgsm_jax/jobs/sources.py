"""Which photos are meant: folders, files and patterns become one list, each with its own name.

Nothing is opened here. Folders are walked as `rpfgsm_jax.data.list_images` walks them, but one that
cannot be read costs its own photos only.
"""

import collections
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rpfgsm_jax.data.folders import PHOTO_SUFFIXES, ImageRecord, image_id
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.jobs.plan import STATE

PathLike = str | os.PathLike[str]


class Found(NamedTuple):
  """What sources hold."""

  records: list[ImageRecord]  # sorted by name; no file twice, no name twice
  failures: list[tuple[str, str]]  # folders that must be left out: path, and a sentence saying why
  notes: list[str]


@dataclasses.dataclass
class _Group:
  """The photos of one source."""

  above: tuple[str, ...]  # the names of the folders that lead to it, the uppermost first
  photos: list[tuple[pathlib.Path, str]]  # and their names below it
  depth: int  # how many of `above`, from its end, are part of the photos' names

  def named(self) -> list[tuple[str, pathlib.Path]]:
    prefix = self.above[len(self.above) - self.depth :]
    return [("/".join((*prefix, below)), path) for path, below in self.photos]


def find(sources: Sequence[PathLike], out: PathLike) -> Found:
  """Lists the photos of folders (recursively), files and patterns.

  A photo's name is its path below its folder; with several folders, the folder's name stands before
  it; a single file's is its own. Where two would get one name, names of folders above are added
  until they differ. A file that is named itself is taken whatever its suffix; hidden ones in a
  folder are not, nor is a file that an earlier source holds already.

  Args:
    sources: folders, files, and patterns with `*`, `?`, `[...]` and, for all folders below, `**`.
    out: the folder of results.

  Returns:
    At least one photo or one failure.

  Raises:
    SettingsError: a source is missing, holds no photo, or does not lie apart from results.
  """
  paths = [path for source in sources for path in _expand(os.fspath(source))]
  check_apart(paths, out)
  several = sum(map(os.path.isdir, paths)) > 1
  groups, seen, failures, others = [], set(), [], collections.Counter()
  for path in paths:
    where = pathlib.Path(os.path.abspath(path))
    if os.path.isdir(path):
      group = _Group(where.parts[1:], [], depth=int(several))
      files = [(each, each.relative_to(path).as_posix()) for each in _walk(path, (), failures)]
    else:
      group, files = _Group(where.parts[1:-1], [], depth=0), [(path, path.name)]
    for photo, below in files:
      if photo != path and photo.suffix.lower() not in PHOTO_SUFFIXES:
        others[photo.suffix.lower() or "without a suffix"] += 1
      elif (identity := os.path.abspath(photo)) not in seen:
        seen.add(identity)
        group.photos.append((photo, below))
    groups.append(group)
  _tell_apart(groups)
  named = sorted(pair for group in groups for pair in group.named())
  left_out = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
  if not named and not failures:
    raise SettingsError(
      f"SOURCE must hold photos ({', '.join(PHOTO_SUFFIXES)}), got {left_out or 'nothing'} in "
      f"{', '.join(map(str, paths))}; name another folder or convert the files."
    )
  notes = [f"files that are no photos were left out: {left_out}"] if others else []
  return Found([ImageRecord(path, name, image_id(name)) for name, path in named], failures, notes)


def check_apart(sources: Sequence[PathLike], out: PathLike) -> None:
  """Checks that photos and results do not lie in one another.

  Args:
    sources: folders and files.
    out: the folder of results.

  Raises:
    SettingsError: results would be taken for photos by the next run, or are so by this one.
  """
  results = pathlib.Path(os.path.realpath(out))  # where `resolve` refuses loops of links
  for source in sources:
    photos = pathlib.Path(os.path.realpath(source))
    if photos == results or results in photos.parents or photos in results.parents:
      raise SettingsError(
        f"SOURCE and --out must lie apart, got {source} and {out}; change one of them."
      )
    for folder in (photos, *photos.parents):
      if is_results(folder):
        raise SettingsError(
          f"SOURCE must hold photos that are not protected yet, got {source} in {folder}, a folder "
          "of results; name the originals."
        )


def is_results(folder: pathlib.Path) -> bool:
  """Says whether a folder is one of results.

  Args:
    folder: the folder; need not exist.

  Returns:
    Whether a job has written there.
  """
  return os.path.isdir(folder / STATE)


def _expand(source: str) -> Iterator[pathlib.Path]:
  """Yields the folders and files that one source means."""
  if os.path.lexists(source):
    yield pathlib.Path(source)
    return
  if not glob.has_magic(source):
    raise SettingsError(
      f"SOURCE must be a folder of images, an image or a pattern, got nothing of that name: "
      f"{source}; check the path."
    )
  hits = sorted(glob.glob(os.path.expanduser(source), recursive=True))
  # `**` has been to every folder already; otherwise a folder is a source, as the shell would do it.
  found = [
    pathlib.Path(hit)
    for hit in hits
    if (os.path.isdir(hit) and "**" not in source)
    or (not os.path.isdir(hit) and pathlib.Path(hit).suffix.lower() in PHOTO_SUFFIXES)
  ]
  if not found:
    raise SettingsError(
      f"SOURCE must match photos, got the pattern {source!r}, which matches "
      f"{len(hits) or 'no'} files and none with a photo's suffix; check it."
    )
  yield from found


def _walk(
  folder: pathlib.Path, above: tuple[tuple[int, int], ...], failures: list[tuple[str, str]]
) -> Iterator[pathlib.Path]:
  """All files below a folder that are not hidden; a link back to a folder above is not followed."""
  if above and is_results(folder):
    failures.append(
      (str(folder), f"{folder} is a folder of results: what it holds is protected already.")
    )
    return
  try:
    status = folder.stat()
    entries = sorted(folder.iterdir())
  except OSError as error:
    failures.append(
      (
        str(folder),
        f"{folder} must be a readable folder, got {error.strerror or error}; change its "
        "permissions.",
      )
    )
    return
  identity = (status.st_dev, status.st_ino)
  if identity in above:
    return
  for entry in entries:
    if entry.name.startswith("."):
      continue
    if os.path.isdir(entry):
      yield from _walk(entry, (*above, identity), failures)
    else:
      yield entry


def _tell_apart(groups: Sequence[_Group]) -> None:
  """Puts more folder names before the photos of groups that share a name, until none do."""
  while True:
    holders = collections.defaultdict(list)
    for group in groups:
      for name, _ in group.named():
        holders[name].append(group)
    shared = [group for found in holders.values() if len(found) > 1 for group in found]
    deeper = {id(group): group for group in shared if group.depth < len(group.above)}
    if not deeper:
      return
    for group in deeper.values():
      group.depth += 1
