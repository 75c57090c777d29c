"""The one pipeline: from a list of photos to written, judged and recorded files.

read -> group by working shape -> attack together -> encode, write, read back, judge, record.

Threads of the host read and finish photos, one thread a device attacks, and what starts next is
decided here. So a device has its next photos while the last ones are judged. How many photos are
under way is bounded by their pixels and by their number, however many there are.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rpfgsm_jax import atomic
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import OpenedPhoto, Photo, decode_photo, open_photo
from rpfgsm_jax.devices import DeviceClock
from rpfgsm_jax.engine.protector import OutOfMemoryError
from rpfgsm_jax.jobs import ledger, photo_records
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError
from rpfgsm_jax.models.answers import BrokenNetworkError
from rpfgsm_jax.photos.fitting import AttackedPhoto, FittingAttack
from rpfgsm_jax.photos.protector import PhotoProtector

MOST_PIXELS = 40 * 2**20
"""Of the photos under way, for each device; a larger photo is under way alone."""

_BATCHES_A_DEVICE = 4  # one on the device, one read ahead, two that are judged
_STARTED_A_DEVICE = 2  # of them: a device does not wait for this file to hear that it is free
_PIECE = 1.0  # seconds of waiting
_HOST_THREADS = (3, 16)  # at least so many a device, and at most so many for more processors
# What the next photo will meet too.
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class _Source(NamedTuple):
  """A photo that has been opened, and later decoded."""

  task: Task
  source_mark: list[int] | None  # of the file before it was read
  photo: OpenedPhoto | Photo  # the latter as it is protected and written


class _Attacked(NamedTuple):
  """A photo that is to be written."""

  source: _Source
  found: AttackedPhoto
  seconds: float  # its share of the attack
  device: int


class Worker:
  """Protects photos, batch by batch, on the devices of this process.

  Attributes:
    clock: what the devices have done so far.
    job: what is done.
    protectors: one a device.
    attacks: theirs, with what fits into memory.
    largest_batch: photos attacked together on each device, at most.
  """

  def __init__(self, protectors: Sequence[PhotoProtector], job: Job, batch_size: int):
    self.clock = DeviceClock(len(protectors))
    self.job, self.protectors, self.largest_batch = job, protectors, batch_size
    self.attacks = [FittingAttack(each, batch_size) for each in protectors]
    self._known = ledger.read(job.out)

  def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects photos and writes them; yields one outcome a photo as soon as it is known.

    Closing the iterator early drops what is on the device; what is being written becomes whole.
    Raises JobError where no photo can be done any more: the disk is full; and SettingsError where a
    network is broken.
    """
    (fewest, most), num_devices = _HOST_THREADS, len(self.protectors)
    threads = max(fewest * num_devices, min(os.cpu_count() or 1, most))
    host = _start_threads(threads, "photo")
    devices = [_start_threads(1, f"device {place}") for place in range(num_devices)]
    try:
      yield from _Flow(self, host, devices).run(tasks)
    finally:
      for device in devices:
        device.shutdown(wait=False, cancel_futures=True)
      host.shutdown(cancel_futures=True)

  def open(self, task: Task) -> _Source | Outcome:
    """Reads a photo's file and what its header says."""
    path = task.path
    source_mark = photo_records.mark(path)
    try:
      photo = open_photo(path, max_pixels=self.job.max_pixels, limits=self.job.photos.limits)
    except (ImageError, MemoryError) as error:
      return _failed(task, error)
    return _Source(task, source_mark, photo)

  def read(self, opened: _Source) -> _Source | Outcome:
    """Decodes a photo and checks that it can be protected."""
    task = opened.task
    try:
      original = opened.photo.decode()
      photo = self.protectors[0].prepare(original)
      if ledger.is_known(original.seen(), self._known):
        raise ImageError(f"{task.path} is itself a protected photo; name the original.")
    except (ImageError, MemoryError) as error:
      return _failed(task, error)
    return opened._replace(photo=photo)

  def attack(self, device: int, group: Sequence[_Source]) -> list[_Attacked | Outcome]:
    """Attacks photos of one working shape on a device."""
    started = time.perf_counter()
    try:
      photos, ids = [each.photo for each in group], [each.task.image_id for each in group]
      found = self.attacks[device](photos, ids)
    except BrokenNetworkError as error:
      raise SettingsError(str(error)) from error
    except (MemoryError, ValueError) as error:  # ValueError: the attack has no use for such a photo
      if len(group) > 1:  # the others have nothing to do with it
        half = len(group) // 2
        return self.attack(device, group[:half]) + self.attack(device, group[half:])
      return [_failed(group[0].task, error)]
    ready = time.perf_counter()
    self.clock.add(started, ready, device)
    each = (ready - started) / len(group)
    return [_Attacked(*pair, each, device) for pair in zip(group, found, strict=True)]

  def finish(self, attacked: _Attacked) -> Outcome:
    """Writes a photo, reads it back, judges what was read, and keeps the record."""
    (task, source_mark, photo), found, seconds, device = attacked
    protector = self.protectors[device]
    started, notes = time.perf_counter(), (*photo.notes, *found.notes)
    try:
      content = protector.encode(photo, found.pixels)
      with atomic.replacing(task.output) as temporary:
        written = atomic.through_the_disk(temporary, content)
        pixels = decode_photo(written, task.output)
        verdict = protector.judge(photo, pixels).to_json() if self.job.judged else None
        facts = {
          "photo": os.path.abspath(task.path),
          "relative": task.relative,
          "output": task.output.relative_to(self.job.out).as_posix(),
          "source_sha256": photo.sha256,
          "settings": self.job.settings,
          "size": _width_first(photo.pixels.shape[:2]),
          "encoding": dataclasses.asdict(self.job.photos.encoding),
          "epsilon": float(self.job.photos.attack.epsilon),
          "masked": self.job.photos.attack.masking is not None,
          "output_sha256": hashlib.sha256(written).hexdigest(),
          "pixels_sha256": ledger.picture_digest(pixels),
          "source_mark": source_mark,
          "output_mark": photo_records.mark(temporary),
          "working_size": _width_first(found.working_size),
          "seconds": round(seconds + time.perf_counter() - started, 3),
          "notes": list(notes),
          "verdict": verdict,
        }
        if photo_records.changes_pixels(facts):  # else the original would be taken for a result
          ledger.remember(facts["pixels_sha256"])
        if not self.job.overwrite and os.path.lexists(task.output):
          raise FileExistsError(errno.EEXIST, "another program has made a file of that name")
        facts = photo_records.write(self.job.out, facts)
    except BrokenNetworkError as error:
      raise SettingsError(str(error)) from error
    except (
      MemoryError,
      OSError,
      ValueError,
    ) as error:  # ValueError: no photo, or a judge has no answer
      return _failed(task, error, notes)
    return Outcome(task.relative, None, notes, facts)


