"""Reads an experiment's results back from disk and checks them against one another."""

import hashlib
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments import rows
from experiments.lineup import ORIGINAL
from rpfgsm_jax import data
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

_PROBABILITY_TOLERANCE = 1e-3  # another batch composition may round differently


class VerificationError(ValueError):
  """What was written is not what was evaluated."""


def pixel_digest(image: np.ndarray) -> str:
  """Returns the SHA-256 of an image's bytes in row order, as hexadecimal digits."""
  return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def verify(folder: pathlib.Path, networks: Sequence[Classifier], size: int) -> int:
  """Checks every image that the rows name: pixels, eps-ball and answers; returns how many."""
  header: dict[str, Any] = {}
  seen: set[tuple[str, str]] = set()
  photos: set[str] = set()
  for part in _chunks(rows.read_rows(folder / "rows.jsonl"), size):
    for row in (row for row in part if row["kind"] == "run"):
      header = row
    part = [row for row in part if row["kind"] == "photo"]
    if not part:
      continue
    for row in part:
      if (row["photo"], row["attack"]) in seen:
        raise VerificationError(f"{row['photo']} has two rows of {row['attack']}.")
      seen.add((row["photo"], row["attack"]))
      photos.add(row["photo"])
    images = np.stack([_check_file(folder, row, header["epsilon"]) for row in part])
    _check_predictions(part, *measure.predict(images, networks, size))
  expected = len(photos) * len(header.get("attacks", ()))
  if len(seen) != expected:
    raise VerificationError(
      f"{folder / 'rows.jsonl'} must have a row for each image and attack, {expected}, "
      f"got {len(seen)}."
    )
  return len(seen)


def _chunks(found: Iterator[rows.Row], size: int) -> Iterator[list[rows.Row]]:
  while part := list(itertools.islice(found, size)):
    yield part


def _check_file(folder: pathlib.Path, row: rows.Row, epsilon: float) -> np.ndarray:
  path = folder / row["png"]
  try:
    image, original = data.read_image(path), data.read_image(folder / row["original"])
  except data.ImageError as error:
    raise VerificationError(str(error)) from error
  if pixel_digest(image) != row["sha256"]:
    raise VerificationError(f"{path} does not hold the pixels that were evaluated.")
  change = int(np.abs(image.astype(np.int16) - original).max())
  if change > epsilon:
    raise VerificationError(f"{path} differs from its original by {change} > {epsilon:g} levels.")
  return image


def _check_predictions(
  part: Sequence[rows.Row], classes: np.ndarray, probabilities: np.ndarray
) -> None:
  for row, found, likely in zip(part, classes, probabilities, strict=True):
    close = np.abs(likely - np.asarray(row["probabilities"])) <= _PROBABILITY_TOLERANCE
    tie = likely[:, 0] - likely[:, 1] <= _PROBABILITY_TOLERANCE
    same = (found[:, 0] == np.asarray(row["classes"])[:, 0]) | tie
    if not (close.all() and same.all()):
      raise VerificationError(f"{row['png']}: the networks' answers to the file read back differ.")
    if row["attack"] == ORIGINAL and any(ranks[0] for ranks in row["ranks"]):
      raise VerificationError(f"{row['png']}: a network's own prediction must have rank 0.")
