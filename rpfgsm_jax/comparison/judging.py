"""What networks make of pairs and of clean training photographs, batch by batch.

Networks are judged in groups of one image size and one set of classes, so that those of a group
share the work of the defenses.
"""

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rpfgsm_jax.comparison.outcome import NetworkOutcome
from rpfgsm_jax.comparison.pairs import ComparisonError
from rpfgsm_jax.comparison.reading import ReadPair
from rpfgsm_jax.data import ImageRecord, iterate_images, labels_for
from rpfgsm_jax.defenses.bank import DefenseBank
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

_FIELDS = ("ranks", "label_ranks", "distances", "answers", "confidences")


class _Group(NamedTuple):
  """Networks of one image size and one set of classes."""

  networks: tuple[Classifier, ...]
  labels: np.ndarray  # of all pairs asked for, int; -1 where unknown

  @property
  def image_size(self) -> tuple[int, int]:
    """(height, width) that they take."""
    return self.networks[0].image_size


class Judge:
  """Collects what networks make of photographs; only numbers of each are kept."""

  def __init__(
    self,
    networks: Sequence[Classifier],
    originals: Sequence[ImageRecord],
    bank: DefenseBank,
    size: int,
  ):
    self.networks, self.bank, self.size = tuple(networks), bank, size
    self.image_sizes = tuple(dict.fromkeys(each.image_size for each in networks))
    self._groups = _grouped(networks, originals)
    self._found: dict[str, dict[str, list[np.ndarray]]] = collections.defaultdict(
      lambda: {field: [] for field in _FIELDS}
    )
    self._labels: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    self._training: dict[str, list[np.ndarray]] = collections.defaultdict(list)

  def judge(self, batch: Sequence[ReadPair]) -> None:
    """Adds 1 to `size` pairs."""
    for group in self._groups:
      versions = np.stack([read.inputs[group.image_size] for read in batch], axis=1)
      labels = group.labels[[read.place for read in batch]]
      clean = measure.predict(versions[0], group.networks, self.size)[0][..., 0]
      found = [
        measure.evaluate(images, clean, labels, group.networks, self.bank, self.size)
        for images in versions
      ]
      for place, network in enumerate(group.networks):
        self._labels[network.name].append(labels)
        mine = self._found[network.name]
        for field in ("ranks", "label_ranks", "distances"):
          mine[field].append(np.stack([getattr(each, field)[:, place] for each in found]))
        mine["answers"].append(np.stack([each.classes[:, place, 0] for each in found]))
        mine["confidences"].append(np.stack([each.probabilities[:, place, 0] for each in found]))

  def learn(
    self, records: Sequence[ImageRecord], preprocess: str, advance: Callable[[int], None]
  ) -> list[str]:
    """Adds clean training photographs, and returns sentences about files that cannot be read.

    `advance` is called with the number of photographs after each batch; each counts once a size.
    """
    failures: dict[str, None] = {}
    for size in self.image_sizes:
      groups = [group for group in self._groups if group.image_size == size]
      for batch in iterate_images(records, size, preprocess, batch_size=self.size):
        failures |= dict.fromkeys(reason for _, reason in batch.failures)
        if len(batch.images):
          self._learn(groups, batch.images)
        advance(len(batch.images) + len(batch.failures))
    return list(failures)

  def _learn(self, groups: Sequence[_Group], images: np.ndarray) -> None:
    for group in groups:
      asked = np.zeros((len(images), len(group.networks)), np.int32)
      found = measure.evaluate(images, asked, asked[:, 0], group.networks, self.bank, self.size)
      for place, network in enumerate(group.networks):
        self._training[network.name].append(found.distances[:, place])

  def outcomes(self) -> tuple[NetworkOutcome, ...]:
    """Returns all that was found of each network; at least one batch must have been judged."""
    return tuple(self._outcome(network) for network in self.networks)

  def _outcome(self, network: Classifier) -> NetworkOutcome:
    found = {
      field: np.concatenate(parts, axis=1) for field, parts in self._found[network.name].items()
    }
    nothing = np.empty((0, found["distances"].shape[-1]), np.float32)
    return NetworkOutcome(
      name=network.name,
      class_names=network.class_names,
      image_size=network.image_size,
      labels=np.concatenate(self._labels[network.name]),
      training=np.concatenate([nothing, *self._training[network.name]]),
      **found,
    )


def _grouped(
  networks: Sequence[Classifier], originals: Sequence[ImageRecord]
) -> tuple[_Group, ...]:
  members: dict[tuple, list[Classifier]] = {}
  for each in networks:
    members.setdefault((each.image_size, each.class_names), []).append(each)
  try:
    return tuple(
      _Group(tuple(group), labels_for(originals, class_names))
      for (_, class_names), group in members.items()
    )
  except ValueError as error:  # two classes whose names differ in case only
    raise ComparisonError(f"networks: {error}") from error