class _Flow:
  """What is under way, and what starts next. Only the caller's thread is ever in here."""

  def __init__(
    self,
    worker: Worker,
    host: concurrent.futures.Executor,
    devices: Sequence[concurrent.futures.Executor],
  ) -> None:
    self._worker, self._host, self._on_devices = worker, host, devices
    self._events = queue.SimpleQueue()  # of a future that is done and what follows it
    self._weights: dict[str, int] = {}  # pixels of each photo under way, by name
    self._reading = 0
    self._waiting: dict[tuple[int, int], list[_Source]] = collections.defaultdict(list)
    self._free = _STARTED_A_DEVICE * list(range(len(devices)))

  def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yields one outcome a photo."""
    coming = map(self._worker.open, tasks)
    following = next(coming, None)
    while following or self._weights:
      if isinstance(following, Outcome):
        yield following
        following = next(coming, None)
        continue
      more = following is not None and self._fits(following)
      if more:
        self._start_reading(following)
        following = next(coming, None)
      self._start_attacks(more)
      for then, future in self._ended(wait=not more):
        for outcome in then(future.result()):
          del self._weights[outcome.relative]
          yield outcome

  def _ended(self, *, wait: bool) -> Iterator[tuple[Callable, concurrent.futures.Future]]:
    """Yields what threads have come to the end of; at least one thing where it is to wait."""
    if wait:
      yield self._next_event()
    while not self._events.empty():
      yield self._events.get()

  def _next_event(self) -> tuple[Callable, concurrent.futures.Future]:
    """Waits for one, in pieces: a Ctrl-C that comes just before a wait does not end it."""
    while True:
      with contextlib.suppress(queue.Empty):
        return self._events.get(timeout=_PIECE)

  def _fits(self, opened: _Source) -> bool:
    if not self._weights:
      return True
    devices, pixels = len(self._on_devices), opened.photo.size[0] * opened.photo.size[1]
    many = len(self._weights) >= _BATCHES_A_DEVICE * devices * self._worker.largest_batch
    return not many and sum(self._weights.values()) + pixels <= MOST_PIXELS * devices

  def _start(
    self, pool: concurrent.futures.Executor, then: Callable, work: Callable, *arguments: Any
  ) -> None:
    future = pool.submit(work, *arguments)
    future.add_done_callback(lambda done: self._events.put((then, done)))

  def _start_reading(self, opened: _Source) -> None:
    self._weights[opened.task.relative] = opened.photo.size[0] * opened.photo.size[1]
    self._reading += 1
    self._start(self._host, self._was_read, self._worker.read, opened)

  def _was_read(self, read: _Source | Outcome) -> Iterator[Outcome]:
    self._reading -= 1
    if isinstance(read, Outcome):
      yield read
      return
    # At the networks' size only the number of photos counts from here on.
    if self._worker.job.photos.size == "network":
      self._weights[read.task.relative] = 0
    self._waiting[self._worker.protectors[0].shape_of(read.photo)].append(read)

  def _start_attacks(self, more: bool) -> None:
    """Gives whole batches to the devices; others to idle ones, once no more can be read."""
    while self._free and self._waiting:
      device = max(self._free, key=self._free.count)  # the one with the least to do
      sizes = {shape: self._worker.attacks[0].batch_size(shape) for shape in self._waiting}
      shape = max(sizes, key=lambda each: len(self._waiting[each]) / sizes[each])
      size, waiting = sizes[shape], self._waiting[shape]
      idle = self._free.count(device) == _STARTED_A_DEVICE
      if len(waiting) < size and (more or self._reading or not idle):
        return
      del self._waiting[shape]
      group, rest = waiting[:size], waiting[size:]
      if rest:
        self._waiting[shape] = rest
      self._free.remove(device)

      def attacked(found: list[_Attacked | Outcome], device: int = device) -> Iterator[Outcome]:
        self._free.append(device)
        for each in found:
          if isinstance(each, Outcome):
            yield each
          else:
            self._start(self._host, lambda outcome: [outcome], self._worker.finish, each)

      self._start(self._on_devices[device], attacked, self._worker.attack, device, group)


def _start_threads(count: int, name: str) -> concurrent.futures.ThreadPoolExecutor:
  """Starts all threads now: one that Ctrl-C meets while it starts is waited for by nobody."""
  pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=name)
  all_there = threading.Barrier(count)
  for _ in range(count):
    pool.submit(all_there.wait)
  return pool


def _failed(task: Task, error: Exception, notes: Sequence[str] = ()) -> Outcome:
  """Says why a photo could not be done; raises JobError where no other could be either."""
  path, why = task.path, str(error)
  if isinstance(error, MemoryError):
    where = "device" if isinstance(error, OutOfMemoryError) else "computer"
    why = (
      f"{path} does not fit into the {where}'s memory; it is left out. --max-megapixels leaves "
      "such photos out from the start; fewer or smaller networks, or another device, may take it."
    )
  elif isinstance(error, OSError):
    why = f"{task.output} could not be written: {error.strerror or error}."
    if error.errno in _FATAL:
      remedy = "Make room or name another disk; the same command then goes on."
      raise JobError(f"{why} {remedy}") from error
  elif not isinstance(error, ImageError):  # which names the file itself
    why = f"{path}: {why}"
  return Outcome(task.relative, why, tuple(notes))


def _width_first(size: tuple[int, int] | None) -> list[int] | None:
  return None if size is None else [size[1], size[0]]
