"""Plots of rates: trade-offs (Fig. 4), and bars with intervals."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments import plots
from experiments.plots import Estimate

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

FIGURE_4 = (
  ("seen", "unseen"),
  ("seen_defended", "unseen_defended"),
  ("brisque", "undetectability"),
  ("psnr", "undetectability"),
)
"""The (x, y) of the four plots, fields of `TradeOff`."""

# In short, as in the paper, and in words.
_MEASURES = {
  "seen": ("MS", "seen network misled"),
  "unseen": ("MU", "unseen network misled"),
  "seen_defended": ("MSwD", "seen network with defense misled"),
  "unseen_defended": ("MUwD", "unseen network with defense misled"),
  "undetectability": ("Undetectability", "100 % − detected"),
  "brisque": ("BRISQUE", "image quality, best at 100 %"),
  "psnr": ("PSNR", "image quality, best at 100 %"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff:
  """One contender of Fig. 4; all values per cent, higher is better; None is left out.

  Attributes:
    attack: its name without the variant; variants of one attack share their color.
    targeted: circle or square, as in the paper; None: no attack, a diamond.
    seen: share of photographs that mislead the seen network (MS).
    unseen: the unseen network (MU).
    seen_defended: the seen network behind defenses (MSwD).
    unseen_defended: the unseen network behind defenses (MUwD).
    undetectability: 100 - detectability.
    brisque: image quality, BRISQUE brought to 0..100 with the best at 100.
    psnr: image quality, PSNR brought to 0..100 with the best at 100.
  """

  attack: str
  targeted: bool | None
  seen: Estimate | None = None
  unseen: Estimate | None = None
  seen_defended: Estimate | None = None
  unseen_defended: Estimate | None = None
  undetectability: Estimate | None = None
  brisque: Estimate | None = None
  psnr: Estimate | None = None


def trade_offs(
  points: Sequence[TradeOff], *, panels: Sequence[tuple[str, str]] = FIGURE_4
) -> "Figure":
  """Draws two measures against each other for every attack; nearer to the top right is better.

  Sanchez-Matilla et al. (2020), Fig. 4: squares are untargeted, circles targeted.

  Args:
    points: the contenders, the last on top; at most 16 attacks.
    panels: (x, y) of each plot, names of fields of `TradeOff`; two plots a row.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, more attacks than styles, a contender twice, an unknown field.

  Note:
    The paper's text does not name the axes of the four plots. Chosen: misleading seen against
    unseen without and with defenses above (the text can also be read as without against with
    defenses, for seen and for unseen: give `panels`), undetectability against image quality below,
    by BRISQUE as in the paper and by PSNR, its other measure.
  """
  plots.require_some("points", points)
  plots.require_some("panels", panels)
  for field in itertools.chain.from_iterable(panels):
    if field not in _MEASURES:
      raise ValueError(f"panels must name {', '.join(_MEASURES)}, got {field!r}.")
  keys = [(point.attack, point.targeted) for point in points]
  if len(set(keys)) != len(keys):
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f"points must name each (attack, targeted) once, got {twice} twice.")
  attacks = list(dict.fromkeys(point.attack for point in points))
  if len(attacks) > 2 * len(plots.COLORS):
    raise ValueError(f"points must be of at most 16 attacks, got {len(attacks)}.")
  styles = [_marker_style(attacks.index(point.attack), point.targeted) for point in points]
  num_rows = -(-len(panels) // 2)
  titles = _titles(points)
  figure = plots.new_figure(9, 4.1 * num_rows + 1)
  grid = figure.subplots(num_rows, 2, squeeze=False).flat
  for axes, (x, y) in itertools.zip_longest(grid, panels, fillvalue=(None, None)):
    if x is None:
      axes.set_axis_off()
      continue
    for point, title, style in zip(points, titles, styles, strict=True):
      _draw_point(axes, title, getattr(point, x), getattr(point, y), style)
    _dress_trade_off(axes, x, y)
  plots.add_legend(figure, _marker_handles(titles, styles), columns=4)
  return figure


def _titles(points: Sequence[TradeOff]) -> list[str]:
  """Names the variant where an attack has more than one."""
  attacks = [point.attack for point in points]
  variants = {None: "", True: " (targeted)", False: " (untargeted)"}
  return [
    attack + (variants[point.targeted] if attacks.count(attack) > 1 else "")
    for attack, point in zip(attacks, points, strict=True)
  ]


def _marker_style(index: int, targeted: bool | None) -> dict[str, str]:
  """Color and shape do not suffice for 16: those of the second eight are hollow."""
  color = plots.COLORS[index % len(plots.COLORS)]
  filled = index < len(plots.COLORS)
  return {
    "marker": {None: "D", True: "o", False: "s"}[targeted],
    "face": color if filled else "#ffffff",
    "edge": "#ffffff" if filled else color,
    "color": color,
  }


def _draw_point(
  axes: "Axes", title: str, x: Estimate | None, y: Estimate | None, style: dict[str, str]
) -> None:
  if x is None or y is None:
    return
  axes.errorbar(
    [x.value],
    [y.value],
    xerr=None if x.low is None else x.reach(),
    yerr=None if y.low is None else y.reach(),
    fmt="none",
    ecolor=style["color"],
    elinewidth=0.8,
    alpha=0.55,
    zorder=2,
    clip_on=False,
  )
  axes.scatter(
    [x.value],
    [y.value],
    s=62,
    marker=style["marker"],
    facecolors=style["face"],
    edgecolors=style["edge"],
    linewidths=0.7 if style["edge"] == "#ffffff" else 1.8,
    label=title,
    zorder=3,
    clip_on=False,  # many lie at 0 or 100
  )


def _dress_trade_off(axes: "Axes", x: str, y: str) -> None:
  axes.set_xlim(0, 100)
  axes.set_ylim(0, 100)
  axes.set_xticks(range(0, 101, 20))
  axes.set_yticks(range(0, 101, 20))
  axes.set_aspect("equal")
  axes.set_xlabel(": ".join(_MEASURES[x]))
  axes.set_ylabel(": ".join(_MEASURES[y]))
  axes.grid(color="#dddddd", linewidth=0.6)
  axes.set_axisbelow(True)
  plots.despine(axes)
  plots.entitle(axes, f"{_MEASURES[y][0]} against {_MEASURES[x][0]} (%)", "better ↗")


def _marker_handles(titles: Sequence[str], styles: Sequence[dict[str, str]]) -> list:
  from matplotlib.lines import Line2D

  return [
    Line2D(
      [],
      [],
      linestyle="none",
      marker=style["marker"],
      markersize=7.5,
      markerfacecolor=style["face"],
      markeredgecolor=style["edge"],
      markeredgewidth=0.7 if style["edge"] == "#ffffff" else 1.8,
      label=title,
    )
    for title, style in zip(titles, styles, strict=True)
  ]


def rate_bars(
  bars: Sequence[tuple[str, Estimate]], *, title: str, better: str | None = "better →"
) -> "Figure":
  """Draws rates as horizontal bars with their intervals.

  Args:
    bars: (title, rate), the first on top.
    title: what is shown.
    better: which direction is better; None: neither is.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw.
  """
  plots.require_some("bars", bars)
  figure = plots.new_figure(8, 0.3 * len(bars) + 1.0)
  axes = figure.subplots()
  for place, (_, rate) in enumerate(bars):
    axes.barh(place, rate.value, color="#9ec5e0", height=0.66)
    if rate.low is not None:
      axes.errorbar(
        [rate.value], [place], xerr=rate.reach(), fmt="none", ecolor="#222222", elinewidth=1.2
      )
    axes.text(112, place, f"{rate.value:.1f} %", ha="right", va="center", fontsize=9)
  axes.set_ylim(len(bars) - 0.4, -0.6)
  axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=9, parse_math=False)
  axes.set_xlim(0, 112)
  axes.set_xticks(range(0, 101, 20), [f"{tick} %" for tick in range(0, 101, 20)], fontsize=9)
  axes.tick_params(axis="y", length=0)
  plots.despine(axes)
  if better is not None:
    axes.set_xlabel(better, fontsize=9, color=plots.GRAY)
  plots.entitle(axes, title)
  return figure
