"""The statements of the paper's Sec. V that name an effect: its size there and here.

Sanchez-Matilla et al. (2020). Their networks know 365 classes at 224 pixels, so top-5 is a far
smaller part of the classes there than of 25: signs compare, sizes only roughly.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from experiments.results import Results
from rpfgsm_jax.evaluation import Difference, paired_difference
from rpfgsm_jax.report import Cell, Table

Verdict = Literal["agrees", "opposite", "not clear", "not run"]
Measure = Callable[[Results, str, Sequence[str]], np.ndarray]
_ALIKE = 0.10
"""Two rates count as alike when the whole interval of their difference is within this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """One statement, as a difference of two means."""

  where: str  # section or table of the paper
  text: str  # what is subtracted from what
  paper: str  # the size there
  sign: int  # of the difference there; 0: the paper calls both alike
  first: tuple[str, ...]  # names of the attacks whose mean is taken
  second: tuple[str, ...]  # and of those whose mean is subtracted
  value: Measure  # `(results, name, photos) -> (N,)` of one attack
  second_value: Measure | None = None  # of what is subtracted; None: `value`
  unit: str = "pp"  # percentage points, or that of the measure


def misled(*, seen: bool, defended: bool, top: int) -> Measure:
  """Returns the measure: misled about the scene, on the reference or on the unseen networks."""

  def value(results: Results, name: str, photos: Sequence[str]) -> np.ndarray:
    networks = [results.reference] if seen else results.networks(seen=False)
    return results.misled(name, photos, networks=networks, defended=defended, top=top)

  return value


def detected(results: Results, name: str, photos: Sequence[str]) -> np.ndarray:
  """Flagged by the detectors of the attacked networks."""
  return results.detected(name, photos, results.attacked(name))


def measured(column: str) -> Measure:
  """Returns the measure: a number of the rows, such as PSNR."""
  return lambda results, name, photos: results.numbers(name, column, photos)


def judge(results: Results, claim: Claim) -> tuple[Difference | None, Verdict]:
  """Returns a claim's effect here, and whether its sign is the paper's."""
  names = (*claim.first, *claim.second)
  missing = any(name not in results.outcomes for name in names)
  if missing or (claim.value is detected and not len(results.training)):
    return None, "not run"
  photos = results.shared(names)
  first, second = (
    np.mean([value(results, name, photos) for name in some], axis=0)
    for some, value in (
      (claim.first, claim.value),
      (claim.second, claim.second_value or claim.value),
    )
  )
  known = np.isfinite(first) & np.isfinite(second)
  if not known.any():
    return None, "not run"
  effect = paired_difference(first[known], second[known])
  if claim.sign == 0:
    alike = effect.low >= -_ALIKE and effect.high <= _ALIKE
    return effect, "agrees" if alike else "opposite" if effect.sign else "not clear"
  if not effect.sign:
    return effect, "not clear"
  return effect, "agrees" if effect.sign == claim.sign else "opposite"


def table(results: Results, claims: Iterable[Claim]) -> Table:
  """Returns the table of statements, in their order."""
  lines, verdicts = [], []
  for claim in claims:
    effect, verdict = judge(results, claim)
    verdicts.append(verdict)
    lines.append([claim.where, claim.text, claim.paper, *_cells(effect, claim.unit), verdict])
  counted = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
  note = (
    f"{counted}. Differences on the same photos, in percentage points (pp) or the measure's unit; "
    "in brackets the 95 % bootstrap interval. Not clear: the interval holds zero. Alike: the "
    f"whole interval within {100 * _ALIKE:.0f} points."
  )
  columns = ("where", "statement, as a difference", "paper", "here", "photos", "verdict")
  return Table("What the paper states, and what shows here", columns, lines, note)


def _cells(effect: Difference | None, unit: str) -> tuple[Cell, Cell]:
  if effect is None:
    return Cell("n/a", None), Cell("", None)
  scale = 100 if unit == "pp" else 1
  value, low, high = (scale * each for each in (effect.value, effect.low, effect.high))
  text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}] {unit}"
  return Cell(text, value), Cell(str(effect.count), float(effect.count))
