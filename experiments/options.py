"""What the options of every experiment have in common, checked before any work."""

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any, Protocol

from experiments import folder

if TYPE_CHECKING:
  from experiments.study_plan import StudyConfig


class Options(Protocol):
  """The fields that the configs of all experiments share."""

  data: str | pathlib.Path | None
  out: pathlib.Path
  seed: int | None
  limit: int | None
  epsilon: float
  batch_size: int


def check_options(
  options: Options, experiment: str, entries: tuple[str, ...] | None
) -> pathlib.Path:
  """Checks the options that experiments share.

  Args:
    options: of the experiment.
    experiment: its name.
    entries: what its results folder consists of; None: see `folder.check_place`.

  Returns:
    The absolute path of the results folder.

  Raises:
    ValueError: one cannot be used; the message names it.
  """
  check_counts(limit=options.limit, batch_size=options.batch_size)
  if options.seed is not None and not 0 <= options.seed < 2**32:
    raise ValueError(f"seed must be in 0..2^32-1, got {options.seed}.")
  if not 0 <= options.epsilon <= 255:
    raise ValueError(f"epsilon must be in 0..255 gray levels, got {options.epsilon}.")
  place = pathlib.Path(os.path.abspath(options.out))
  folder.check_place(place, experiment, entries)
  if options.data is not None:
    folder.check_apart(place, pathlib.Path(options.data))
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


def study_config(options: dict[str, Any]) -> "StudyConfig":
  """Returns the config of a study from what a command line gave.

  Args:
    options: fields of `StudyConfig`, where None and () mean the default; and `classifiers`, a
      collection or folder of the four networks; and `changes`, texts `FIELD=VALUE`.

  Returns:
    The config.

  Raises:
    ValueError: an unknown field, or a value that is not of the field's type.
  """
  from experiments.study_plan import StudyConfig

  options = dict(options)
  classifiers, changes = options.pop("classifiers", None), options.pop("changes", ())
  chosen = {name: value for name, value in options.items() if value not in (None, ())}
  if classifiers is not None:
    chosen.setdefault("seen", tuple(f"{classifiers}/{name}" for name in _SEEN))
    chosen.setdefault("unseen", tuple(f"{classifiers}/{name}" for name in _UNSEEN))
  for change in changes:
    name, equals, text = change.partition("=")
    if not equals:
      raise ValueError(f"--set must be FIELD=VALUE, got {change!r}.")
    chosen[name] = _parse(name, text, StudyConfig)
  return StudyConfig(**chosen)


_SEEN, _UNSEEN = ("resnet18", "resnet50", "alexnet"), ("densenet161",)
_WORDS = {"true": True, "false": False, "none": None}


def _parse(name: str, text: str, config: type) -> Any:
  """A field's value from text; what it may be is read off the field's annotation."""
  kinds = {field.name: str(field.type) for field in dataclasses.fields(config)}
  fixed = ("bank", "command")
  if name not in kinds or name in fixed:
    known = ", ".join(field for field in kinds if field not in fixed)
    raise ValueError(f"--set must name one of {known}; got {name!r}.")
  kind = kinds[name]
  if text.lower() in _WORDS and ("bool" in kind or "None" in kind):
    return _WORDS[text.lower()]
  for part, read in (
    ("tuple", lambda value: tuple(filter(None, value.split(",")))),
    ("Path", pathlib.Path),
    ("float", float),
    ("int", int),
    ("str", str),
    ("Budget", str),
  ):
    if part in kind:
      try:
        return read(text)
      except ValueError as error:
        raise ValueError(f"--set {name} must be {kind}, got {text!r}.") from error
  raise ValueError(f"--set {name} must be true or false, got {text!r}.")
