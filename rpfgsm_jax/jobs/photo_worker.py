"""Photos at their own size, from a list to written, judged and recorded files.

A few threads a device each take one photo from its file to its end: decode, wait for a device and
attack, then encode, write, read back, judge. So the device has its next photo while the last one is
judged. How many photos are under way is decided by their pixels: memory grows neither with the
number of photos nor with that of threads.
"""

import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import os
import pathlib
import queue
import threading
import time
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from rpfgsm_jax import atomic
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import Photo, check_encodable, decode_photo, read_photo
from rpfgsm_jax.jobs import headers, photo_records, results
from rpfgsm_jax.jobs.errors import JobError
from rpfgsm_jax.jobs.order import Order
from rpfgsm_jax.jobs.pipeline import DeviceClock, Outcome, failed_write, start_threads
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.photos.protect import PhotoProtector

MOST_PIXELS = 40 * 2**20
"""Of the photos under way, for each device; a larger photo is under way alone."""

_THREADS_A_DEVICE = 4  # one on the device, one read ahead, two that are judged


class PhotoWorker:
  """Protects photos at their own size, one a device at a time.

  Attributes:
    clock: what the devices have done so far.
  """

  def __init__(self, protectors: Sequence[PhotoProtector], order: Order):
    """Keeps what every photo needs.

    Args:
      protectors: one a device.
      order: what is to be done with each photo.

    Returns:
      Nothing.
    """
    self.clock = DeviceClock(len(protectors))
    self._order, self._threads = order, _THREADS_A_DEVICE * len(protectors)
    self._most_pixels = MOST_PIXELS * len(protectors)
    self._free: queue.SimpleQueue[tuple[int, PhotoProtector]] = queue.SimpleQueue()
    for entry in enumerate(protectors):
      self._free.put(entry)
    self._known = results.Known(order.out)

  def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects photos and writes them.

    Closing the iterator early drops what is on the device; what is being written becomes whole.

    Args:
      tasks: the photos.

    Yields:
      One outcome a photo, as soon as its file is written or it has failed; order is not kept.

    Raises:
      JobError: no photo can be done any more: the disk is full, or memory does not suffice.
    """
    stop, pool = _Stop(), start_threads(self._threads, "photo")
    sized = ((task, _pixels_of(task.record.path)) for task in tasks)
    running: dict[concurrent.futures.Future[Outcome], int] = {}
    following = next(sized, None)
    try:
      while following or running:
        while following and self._fits(following[1], running.values()):
          running[pool.submit(self._protect, following[0], stop)] = following[1]
          following = next(sized, None)
        ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
          del running[future]
          yield future.result()
    finally:
      pool.shutdown(wait=False, cancel_futures=True)
      stop.close()

  def _fits(self, pixels: int, running: Collection[int]) -> bool:
    if not running:
      return True
    return len(running) < self._threads and sum(running) + pixels <= self._most_pixels

  def _protect(self, task: Task, stop: "_Stop") -> Outcome:
    path = task.record.path
    try:
      source_mark = photo_records.mark(path)
      photo = read_photo(path, max_pixels=self._order.max_pixels)
      check_encodable(photo, self._order.photo.encoding)
      if results.digest(photo.seen()) in self._known:
        raise ImageError(f"{path} is itself a protected photo; name the original.")
      entry = self._free.get()
      try:
        stop.check()
        attacked = self._attack(*entry, photo, task.record.image_id)
      finally:
        self._free.put(entry)
      with stop.writing():
        return self._finish(task, photo, source_mark, attacked, entry[1])
    except ImageError as error:
      return Outcome(task.record.relative, str(error))
    except ValueError as error:  # the attack has no use for such a photo
      return Outcome(task.record.relative, f"{path}: {error}")
    except MemoryError as error:
      raise JobError(
        f"{path} does not fit into memory ({error}); --working-megapixels 1 attacks at a smaller "
        "size, --max-megapixels leaves larger photos out. The same command then goes on."
      ) from error

  def _attack(
    self, place: int, protector: PhotoProtector, photo: Photo, image_id: int
  ) -> tuple[np.ndarray, float]:
    started = time.perf_counter()
    pixels = protector.attack(photo, image_id)
    ready = time.perf_counter()
    self.clock.add(started, ready, place)
    return pixels, ready - started

  def _finish(
    self,
    task: Task,
    photo: Photo,
    source_mark: list[int],
    attacked: tuple[np.ndarray, float],
    protector: PhotoProtector,
  ) -> Outcome:
    """Writes a photo, reads it back, judges what was read, and keeps the record."""
    (pixels, seconds), started = attacked, time.perf_counter()
    content = protector.encode(photo, pixels)
    try:
      with atomic.replacing(task.output) as temporary:
        written = _through_the_disk(temporary, content)
        verdict = protector.judge(photo, written)
        facts = {
          **self._identity(task, photo, written),
          "source_mark": source_mark,
          "output_mark": photo_records.mark(temporary),
          "working_size": _width_first(protector.working_size(photo.pixels.shape[:2])),
          "seconds": round(seconds + time.perf_counter() - started, 3),
          "verdict": verdict.to_json(),
        }
        if verdict.largest_change:  # else the original would be taken for a protected photo
          results.remember(facts["pixels_sha256"])
        if not self._order.overwrite and os.path.lexists(task.output):
          raise FileExistsError(errno.EEXIST, "another program has made a file of that name")
        facts = photo_records.write(self._order.out, facts)
    except OSError as error:
      return failed_write(task, error, photo.notes)
    return Outcome(task.record.relative, None, photo.notes, facts)

  def _identity(self, task: Task, photo: Photo, written: bytes) -> photo_records.Facts:
    """Says what became what, and by which settings."""
    return {
      "photo": os.path.abspath(task.record.path),
      "relative": task.record.relative,
      "output": task.output.relative_to(self._order.out).as_posix(),
      "source_sha256": photo.sha256,
      "output_sha256": hashlib.sha256(written).hexdigest(),
      "pixels_sha256": results.digest(decode_photo(written, task.output)),
      "settings": self._order.settings,
      "size": _width_first(photo.pixels.shape[:2]),
      "encoding": dataclasses.asdict(self._order.photo.encoding),
      "epsilon": float(self._order.photo.attack.epsilon),
      "notes": list(photo.notes),
    }


class _StoppedError(Exception):
  """The run has been closed; nobody waits for this photo."""


class _Stop:
  """Once a run is closed: those who write come to their end, and nobody begins to."""

  def __init__(self) -> None:
    self._changed = threading.Condition()
    self._closed, self._writing = False, 0

  def check(self) -> None:
    if self._closed:
      raise _StoppedError

  @contextlib.contextmanager
  def writing(self) -> Iterator[None]:
    with self._changed:
      self.check()
      self._writing += 1
    try:
      yield
    finally:
      with self._changed:
        self._writing -= 1
        self._changed.notify_all()

  def close(self) -> None:
    with self._changed:
      self._closed = True
      self._changed.wait_for(lambda: not self._writing)


def _pixels_of(path: pathlib.Path) -> int:
  try:
    width, height = headers.size_of(path)
  except ImageError:  # the reader says why
    return 0
  return width * height


def _through_the_disk(path: pathlib.Path, content: bytes) -> bytes:
  """Writes a file to the disk and returns what is there afterwards."""
  with open(path, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  return path.read_bytes()


def _width_first(size: tuple[int, int] | None) -> list[int] | None:
  return None if size is None else [size[1], size[0]]
