"""Who takes part in the demo: the networks, seen and unseen, and the attacks compared."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.inputs import check_classifiers
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.models.classifier import Classifier

if TYPE_CHECKING:
  from experiments.demo import DemoConfig

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """A network of the experiment."""

  name: str  # as it was loaded
  title: str  # for tables
  seen: bool  # the attacks may use it
  classifier: Classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
  """One row of every table: an attack, or something it must be compared with.

  Attributes:
    name: in rows and folders.
    title: in tables.
    note: what it is, for the report.
    passes: gradients computed for a photograph.
    attack: settings of RP-FGSM; None for what is not an attack.
    classifiers: the networks it uses.
    change: `(images, image_ids, seed) -> images` where there is no attack.
  """

  name: str
  title: str
  note: str
  passes: int
  attack: rp.RPFGSMConfig | None = None
  classifiers: tuple[Classifier, ...] = ()
  change: Callable[[np.ndarray, Sequence[int], int], np.ndarray] | None = None

  @property
  def folder(self) -> str:
    """Where its images lie in the results folder."""
    return ORIGINAL if self.name == ORIGINAL else f"protected/{self.name}"

  def describe(self) -> dict[str, Any]:
    """Returns what the report needs to know."""
    return {key: getattr(self, key) for key in ("name", "title", "note", "passes")}


def line_up(
  config: "DemoConfig", load: Callable[[str], Classifier]
) -> tuple[tuple[Network, ...], tuple[Contender, ...]]:
  """Loads the networks and sets up the attacks.

  Args:
    config: of the demo.
    load: name to network.

  Returns:
    The networks, seen ones first, and the contenders, the unchanged photographs first.

  Raises:
    ValueError: an unknown network, networks that do not fit together, none seen or none unseen, or
      a reference that is not seen.
  """
  if not config.seen or not config.unseen:
    raise ValueError(
      f"at least one seen and one unseen network are needed, got {len(config.seen)} and "
      f"{len(config.unseen)}."
    )
  names = (*config.seen, *config.unseen)
  if len(set(names)) != len(names):
    raise ValueError(f"each network must be named once, got {', '.join(names)}.")
  networks = [
    Network(name=name, title=title, seen=place < len(config.seen), classifier=load(name))
    for place, (name, title) in enumerate(zip(names, _titles(names), strict=True))
  ]
  check_classifiers([network.classifier for network in networks])
  return tuple(networks), _contenders(config, networks)


def _titles(names: Sequence[str]) -> Sequence[str]:
  """The last part of each name, where these differ."""
  short = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
  return short if len(set(short)) == len(short) else names


def _contenders(config: "DemoConfig", networks: Sequence[Network]) -> tuple[Contender, ...]:
  seen = [network for network in networks if network.seen]
  reference = _reference(config, seen)
  several = tuple(network.classifier for network in seen)
  passes = iterations_for(config.epsilon)
  untargeted = rp.RPFGSMConfig(epsilon=config.epsilon, defenses=config.bank)
  one = dataclasses.replace(untargeted, defenses=rp.defenses.no_defenses())
  return (
    Contender(
      name=ORIGINAL,
      title="original",
      note="the photograph itself: what the defenses alone change",
      passes=0,
      change=lambda images, ids, seed: images,
    ),
    Contender(
      name="sign-noise",
      title="random noise",
      note=f"every value {config.epsilon:g} up or down at random: what any attack must beat",
      passes=0,
      change=lambda images, ids, seed: sign_noise(images, ids, seed, config.epsilon),
    ),
    Contender(
      name="u-fgsm",
      title=f"U-FGSM on {reference.title}",
      note="plain iterative untargeted FGSM against one network, no defense in the loop",
      passes=passes,
      attack=one,
      classifiers=(reference.classifier,),
    ),
    Contender(
      name="rp-fgsm",
      title="RP-FGSM",
      note="a random network and a random defense each iteration, away from the predicted class",
      passes=passes * len(seen),
      attack=untargeted,
      classifiers=several,
    ),
    Contender(
      name="rp-fgsm-targeted",
      title="RP-FGSM targeted",
      note="the same, towards one unlikely class drawn for each photograph",
      passes=passes * len(seen),
      attack=dataclasses.replace(untargeted, targeted=True),
      classifiers=several,
    ),
  )


def _reference(config: "DemoConfig", seen: Sequence[Network]) -> Network:
  if config.reference is None:
    return next((network for network in seen if network.title == "resnet50"), seen[0])
  for network in seen:
    if config.reference in (network.name, network.title):
      return network
  raise ValueError(
    f"reference must be one of the seen networks, {', '.join(n.title for n in seen)}, got "
    f"{config.reference!r}."
  )


def sign_noise(
  images: np.ndarray, image_ids: Sequence[int], seed: int, epsilon: float
) -> np.ndarray:
  """Returns images whose every value is eps grey levels up or down at random, clipped to 0..255.

  Args:
    images: `(N, H, W, 3)` uint8.
    image_ids: N stable ids; with the seed they decide an image's noise.
    seed: of the run.
    epsilon: grey levels; a fraction is rounded down.

  Returns:
    Same shape, uint8.
  """
  noisy = np.empty_like(images)
  for place, image_id in enumerate(image_ids):
    generator = np.random.default_rng([seed, image_id])
    signs = generator.integers(0, 2, images.shape[1:], np.int16) * 2 - 1
    moved = images[place].astype(np.int16) + signs * np.int16(epsilon)
    noisy[place] = np.clip(moved, 0, 255).astype(np.uint8)
  return noisy
