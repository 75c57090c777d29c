"""What both workers share: outcomes, threads, the devices' clock, words for a disk that refuses."""

import concurrent.futures
import errno
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from rpfgsm_jax.jobs.errors import JobError
from rpfgsm_jax.jobs.plan import Task

# What the next photo will meet too.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class Outcome(NamedTuple):
  """What became of one photo."""

  relative: str  # its name in the job
  failure: str | None  # None: its file is written, whole; else a sentence saying why not
  notes: tuple[str, ...] = ()  # what was lost when it was read; sentences naming the file
  facts: dict[str, Any] | None = None  # its record, see `photo_records.py`; JSON values


class DeviceClock:
  """How long the devices had nothing to do between the first start and the last result."""

  def __init__(self, devices: int = 1) -> None:
    """Starts with nothing.

    Args:
      devices: how many are counted one by one; devices that share each batch count as one.

    Returns:
      Nothing.
    """
    self.busy = 0.0  # seconds in which a device had at least one started batch that was not ready
    self._first: float | None = None
    self._until = [0.0] * devices
    self._lock = threading.Lock()

  def add(self, started: float, ready: float, device: int = 0) -> None:
    """Counts one batch; those of one device in the order in which they were started.

    Args:
      started: when it was given to the device, seconds.
      ready: when its result was there.
      device: which one, 0..devices - 1.
    """
    with self._lock:
      self._first = started if self._first is None else min(started, self._first)
      self.busy += max(ready - max(started, self._until[device]), 0.0)
      self._until[device] = max(ready, self._until[device])

  @property
  def idle_share(self) -> float | None:
    """The idle part of the time between, 0..1; None before the first result."""
    if self._first is None or max(self._until) == self._first:
      return None
    return 1.0 - self.busy / (len(self._until) * (max(self._until) - self._first))


def start_threads(count: int, name: str) -> concurrent.futures.ThreadPoolExecutor:
  """Starts all threads now: one that Ctrl-C meets while it starts is waited for by nobody.

  Args:
    count: how many.
    name: what their names begin with.

  Returns:
    The pool.
  """
  pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=name)
  all_there = threading.Barrier(count)
  for _ in range(count):
    pool.submit(all_there.wait)
  return pool


def failed_write(task: Task, error: OSError, notes: Sequence[str] = ()) -> Outcome:
  """Says what became of a photo whose file could not be written.

  Args:
    task: the photo.
    error: why.
    notes: what was lost when it was read.

  Returns:
    Its outcome.

  Raises:
    JobError: the next photo would fare no better.
  """
  why = f"{task.output} could not be written: {error.strerror or error}"
  if error.errno in _FATAL:
    raise JobError(
      f"{why}. Make room or name another disk; the same command then goes on."
    ) from error
  return Outcome(task.record.relative, f"{why}.", tuple(notes))
