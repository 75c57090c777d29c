"""What protection achieves, from logits alone: misleading rates, detectability, intervals.

`measure` makes the logits: networks on images, with and without every defense.
"""

from rpfgsm_jax.evaluation.detectability import (
  detection_rate,
  detection_threshold,
  is_detected,
  joint_distance,
  squeezing_distance,
)
from rpfgsm_jax.evaluation.differences import Difference, paired_difference
from rpfgsm_jax.evaluation.misleading import (
  Rate,
  is_misled,
  misleading_rate,
  rank_of_label,
  wilson_interval,
)

__all__ = [
  "Difference",
  "Rate",
  "detection_rate",
  "detection_threshold",
  "is_detected",
  "is_misled",
  "joint_distance",
  "misleading_rate",
  "paired_difference",
  "rank_of_label",
  "squeezing_distance",
  "wilson_interval",
]
