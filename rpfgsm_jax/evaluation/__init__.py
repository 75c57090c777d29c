"""What the measures say, from logits alone: no files, no attacks."""

from rpfgsm_jax.evaluation.misleading import (
  Rate,
  is_misled,
  misleading_rate,
  rank_of_label,
  wilson_interval,
)

__all__ = ["Rate", "is_misled", "misleading_rate", "rank_of_label", "wilson_interval"]
