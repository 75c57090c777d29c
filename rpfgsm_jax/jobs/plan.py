"""Which photos are meant, each under its own name, and which file each becomes.

No photo is opened here. A folder that cannot be read costs its own photos only.
"""

import collections
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rpfgsm_jax import result_folder
from rpfgsm_jax.data.folders import PHOTO_SUFFIXES, unique_image_ids, walk
from rpfgsm_jax.data.result_names import disk_key, output_names
from rpfgsm_jax.data.system_folders import holds_copies
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, Shard


class Task(NamedTuple):
  """One photo of a job."""

  path: pathlib.Path
  relative: str  # its name in the job, with forward slashes
  image_id: int  # from that name alone
  output: pathlib.Path  # the file it becomes


class Plan(NamedTuple):
  """What a job amounts to, before anything is made."""

  tasks: list[Task]  # of the whole job, sorted by name; no file twice, no name twice
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


def make_plan(job: Job) -> Plan:
  """Lists the photos of folders (recursively), files and patterns, and names their results.

  A photo's name is its path below its folder; with several folders, the folder's name stands before
  it; a single file's is its own. Where two would get one name, names of folders above are added
  until they differ. A file that is named itself is taken whatever its suffix; hidden ones in a
  folder are not, nor those in folders of thumbnails, nor is a file that an earlier source holds. A
  share is chosen afterwards, so that names are the same in all of them.
  """
  paths = [path for source in job.sources for path in _expand(os.fspath(source))]
  _check_sources(paths, job.out)
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
  left_out = ", ".join(f"{count} {kind}" for kind, count in others.most_common(5))
  tasks = _tasks_of(groups, job)
  if not tasks and not failures:
    raise SettingsError(
      f"SOURCE must hold photos ({', '.join(PHOTO_SUFFIXES)}), got {left_out or 'nothing'} in "
      f"{', '.join(map(str, paths))}; name another folder or convert the files."
    )
  notes = [f"files that are no photos were left out: {left_out}"] if others else []
  if copies:
    found = ", ".join(f"{count} {name}" for name, count in copies.most_common(5))
    notes.append(f"folders of thumbnails, deleted files or the like were left out: {found}")
  return Plan(tasks, failures, notes)


def _tasks_of(groups: Sequence[_Group], job: Job) -> list[Task]:
  """Sorts the photos, and refuses results that links would lead to where originals are."""
  named = sorted(pair for group in groups for pair in group.named())
  relatives, out = [name for name, _ in named], pathlib.Path(os.path.abspath(job.out))
  ids, results = unique_image_ids(relatives), output_names(relatives, job.photos.encoding.suffix)
  tasks = [
    Task(path, relative, image_id, out / result)
    for (relative, path), image_id, result in zip(named, ids, results, strict=True)
  ]
  holding = {os.path.dirname(os.path.realpath(task.path)) for task in tasks}
  for folder in {task.output.parent for task in tasks}:
    real = os.path.realpath(folder)
    if real in holding:
      raise SettingsError(
        f"SOURCE and --out must lie apart, got {folder} for results, which leads to {real}, where "
        "originals are; change one of them."
      )
  return tasks


def share(
  tasks: Sequence[Task], shard: Shard | None, only: frozenset[str] | None = None
) -> list[Task]:
  """Returns the tasks of one share and of these names; None: all."""
  return [
    task
    for task in tasks
    if (shard is None or shard.holds(task.image_id)) and (only is None or task.relative in only)
  ]


def check_names_differ(tasks: Iterable[Task]) -> None:
  """Refuses photos whose results a file system would take for one that ignores case."""
  seen: dict[str, Task] = {}
  for task in tasks:
    other = seen.setdefault(disk_key(str(task.output)), task)
    if other is not task:
      raise SettingsError(
        f"--out must keep apart what differs by case, got a file system that does not, and "
        f"{other.relative} and {task.relative}; rename one or use another disk."
      )


def check_outputs_writable(tasks: Iterable[Task]) -> None:
  """Refuses a job whose results have nowhere to go, before any work is done for them."""
  for folder in sorted({task.output.parent for task in tasks}):
    try:
      result_folder.check_writable(folder)
    except result_folder.FolderError as error:
      raise JobError(str(error)) from error


def _check_sources(sources: Sequence[pathlib.Path], out: pathlib.Path) -> None:
  """Refuses results that the next run would take for photos, and photos that are results."""
  for source in sources:
    result_folder.check_apart(source, out, "SOURCE and --out")
    real = pathlib.Path(os.path.realpath(source))
    for folder in (real, *real.parents):
      if os.path.isdir(folder / STATE):
        raise SettingsError(
          f"SOURCE must hold photos that are not protected yet, got {source} in {folder}, a folder "
          "of results; name the originals."
        )


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
    found = os.path.isdir(inner / STATE)
    if found:
      why = f"{inner} is a folder of results: what it holds is protected already."
      failures.append((str(inner), why))
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
