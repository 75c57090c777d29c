"""What networks make of pairs and of clean training photographs, batch by batch.

Networks are judged in groups of one image size and one set of classes, so that those of a group
share the work of the defenses.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rpfgsm_jax.comparison.outcome import NetworkOutcome
from rpfgsm_jax.comparison.reading import ReadPair
from rpfgsm_jax.data import ImageRecord, iterate_images
from rpfgsm_jax.defenses.bank import DefenseBank
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

_FIELDS = ("ranks", "label_ranks", "distances", "answers", "confidences")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Group:
  """Networks of one image size and one set of classes.

  Attributes:
    networks: at least one.
    labels: of all pairs asked for, int; -1 where unknown.
  """

  networks: tuple[Classifier, ...]
  labels: np.ndarray

  @property
  def image_size(self) -> tuple[int, int]:
    """(height, width) that they take."""
    return self.networks[0].image_size


class Judge:
  """Collects what networks make of photographs; only numbers of each are kept."""

  def __init__(self, groups: Sequence[Group], bank: DefenseBank, size: int):
    self.groups, self._bank, self.size = tuple(groups), bank, size
    self._found: dict[str, dict[str, list[np.ndarray]]] = collections.defaultdict(
      lambda: {field: [] for field in _FIELDS}
    )
    self._labels: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    self._training: dict[str, list[np.ndarray]] = collections.defaultdict(list)

  def judge(self, batch: Sequence[ReadPair]) -> None:
    """Adds 1 to `size` pairs."""
    for group in self.groups:
      versions = np.stack([read.inputs[group.image_size] for read in batch], axis=1)
      labels = group.labels[[read.place for read in batch]]
      clean = measure.predict(versions[0], group.networks, self.size)[0][..., 0]
      found = [
        measure.evaluate(images, clean, labels, group.networks, self._bank, self.size)
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
    self,
    records: Sequence[ImageRecord],
    preprocess: str,
    advance: Callable[[int], None],
  ) -> list[str]:
    """Adds clean training photographs.

    Args:
      records: which.
      preprocess: see `data.preprocess`.
      advance: called with the number of photographs after each batch; each counts once a size.

    Returns:
      Sentences about files that could not be read.
    """
    failures: dict[str, None] = {}
    for size in dict.fromkeys(group.image_size for group in self.groups):
      groups = [group for group in self.groups if group.image_size == size]
      for batch in iterate_images(records, size, preprocess, batch_size=self.size):
        failures |= dict.fromkeys(reason for _, reason in batch.failures)
        if len(batch.images):
          self._learn(groups, batch.images)
        advance(len(batch.images) + len(batch.failures))
    return list(failures)

  def _learn(self, groups: Sequence[Group], images: np.ndarray) -> None:
    for group in groups:
      asked = np.zeros((len(images), len(group.networks)), np.int32)
      found = measure.evaluate(images, asked, asked[:, 0], group.networks, self._bank, self.size)
      for place, network in enumerate(group.networks):
        self._training[network.name].append(found.distances[:, place])

  def outcome(self, network: Classifier) -> NetworkOutcome:
    """Returns all that was found of a network; at least one batch must have been judged."""
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
