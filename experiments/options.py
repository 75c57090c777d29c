"""The settings of experiments: each declared once, for Python and for the command line.

Needs no JAX, so that `run.py --help` does not wait for it.
"""
# ruff: noqa: RUF009  `_option` makes a field, a new one each time.

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
  from rpfgsm_jax.defenses import DefenseBank

PAPER_EPSILON = 16.0
FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)
FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
_COUNT, _SEED = click.IntRange(1), click.IntRange(0, 2**32 - 1)
_Command = Callable[..., None]


def _option(default: Any, help_text: str | None = None, **details: Any) -> Any:
  """A field that is also an option of the command line; the keywords of its `click.option`."""
  return dataclasses.field(default=default, metadata={"help": help_text, **details})


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """Settings of a run of any table or figure; `run.py NAME --set FIELD=VALUE` sets any field.

  `limit` photographs for most attacks, `slow_limit` for JSMA, CW and SparseFool. Fields that change
  a row's numbers must stay the same within a results folder.
  """

  data: str | pathlib.Path | None = _option(
    None, "Folder of images, val_256.tar, tfds or tfds:FOLDER.  [default: scikit-image's own]"
  )
  labels: pathlib.Path | None = _option(
    None, "places365_val.txt: classes of Places365's images.", type=FILE
  )
  mepp18: bool = _option(False, "Only the paper's 3,000 test images.")
  preprocess: str = _option(
    "paper",
    "Resized at once; or shorter side to 256/224, then the center.",
    type=click.Choice(["paper", "places365"]),
  )
  train: pathlib.Path | None = _option(
    None, "Clean training images, for the thresholds of detectability.", type=FOLDER
  )
  train_limit: int = _option(1000, type=_COUNT)
  out: pathlib.Path = _option(pathlib.Path("results/study"), "Results.", type=FOLDER)
  # Drawn from the system's entropy, so that nobody can guess the targets.
  seed: int | None = _option(None, "[default: drawn; in run.json]", type=_SEED)
  limit: int | None = _option(100, "Images at most.", type=_COUNT)
  slow_limit: int | None = _option(50, "Images at most for JSMA, CW and SparseFool.", type=_COUNT)
  epsilon: float = _option(PAPER_EPSILON, "Gray levels.")
  budget: Literal["quick", "paper"] = _option(
    "quick", "Of JSMA, CW and SparseFool.", type=click.Choice(["quick", "paper"])
  )
  batch_size: int = _option(25, type=_COUNT)
  keep: int = _option(3, "Images written for pictures; -1: all.", type=click.IntRange(-1))
  timed: int = 20  # photographs timed one at a time, for fig6
  oracle_defenses: bool = _option(False, "Judge behind Pillow and SciPy, not our defenses.")
  seen: tuple[str, ...] = _option(
    ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet"),
    "A network for the attacks; may be repeated.",
  )
  unseen: tuple[str, ...] = _option(
    ("scenes25/densenet161",), "A network kept from the attacks; may be repeated."
  )
  reference: str | None = _option(
    None, "The network of single-network attacks.  [default: ResNet50]"
  )
  bank: "DefenseBank | None" = None  # None: the paper's
  command: str = "python experiments/run.py"  # for the tables


