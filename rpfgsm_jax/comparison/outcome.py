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
"""Indices of the two versions of a photograph in the arrays."""

MEASURES = (
  "psnr", "ssim", "mad", "scielab", "brisque", "brisque_original", "changed", "l0", "l2", "linf"
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoFacts:
  """One photograph and what was made of it, as files.

  `measures` are those of `MEASURES`, at the files' own size; None where there is no number: sizes
  differ, the picture is too small, the model is absent, or PSNR is infinite. `changed` is the share
  of values that differ.
  """

  name: str  # relative path without suffix
  original: str  # relative path
  protected: str  # relative path
  original_size: tuple[int, int]  # (height, width), pixels, upright
  protected_size: tuple[int, int]  # likewise
  measures: dict[str, float | None]  # by name, as above

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
  """What one network makes of N photographs; axes of two are the original and the protected one."""

  name: str  # of the network
  class_names: tuple[str, ...]  # in the order of its logits
  image_size: tuple[int, int]  # (height, width) that it takes
  ranks: np.ndarray  # `(2, N, settings)` int, of its own answer on the original, undefended
  label_ranks: np.ndarray  # likewise of the true class; meaningless where `labels` is -1
  distances: np.ndarray  # likewise, float: how far the defense moves its probabilities (Eq. 4)
  answers: np.ndarray  # `(2, N)` int, its undefended answers
  confidences: np.ndarray  # `(2, N)` float, their probabilities
  labels: np.ndarray  # `(N,)` int, the true classes; -1 where unknown
  training: np.ndarray  # `(n, settings)` distances of clean training photographs; n may be 0

  def misled(
    self, version: int, settings: Sequence[int], *, top: int = 1, true_class: bool = False
  ) -> np.ndarray:
    """Returns which photographs no longer have the class among the network's first `top`.

    Args:
      version: ORIGINAL or PROTECTED.
      settings: S indices.
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
      group: indices of the settings, joined by the largest distance.

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
  """A pair to look at."""

  place: int  # index of the photograph in the comparison
  before: np.ndarray  # `(H, W, 3)` uint8
  after: np.ndarray  # same shape
  scaled: bool  # whether they are smaller than the files


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderComparison:
  """All that was measured."""

  original: str  # the folder, as it was given
  protected: str  # likewise
  photos: tuple[PhotoFacts, ...]  # N >= 1 pairs that could be read
  networks: tuple[NetworkOutcome, ...]  # one entry each, N photographs in the same order
  settings: tuple[str, ...]  # names; the first is the image as it is
  families: dict[str, tuple[int, ...]]  # defense family -> indices of its settings
  training: str | None  # the folder of clean training photographs; None without one
  preprocess: str  # how photographs came to the networks' sizes
  only_original: tuple[str, ...]  # files without a partner
  only_protected: tuple[str, ...]  # likewise
  ambiguous: tuple[str, ...]  # files with several possible partners
  failures: tuple[str, ...]  # sentences about files that could not be read: pairs, then `training`
  notes: tuple[str, ...]  # sentences about what was lost in reading, such as transparency
  has_brisque: bool  # whether there was a model for it
  examples: tuple[Example, ...]  # a few pairs, evenly spread over all

  @property
  def defended(self) -> range:
    """Indices of all defenses."""
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
