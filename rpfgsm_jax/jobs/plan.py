"""Which photo becomes which file, whose share it is, and what killed runs have left behind."""

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from rpfgsm_jax import result_folder
from rpfgsm_jax.data.folders import RAW_SUFFIXES, ImageRecord
from rpfgsm_jax.jobs import sources
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, Shard

_LEFTOVER = re.compile(r"\..{0,64}\.[0-9a-f]{16}\.partial\.(png|webp|jpg|json)", re.DOTALL)
_FORGOTTEN = 3600.0  # seconds after which a temporary file is nobody's; writing one takes less


@dataclasses.dataclass(frozen=True)
class Task:
  """One photo of a job."""

  record: ImageRecord  # where it is, its stable id
  output: pathlib.Path  # the file it becomes


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a job amounts to, before anything is made."""

  tasks: list[Task]  # of the whole job
  failures: list[tuple[str, str]]  # folders that must be left out, and why
  notes: list[str]


def share(tasks: Sequence[Task], shard: Shard | None) -> list[Task]:
  """Returns the tasks of one share; None: all."""
  return [task for task in tasks if shard is None or shard.holds(task.record.image_id)]


def make_plan(job: Job) -> Plan:
  """Lists a job's photos and names their results; a share is chosen afterwards, so that names are
  the same in all of them.
  """
  found = sources.find(job.sources, job.out)
  out, suffix = pathlib.Path(os.path.abspath(job.out)), job.photos.encoding.suffix
  names = output_names([record.relative for record in found.records], suffix)
  tasks = [Task(record, out / name) for record, name in zip(found.records, names, strict=True)]
  check_originals(tasks)
  return Plan(tasks, found.failures, found.notes)


def _key(name: str) -> str:
  # Names that some file systems take for one: equal but for case or the composition of accents.
  return unicodedata.normalize("NFC", name).casefold()


def output_names(relatives: Sequence[str], suffix: str = ".png") -> list[str]:
  """Names the result of each photo: its own name with another suffix.

  Where two photos would get one name (also: equal but for case), or a photo that of a folder, each
  of them keeps its whole name and the suffix is added: `a.jpg` and `a.png` become `a.jpg.png` and
  `a.png.png`. A raw photo, of which there will be no result, takes no name from its finished
  picture.
  """
  names = [_short_name(relative, suffix) for relative in relatives]
  folders = {
    _key(str(parent))
    for relative in relatives
    for parent in pathlib.PurePosixPath(relative).parents
  }
  changed = True
  while changed:  # a whole name may be the short name of another photo
    counts = collections.Counter(map(_key, names))
    changed = False
    for place, relative in enumerate(relatives):
      key, whole = _key(names[place]), relative + suffix
      if names[place] != whole and (counts[key] > 1 or key in folders):
        names[place], changed = whole, True
  return names


def _short_name(relative: str, suffix: str) -> str:
  path = pathlib.PurePosixPath(relative)
  return relative + suffix if path.suffix.lower() in RAW_SUFFIXES else str(path.with_suffix(suffix))


def check_names_differ(tasks: Iterable[Task]) -> None:
  """Refuses photos whose results a file system would take for one that ignores case."""
  seen: dict[str, Task] = {}
  for task in tasks:
    other = seen.setdefault(_key(str(task.output)), task)
    if other is not task:
      raise SettingsError(
        f"--out must keep apart what differs by case, got a file system that does not, and "
        f"{other.record.relative} and {task.record.relative}; rename one or use another disk."
      )


def check_originals(tasks: Sequence[Task]) -> None:
  """Refuses results that links would lead to where originals are: they could take their place."""
  holding = {os.path.dirname(os.path.realpath(task.record.path)) for task in tasks}
  for folder in {task.output.parent for task in tasks}:
    real = os.path.realpath(folder)
    if real in holding:
      raise SettingsError(
        f"SOURCE and --out must lie apart, got {folder} for results, which leads to {real}, where "
        "originals are; change one of them."
      )


def check_outputs_writable(tasks: Iterable[Task]) -> None:
  """Refuses a job whose results have nowhere to go, before any work is done for them."""
  for folder in sorted({task.output.parent for task in tasks}):
    try:
      result_folder.check_writable(folder)
    except result_folder.FolderError as error:
      raise JobError(str(error)) from error


def remove_leftovers(folders: Iterable[pathlib.Path], *, alone: bool, now: float) -> None:
  """Removes the temporary files of runs that were killed; no others.

  Where no other process works on this job (`alone`), every temporary file is a leftover; else only
  those that nobody has touched for an hour of the file system's own clock, which says `now`.
  """
  for folder in folders:
    try:
      names = [name for name in os.listdir(folder) if _LEFTOVER.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
      continue
    for name in names:
      path = folder / name
      try:
        if alone or now - path.lstat().st_mtime > _FORGOTTEN:
          path.unlink()
      except FileNotFoundError:
        continue  # another share was faster
