"""Pictures read in order, decoded ahead in threads, and put together in batches."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rpfgsm_jax.data.images import ImageError, OpenedImage

Item = TypeVar("Item")
Result = TypeVar("Result")
Read = tuple[Item, Result | ImageError]


def read_ahead(
  items: Iterable[Item],
  open_item: Callable[[Item], Sequence[OpenedImage]],
  decode: Callable[[Item, Sequence[OpenedImage]], Result],
  *,
  ahead: int,
  workers: int,
) -> Iterator[Read]:
  """Yields each item, in order, with what `decode` made of its opened images or an ImageError.

  At most `ahead` items are opened before the one being yielded. Headers are parsed in the caller's
  thread, because only there warnings can be caught.
  """
  workers = min(workers, os.cpu_count() or 1)
  pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="decode")
  waiting: collections.deque[tuple[Item, concurrent.futures.Future]] = collections.deque()
  upcoming = iter(items)
  try:
    while True:
      while len(waiting) < ahead and (item := next(upcoming, None)) is not None:
        try:
          opened = open_item(item)
        except ImageError as error:
          future: concurrent.futures.Future = concurrent.futures.Future()
          future.set_exception(error)
        else:
          future = pool.submit(decode, item, opened)
          if any(each.decoded for each in opened):  # large: done before the next one is opened
            concurrent.futures.wait([future])
        waiting.append((item, future))
      if not waiting:
        return
      item, future = waiting.popleft()
      try:
        result = future.result()
      except ImageError as error:
        result = error
      yield item, result
  finally:
    pool.shutdown(cancel_futures=True)


def in_batches(
  reads: Iterable[Read], size: int
) -> Iterator[tuple[list[tuple[Item, Result]], list[tuple[Item, ImageError]]]]:
  """Yields `size` items that could be read, and those among them that could not, with the reasons.

  A full batch waits for the next good item, so that failures at the end belong to a batch.
  """
  good: list[Any] = []
  failed: list[Any] = []
  for item, result in reads:
    if isinstance(result, ImageError):
      failed.append((item, result))
      continue
    if len(good) == size:
      yield good, failed
      good, failed = [], []
    good.append((item, result))
  if good or failed:
    yield good, failed
