"""The sweep of epsilon (Fig. 5)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Rows as in the paper: seen on the left, unseen on the right.
_SWEEP_PANELS = (
  ("seen", "MS: seen network misled", "%", "better ↑"),
  ("unseen", "MU: unseen network misled", "%", "better ↑"),
  ("seen_defended", "MSwD: seen network with defense misled", "%", "better ↑"),
  ("unseen_defended", "MUwD: unseen network with defense misled", "%", "better ↑"),
  ("detectability", "Detectability", "%", "better ↓"),
  ("psnr", "Image quality, PSNR", "dB", "better ↑"),
)
_LINES = tuple(zip("osD^vPX*", ("-", "--", "-.", ":") * 2, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
  """One measure along a sweep.

  Attributes:
    values: `(E,)`, per cent or dB; NaN is a gap.
    low: lower end of the interval, `(E,)`; None: no interval.
    high: upper end, `(E,)`; None: no interval.
  """

  values: np.ndarray
  low: np.ndarray | None = None
  high: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
  """One line of Fig. 5: the attack on one network or on a combination; None is left out.

  Attributes:
    title: the network or the combination.
    epsilons: largest changes, `(E,)` gray levels, increasing.
    seen: share of photographs that mislead the seen network (MS), per cent.
    unseen: the unseen network (MU), per cent.
    seen_defended: the seen network behind defenses (MSwD), per cent.
    unseen_defended: the unseen network behind defenses (MUwD), per cent.
    detectability: share of photographs that are detected, per cent.
    psnr: dB.
  """

  title: str
  epsilons: tuple[float, ...]
  seen: Band | None = None
  unseen: Band | None = None
  seen_defended: Band | None = None
  unseen_defended: Band | None = None
  detectability: Band | None = None
  psnr: Band | None = None


def epsilon_sweep(curves: Sequence[Sweep]) -> "Figure":
  """Draws the six measures against epsilon, one line for each network or combination.

  Sanchez-Matilla et al. (2020), Fig. 5: MS, MU; MSwD, MUwD; detectability, PSNR.

  Args:
    curves: the lines; at most 8.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, too many lines, a title twice, epsilons that do not increase from
      above 0, arrays of another length, rates outside [0, 100], an infinite value, or an interval
      without its value.
  """
  plots.require_some("curves", curves)
  plots.require_titles("curves", [curve.title for curve in curves], len(_LINES))
  for curve in curves:
    _check_sweep(curve)
  figure = plots.new_figure(9, 8.4)
  grid = figure.subplots(3, 2, sharex=True)
  for axes, (field, title, unit, better) in zip(grid.flat, _SWEEP_PANELS, strict=True):
    for curve, color, line in zip(curves, plots.COLORS, _LINES, strict=False):
      _draw_band(axes, curve, getattr(curve, field), color, line)
    axes.set_ylabel(unit)
    if unit == "%":
      axes.set_ylim(-2, 102)  # a line at 0 or 100 shows
      axes.set_yticks(range(0, 101, 20))
    axes.grid(color="#dddddd", linewidth=0.6)
    plots.despine(axes)
    plots.entitle(axes, title, better)
  epsilons = sorted({epsilon for curve in curves for epsilon in curve.epsilons})
  grid[0, 0].set_xscale("log", base=2)
  grid[0, 0].set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
  grid[0, 0].set_xticks([], minor=True)
  for axes in grid[-1]:
    axes.set_xlabel("ε (gray levels)")
  plots.add_legend(figure, _line_handles(curves), columns=min(len(curves), 4))
  return figure


def _check_sweep(curve: Sweep) -> None:
  plots.require_some("epsilons", curve.epsilons)
  if not ((np.diff(curve.epsilons) > 0).all() and 0 < curve.epsilons[0] < np.inf):
    raise ValueError(f"epsilons must increase from above 0, got {list(curve.epsilons)}.")
  for field, _, unit, _ in _SWEEP_PANELS:
    band = getattr(curve, field)
    if band is not None:
      _check_band(band, field, unit, len(curve.epsilons))


def _check_band(band: Band, field: str, unit: str, length: int) -> None:
  if (band.low is None) != (band.high is None):
    raise ValueError(f"low and high of {field} must come together, got one of them.")
  for part in ("values", "low", "high"):
    if getattr(band, part) is None:
      continue
    numbers = np.asarray(getattr(band, part), np.float64)
    if numbers.shape != (length,):
      raise ValueError(f"{part} of {field} must be ({length},) like epsilons, got {numbers.shape}.")
    if np.isinf(numbers).any():
      raise ValueError(f"{part} of {field} must be finite or NaN, got {numbers.tolist()}.")
    if unit == "%" and (np.abs(numbers - 50) > 50 + plots.SLACK).any():
      raise ValueError(f"{part} of {field} must be per cent, 0..100, got {numbers.tolist()}.")
  if band.low is not None:
    below = np.asarray(band.low) > np.asarray(band.values) + plots.SLACK
    above = np.asarray(band.high) < np.asarray(band.values) - plots.SLACK
    if (below | above).any():
      raise ValueError(f"low..high of {field} must hold values, got {band.low}..{band.high}.")


def _draw_band(
  axes: "Axes", curve: Sweep, band: Band | None, color: str, line: tuple[str, str]
) -> None:
  if band is None:
    return
  marker, dashes = line
  axes.plot(
    curve.epsilons,
    band.values,
    color=color,
    marker=marker,
    linestyle=dashes,
    markersize=5,
    linewidth=1.6,
    label=curve.title,
  )
  if band.low is not None:
    axes.fill_between(curve.epsilons, band.low, band.high, color=color, alpha=0.15, linewidth=0)


def _line_handles(curves: Sequence[Sweep]) -> list:
  from matplotlib.lines import Line2D

  return [
    Line2D([], [], color=color, marker=marker, linestyle=dashes, markersize=5, label=curve.title)
    for curve, color, (marker, dashes) in zip(curves, plots.COLORS, _LINES, strict=False)
  ]
