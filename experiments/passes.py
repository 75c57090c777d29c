"""Protection a gradient pass: the settings compared, and when one protects as well as the paper's.

A pass is one gradient of one network, what an attack spends its time on; the paper takes 60 of them
a photograph at eps 16 with three networks. Fewer passes protect less, and options that cost none
(momentum, look-ahead, larger first steps) protect more but are easier to see. So a setting is
compared with the paper's passes twice: at equal eps, and at equal PSNR.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from experiments import variants
from experiments.lineup import Contender
from experiments.results import TOPS, Results
from experiments.variants import Setup, rp_variant
from rpfgsm_jax.evaluation import Difference, paired_difference

MARGIN = 0.03
"""A setting protects as well when it is surely no more than this below; see `Compared`."""

_OF_OTHER_TABLES = 2
"""Settings that have rows without anybody asking for this comparison: see `iteration_pairs`."""

_SMALLER = 3 / 4
"""Of the run's epsilon: far enough for the PSNR of the paper's passes, near enough for a line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
  """Something that costs no pass."""

  title: str  # for tables
  # (share of the paper's passes, first step in gray levels), more and more passes.
  tried: tuple[tuple[float, float], ...]
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)  # options of `rp_variant`
  dear: bool = True  # it may cost PSNR, so that it is also run at a smaller epsilon


