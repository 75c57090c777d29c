"""What a study may be told, from Python or from a command line, checked before any work."""

import dataclasses
import pathlib
from typing import Any

import rpfgsm_jax as rp
from experiments.variants import PAPER_EPSILON
from rpfgsm_jax.attacks.minimal import Budget, check_budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """What a run of any table or figure may be told; `run.py NAME --set FIELD=VALUE` sets any field.

  `limit` photographs for most attacks, `slow_limit` for JSMA, CW and SparseFool. Fields that change
  a row's numbers must stay the same within a results folder.
  """

  data: str | pathlib.Path | None = None  # see `photos.Choice`; None: scikit-image's photographs
  labels: pathlib.Path | None = None  # places365_val.txt
  mepp18: bool = False  # the paper's 3,000 test images out of `data`
  preprocess: str = "paper"  # or "places365"
  train: pathlib.Path | None = None  # clean training photographs for the detection thresholds
  train_limit: int = 1000  # of these
  out: pathlib.Path = pathlib.Path("results/study")
  seed: int | None = None  # None: from the system's entropy, so that nobody can guess the targets
  limit: int | None = 100  # photographs at most
  slow_limit: int | None = 50  # of these, for JSMA, CW and SparseFool
  epsilon: float = PAPER_EPSILON  # gray levels
  budget: Budget = "quick"  # of the slow attacks
  batch_size: int = 25  # photographs on the device at once
  keep: int = 3  # photographs whose images are kept; -1: all
  timed: int = 20  # photographs timed one at a time, for fig6
  oracle_defenses: bool = False  # evaluate behind Pillow and SciPy instead of our own defenses
  seen: tuple[str, ...] = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
  unseen: tuple[str, ...] = ("scenes25/densenet161",)
  reference: str | None = None  # the one network of single-network attacks; None: ResNet50
  bank: rp.defenses.DefenseBank = dataclasses.field(default_factory=rp.defenses.paper_bank)
  command: str = "python experiments/run.py"  # for the tables


def check_options(config: StudyConfig) -> None:
  """Refuses a config that names something impossible."""
  check_budget(config.budget)
  for name in ("limit", "batch_size", "slow_limit", "train_limit", "timed"):
    value = getattr(config, name)
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
  if config.keep < -1:
    raise ValueError(f"keep must be -1 (all) or a number of photographs, got {config.keep}.")
  if config.seed is not None and not 0 <= config.seed < 2**32:
    raise ValueError(f"seed must be in 0..2^32-1, got {config.seed}.")
  if not 0 <= config.epsilon <= 255:
    raise ValueError(f"epsilon must be in 0..255 gray levels, got {config.epsilon}.")


def study_config(options: dict[str, Any]) -> StudyConfig:
  """Returns a config from a command line's options, where None and () mean the default.

  `classifiers` is a collection or a folder of the four networks, `changes` are texts FIELD=VALUE.
  """
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
    chosen[name] = _parse(name, text)
  return StudyConfig(**chosen)


_SEEN, _UNSEEN = ("resnet18", "resnet50", "alexnet"), ("densenet161",)
_WORDS = {"true": True, "false": False, "none": None}


def _parse(name: str, text: str) -> Any:
  """A field's value from text; what it may be is read off the field's annotation."""
  kinds = {
    field.name: str(field.type)
    for field in dataclasses.fields(StudyConfig)
    if field.name not in ("bank", "command")
  }
  if name not in kinds:
    raise ValueError(f"--set must name one of {', '.join(kinds)}; got {name!r}.")
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
