"""What networks make of images, with and without defenses: few compiled programs, fixed shapes.

One program applies any member of a bank to a batch (member and parameter are traced), one program
a network ranks classes. Every batch has the same shape, so a whole run compiles each once.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.defenses.bank import IDENTITY, DefenseBank, apply_member
from rpfgsm_jax.evaluation import rank_of_label
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, Images, Labels

NO_DEFENSE = "none"
_MOST_LIKELY = 5


@dataclasses.dataclass(frozen=True)
class Setting:
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
    classes: `(N, networks, 5)` int, the most likely classes of the images as they are.
    probabilities: likewise, their probabilities.
  """

  ranks: np.ndarray
  label_ranks: np.ndarray
  classes: np.ndarray
  probabilities: np.ndarray


def settings_of(bank: DefenseBank) -> tuple[Setting, ...]:
  """Returns the image as it is and every member of the bank at every parameter, in its order."""
  members = [
    Setting(f"{family.name} {parameter:g}", index, parameter)
    for index, family in enumerate(bank.families)
    if family != IDENTITY
    for parameter in family.parameters
  ]
  return (Setting(NO_DEFENSE, None, 0.0), *members)


def pad(images: np.ndarray, size: int) -> np.ndarray:
  """Returns the images with the last one repeated up to `size`, for one shape in a whole run."""
  return images[np.minimum(np.arange(size), len(images) - 1)]


def predict(
  images: np.ndarray, networks: Sequence[Classifier], size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the most likely classes of the images as they are, and their probabilities.

  Args:
    images: `(N, H, W, 3)` uint8, 1 <= N <= size.
    networks: M networks.
    size: images computed together.

  Returns:
    `(N, M, 5)` int and `(N, M, 5)` float; fewer than 5 when there are fewer classes.
  """
  batch, zeros = jnp.asarray(pad(images, size), jnp.float32), jnp.zeros(size, jnp.int32)
  found = [_classify(network, batch, zeros, zeros)[2:] for network in networks]
  classes, probabilities = (np.stack(part, axis=1) for part in zip(*found, strict=True))
  return classes[: len(images)], probabilities[: len(images)]


def evaluate(
  images: np.ndarray,
  asked: np.ndarray,
  labels: np.ndarray,
  networks: Sequence[Classifier],
  bank: DefenseBank,
  size: int,
) -> Predictions:
  """Returns the ranks of given classes under every setting of the bank.

  Args:
    images: `(N, H, W, 3)` uint8, 1 <= N <= size.
    asked: `(N, M)` int, for each network the class whose rank is wanted.
    labels: `(N,)` int, the true classes; -1 where unknown.
    networks: M networks.
    bank: the defenses.
    size: images computed together.

  Returns:
    The predictions of the N images.
  """
  count, batch = len(images), jnp.asarray(pad(images, size), jnp.float32)
  asked = jnp.asarray(pad(asked, size), jnp.int32)
  labels = jnp.maximum(jnp.asarray(pad(labels, size), jnp.int32), 0)
  ranks, label_ranks, classes, probabilities = [], [], [], []
  for setting in settings_of(bank):
    defended = batch if setting.family is None else _defend(bank, setting, batch)
    found = [
      _classify(network, defended, asked[:, place], labels)
      for place, network in enumerate(networks)
    ]
    ranks.append([each[0] for each in found])
    label_ranks.append([each[1] for each in found])
    if setting.family is None:
      classes = [each[2] for each in found]
      probabilities = [each[3] for each in found]
  # (settings, networks, N) to (N, networks, settings); fetched last, so that nothing waits.
  return Predictions(
    ranks=np.asarray(jax.device_get(ranks)).T[:count],
    label_ranks=np.asarray(jax.device_get(label_ranks)).T[:count],
    classes=np.stack(classes, axis=1)[:count],
    probabilities=np.stack(probabilities, axis=1)[:count],
  )


def _defend(bank: DefenseBank, setting: Setting, images: Images) -> Images:
  return _apply(bank, images, jnp.int32(setting.family), jnp.float32(setting.parameter))


def _apply_to_batch(bank: DefenseBank, images: Images, family: Array, parameter: Array) -> Images:
  return apply_member(bank, images, family, parameter, jnp.uint32(0), "straight_through")


_apply = jax.jit(_apply_to_batch, static_argnums=0)


@jax.jit
def _classify(
  network: Classifier, images: Images, asked: Labels, labels: Labels
) -> tuple[Array, Array, Array, Array]:
  logits = network(images)
  most_likely = min(_MOST_LIKELY, logits.shape[-1])
  # By logits, as the ranks are: probabilities may be equal where logits are not.
  classes = jax.lax.top_k(logits, most_likely)[1]
  probabilities = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), classes, axis=-1)
  return rank_of_label(logits, asked), rank_of_label(logits, labels), classes, probabilities
