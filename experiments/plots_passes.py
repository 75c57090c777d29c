"""Misleading rates against gradient passes and against image quality."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots
from experiments.plots import Estimate

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_MARKERS = "osD^vPX*"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A setting.

  Attributes:
    passes: gradients a photograph, at least 1.
    psnr: dB; infinite: nothing was changed, and there is no such point against PSNR.
    rates: one for each row of plots.
  """

  passes: int
  psnr: float
  rates: tuple[Estimate, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """One option of the attack.

  Attributes:
    title: of the option.
    points: of each setting first the one that is drawn against passes, then the same at smaller
      epsilons, which are drawn against PSNR alone.
  """

  title: str
  points: tuple[tuple[Point, ...], ...]


def against_passes(lines: Sequence[Line], paper: Point, titles: Sequence[str]) -> "Figure":
  """Draws each rate against passes, on the left, and against PSNR.

  Of the first line, which the others are measured by, intervals are shaded.

  Args:
    lines: at most 8.
    paper: the setting that the others are compared with: dotted lines.
    titles: of the rates, one for each row of plots.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, too many lines, a title twice, fewer than one pass, or a point
      with more or fewer rates than titles.
  """
  _check(lines, paper, titles)
  figure = plots.new_figure(10, 3.6 * len(titles) + 0.9)
  grid = figure.subplots(len(titles), 2, squeeze=False, sharex="col", sharey="row")
  for row, title in enumerate(titles):
    left, right = grid[row]
    for number, line in enumerate(lines):
      style = {"color": plots.COLORS[number], "marker": _MARKERS[number], "markersize": 5}
      _draw_passes(left, line, row, style, shaded=number == 0)
      _draw_psnr(right, line, row, style)
    left.axvline(paper.passes, color=plots.GRAY, linestyle=":", linewidth=1)
    right.axvline(paper.psnr, color=plots.GRAY, linestyle=":", linewidth=1)
    left.set_ylabel("%")
    for axes, better in ((left, "better ↖"), (right, "better ↗")):
      axes.axhline(paper.rates[row].value, color=plots.GRAY, linestyle=":", linewidth=1)
      axes.grid(color="#dddddd", linewidth=0.6)
      plots.despine(axes)
      plots.entitle(axes, title, better)
  _label(grid[-1], sorted({some[0].passes for line in lines for some in line.points}))
  plots.add_legend(figure, _handles(lines), columns=min(len(lines), 4))
  return figure


def _check(lines: Sequence[Line], paper: Point, titles: Sequence[str]) -> None:
  plots.require_some("lines", lines)
  plots.require_some("titles", titles)
  plots.require_titles("lines", [line.title for line in lines], len(_MARKERS))
  for line in lines:
    plots.require_some("points", line.points)
  for point in (paper, *(each for line in lines for some in line.points for each in some)):
    if point.passes < 1:
      raise ValueError(f"passes must be at least 1, got {point.passes}.")
    if len(point.rates) != len(titles):
      raise ValueError(f"rates must be one for each of {len(titles)} titles, got {point.rates}.")


def _draw_passes(axes: "Axes", line: Line, row: int, style: dict, *, shaded: bool) -> None:
  first = [some[0] for some in line.points]
  counts, rates = [each.passes for each in first], [each.rates[row] for each in first]
  axes.plot(counts, [each.value for each in rates], linewidth=1.6, **style)
  if shaded and all(each.low is not None for each in rates):
    low, high = ([getattr(each, end) for each in rates] for end in ("low", "high"))
    axes.fill_between(counts, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _draw_psnr(axes: "Axes", line: Line, row: int, style: dict) -> None:
  """Settings as points; those that differ in epsilon alone are joined."""
  for some in line.points:
    there = [each for each in some if np.isfinite(each.psnr)]
    values = [each.rates[row].value for each in there]
    axes.plot([each.psnr for each in there], values, linewidth=0.9, linestyle="--", **style)


def _label(bottom: Sequence["Axes"], counts: Sequence[int]) -> None:
  left, right = bottom
  left.set_xscale("log", base=2)
  left.set_xticks(counts, [str(count) for count in counts])
  left.set_xticks([], minor=True)
  left.set_xlabel("gradient passes a photograph")
  right.set_xlabel("PSNR (dB); dashed: the same at smaller ε")


def _handles(lines: Sequence[Line]) -> list:
  from matplotlib.lines import Line2D

  return [
    Line2D([], [], color=color, marker=marker, markersize=5, label=line.title)
    for line, color, marker in zip(lines, plots.COLORS, _MARKERS, strict=False)
  ]