DEMO = {"out": pathlib.Path("results/demo"), "limit": None, "batch_size": 8, "keep": -1}
"""Where the demo differs: all photographs, every image kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullsizeConfig:
  """Settings of a run on photos at their own size."""

  data: pathlib.Path | None = _option(
    None, "Folder of images.  [default: scikit-image's own]", type=FOLDER
  )
  out: pathlib.Path = _option(pathlib.Path("results/fullsize"), "Results.", type=FOLDER)
  limit: int = _option(100, type=_COUNT)
  megapixels: float = _option(
    1.0,
    "Smaller photos are enlarged to so many times 2^20 pixels.",
    type=click.FloatRange(0.01, 50),
  )
  seed: int = _option(1, type=_SEED)
  settings: tuple[str, ...] = _option(
    (), "A setting or a family; repeatable.  [default: all]", name="--setting"
  )
  together: int = _option(1, "Photos at once; GPUs.", type=_COUNT)
  classifiers: str = "scenes25"
  seen: tuple[str, ...] = _option(
    ("resnet18", "resnet50", "alexnet"),
    "A network for the attack, by name or folder; repeatable.  [default: the bundled three]",
  )
  held_out: tuple[str, ...] = _option(
    ("densenet161",),
    "A network that only judges, by name or folder; repeatable.  [default: DenseNet161]",
    name=("--held-out", "--unseen"),
  )
  command: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurrogatesConfig:
  """Settings of a comparison of attacked networks by what others make of the photos."""

  data: pathlib.Path | None = _option(
    None, "Folder of class folders.  [required]", type=FOLDER, required=True
  )
  out: pathlib.Path = _option(pathlib.Path("results/surrogates"), "Results.", type=FOLDER)
  surrogates: tuple[str, ...] = _option(
    ("scenes25/resnet18,scenes25/resnet50,scenes25/alexnet",),
    "Networks to attack together, with commas between; may be repeated.",
    name="--attacked",
  )
  judges: tuple[str, ...] = _option(
    (), "A network that is only asked, or FILE.py:NAME for its classifier(NAME).", name="--judge"
  )
  at: tuple[str, ...] = _option(
    ("8/30", "16/60"),
    "A strength of `rpfgsm protect`, or that with changes, as in strong+passes=30+no-views, or "
    "EPS/PASSES; may be repeated.",
  )
  half: int | None = _option(
    None, "1: the half to choose on; 2: to report on.  [default: all]", type=click.IntRange(1, 2)
  )
  limit: int = _option(75, "Photos at most, of all classes alike.", type=_COUNT)
  seed: int = _option(1, type=_SEED)
  command: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(SurrogatesConfig):
  """Settings of a comparison of adversaries who know how photos are protected."""

  out: pathlib.Path = _option(pathlib.Path("results/adaptive"), "Results.", type=FOLDER)
  train: pathlib.Path | None = _option(
    None, "Folder of class folders of other photos, for who learns.  [required]", type=FOLDER,
    required=True,
  )  # fmt: skip
  train_limit: int = _option(300, "Photos at most to learn from.", type=_COUNT)
  steps: int = _option(1500, "Of training the denoiser.", type=_COUNT)
  tuned: tuple[str, ...] = _option(
    ("scenes25/resnet18", "scenes25/densenet161"),
    "A network that is trained on protected photos: bundled, or a folder that train_zoo.py made; "
    "may be repeated.",
  )
  epochs: int = _option(4, "Of training each of them.", type=_COUNT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LooksConfig:
  """Settings of a page of photos at several strengths."""

  data: pathlib.Path | None = _option(
    None, "Folder of images.  [default: scikit-image's own]", type=FOLDER
  )
  out: pathlib.Path = _option(pathlib.Path("results/looks"), "Results.", type=FOLDER)
  limit: int = _option(10, "Photos at most.", type=_COUNT)
  attacked: str = _option(
    "shield/efficientnet_lite0", "Networks to attack together, with commas between."
  )
  at: tuple[str, ...] = _option(
    ("gentle", "medium", "strong"), "As `surrogates` has it; may be repeated."
  )
  seed: int = _option(1, type=_SEED)
  command: str = ""


def add_options(
  config: type, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[_Command], _Command]:
  """Returns a decorator that adds a config's options to a command, or some of them changed."""

  def add(command: _Command) -> _Command:
    for field in reversed(dataclasses.fields(config)):
      if field.metadata and (changes is None or field.name in changes):
        changed = {} if changes is None else changes[field.name]
        details = {"default": field.default, **field.metadata, **changed}
        names = details.pop("name", f"--{field.name.replace('_', '-')}")
        names = (names,) if isinstance(names, str) else names
        if isinstance(details["default"], tuple):
          details |= {"default": (), "multiple": True}
        elif isinstance(details["default"], bool):
          details["is_flag"] = True
        elif details["default"] is not None:
          details["show_default"] = True
        command = click.option(*names, field.name, **details)(command)
    return command

  return add


def network_named(name: str, classifiers: str | None) -> str:
  """Returns what a network is loaded by: a bare word is one of `classifiers`, or a folder."""
  known = name.startswith("clip:") or pathlib.Path(name).is_dir()
  bare = name == pathlib.PurePath(name).name and not known
  return f"{classifiers or FullsizeConfig.classifiers}/{name}" if bare else name


def study_config(options: Mapping[str, Any]) -> StudyConfig:
  """Returns a config from a command line's options; None and () mean the default."""
  options = dict(options)
  classifiers, changes = options.pop("classifiers", None), options.pop("changes", ())
  chosen = {name: value for name, value in options.items() if value not in (None, ())}
  if classifiers is not None:
    chosen.setdefault("seen", FullsizeConfig.seen)
    chosen.setdefault("unseen", FullsizeConfig.held_out)
  for change in changes:
    name, equals, text = change.partition("=")
    if not equals:
      raise ValueError(f"--set must be FIELD=VALUE, got {change!r}.")
    chosen[name] = _parse(name, text)
  for kind in {"seen", "unseen"} & chosen.keys():
    chosen[kind] = tuple(network_named(name, classifiers) for name in chosen[kind])
  return StudyConfig(**chosen)


def _path(text: str) -> pathlib.Path:
  if not text:
    raise ValueError("An empty path would be the current folder.")
  return pathlib.Path(text)


_WORDS = {"true": True, "false": False, "none": None}


def _parse(name: str, text: str) -> Any:
  """A field's value from text; what it may be is read off the field's annotation."""
  kinds = {
    field.name: getattr(field.type, "__name__", str(field.type))
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
    ("Path", _path),
    ("float", float),
    ("int", int),
    ("str", str),
    ("Literal", str),
  ):
    if part in kind:
      try:
        return read(text)
      except ValueError as error:
        raise ValueError(f"--set {name} must be {kind}, got {text!r}.") from error
  raise ValueError(f"--set {name} must be true or false, got {text!r}.")
