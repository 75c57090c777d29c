"""What protection achieves, from logits alone: misleading rates, detectability, intervals."""

from rpfgsm_jax.evaluation.detectability import (
  detection_rate,
  detection_threshold,
  is_detected,
  joint_distance,
  squeezing_distance,
)
from rpfgsm_jax.evaluation.misleading import (
  Rate,
  is_misled,
  misleading_rate,
  rank_of_label,
  wilson_interval,
)

__all__ = [
  "Rate",
  "detection_rate",
  "detection_threshold",
  "is_detected",
  "is_misled",
  "joint_distance",
  "misleading_rate",
  "rank_of_label",
  "squeezing_distance",
  "wilson_interval",
]
