"""Measures a folder of photographs against the folder they came from, whoever made it.

`compare_folders` reads and measures, `write_comparison` writes a report of it, `summary` a few
lines. No attack is involved, and nothing is random.
"""

from rpfgsm_jax.comparison.measurement import compare_folders
from rpfgsm_jax.comparison.outcome import FolderComparison, NetworkOutcome, PhotoFacts
from rpfgsm_jax.comparison.output import check_out, write_comparison
from rpfgsm_jax.comparison.pairs import ComparisonError, FolderPairs, pair_folders
from rpfgsm_jax.comparison.tables import summary

__all__ = [
  "ComparisonError",
  "FolderComparison",
  "FolderPairs",
  "NetworkOutcome",
  "PhotoFacts",
  "check_out",
  "compare_folders",
  "pair_folders",
  "summary",
  "write_comparison",
]
