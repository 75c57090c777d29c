"""What networks make of images, with and without defenses: few compiled programs, fixed shapes.

One program applies any member of a bank to a batch (member and parameter are traced), one program
a network ranks classes. Every batch has the same shape, so a whole run compiles each once. All
devices of the process share the images.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax import devices as placement
from rpfgsm_jax.defenses.bank import IDENTITY, DefenseBank, apply_member
from rpfgsm_jax.defenses.oracle import oracle_member
from rpfgsm_jax.evaluation.detectability import squeezing_distance
from rpfgsm_jax.evaluation.misleading import rank_of_label
from rpfgsm_jax.models.answers import are_finite, check_answers
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, Images, Labels, Logits

NO_DEFENSE = "none"
_MOST_LIKELY = 5


@dataclasses.dataclass(frozen=True)
class DefenseSetting:
  """One defense at one parameter; `family` is None for the image as it is."""

  name: str  # "none", "jpeg 75"
  family: int | None  # index into the bank
  parameter: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
  """What each of the networks makes of N images.

  Attributes:
    ranks: `(N, networks, settings)` int, of the class that each network was asked about.
    label_ranks: likewise of the true class; meaningless where there is none.
    distances: likewise, float in 0..2: how far the defense moves the probabilities (Eq. 4).
    classes: `(N, networks, 5)` int, the most likely classes of the images as they are.
    probabilities: likewise, their probabilities.
  """

  ranks: np.ndarray
  label_ranks: np.ndarray
  distances: np.ndarray
  classes: np.ndarray
  probabilities: np.ndarray


def settings_of(bank: DefenseBank) -> tuple[DefenseSetting, ...]:
  """Returns the image as it is and every member of the bank at every parameter, in its order."""
  members = [
    DefenseSetting(f"{family.name} {parameter:g}", index, parameter)
    for index, family in enumerate(bank.families)
    if family != IDENTITY
    for parameter in family.parameters
  ]
  return (DefenseSetting(NO_DEFENSE, None, 0.0), *members)


def pad(images: np.ndarray, size: int) -> np.ndarray:
  """Returns the images with the last one repeated up to `size`, for one shape in a whole run."""
  return images[np.minimum(np.arange(size), len(images) - 1)]


def predict(
  images: np.ndarray, networks: Sequence[Classifier], size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the five most likely classes of the images as they are, and their probabilities.

  Each `(N, M, 5)`, less when there are fewer classes; `size` images are computed together. Refuses
  networks that are broken, or have no finite answer to an image, by a ValueError; so `evaluate`.
  """
  rows, devices = _shared(size)
  networks = placement.on_each(tuple(networks), devices)
  batch = placement.split(pad(images, rows).astype(np.float32), devices)
  found = [_most_likely(network_logits(network, batch)) for network in networks]
  classes, probabilities, finite = (np.stack(part, axis=1) for part in zip(*found, strict=True))
  check_answers(networks, images, finite[: len(images)])
  return classes[: len(images)], probabilities[: len(images)]


def evaluate(
  images: np.ndarray,
  asked: np.ndarray,
  labels: np.ndarray,
  networks: Sequence[Classifier],
  bank: DefenseBank,
  size: int,
  *,
  oracle: bool = False,
) -> Predictions:
  """Returns what M networks make of N images under every setting of the bank.

  For each network `asked`, `(N, M)`, is the class whose rank is wanted; `labels`, `(N,)`, are the
  true ones, -1 where unknown. `size` images are computed together, on all devices. With `oracle`
  Pillow and SciPy defend on the host, instead of our own on the device: the paper's families only.
  """
  count, (rows, devices) = len(images), _shared(size)
  padded = pad(images, rows)
  networks = placement.on_each(tuple(networks), devices)
  batch, asked, labels = placement.split(
    (
      padded.astype(np.float32),
      pad(asked, rows).astype(np.int32),
      np.maximum(pad(labels, rows), 0).astype(np.int32),
    ),
    devices,
  )
  plain = [network_logits(network, batch) for network in networks]
  found = []
  for setting in settings_of(bank):
    logits = plain
    if setting.family is not None:
      if oracle:
        defended = placement.split(_defend_on_host(bank, setting, padded), devices)
      else:
        defended = _apply(bank, batch, jnp.int32(setting.family), jnp.float32(setting.parameter))
      logits = [network_logits(network, defended) for network in networks]
    found.append(
      [
        _judge(mine, before, asked[:, place], labels)
        for place, (mine, before) in enumerate(zip(logits, plain, strict=True))
      ]
    )
  likely = [_most_likely(logits) for logits in plain]
  # (settings, networks, measures, N) to (measures, N, networks, settings); fetched last, so that
  # nothing waits.
  ranks, label_ranks, distances = (
    np.asarray(part)[..., :count].T
    for part in zip(*(zip(*row, strict=True) for row in jax.device_get(found)), strict=True)
  )
  classes, probabilities, finite = (
    np.stack(part, axis=1)[:count] for part in zip(*likely, strict=True)
  )
  check_answers(networks, images, finite & np.isfinite(distances).all(axis=-1))
  return Predictions(
    ranks=ranks,
    label_ranks=label_ranks,
    distances=distances,
    classes=classes,
    probabilities=probabilities,
  )


def _shared(size: int) -> tuple[int, tuple[jax.Device, ...]]:
  """Returns the devices that share so many images, and that number made a multiple of theirs."""
  each, devices = placement.share(size, placement.choose_devices())
  return each * len(devices), devices


def _defend_on_host(bank: DefenseBank, setting: DefenseSetting, images: np.ndarray) -> np.ndarray:
  member = oracle_member(bank.families[setting.family], setting.parameter)
  return np.stack([member(image) for image in images]).astype(np.float32)


def _apply_to_batch(bank: DefenseBank, images: Images, family: Array, parameter: Array) -> Images:
  return apply_member(bank, images, family, parameter, jnp.uint32(0), "straight_through")


_apply = jax.jit(_apply_to_batch, static_argnums=0)


@jax.jit
def network_logits(network: Classifier, images: Images) -> Logits:
  """Returns a network's logits `(N, D)` of images `(N, H, W, 3)`: one program a network."""
  return network(images)


@jax.jit
def _judge(
  logits: Logits, plain: Logits, asked: Labels, labels: Labels
) -> tuple[Array, Array, Array]:
  return (
    rank_of_label(logits, asked),
    rank_of_label(logits, labels),
    squeezing_distance(plain, logits),
  )


@jax.jit
def _most_likely(logits: Logits) -> tuple[Array, Array, Array]:
  # By logits, as the ranks are: probabilities may be equal where logits are not.
  classes = jax.lax.top_k(logits, min(_MOST_LIKELY, logits.shape[-1]))[1]
  probabilities = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), classes, axis=-1)
  return classes, probabilities, are_finite(logits)
