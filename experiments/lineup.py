"""Who takes part in an experiment: the networks, seen and unseen, and what is compared."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.inputs import check_classifiers
from rpfgsm_jax.engine.batches import even_batches, to_uint8
from rpfgsm_jax.engine.protector import Attack, Protector
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.photos.views import view_at

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyNetwork:
  """A network of the experiment."""

  name: str  # as it was loaded
  title: str  # for tables
  seen: bool  # the attacks may use it
  classifier: Classifier  # of images of the study's size
  class_names: Sequence[str] | None = None  # where they are not those of the first network

  def describe(self) -> dict[str, Any]:
    """Returns what rows say of it."""
    own = {} if self.class_names is None else {"class_names": list(self.class_names)}
    return {"name": self.name, "title": self.title, "seen": self.seen, **own}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
  """One row of every table: an attack, or something it must be compared with."""

  name: str  # in rows and folders
  title: str  # in tables
  note: str  # what it is
  passes: int | None = 0  # gradients for a photograph; None: that depends on the photograph
  slow: bool = False  # seconds a photograph, so that it gets fewer of them
  attack: Attack | None = None
  config: Any = None  # of the attack
  networks: tuple[StudyNetwork, ...] = ()  # those it uses
  transforms: bool = False  # an iteration may see the image through a random transformation
  # Where there is no attack.
  change: Callable[[np.ndarray, Sequence[int], int], np.ndarray] | None = None

  @property
  def on(self) -> str:
    """The titles of the networks it uses."""
    return " + ".join(network.title for network in self.networks)

  def describe(self) -> dict[str, Any]:
    """Returns what rows say of it."""
    return {key: getattr(self, key) for key in ("name", "title", "note", "passes")}


def load_networks(
  seen: Sequence[str], unseen: Sequence[str], load: Callable[[str], Classifier]
) -> tuple[StudyNetwork, ...]:
  """Loads the networks, seen ones first; refuses those that do not fit together.

  The first one's image size is the study's: others are shown its images resized, exactly as they
  would be shown files. Networks that only judge may have other classes.
  """
  if not seen or not unseen:
    raise ValueError(
      f"at least one seen and one unseen network are needed, got {len(seen)} and {len(unseen)}."
    )
  names = (*seen, *unseen)
  if len(set(names)) != len(names):
    raise ValueError(f"each network must be named once, got {', '.join(names)}.")
  short = [name.rstrip("/").rsplit("/", 1)[-1] for name in names]
  titles = short if len(set(short)) == len(short) else names
  loaded = [load(name) for name in names]
  first = loaded[0]
  check_classifiers(loaded[: len(seen)], same_size=False)
  return tuple(
    StudyNetwork(
      name=name,
      title=title,
      seen=place < len(seen),
      classifier=view_at(network, first.image_size),
      class_names=None if network.class_names == first.class_names else network.class_names,
    )
    for place, (name, title, network) in enumerate(zip(names, titles, loaded, strict=True))
  )


def reference_network(networks: Sequence[StudyNetwork], wanted: str | None) -> StudyNetwork:
  """Returns the seen network of attacks on a single one; of None ResNet50 as in the paper."""
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


def protect(
  contender: Contender, images: np.ndarray, image_ids: Sequence[int], seed: int, size: int
) -> tuple[np.ndarray, rp.AttackResult | None]:
  """Returns a contender's `(N, H, W, 3)` uint8 images, `size` at a time, and an attack's result."""
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


def sign_noise(
  images: np.ndarray, image_ids: Sequence[int], seed: int, epsilon: float | np.ndarray
) -> np.ndarray:
  """Returns uint8 images whose every value is floor(eps) gray levels up or down at random.

  `epsilon` is one number, or one a pixel, as `(H, W, 1)`.
  """
  noisy = np.empty_like(images)
  for place, image_id in enumerate(image_ids):
    generator = np.random.default_rng([seed, image_id])
    signs = generator.integers(0, 2, images.shape[1:], np.int16) * 2 - 1
    moved = images[place].astype(np.int16) + signs * np.asarray(epsilon).astype(np.int16)
    noisy[place] = np.clip(moved, 0, 255).astype(np.uint8)
  return noisy
