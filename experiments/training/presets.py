"""How each network of the zoo is trained: one frozen `Recipe` a network and preset; a `Run` of it.

The recipes differ on purpose (optimizer, crops, jitter, seed): an attack that carries over from
three networks to a fourth says little when all four saw the same images in the same order.
"""

import dataclasses
import difflib
import hashlib
import pathlib
from typing import Any

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.published_config import IMAGENET, LITE, Normalization
from rpfgsm_jax.models.resnet import ResNetConfig
from rpfgsm_jax.models.weights import load_network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
  """A stretch of training at one image size."""

  until: float  # share of all epochs after which it ends, 0..1
  size: int  # side of the square views, pixels
  min_crop: float  # smallest share of a photograph's area that a view shows, 0..1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """All that decides a run besides the data and the seed."""

  config: Config
  optimizer: str  # "sgd" (Nesterov momentum 0.9) or "adamw"
  learning_rate: float  # at its peak
  weight_decay: float  # kernels only
  epochs: int
  epoch_images: int = 6000  # images an epoch, the same number of each class
  batch_size: int = 64
  phases: tuple[Phase, ...]
  jitter: float  # largest relative change of brightness, contrast and saturation, 0..1
  gray: float = 0.0  # share of views turned gray, 0..1
  warmup: float = 0.06  # share of the steps in which the learning rate rises
  label_smoothing: float = 0.1
  average_decay: float = 0.998  # of the moving average of the weights, a step
  stored_size: int = 144  # side at which photographs are kept in memory, pixels
  robust: float = 0.0  # radius in which views are moved against the network, gray levels; 0: not
  norm: str = "linf"  # how the radius is measured, see robust.move
  teacher: float = 0.0  # weight of the distance to a teacher's features; 0: there is none
  # Of the images; not shown, because a run's digest has what decides it: network and --init.
  normalization: Normalization = dataclasses.field(default=IMAGENET, repr=False)
  seed_offset: int = 0  # added to the user's seed, so that one seed gives four different runs

  def phase(self, epoch: int) -> Phase:
    """Returns the phase of an epoch, counted from 0."""
    for phase in self.phases:
      if epoch < round(phase.until * self.epochs):
        return phase
    return self.phases[-1]


def _phases(*rows: tuple[float, int, float]) -> tuple[Phase, ...]:
  return tuple(Phase(until=until, size=size, min_crop=crop) for until, size, crop in rows)


_SMALL = {
  "resnet18": Recipe(
    config=ResNetConfig(width=32, image_size=(128, 128)),
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=5e-4,
    epochs=30,
    phases=_phases((0.4, 72, 0.3), (0.93, 96, 0.3), (1.0, 128, 0.5)),
    jitter=0.3,
    seed_offset=1,
  ),
  "alexnet": Recipe(
    config=AlexNetConfig(
      widths=(64, 160, 256, 192, 192),
      hidden=512,
      pool_size=3,
      batch_norm=True,
      image_size=(128, 128),
    ),
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.05,
    epochs=24,
    phases=_phases((0.67, 96, 0.25), (1.0, 128, 0.4)),
    jitter=0.2,
    seed_offset=3,
  ),
  "resnet50": Recipe(
    config=ResNetConfig(stage_sizes=(3, 4, 6, 3), bottleneck=True, width=16, image_size=(128, 128)),
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.05,
    epochs=16,
    phases=_phases((0.5, 72, 0.4), (0.94, 96, 0.4), (1.0, 128, 0.6)),
    jitter=0.4,
    gray=0.1,
    seed_offset=2,
  ),
  "densenet161": Recipe(
    config=DenseNetConfig(
      stage_sizes=(4, 6, 8, 6), growth=16, stem_width=32, image_size=(128, 128)
    ),
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=3e-4,
    epochs=20,
    phases=_phases((0.65, 64, 0.5), (0.95, 96, 0.5), (1.0, 128, 0.7)),
    jitter=0.15,
    seed_offset=4,
  ),
}
_TUNED_OFFSET = len(_SMALL)  # of the seed, when a network is trained further

LITES = tuple(name for name in architectures.PRESETS if name.startswith("efficientnet_lite"))
for _name in LITES:
  _SMALL[_name] = Recipe(
    config=dataclasses.replace(architectures.PRESETS[_name], image_size=(128, 128)),
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.05,
    epochs=20,
    batch_size=32,
    phases=_phases((0.5, 72, 0.4), (0.94, 96, 0.4), (1.0, 128, 0.6)),
    jitter=0.3,
    normalization=LITE,
    seed_offset=2 * _TUNED_OFFSET + 1,
  )


def _full(name: str, **changes: object) -> Recipe:
  shared = {
    "config": architectures.PRESETS[name],
    "epochs": 90,
    "epoch_images": 9000,
    "phases": _phases((0.4, 160, 0.3), (1.0, 224, 0.35)),
    "stored_size": 256,
  }
  return dataclasses.replace(_SMALL[name], **(shared | changes))


