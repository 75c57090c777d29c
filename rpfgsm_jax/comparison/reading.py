"""Reads pairs of photographs, measures their files, and brings them to the networks' sizes.

Threads work ahead of the networks. Of the pictures only small copies stay, so that memory depends
on the largest picture and not on their number.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from rpfgsm_jax import quality
from rpfgsm_jax.comparison.outcome import MEASURES, PhotoFacts
from rpfgsm_jax.comparison.pairs import Pair
from rpfgsm_jax.data import images as image_files

_MAX_WORKERS = 4
_AHEAD = 8  # pairs opened ahead of the one being yielded
_EXAMPLE_SIDE = 320  # pixels
_LARGE = 2_000_000  # pixels from which SSIM and MAD, 300 bytes a pixel, take turns
# Sides, pixels, from which a measure is defined: its window, its border, the window at half size.
_SMALLEST_SIDES = {"ssim": 11, "mad": 34, "brisque": 14}
_large_turn = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """What to make of each pair.

  Attributes:
    image_sizes: (height, width) of the networks, each once.
    preprocess: see `data.preprocess`.
    model: of BRISQUE; None leaves it out.
    examples: places of the pairs that are kept to look at.
  """

  image_sizes: tuple[tuple[int, int], ...]
  preprocess: str
  model: quality.BrisqueModel | None
  examples: frozenset[int]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReadPair:
  """A pair that could be read.

  Attributes:
    place: of the pair among those asked for.
    facts: what its files measure.
    inputs: image size -> `(2, height, width, 3)` uint8, the original and the protected one.
    shown: the two pictures to look at and whether they were made smaller; None for most.
    notes: sentences about what was lost in reading.
  """

  place: int
  facts: PhotoFacts
  inputs: dict[tuple[int, int], np.ndarray]
  shown: tuple[np.ndarray, np.ndarray, bool] | None
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class UnreadPair:
  """A pair of which a file could not be read; `reasons` are sentences that name the file."""

  reasons: tuple[str, ...]


def read_pairs(pairs: Sequence[Pair], wanted: Wanted) -> Iterator[ReadPair | UnreadPair]:
  """Yields every pair, in order.

  Args:
    pairs: which files.
    wanted: what to make of each.

  Yields:
    What was read, or why it was not.
  """
  # Headers are parsed here because only in the caller's thread warnings can be caught.
  workers = min(_MAX_WORKERS, os.cpu_count() or 1)
  pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="compare")
  waiting: collections.deque[concurrent.futures.Future] = collections.deque()
  upcoming = iter(enumerate(pairs))
  try:
    while True:
      while len(waiting) < _AHEAD and (following := next(upcoming, None)) is not None:
        waiting.append(_begin(pool, *following, wanted))
      if not waiting:
        return
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)


def _begin(
  pool: concurrent.futures.Executor, place: int, pair: Pair, wanted: Wanted
) -> concurrent.futures.Future:
  opened, reasons = [], []
  for record in (pair.original, pair.protected):
    try:
      opened.append(image_files.open_image(record.path))
    except image_files.ImageError as error:
      reasons.append(str(error))
  if reasons:
    finished: concurrent.futures.Future = concurrent.futures.Future()
    finished.set_result(UnreadPair(tuple(reasons)))
    return finished
  future = pool.submit(_read, place, pair, opened, wanted)
  if any(each.decoded for each in opened):  # its pixels are large: done before the next is opened
    concurrent.futures.wait([future])
  return future


def _read(
  place: int, pair: Pair, opened: Sequence[image_files.OpenedImage], wanted: Wanted
) -> ReadPair | UnreadPair:
  pictures, notes, reasons = [], [], []
  for each in opened:
    try:
      picture, found = image_files.decode_image(each)
    except image_files.ImageError as error:
      reasons.append(str(error))
    else:
      pictures.append(picture)
      notes += found
  if reasons:
    return UnreadPair(tuple(reasons))
  before, after = pictures
  facts = PhotoFacts(
    name=pair.name,
    original=pair.original.relative,
    protected=pair.protected.relative,
    original_size=before.shape[:2],
    protected_size=after.shape[:2],
    measures=_measures(before, after, wanted.model),
  )
  inputs = {
    size: np.stack([image_files.preprocess(each, size, wanted.preprocess) for each in pictures])
    for size in wanted.image_sizes
  }
  return ReadPair(
    place=place,
    facts=facts,
    inputs=inputs,
    shown=_small(before, after) if place in wanted.examples else None,
    notes=tuple(notes),
  )


def _measures(
  before: np.ndarray, after: np.ndarray, model: quality.BrisqueModel | None
) -> dict[str, float | None]:
  """Returns `MEASURES` of a pair; None where there is no number."""
  found: dict[str, float | None] = dict.fromkeys(MEASURES)
  if before.shape != after.shape:
    return found
  height, width = before.shape[:2]
  defined = {name for name, side in _SMALLEST_SIDES.items() if min(height, width) >= side}
  with _large_turn if height * width >= _LARGE else contextlib.nullcontext():
    found["psnr"] = _finite(quality.psnr(after, before))
    norms = quality.perturbation_norms(after, before)
    found |= {"l0": int(norms.l0), "l2": float(norms.l2), "linf": float(norms.linf)}
    found["changed"] = found["l0"] / before.size
    if "ssim" in defined:
      found["ssim"] = _finite(quality.ssim(after, before))
    if "mad" in defined:
      found["mad"] = _finite(quality.mad(after, before))
    if "brisque" in defined and model is not None:
      found["brisque"] = _finite(quality.brisque(after, model))
      found["brisque_original"] = _finite(quality.brisque(before, model))
  return found


def _finite(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None


def _small(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
  """Returns both pictures at the original's size, or smaller so that a page can hold many."""
  height, width = before.shape[:2]
  shrink = min(1.0, _EXAMPLE_SIDE / max(height, width))
  size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
  pictures = (
    image if image.shape[:2] == size else image_files.resize(image, size)
    for image in (before, after)
  )
  return (*pictures, shrink < 1)