_MOMENTUM, _LINEAR = {"momentum": 1.0}, {"step_schedule": "linear"}
OPTIONS = (
  # Of 60 passes: 10, 15, 20, 30, 45, 60, 90, 120.
  Option(
    title="one level a step",
    tried=tuple((share, 1) for share in (1 / 6, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1, 3 / 2, 2)),
    dear=False,
  ),
  Option(title="momentum", tried=((1 / 3, 1), (1 / 2, 1), (1, 1)), changes=_MOMENTUM),
  Option(title="look-ahead", tried=((1 / 3, 1),), changes=_MOMENTUM | {"nesterov": True}),
  Option(title="larger steps", tried=((1 / 6, 4), (1 / 4, 3), (1 / 3, 2)), dear=False),
  # First steps so large that all steps together are nearly as long as the paper's.
  Option(
    title="linear decay", tried=((1 / 6, 8), (1 / 4, 6), (1 / 3, 4), (1 / 2, 3)), changes=_LINEAR
  ),
  Option(
    title="cosine decay", tried=((1 / 3, 4),), changes={"step_schedule": "cosine"}, dear=False
  ),
  Option(
    title="momentum, linear decay", tried=((1 / 6, 8), (1 / 4, 4)), changes=_MOMENTUM | _LINEAR
  ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """Something to spend passes on."""

  option: str  # its title
  contender: Contender  # at the run's epsilon
  smaller: Contender | None = None  # the same at a smaller one; None: not asked for

  @property
  def members(self) -> tuple[Contender, ...]:
    """At the run's epsilon, then at the smaller one."""
    return (self.contender,) if self.smaller is None else (self.contender, self.smaller)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blend:
  """A setting at some PSNR, made of its rows at one or two epsilons."""

  weights: dict[str, float]  # name of a contender -> its part; they sum to 1
  epsilon: float  # gray levels, the weighted mean
  psnr: float  # dB, likewise


def reference(setup: Setup) -> Contender:
  """Returns what all is compared with: RP-FGSM with the paper's passes."""
  return rp_variant(setup)


def settings(setup: Setup) -> tuple[Trial, ...]:
  """Returns what is compared, option by option, with more and more passes."""
  paper, found = reference(setup).passes, {}
  for option in OPTIONS:
    for share, first in option.tried:
      changes = {"num_steps": max(1, round(share * paper)), "step_size": float(first)}
      contender = rp_variant(setup, **changes, **option.changes)
      smaller = None
      if option.dear and share < 1:
        epsilon = _SMALLER * setup.epsilon
        smaller = rp_variant(setup, epsilon=epsilon, **changes, **option.changes)
      setting = Trial(option=option.title, contender=contender, smaller=smaller)
      found.setdefault(contender.name, setting)  # few passes may round to the same number
  return tuple(found.values())


def contenders(setup: Setup) -> Iterator[Contender]:
  """Yields whose rows are needed, the unchanged photographs first."""
  yield from variants.baselines(setup)
  for setting in settings(setup):
    yield from setting.members


def as_it_is(results: Results, contender: Contender, photos: Sequence[str]) -> Blend:
  """Returns a contender alone."""
  return Blend(
    weights={contender.name: 1.0},
    epsilon=float(contender.config.epsilon),
    psnr=_psnr(results, contender, photos),
  )


def at_psnr(results: Results, setting: Trial, photos: Sequence[str], psnr: float) -> Blend | None:
  """Returns a setting at a PSNR, or as it is where its own is no lower; None where out of reach."""
  large = as_it_is(results, setting.contender, photos)
  if large.psnr >= psnr:
    return large
  if setting.smaller is None or setting.smaller.name not in results.outcomes:
    return None
  small = as_it_is(results, setting.smaller, photos)
  if small.psnr < psnr:
    return None
  # Linear in mean PSNR, with the same weights for every photograph.
  part = (psnr - large.psnr) / (small.psnr - large.psnr)
  return Blend(
    weights={setting.contender.name: 1 - part, setting.smaller.name: part},
    epsilon=(1 - part) * large.epsilon + part * small.epsilon,
    psnr=psnr,
  )


def misled(
  results: Results, blend: Blend, photos: Sequence[str], *, defended: bool, top: int
) -> np.ndarray:
  """Returns `(N,)`: the share of unseen networks and settings that each photograph misleads."""
  options = {"networks": results.networks(seen=False), "defended": defended, "top": top}
  parts = [
    weight * results.misled(name, photos, **options) for name, weight in blend.weights.items()
  ]
  return np.clip(sum(parts), 0, 1)  # two weights may sum to a bit more than 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
  """A setting beside the reference, on the same photographs."""

  setting: Trial
  blend: Blend
  # How much more it misleads unseen networks behind defenses, one for each of TOPS.
  differences: tuple[Difference, ...]

  @property
  def passes(self) -> int:
    """Gradients a photograph."""
    return self.setting.contender.passes

  @property
  def as_well(self) -> Literal["yes", "no", "not clear"]:
    """Whether surely not much less is misled; `no` where surely less is."""
    if all(each.low >= -MARGIN for each in self.differences):
      return "yes"
    return "no" if any(each.sign < 0 for each in self.differences) else "not clear"


def compare(results: Results, photos: Sequence[str], *, equal_psnr: bool) -> list[Compared]:
  """Compares settings that have rows with the reference, at its PSNR if possible or its epsilon."""
  usual = as_it_is(results, reference(results.setup), photos)
  found = []
  for setting in settings_in(results):
    blend = as_it_is(results, setting.contender, photos)
    if equal_psnr:
      blend = at_psnr(results, setting, photos, usual.psnr)
    if blend is not None:
      differences = tuple(_difference(results, blend, usual, photos, top) for top in TOPS)
      found.append(Compared(setting=setting, blend=blend, differences=differences))
  return found


def cheapest(compared: Sequence[Compared], most: int) -> Compared | None:
  """Returns, of those with fewer passes than `most` that protect as well, one with the fewest."""
  enough = [each for each in compared if each.as_well == "yes" and each.passes < most]
  # Of equally many passes the largest last difference: at top-5 settings differ most.
  return min(enough, key=lambda each: (each.passes, -each.differences[-1].value), default=None)


def settings_in(results: Results) -> list[Trial]:
  """Returns the settings that have rows."""
  return [each for each in settings(results.setup) if each.contender.name in results.outcomes]


def shared_photos(results: Results) -> list[str]:
  """Returns the photos that the reference and all settings had; [] where there is no comparison."""
  usual, there = reference(results.setup).name, settings_in(results)
  if usual not in results.outcomes or len(there) <= _OF_OTHER_TABLES:
    return []
  some = [each for one in there for each in one.members]
  return results.shared([usual, *(each.name for each in results.present(some))])


def _difference(
  results: Results, blend: Blend, other: Blend, photos: Sequence[str], top: int
) -> Difference:
  values, others = (
    misled(results, each, photos, defended=True, top=top) for each in (blend, other)
  )
  return paired_difference(values, others)


def _psnr(results: Results, contender: Contender, photos: Sequence[str]) -> float:
  psnr = results.mean(contender.name, "psnr", photos)
  return np.inf if psnr is None else psnr  # no photograph was changed
