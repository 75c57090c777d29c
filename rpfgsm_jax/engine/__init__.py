"""The batch engine: an attack compiled once, for images of one size, on one device or on several.

`protect` takes any number of images; a `Protector` takes one batch after the other.
"""

from rpfgsm_jax.engine.batches import (
  BatchSize,
  even_batches,
  protect,
  protect_batches,
  to_uint8,
)
from rpfgsm_jax.engine.protector import (
  MAX_SEED,
  Attack,
  OutOfMemoryError,
  Pending,
  Protector,
  root_key,
  watching_memory,
)

__all__ = [
  "MAX_SEED",
  "Attack",
  "BatchSize",
  "OutOfMemoryError",
  "Pending",
  "Protector",
  "even_batches",
  "protect",
  "protect_batches",
  "root_key",
  "to_uint8",
  "watching_memory",
]
