"""The jobs that the page asks for, one after the other, in a thread of their own."""

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rpfgsm_jax.app.session import Session
from rpfgsm_jax.jobs.messages import Outcome, one_line
from rpfgsm_jax.jobs.run import open_job
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError
from rpfgsm_jax.models.weights import WeightsError
from rpfgsm_jax.result_folder import FolderError

JobFor = Callable[[str, Sequence[str]], Job]
"""Returns the job of a strength and of the photos of these names."""


class BusyError(RuntimeError):
  """Something is being done already."""


class Work:
  """At most one run at a time; `describe` says how far it is.

  Attributes:
    job_for: makes the jobs.
  """

  def __init__(self, session: Session, job_for: JobFor):
    self._session, self.job_for = session, job_for
    self._thread: threading.Thread | None = None
    self._starting, self._stopping = threading.Lock(), threading.Event()
    self._strength, self._message = "", ""
    self._done = self._total = 0

  @property
  def running(self) -> bool:
    """Whether photos are being protected."""
    return self._thread is not None and self._thread.is_alive()

  def start(self, strengths: Sequence[str], names: Sequence[str]) -> None:
    """Begins to protect photos at each of the strengths, and returns at once."""
    with self.paused():
      self._stopping.clear()
      self._strength, self._message = strengths[0], "Beginning …"
      self._done, self._total = 0, len(names)
      # A daemon: the end of the program does not wait for what the devices compute.
      self._thread = threading.Thread(
        target=self._run, args=(strengths, names), name="work", daemon=True
      )
      self._thread.start()

  def stop(self) -> None:
    """Ends the work after the photos that are under way."""
    self._stopping.set()

  def end(self, patience: float) -> bool:
    """Stops, and waits so many seconds at most; returns whether anything was being done."""
    running, self._thread = self.running, self._thread
    self.stop()
    if self._thread is not None:
      self._thread.join(patience)
    return running

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Lets nothing begin while the block runs; refused while photos are protected."""
    with self._starting:
      if self.running:
        raise BusyError("Photos are being protected; stop that first, or wait for its end.")
      yield

  def describe(self) -> dict[str, Any]:
    """Returns how far the work is as JSON values."""
    running = self.running
    return {
      "running": running,
      "stopping": running and self._stopping.is_set(),
      "strength": self._strength,
      "done": self._done,
      "total": self._total,
      "message": self._message,
    }

  def _run(self, strengths: Sequence[str], names: Sequence[str]) -> None:
    try:
      for strength in strengths:
        if not self._stopping.is_set():
          self._protect(strength, names)
    except (JobError, SettingsError, FolderError, WeightsError, OSError) as error:
      self._message = self._session.in_words(str(error))
    except Exception as error:
      traceback.print_exc(file=sys.stderr)
      self._message = f"Unexpected {type(error).__name__}: {error}; the terminal says more."

  def _protect(self, strength: str, names: Sequence[str]) -> None:
    with open_job(self.job_for(strength, names)) as running:
      self._strength, self._done, self._total = strength, 0, running.total
      self._message = f"{strength}: preparing; of each size of photos the first takes longest."
      with contextlib.closing(iter(running)) as outcomes:
        for outcome in outcomes:
          self._session.note(strength, outcome)
          self._done, self._message = self._done + 1, ""
          if self._stopping.is_set():
            break
      # Some were written after the last outcome.
      for task, facts in running.records():
        self._session.note(strength, Outcome(task.relative, None, facts=facts))
      lines = [*running.to_text().splitlines(), *running.notes]
    self._message = "\n".join(one_line(self._session.in_words(line)) for line in lines)
