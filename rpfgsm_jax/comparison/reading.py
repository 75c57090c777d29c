"""Reads pairs of photographs, measures their files, and brings them to the networks' sizes.

Threads work ahead of the networks. Of the pictures only small copies stay, so that memory depends
on the largest picture and not on their number.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from rpfgsm_jax import quality
from rpfgsm_jax.comparison.outcome import MEASURES, PhotoFacts
from rpfgsm_jax.comparison.pairs import Pair
from rpfgsm_jax.data import images as image_files
from rpfgsm_jax.data.batches import read_ahead
from rpfgsm_jax.data.images import ImageError, OpenedImage

File = TypeVar("File")
Result = TypeVar("Result")

_MAX_WORKERS = 4
_AHEAD = 8  # pairs opened ahead of the one being yielded
_EXAMPLE_SIDE = 320  # pixels
_LARGE = 2_000_000  # pixels from which SSIM and MAD, 300 bytes a pixel, take turns
# Sides, pixels, from which a measure is defined: its window, its border, the window at half size.
_SMALLEST_SIDES = {"ssim": 11, "mad": 34, "brisque": 14}
_large_turn = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """What to make of each pair."""

  image_sizes: tuple[tuple[int, int], ...]  # (height, width) of the networks, each once
  preprocess: str  # see `data.preprocess`
  model: quality.BrisqueModel | None  # of BRISQUE; None leaves it out
  examples: frozenset[int]  # indices of the pairs that are kept to look at


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReadPair:
  """A pair that could be read."""

  place: int  # of the pair among those asked for
  facts: PhotoFacts  # what its files measure
  inputs: dict[tuple[int, int], np.ndarray]  # by image size: `(2, height, width, 3)`
  shown: tuple[np.ndarray, np.ndarray, bool] | None  # to look at, and whether smaller
  notes: tuple[str, ...]  # sentences about what was lost in reading


def read_pairs(
  pairs: Sequence[Pair], wanted: Wanted
) -> Iterator[tuple[tuple[int, Pair], ReadPair | ImageError]]:
  """Yields every pair, after its place, with what was read; an error has a reason for each file."""
  decode = functools.partial(_read, wanted=wanted)
  return read_ahead(enumerate(pairs), _open, decode, ahead=_AHEAD, workers=_MAX_WORKERS)


def _open(item: tuple[int, Pair]) -> list[OpenedImage]:
  _, pair = item
  return _of_both(image_files.open_image, (pair.original.path, pair.protected.path))


def _of_both(read: Callable[[File], Result], files: Sequence[File]) -> list[Result]:
  """Returns what was read of two files; raises one ImageError with the reasons of both."""
  found, reasons = [], []
  for file in files:
    try:
      found.append(read(file))
    except ImageError as error:
      reasons += error.args
  if reasons:
    raise ImageError(*reasons)
  return found


def _read(item: tuple[int, Pair], opened: Sequence[OpenedImage], wanted: Wanted) -> ReadPair:
  place, pair = item
  decoded = _of_both(image_files.decode_image, opened)
  before, after = pictures = [picture for picture, _ in decoded]
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
    notes=tuple(note for _, found in decoded for note in found),
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
    found["scielab"] = _finite(quality.scielab(after, before))
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
