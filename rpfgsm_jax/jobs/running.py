"""A job that has begun: iterate to do the work, ask for what has become of it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rpfgsm_jax.jobs import photo_records
from rpfgsm_jax.jobs.engines import Engine
from rpfgsm_jax.jobs.order import Order
from rpfgsm_jax.jobs.photo_records import Facts
from rpfgsm_jax.jobs.pipeline import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.summary import Summary
from rpfgsm_jax.photos.verdict import Status


class RunningJob:
  """A job that holds its locks and has its record; iterate to do the work.

  Attributes:
    total: photos that were not done when it started.
    to_do: those of them that will be tried; the others are known to fail.
    notes: sentences for the user.
    statuses: the verdict on each photo that is done, by name, those of earlier runs first; grows
      with the work. None at the networks' size.
  """

  def __init__(
    self,
    engine: Engine,
    order: Order,
    tasks: Sequence[Task],
    *,
    done: Sequence[tuple[Task, Status | None]] = (),
    refused: Sequence[Outcome] = (),
    notes: Sequence[str] = (),
    look: Callable[[Task], Facts | None],
  ):
    """Keeps what is to be done.

    Args:
      engine: that does it.
      order: what is to be done with each photo.
      tasks: the photos that are to be done.
      done: those that were done before, and the verdicts on them.
      refused: what is known of others already.
      notes: sentences for the user.
      look: returns the record of a photo that is done; None: it is not.

    Returns:
      Nothing.
    """
    self.total, self.to_do, self.notes = len(tasks) + len(refused), len(tasks), list(notes)
    self.statuses = {task.record.relative: status for task, status in done}
    self._all = sorted((*tasks, *(task for task, _ in done)), key=lambda task: task.record.relative)
    self._engine, self._order, self._refused = engine, order, refused
    self._tasks = {task.record.relative: task for task in tasks}
    self._skipped, self._failures, self._seconds = len(done), [], 0.0
    self._look = look

  def __iter__(self) -> Iterator[Outcome]:
    """Yields one outcome a photo, as soon as it is known."""
    for outcome in self._refused:
      self._failures.append((outcome.relative, outcome.failure))
      yield outcome
    if not self._tasks:
      return
    started, tasks = time.perf_counter(), list(self._tasks.values())
    try:
      with contextlib.closing(self._engine.run(self._order, tasks)) as outcomes:
        for outcome in outcomes:
          self._count(outcome)
          yield outcome
    finally:
      self._seconds = time.perf_counter() - started
      self._count_the_unseen()

  def _count(self, outcome: Outcome) -> None:
    del self._tasks[outcome.relative]
    if outcome.failure is None:
      self.statuses[outcome.relative] = photo_records.status_of(outcome.facts)
    else:
      self._failures.append((outcome.relative, outcome.failure))

  def _count_the_unseen(self) -> None:
    """Some were written after the last outcome, where somebody ended the work."""
    for relative, task in list(self._tasks.items()):
      facts = self._look(task)
      if facts is not None:
        self._count(Outcome(relative, None, facts=facts))

  def records(self) -> Iterator[tuple[Task, Facts]]:
    """Yields each photo that is done, by name, and its record; at the networks' size none."""
    for task in self._all:
      facts = self._look(task) if self.statuses.get(task.record.relative) else None
      if facts:
        yield task, facts

  def summary(self) -> Summary:
    """Returns what has been done so far."""
    done = list(self.statuses.values())[self._skipped :]
    return Summary(
      done=len(done),
      skipped=self._skipped,
      failures=tuple(self._failures),
      left=self.total - len(done) - len(self._failures),
      seconds=self._seconds,
      idle_share=self._engine.idle_share,
      statuses=tuple(status for status in done if status is not None),
    )
