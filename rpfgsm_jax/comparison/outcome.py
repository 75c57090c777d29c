"""What a comparison of two folders found: numbers of each photograph, and rates over them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from rpfgsm_jax.evaluation import (
  Rate,
  detection_threshold,
  is_detected,
  joint_distance,
  misleading_rate,
)

ORIGINAL, PROTECTED = 0, 1
"""Places of the two versions of a photograph in the arrays."""

MEASURES = ("psnr", "ssim", "mad", "brisque", "brisque_original", "changed", "l0", "l2", "linf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoFacts:
  """One photograph and what was made of it, as files.

  Attributes:
    name: relative path without suffix.
    original: relative path.
    protected: relative path.
    original_size: (height, width), pixels, upright.
    protected_size: likewise.
    measures: of `MEASURES`, at the files' own size; None where there is no number: the sizes
      differ, the picture is too small, the model is absent, or PSNR is infinite. `changed` is the
      share of values that differ.
  """

  name: str
  original: str
  protected: str
  original_size: tuple[int, int]
  protected_size: tuple[int, int]
  measures: dict[str, float | None]

  @property
  def same_size(self) -> bool:
    """Whether both files have one size, so that they can be compared pixel by pixel."""
    return self.original_size == self.protected_size

  @property
  def unchanged(self) -> bool:
    """Whether no value differs."""
    return self.measures["l0"] == 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class NetworkOutcome:
  """What one network makes of N photographs; axes of two are the original and the protected one.

  Attributes:
    name: of the network.
    class_names: in the order of its logits.
    image_size: (height, width) that it takes.
    ranks: `(2, N, settings)` int, of its own answer on the original, undefended.
    label_ranks: likewise of the true class; meaningless where `labels` is -1.
    distances: likewise, float: how far the defense moves its probabilities (Eq. 4).
    answers: `(2, N)` int, its undefended answers.
    confidences: `(2, N)` float, their probabilities.
    labels: `(N,)` int, the true classes; -1 where unknown.
    training: `(n, settings)` distances of clean training photographs; n may be 0.
  """

  name: str
  class_names: tuple[str, ...]
  image_size: tuple[int, int]
  ranks: np.ndarray
  label_ranks: np.ndarray
  distances: np.ndarray
  answers: np.ndarray
  confidences: np.ndarray
  labels: np.ndarray
  training: np.ndarray

  def misled(
    self, version: int, settings: Sequence[int], *, top: int = 1, true_class: bool = False
  ) -> np.ndarray:
    """Returns which photographs no longer have the class among the network's first `top`.

    Args:
      version: ORIGINAL or PROTECTED.
      settings: S places.
      top: k.
      true_class: asks about the true class, of the photographs that have one; else about the
        network's own answer on the original.

    Returns:
      `(n, S)` bool.
    """
    ranks = self.label_ranks[version][self.labels >= 0] if true_class else self.ranks[version]
    return ranks[:, list(settings)] >= top

  def rate(
    self, version: int, settings: Sequence[int], *, top: int = 1, true_class: bool = False
  ) -> Rate | None:
    """Returns the misleading rate, a photograph's settings averaged first.

    See `misled` for the arguments. None where the network has no more than `top` classes, so that
    nothing could mislead it.

    Returns:
      The rate and its interval, or None.
    """
    if top >= len(self.class_names):
      return None
    return misleading_rate(self.misled(version, settings, top=top, true_class=true_class))

  def threshold(self, group: Sequence[int]) -> float:
    """Returns tau of the detector that joins some settings.

    Args:
      group: places of the settings, joined by the largest distance.

    Returns:
      What 95 % of the distances of `training` do not exceed.
    """
    return detection_threshold(joint_distance(self.training[:, list(group)]))

  def detection(self, version: int, groups: Sequence[Sequence[int]]) -> Rate | None:
    """Returns the share of photographs flagged as adversarial. Eq. 4.

    Args:
      version: ORIGINAL, whose rate is that of false alarms, or PROTECTED.
      groups: settings of each detector, joined by the largest distance; detectors are averaged.

    Returns:
      The rate; None without training photographs.
    """
    if not len(self.training):
      return None
    flags = [
      is_detected(joint_distance(self.distances[version][:, list(group)]), self.threshold(group))
      for group in groups
    ]
    return misleading_rate(np.stack(flags, axis=1))


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
  """A pair to look at.

  Attributes:
    place: of the photograph in the comparison.
    before: `(H, W, 3)` uint8.
    after: same shape.
    scaled: whether they are smaller than the files.
  """

  place: int
  before: np.ndarray
  after: np.ndarray
  scaled: bool


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderComparison:
  """All that was measured.

  Attributes:
    original: the folder, as it was given.
    protected: likewise.
    photos: N >= 1 pairs that could be read.
    networks: one entry each, N photographs in the same order.
    settings: names; the first is the image as it is.
    families: defense family -> places of its settings.
    training: the folder of clean training photographs; None without one.
    preprocess: how photographs came to the networks' sizes.
    only_original: files without a partner.
    only_protected: likewise.
    ambiguous: files with several possible partners.
    failures: sentences about files that could not be read; those of pairs, then of `training`.
    notes: sentences about what was lost in reading, such as transparency.
    has_brisque: whether there was a model for it.
    examples: a few pairs, evenly spread over all.
  """

  original: str
  protected: str
  photos: tuple[PhotoFacts, ...]
  networks: tuple[NetworkOutcome, ...]
  settings: tuple[str, ...]
  families: dict[str, tuple[int, ...]]
  training: str | None
  preprocess: str
  only_original: tuple[str, ...]
  only_protected: tuple[str, ...]
  ambiguous: tuple[str, ...]
  failures: tuple[str, ...]
  notes: tuple[str, ...]
  has_brisque: bool
  examples: tuple[Example, ...]

  @property
  def defended(self) -> range:
    """Places of all defenses."""
    return range(1, len(self.settings))

  @property
  def labeled(self) -> bool:
    """Whether any network knows the true class of any photograph."""
    return any((network.labels >= 0).any() for network in self.networks)

  def mean(self, measure: str) -> float | None:
    """Returns the mean of a measure.

    Args:
      measure: one of `MEASURES`.

    Returns:
      The mean over the photographs that have it; None where none has.
    """
    values = self.values(measure)
    return float(values.mean()) if values.size else None

  def values(self, measure: str) -> np.ndarray:
    """Returns a measure of each photograph that has it.

    Args:
      measure: one of `MEASURES`.

    Returns:
      `(n,)` float64, in the order of the photographs.
    """
    found = [photo.measures[measure] for photo in self.photos]
    return np.asarray([value for value in found if value is not None], np.float64)
