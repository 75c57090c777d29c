"""Which photo becomes which file, whose share it is, and whether that file has a place."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence

from rpfgsm_jax import result_folder
from rpfgsm_jax.data.folders import ImageRecord
from rpfgsm_jax.data.result_names import disk_key, output_names
from rpfgsm_jax.jobs import sources
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError, Shard


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


def check_names_differ(tasks: Iterable[Task]) -> None:
  """Refuses photos whose results a file system would take for one that ignores case."""
  seen: dict[str, Task] = {}
  for task in tasks:
    other = seen.setdefault(disk_key(str(task.output)), task)
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
