"""The private record of each photo at its own size, and what it says of a file that is there.

`photos/<digest of the result's name>.json` is written whole before the result takes its name: a
result without a record is not ours. A record names its photo by path and by content, so that a
folder of results serves many runs, and a photo may move; and it knows the size and the time of both
files, so that only what seems to have changed is read again.
"""

import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from rpfgsm_jax import atomic
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import Job
from rpfgsm_jax.photos.verdict import Status

FORMAT = 1
FOLDER = "photos"

_KEYS = {
  "photo", "output", "source_mark", "source_sha256", "output_mark", "output_sha256",
  "pixels_sha256", "settings", "verdict",
}  # fmt: skip

Facts = dict[str, Any]
"""A photo's record: JSON values."""


class OutputState(NamedTuple):
  """What is in a result's place; without facts and refusal the photo is to be done."""

  facts: Facts | None = None  # it is done, and this is its record
  refusal: str | None = None  # a sentence: why it must not be done


def path_of(out: pathlib.Path, output: str) -> pathlib.Path:
  """Returns where the record of a result lies, which is named by its path in `out`."""
  digest = hashlib.sha256(output.encode("utf-8", "surrogateescape")).hexdigest()
  return out / STATE / FOLDER / f"{digest[:32]}.json"


def write(out: pathlib.Path, facts: Facts) -> Facts:
  """Writes a photo's record in one step, and returns it as it will be read."""
  content = atomic.strict_json({"format": FORMAT, **facts})
  atomic.write_text(path_of(out, facts["output"]), f"{content}\n")
  return json.loads(content)


def read(path: pathlib.Path) -> Facts | None:
  """Reads a record; None where there is none that this version wrote."""
  try:
    facts = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return None
  ours = isinstance(facts, dict) and facts.get("format") == FORMAT and facts.keys() >= _KEYS
  return facts if ours else None


def read_all(out: pathlib.Path) -> Iterator[Facts]:
  """Yields every record of a folder of results, in no order."""
  for path in (out / STATE / FOLDER).glob("*.json"):
    facts = read(path)
    if facts is not None:
      yield facts


def status_of(facts: Facts) -> Status | None:
  """Returns a record's verdict in one word; None where nobody judged."""
  return facts["verdict"] and facts["verdict"]["status"]


def changes_pixels(facts: Facts) -> bool:
  """Says whether a result is another picture than its original."""
  return facts["verdict"] is None or facts["verdict"]["largest_change"] > 0


def mark(path: pathlib.Path) -> list[int] | None:
  """Returns what changes with a file's content and costs nothing to know: its size in bytes and
  the time of its last change in nanoseconds; None where there is no file.
  """
  try:
    status = path.stat()
  except OSError:
    return None
  return [status.st_size, status.st_mtime_ns]


def output_state(job: Job, task: Task) -> OutputState:
  """Says whether a photo is done, to be done, or to be left alone."""
  try:
    found = os.lstat(task.output)
  except (FileNotFoundError, NotADirectoryError):  # the latter is the whole job's failure
    return OutputState()
  except OSError as error:
    why = error.strerror or error
    return OutputState(refusal=f"{task.output} cannot be written: {why}; rename the photo.")
  if not stat.S_ISREG(found.st_mode):
    return OutputState(
      refusal=f"{task.output} must be new or a file, got a folder or a link; move it away."
    )
  facts = read(path_of(job.out, task.output.relative_to(job.out).as_posix()))
  why = _why_not(task, facts, job.settings)
  if why is None:
    return OutputState(facts=facts)
  return OutputState() if job.overwrite else OutputState(refusal=why)


def _why_not(task: Task, facts: Facts | None, settings: str) -> str | None:
  """Says why a file is not the photo's result; None: it is."""
  photo, output = task.path, task.output
  if facts is None:
    return f"{output} is there and not known as a result; move it away, or --overwrite replaces it."
  source, here = mark(photo), os.path.abspath(photo) == facts["photo"]
  if source is None:
    return f"{photo} must be a photo, but it cannot be read any more."
  same = here and source == facts["source_mark"]
  if not same and source[0] == facts["source_mark"][0]:
    same = _sha256(photo) == facts["source_sha256"]
  if not same and here:
    return f"{photo} has changed since it was protected; --overwrite does it again."
  if not same:
    return (
      f"{output} is that of another photo, {facts['photo']}; name another --out, or --overwrite "
      "replaces it."
    )
  if facts["settings"] != settings:
    return f"{photo} was protected with other settings; --overwrite does it again."
  if mark(output) != facts["output_mark"] and _sha256(output) != facts["output_sha256"]:
    return f"{output} has changed since it was judged; --overwrite does it again."
  return None


def _sha256(path: pathlib.Path) -> str | None:
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError:
    return None
