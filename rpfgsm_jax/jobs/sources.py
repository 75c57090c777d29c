"""Which photos are meant: folders, files and patterns become one list, each with its own name.

Nothing is opened here. A folder that cannot be read costs its own photos only.
"""

import collections
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rpfgsm_jax import result_folder
from rpfgsm_jax.data.folders import PHOTO_SUFFIXES, ImageRecord, unique_image_ids, walk
from rpfgsm_jax.data.system_folders import holds_copies
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import SettingsError

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
  """Lists the photos of folders (recursively), files and patterns (`*`, `?`, `[...]`, `**`).

  A photo's name is its path below its folder; with several folders, the folder's name stands before
  it; a single file's is its own. Where two would get one name, names of folders above are added
  until they differ. A file that is named itself is taken whatever its suffix; hidden ones in a
  folder are not, nor those in folders of thumbnails, nor is a file that an earlier source holds.
  """
  paths = [path for source in sources for path in _expand(os.fspath(source))]
  check_sources(paths, out)
  several = sum(map(os.path.isdir, paths)) > 1
  groups, seen, failures, others = [], set(), [], collections.Counter()
  copies: collections.Counter[str] = collections.Counter()
  for path in paths:
    where = pathlib.Path(os.path.abspath(path))
    if os.path.isdir(path):
      group = _Group(where.parts[1:], [], depth=int(several))
      files = [(each, each.relative_to(path).as_posix()) for each in _files(path, failures, copies)]
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
  if copies:
    found = ", ".join(f"{count} {name}" for name, count in copies.most_common(5))
    notes.append(f"folders of thumbnails, deleted files or the like were left out: {found}")
  ids = unique_image_ids([name for name, _ in named])
  records = [ImageRecord(path, name, each) for (name, path), each in zip(named, ids, strict=True)]
  return Found(records, failures, notes)


def check_sources(sources: Sequence[PathLike], out: PathLike) -> None:
  """Refuses results that the next run would take for photos, and photos that are results."""
  for source in sources:
    result_folder.check_apart(source, out, "SOURCE and --out")
    real = pathlib.Path(os.path.realpath(source))
    for folder in (real, *real.parents):
      if is_results(folder):
        raise SettingsError(
          f"SOURCE must hold photos that are not protected yet, got {source} in {folder}, a folder "
          "of results; name the originals."
        )


def is_results(folder: pathlib.Path) -> bool:
  """Says whether a job has written to a folder; it need not exist."""
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
  named = pathlib.Path(source).parts
  found = [
    pathlib.Path(hit)
    for hit in hits
    if not any(map(holds_copies, set(pathlib.Path(hit).parts) - set(named)))
    if (os.path.isdir(hit) and "**" not in source)
    or (not os.path.isdir(hit) and pathlib.Path(hit).suffix.lower() in PHOTO_SUFFIXES)
  ]
  if not found:
    raise SettingsError(
      f"SOURCE must match photos, got the pattern {source!r}, which matches "
      f"{len(hits) or 'no'} files and none with a photo's suffix; check it."
    )
  yield from found


def _files(
  folder: pathlib.Path, failures: list[tuple[str, str]], copies: collections.Counter[str]
) -> Iterator[pathlib.Path]:
  """All files below a folder that are not hidden; folders that are left out are told or counted."""

  def left_out(inner: pathlib.Path) -> bool:
    if holds_copies(inner.name):
      copies[inner.name] += 1
      return True
    found = is_results(inner)
    if found:
      failures.append(
        (str(inner), f"{inner} is a folder of results: what it holds is protected already.")
      )
    return found

  def unreadable(inner: pathlib.Path, error: OSError) -> None:
    why = (
      f"{inner} must be a readable folder, got {error.strerror or error}; change its permissions."
    )
    failures.append((str(inner), why))

  return walk(folder, skip=left_out, on_error=unreadable)


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
