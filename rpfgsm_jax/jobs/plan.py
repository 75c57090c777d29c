"""Which photo becomes which file, whose share it is, and what killed runs have left behind."""

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rpfgsm_jax.data.folders import RAW_SUFFIXES, ImageRecord
from rpfgsm_jax.jobs.errors import JobError, SettingsError

STATE = ".rpfgsm"
"""A job's private folder inside its folder of results; nothing that lists images looks there."""

_LEFTOVER = re.compile(r"\..{0,64}\.[0-9a-f]{16}\.partial\.(png|webp|jpg|json)", re.DOTALL)
_FORGOTTEN = 3600.0  # seconds after which a temporary file is nobody's; writing one takes less


@dataclasses.dataclass(frozen=True)
class Task:
  """One photo of a job."""

  record: ImageRecord  # where it is, its stable id
  output: pathlib.Path  # the file it becomes


class Shard(NamedTuple):
  """One share of a job: the photos whose id leaves the rest `index` when divided by `count`."""

  index: int  # 0..count - 1
  count: int  # at least 1

  @classmethod
  def parse(cls, text: str) -> "Shard":
    """Reads `I/N`.

    Args:
      text: what a user wrote.

    Returns:
      The share.

    Raises:
      SettingsError: it is something else, or I is not in 0..N-1.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or int(match[1]) >= int(match[2]):
      raise SettingsError(
        f"--shard must be I/N with 0 <= I < N, got {text!r}; three machines take 0/3, 1/3 and 2/3."
      )
    return cls(int(match[1]), int(match[2]))

  def __str__(self) -> str:
    return f"{self.index}/{self.count}"

  def holds(self, image_id: int) -> bool:
    """Says whether a photo belongs to this share; files added to a folder move no other photo.

    Args:
      image_id: the photo's stable id.

    Returns:
      Whether it does.
    """
    return image_id % self.count == self.index


def _key(name: str) -> str:
  # Names that some file systems take for one: equal but for case or the composition of accents.
  return unicodedata.normalize("NFC", name).casefold()


def output_names(relatives: Sequence[str], suffix: str = ".png") -> list[str]:
  """Names the result of each photo: its own name with another suffix.

  Where two photos would get one name (also: equal but for case), or a photo that of a folder, each
  of them keeps its whole name and the suffix is added: `a.jpg` and `a.png` become `a.jpg.png` and
  `a.png.png`.

  A raw photo, of which there will be no result, takes no name from its finished picture.

  Args:
    relatives: names of photos, forward slashes, all different.
    suffix: of the results, with its dot.

  Returns:
    Relative paths in the same order, all different.
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


def plan(records: Sequence[ImageRecord], out: pathlib.Path, suffix: str = ".png") -> list[Task]:
  """Makes the tasks of a whole job; a share is chosen afterwards, so that names are the same.

  Args:
    records: all its photos.
    out: the folder of results.
    suffix: of the results, with its dot.

  Returns:
    One task a photo, in the same order.
  """
  names = output_names([record.relative for record in records], suffix)
  return [Task(record, out / name) for record, name in zip(records, names, strict=True)]


def check_names_differ(tasks: Iterable[Task], *, ignores_case: bool) -> None:
  """Refuses photos whose results a file system would take for one.

  Args:
    tasks: of the whole job.
    ignores_case: whether the results' file system takes `A.png` and `a.png` for one.

  Raises:
    SettingsError: two names are one there.
  """
  seen: dict[str, Task] = {}
  for task in tasks if ignores_case else ():
    other = seen.setdefault(_key(str(task.output)), task)
    if other is not task:
      raise SettingsError(
        f"--out must keep apart what differs by case, got a file system that does not, and "
        f"{other.record.relative} and {task.record.relative}; rename one or use another disk."
      )


def check_originals(tasks: Sequence[Task]) -> None:
  """Refuses results that links would lead to where the originals are.

  Args:
    tasks: of the whole job.

  Raises:
    SettingsError: a result would lie beside an original, where it could take the place of one.
  """
  holding = {os.path.dirname(os.path.realpath(task.record.path)) for task in tasks}
  for folder in {task.output.parent for task in tasks}:
    real = os.path.realpath(folder)
    if real in holding:
      raise SettingsError(
        f"SOURCE and --out must lie apart, got {folder} for results, which leads to {real}, where "
        "originals are; change one of them."
      )


def check_writable(tasks: Iterable[Task]) -> None:
  """Refuses a job whose results have nowhere to go, before any work is done for them.

  Args:
    tasks: what is to be written.

  Raises:
    JobError: a folder cannot be made or written to.
  """
  for folder in sorted({task.output.parent for task in tasks}):
    existing = folder
    while not os.path.lexists(existing):
      existing = existing.parent
    if not existing.is_dir():
      raise JobError(f"{existing} is in the way: {folder} must be a folder; move the file away.")
    if not os.access(existing, os.W_OK | os.X_OK):
      raise JobError(
        f"{existing} cannot be written to; change its permissions or name another --out."
      )


def remove_leftovers(folders: Iterable[pathlib.Path], *, alone: bool, now: float) -> int:
  """Removes the temporary files of runs that were killed; no others.

  Args:
    folders: where results are written; need not exist.
    alone: no other process works on this job: every temporary file is a leftover. Else only those
      that nobody has touched for an hour.
    now: the time on the file system's own clock, seconds.

  Returns:
    How many there were.
  """
  count = 0
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
          count += 1
      except FileNotFoundError:
        continue  # another share was faster
  return count
