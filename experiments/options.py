"""What the options of every experiment have in common, checked before any work."""

import os
import pathlib
from typing import Protocol

from experiments import folder


class Options(Protocol):
  """The fields that the configs of all experiments share."""

  data: pathlib.Path | None
  out: pathlib.Path
  seed: int | None
  limit: int | None
  epsilon: float
  batch_size: int


def check_options(options: Options, experiment: str, entries: tuple[str, ...]) -> pathlib.Path:
  """Checks the options that experiments share.

  Args:
    options: of the experiment.
    experiment: its name.
    entries: what its results folder consists of.

  Returns:
    The absolute path of the results folder.

  Raises:
    ValueError: one cannot be used; the message names it.
  """
  check_counts(limit=options.limit, batch_size=options.batch_size)
  if options.seed is not None and not 0 <= options.seed < 2**32:
    raise ValueError(f"seed must be in 0..2^32-1, got {options.seed}.")
  if not 0 <= options.epsilon <= 255:
    raise ValueError(f"epsilon must be in 0..255 grey levels, got {options.epsilon}.")
  place = pathlib.Path(os.path.abspath(options.out))
  folder.check_place(place, experiment, entries)
  if options.data is not None:
    folder.check_apart(place, options.data)
  return place


def check_counts(**counts: int | None) -> None:
  """Checks numbers of photographs; None is no limit.

  Raises:
    ValueError: one is below 1.
  """
  for name, value in counts.items():
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")


def even_size(count: int, batch_size: int) -> int:
  """Returns the size of even batches: of 9 photographs by 8, two of 5, not 8 and 1 filled up."""
  return -(-count // -(-count // batch_size))
