"""The defenses an attacked image may meet, differentiable, and the bank attacks draw them from."""

from rpfgsm_jax.defenses.bank import (
  IDENTITY,
  JPEG,
  MEDIAN,
  REQUANTIZE,
  Defense,
  DefenseBank,
  no_defenses,
  paper_bank,
)
from rpfgsm_jax.defenses.jpeg import jpeg
from rpfgsm_jax.defenses.median import median
from rpfgsm_jax.defenses.requantize import requantize

__all__ = [
  "IDENTITY",
  "JPEG",
  "MEDIAN",
  "REQUANTIZE",
  "Defense",
  "DefenseBank",
  "jpeg",
  "median",
  "no_defenses",
  "paper_bank",
  "requantize",
]