def _full_lite(name: str) -> Recipe:
  size = architectures.PRESETS[name].image_size[0]
  phases = _phases((0.4, round(0.7 * size), 0.3), (1.0, size, 0.35))
  return _full(name, learning_rate=1e-3, phases=phases, stored_size=round(8 / 7 * size))


def _tune(name: str, **changes: object) -> Recipe:
  shared = {
    "epochs": 9,
    "phases": _phases((0.56, 112, 0.3), (1.0, 128, 0.35)),
    "warmup": 0.1,
    "seed_offset": _SMALL[name].seed_offset + _TUNED_OFFSET,
  }
  return dataclasses.replace(_SMALL[name], **(shared | changes))


PRESETS: dict[str, dict[str, Recipe]] = {
  "small": _SMALL,
  "tune": {
    "resnet18": _tune("resnet18", learning_rate=0.03),
    "resnet50": _tune("resnet50", learning_rate=1e-3),
    "alexnet": _tune("alexnet", learning_rate=3e-4),
    "densenet161": _tune("densenet161", learning_rate=0.03),
    **{name: _tune(name, optimizer="sgd", learning_rate=0.02, weight_decay=1e-4) for name in LITES},
  },
  "full": {
    "resnet18": _full("resnet18"),
    "resnet50": _full("resnet50", learning_rate=1e-3),
    "alexnet": _full("alexnet", learning_rate=1e-4, phases=_phases((1.0, 224, 0.3))),
    "densenet161": _full("densenet161", learning_rate=0.05),
    **{name: _full_lite(name) for name in LITES},
  },
}
"""`small`: reduced width, 128 px, for a CPU. `tune`: the same, from trained weights (`--init`).
`full`: the paper's networks, 224 px, for a GPU."""


def choose(preset: str, name: str) -> Recipe:
  """Returns the recipe of a network in a preset; of an unknown name says which is nearest."""
  for argument, value, known in (("preset", preset, PRESETS), ("network", name, _SMALL)):
    if value not in known:
      near = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
      raise ValueError(
        f"{argument} must be one of {', '.join(known)}, got {value!r}; did you mean {near!r}?"
      )
  return PRESETS[preset][name]


def vary(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
  """Returns a recipe with another `epochs`, `width`, `size`, `robust` or `norm`."""
  config = recipe.config
  if "width" in changes:
    if not isinstance(config, ResNetConfig):
      raise ValueError("--width is for resnet18 and resnet50; leave it out for the others.")
    config = dataclasses.replace(config, width=changes["width"])
  if "size" in changes:
    size, scale = changes["size"], changes["size"] / config.image_size[0]
    config = dataclasses.replace(config, image_size=(size, size))
    phases = tuple(
      dataclasses.replace(phase, size=round(phase.size * scale)) for phase in recipe.phases
    )
    stored = max(size, round(recipe.stored_size * scale))
    recipe = dataclasses.replace(recipe, phases=phases, stored_size=stored)
  rest = {key: value for key, value in changes.items() if key in ("epochs", "robust", "norm")}
  return dataclasses.replace(recipe, config=config, **rest)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What to train and where its files go."""

  network: str  # as --networks has it
  changes: dict[str, Any]  # of the preset's recipe, see vary()
  preset: str
  recipe: Recipe
  seed: int
  class_names: tuple[str, ...]
  out: pathlib.Path  # the network's own folder is made in it
  cache: pathlib.Path  # folder of decoded photographs and checkpoints
  resume: bool
  init: pathlib.Path | None = None  # folder of the network to start from; None: random weights
  teacher: pathlib.Path | None = None  # folder of the network whose features are learned
  stop_epoch: int | None = None  # end this call after so many epochs of the run

  @property
  def name(self) -> str:
    """Its folder's name: the network's and what was changed, epochs aside."""
    changed = [f"{key}{value}" for key, value in self.changes.items() if key != "epochs"]
    taught = [] if self.teacher is None else ["taught"]
    return "-".join([self.network, *changed, *taught]).replace(".0", "")

  @property
  def checkpoint(self) -> pathlib.Path:
    """The file of its checkpoint."""
    return self.cache / "checkpoints" / f"{self.preset}-{self.name}-{self.seed}.npz"

  def digest(self) -> str:
    """Returns a fingerprint of all that decides the run, for `--resume`."""
    facts = (self.name, self.preset, repr(self.recipe), self.seed, self.class_names)
    for folder in (self.init, self.teacher):
      if folder is not None:
        facts = (*facts, hashlib.sha256(b"".join(_weights_of(folder))).hexdigest())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _weights_of(folder: pathlib.Path) -> list[bytes]:
  return [value.tobytes() for _, value in sorted(load_network(folder).parameters.items())]
