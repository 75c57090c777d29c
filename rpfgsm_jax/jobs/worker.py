"""Photos at the networks' size, from a list to written files.

Decoding threads -> device -> writing threads. One batch is always started before the one before it
is fetched, and every queue is bounded: memory does not grow with the number of photos.
"""

import collections
import concurrent.futures
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rpfgsm_jax.data import folders, images
from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.pipeline import DeviceClock, Outcome, failed_write, start_threads
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.protect import OutOfMemoryError, Pending, Protector, to_uint8

_STARTED_AT_ONCE = 2  # batches: one computes, the next waits on the device
_MAX_WRITERS = 8


class _Batch(NamedTuple):
  tasks: Sequence[Task]
  images: np.ndarray  # (N, H, W, 3) uint8
  notes: Sequence[tuple[str, ...]]  # a task


class _Flight(NamedTuple):
  batch: _Batch
  protector: Protector  # that started it
  started: float
  result: concurrent.futures.Future[tuple[np.ndarray, float]]  # uint8 images, when they were ready


class Worker:
  """Protects photos with one compiled attack.

  Attributes:
    clock: what the devices have done so far.
  """

  def __init__(
    self, protector: Protector, image_size: tuple[int, int], how: str, *, adaptive: bool = False
  ):
    """Keeps the attack.

    Args:
      protector: the attack, compiled for batches of one shape.
      image_size: (height, width) that its networks take.
      how: preprocessing, see `rpfgsm_jax.data.preprocess`.
      adaptive: halve the batches when one does not fit into memory, instead of giving up.

    Returns:
      Nothing.
    """
    self.clock = DeviceClock()
    self._protector, self._image_size, self._how = protector, image_size, how
    self._adaptive, self._compiled = adaptive, False

  def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects photos and writes them.

    Closing the iterator early drops what is on the device; what is being written becomes whole.

    Args:
      tasks: the photos.

    Yields:
      One outcome a photo, as soon as its file is written or it has failed; order is not kept.

    Raises:
      JobError: no photo can be done any more: the disk is full, or a batch does not fit.
      SettingsError: the attack refuses its settings.
    """
    fetcher = start_threads(1, "fetch")
    writers = start_threads(min(_MAX_WRITERS, os.cpu_count() or 1), "write")
    try:
      yield from self._run(tasks, fetcher, writers)
    except OutOfMemoryError as error:
      raise JobError(str(error)) from error
    finally:
      fetcher.shutdown(wait=False, cancel_futures=True)
      writers.shutdown(cancel_futures=True)

  def _run(
    self,
    tasks: Sequence[Task],
    fetcher: concurrent.futures.Executor,
    writers: concurrent.futures.Executor,
  ) -> Iterator[Outcome]:
    flying: collections.deque[_Flight] = collections.deque()
    writing: collections.deque[concurrent.futures.Future[Outcome]] = collections.deque()

    def land() -> Iterator[Outcome]:
      flight = flying.popleft()
      pixels = self._fetch(flight, flying)
      for task, image, notes in zip(flight.batch.tasks, pixels, flight.batch.notes, strict=True):
        writing.append(writers.submit(_write, task, image, notes))
      # One batch may wait for the disk while the next one is computed.
      while writing and (len(writing) > len(pixels) or writing[0].done()):
        yield writing.popleft().result()

    for found in self._read(tasks):
      if isinstance(found, Outcome):
        yield found
        continue
      flying.append(self._start(found, fetcher))
      if len(flying) == _STARTED_AT_ONCE:
        yield from land()
    while flying:
      yield from land()
    for future in writing:
      yield future.result()

  def _read(self, tasks: Sequence[Task]) -> Iterator[Outcome | _Batch]:
    """Yields batches that are to be protected, and what became of photos that cannot be read."""
    by_name = {task.record.relative: task for task in tasks}
    records, capacity, notes = [task.record for task in tasks], self._protector.capacity, []
    for batch in folders.iterate_images(
      records, self._image_size, self._how, batch_size=capacity, notes=notes
    ):
      for record, reason in batch.failures:
        yield Outcome(record.relative, reason)
      chosen = [by_name[record.relative] for record in batch.records]
      said = [
        tuple(note for note in notes if note.startswith(f"{task.record.path}: ")) for task in chosen
      ]
      notes.clear()
      size = self._protector.capacity  # smaller than at first, since a batch did not fit
      for start in range(0, len(chosen), size):
        part = slice(start, start + size)
        yield _Batch(chosen[part], batch.images[part], said[part])

  def _start(self, batch: _Batch, fetcher: concurrent.futures.Executor) -> _Flight:
    before = time.perf_counter()
    try:
      pending = self._protector.start(batch.images, _ids(batch))
    except OutOfMemoryError as error:
      failed = concurrent.futures.Future()
      failed.set_exception(error)
      return _Flight(batch, self._protector, before, failed)
    except ValueError as error:  # the attack refuses its settings before it computes anything
      raise SettingsError(str(error)) from error
    # The first call compiles before it starts anything.
    started = before if self._compiled else time.perf_counter()
    self._compiled = True
    return _Flight(batch, self._protector, started, fetcher.submit(_wait, pending))

  def _fetch(self, flight: _Flight, others: Iterable[_Flight]) -> np.ndarray:
    try:
      pixels, ready = flight.result.result()
      started = flight.started
    except OutOfMemoryError:
      if not self._adaptive or flight.protector.batch_size == 1:
        raise
      concurrent.futures.wait([other.result for other in others])  # their memory is free then
      started = time.perf_counter()
      pixels, ready = self._try_smaller(flight), time.perf_counter()
    self.clock.add(started, ready)
    return pixels

  def _try_smaller(self, flight: _Flight) -> np.ndarray:
    images, ids = flight.batch.images, _ids(flight.batch)
    if self._protector is flight.protector:
      self._protector = flight.protector.halved()
    while True:
      size = self._protector.capacity
      try:
        parts = [
          to_uint8(
            self._protector(images[start : start + size], ids[start : start + size]).adversarial
          )
          for start in range(0, len(images), size)
        ]
        return np.concatenate(parts)
      except OutOfMemoryError:
        if self._protector.batch_size == 1:
          raise
        self._protector = self._protector.halved()


def _ids(batch: _Batch) -> np.ndarray:
  return np.asarray([task.record.image_id for task in batch.tasks], np.uint32)


def _wait(pending: Pending) -> tuple[np.ndarray, float]:
  adversarial = pending.result().adversarial
  ready = time.perf_counter()
  return to_uint8(adversarial), ready


def _write(task: Task, pixels: np.ndarray, notes: tuple[str, ...]) -> Outcome:
  try:
    images.write_png(task.output, pixels)
  except OSError as error:
    return failed_write(task, error, notes)
  return Outcome(task.record.relative, None, notes)
