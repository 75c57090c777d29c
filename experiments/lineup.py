"""Who takes part in an experiment: the networks, seen and unseen, and what is compared."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.inputs import check_classifiers
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.engine import Attack, Protector, even_batches, to_uint8
from rpfgsm_jax.models.classifier import Classifier

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
    passes: gradients computed for a photograph; None where that depends on the photograph.
    slow: seconds a photograph, so that it gets fewer of them.
    attack: the attack; None for what is none.
    config: its settings.
    networks: those it uses.
    change: `(images, image_ids, seed) -> images` where there is no attack.
  """

  name: str
  title: str
  note: str
  passes: int | None = 0
  slow: bool = False
  attack: Attack | None = None
  config: Any = None
  networks: tuple[Network, ...] = ()
  change: Callable[[np.ndarray, Sequence[int], int], np.ndarray] | None = None

  @property
  def folder(self) -> str:
    """Where its images lie in the results folder."""
    return ORIGINAL if self.name == ORIGINAL else f"protected/{self.name}"

  def describe(self) -> dict[str, Any]:
    """Returns what the report needs to know."""
    return {key: getattr(self, key) for key in ("name", "title", "note", "passes")}


def load_networks(
  seen: Sequence[str], unseen: Sequence[str], load: Callable[[str], Classifier]
) -> tuple[Network, ...]:
  """Loads the networks.

  Args:
    seen: names of those that the attacks may use.
    unseen: names of those that only judge.
    load: name to network.

  Returns:
    The networks, seen ones first.

  Raises:
    ValueError: an unknown network, networks that do not fit together, or none seen or none unseen.
  """
  if not seen or not unseen:
    raise ValueError(
      f"at least one seen and one unseen network are needed, got {len(seen)} and {len(unseen)}."
    )
  names = (*seen, *unseen)
  if len(set(names)) != len(names):
    raise ValueError(f"each network must be named once, got {', '.join(names)}.")
  networks = tuple(
    Network(name=name, title=title, seen=place < len(seen), classifier=load(name))
    for place, (name, title) in enumerate(zip(names, _titles(names), strict=True))
  )
  check_classifiers([network.classifier for network in networks])
  return networks


def reference_network(networks: Sequence[Network], wanted: str | None) -> Network:
  """Returns the seen network that attacks on a single one use.

  Args:
    networks: of the experiment.
    wanted: its name or title; None: ResNet50, as in the paper, else the first.

  Returns:
    The network.

  Raises:
    ValueError: the wanted one is not seen.
  """
  seen = [network for network in networks if network.seen]
  if wanted is None:
    return next((network for network in seen if network.title == "resnet50"), seen[0])
  for network in seen:
    if wanted in (network.name, network.title):
      return network
  raise ValueError(
    f"reference must be one of the seen networks, {', '.join(n.title for n in seen)}, got "
    f"{wanted!r}."
  )


def baselines(epsilon: float) -> tuple[Contender, Contender]:
  """Returns what every attack must be compared with: nothing, and random noise of the same eps."""
  return (
    Contender(
      name=ORIGINAL,
      title="original",
      note="the photograph itself: what the defenses alone change",
      change=lambda images, ids, seed: images,
    ),
    Contender(
      name="sign-noise",
      title="random noise",
      note=f"every value {epsilon:g} up or down at random: what any attack must beat",
      change=lambda images, ids, seed: sign_noise(images, ids, seed, epsilon),
    ),
  )


def rp_contenders(
  networks: Sequence[Network], epsilon: float, bank: rp.defenses.DefenseBank
) -> tuple[Contender, Contender]:
  """Returns RP-FGSM and its targeted variant on all seen networks."""
  seen = tuple(network for network in networks if network.seen)
  untargeted = rp.RPFGSMConfig(epsilon=epsilon, defenses=bank)
  passes = iterations_for(epsilon) * len(seen)
  return (
    Contender(
      name="rp-fgsm",
      title="RP-FGSM",
      note="a random network and a random defense each iteration, away from the predicted class",
      passes=passes,
      attack=rp.rp_fgsm,
      config=untargeted,
      networks=seen,
    ),
    Contender(
      name="rp-fgsm-targeted",
      title="RP-FGSM targeted",
      note="the same, towards one unlikely class drawn for each photograph",
      passes=passes,
      attack=rp.rp_fgsm,
      config=dataclasses.replace(untargeted, targeted=True),
      networks=seen,
    ),
  )


def demo_contenders(
  networks: Sequence[Network],
  reference: Network,
  epsilon: float,
  bank: rp.defenses.DefenseBank,
) -> tuple[Contender, ...]:
  """Returns the demo's contenders, the unchanged photographs first."""
  simple = Contender(
    name="u-fgsm",
    title=f"U-FGSM on {reference.title}",
    note="plain iterative untargeted FGSM against one network, no defense in the loop",
    passes=iterations_for(epsilon),
    attack=rp.u_fgsm,
    config=rp.FGSMConfig(epsilon=epsilon),
    networks=(reference,),
  )
  return (*baselines(epsilon), simple, *rp_contenders(networks, epsilon, bank))


def protect(
  contender: Contender, images: np.ndarray, image_ids: Sequence[int], seed: int, size: int
) -> tuple[np.ndarray, rp.AttackResult | None]:
  """Returns the contender's images as they would be written, and the attack's result if it was one.

  Args:
    contender: who.
    images: `(N, H, W, 3)` uint8, 1 <= N <= size.
    image_ids: N stable ids.
    seed: of the run.
    size: images computed together, so that a run has one shape.

  Returns:
    `(N, H, W, 3)` uint8; and the result of N images or None.
  """
  if contender.attack is None:
    return contender.change(images, image_ids, seed), None
  batch_size, devices = even_batches(size, size)
  protector = Protector(
    [network.classifier for network in contender.networks],
    contender.config,
    attack=contender.attack,
    seed=seed,
    batch_size=batch_size,
    devices=devices,
  )
  result = protector(images, np.asarray(image_ids))
  return to_uint8(result.adversarial), result


def _titles(names: Sequence[str]) -> Sequence[str]:
  """The last part of each name, where these differ."""
  short = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
  return short if len(set(short)) == len(short) else names


def sign_noise(
  images: np.ndarray, image_ids: Sequence[int], seed: int, epsilon: float
) -> np.ndarray:
  """Returns images whose every value is eps gray levels up or down at random, clipped to 0..255.

  Args:
    images: `(N, H, W, 3)` uint8.
    image_ids: N stable ids; with the seed they decide an image's noise.
    seed: of the run.
    epsilon: gray levels; a fraction is rounded down.

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
