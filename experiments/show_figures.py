"""Fig. 3 to 6 of the paper from the rows of a study: candidates, trade-offs, epsilons, seconds.

Each function returns a figure, or None where the rows it shows are not there.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import plots, timing, variants
from experiments.lineup import ORIGINAL, Contender
from experiments.photo_facts import GAMMAS
from experiments.results import Results

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_BEST_PSNR = 60.0
"""dB that count as 100 %; 0 dB, the largest change there can be, as 0 %."""
_OUTLIER = 2.7
"""Standard deviations from the average beyond which Fig. 3 draws a dot."""

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
# (x, y) of each chart of Fig. 4. The paper does not name its axes; its text can also be read as
# without against with defenses, for seen and for unseen networks.
_TRADE_OFFS = (
  ("seen", "unseen"),
  ("seen_defended", "unseen_defended"),
  ("brisque", "undetectability"),
  ("psnr", "undetectability"),
)
# Rows of Fig. 5 as in the paper: seen on the left, unseen on the right.
_SWEEP_CHARTS = (
  *(
    (name, ": ".join(_MEASURES[name]), "%", "better ↑")
    for name in ("seen", "unseen", "seen_defended", "unseen_defended")
  ),
  ("detectability", "Detectability", "%", "better ↓"),
  ("psnr", "Image quality, PSNR", "dB", "better ↑"),
)


def figure3(results: Results) -> "Figure":
  """Fig. 3: how many target classes Eq. 17 leaves for each gamma, boxes by the caption's rule."""
  extra = results.outcomes[ORIGINAL].extra.values()
  counts = np.asarray([each["candidates"] for each in extra], np.float64)
  num_classes = len(results.header["class_names"])
  figure = plots.new_figure(max(0.55 * len(GAMMAS) + 1.2, 5), 4.2)
  axes = figure.subplots()
  _draw_boxes(axes, [_candidate_box(column) for column in counts.T])
  plots.dress(axes, f"Candidate target classes of {len(counts)} photos", grid="y")
  axes.set_ylim(-0.02 * num_classes, 1.02 * num_classes)  # boxes and dots at the ends stay whole
  axes.set_xticks(range(1, len(GAMMAS) + 1), [f"{gamma:g}" for gamma in GAMMAS])
  axes.set_xlabel("γ, cumulative probability that is left out")
  axes.set_ylabel(f"classes, of {num_classes}")
  return figure


def figure6(results: Results) -> "Figure | None":
  """Fig. 6: seconds of one photograph alone, whiskers to the smallest and the largest."""
  attacks, counts = timing.timed_contenders(results.setup)
  charts = (
    ("(a) the attacks", {each.title: each for each in attacks}),
    ("(b) RP-FGSM on one to all networks", {each.on: each for each in counts}),
  )
  groups = {
    title: {
      label: np.asarray(results.timings[each.name])
      for label, each in members.items()
      if each.name in results.timings
    }
    for title, members in charts
  }
  groups = {title: seconds for title, seconds in groups.items() if seconds}
  if not groups:
    return None
  widths = [len(seconds) for seconds in groups.values()]
  figure = plots.new_figure(max(0.5 * sum(widths) + 1.2 * len(widths), 5), 4.6)
  ratios = [max(width, 2.5) for width in widths]
  grid = figure.subplots(1, len(groups), squeeze=False, sharey=True, width_ratios=ratios)[0]
  for axes, (title, seconds) in zip(grid, groups.items(), strict=True):
    _draw_boxes(axes, [_box(each, each, []) for each in seconds.values()])
    plots.dress(axes, title, grid="y")
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor", "fontsize": 9}
    axes.set_xticks(range(1, len(seconds) + 1), list(seconds), **turned, parse_math=False)
  everything = np.concatenate([each for seconds in groups.values() for each in seconds.values()])
  _use_decades(grid[0], everything.min(), everything.max())
  grid[0].set_ylabel("seconds a photo (fewer is better)")
  return figure


def _use_decades(axes: "Axes", least: float, most: float) -> None:
  """Makes the y-axis logarithmic, from a whole decade to the next: two of them have a label."""
  axes.set_yscale("log")
  bottom = 10.0 ** math.floor(math.log10(least))
  axes.set_ylim(bottom, max(10 * bottom, 1.2 * most))
  axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
  axes.yaxis.set_minor_formatter(lambda value, _: "")


def _box(values: np.ndarray, kept: np.ndarray, dots: Sequence[float]) -> dict[str, Any]:
  """Median and quartiles of all values, whiskers to the ends of those that are kept."""
  first, median, third = np.percentile(values, (25, 50, 75))
  ends = {"whislo": kept.min(), "whishi": kept.max()}
  return {"q1": first, "med": median, "q3": third, **ends, "fliers": dots}


def _candidate_box(values: np.ndarray) -> dict[str, Any]:
  """Whiskers to the farthest photographs within 2.7 standard deviations of the average.

  Plotting software commonly draws 1.5 times the distance between the quartiles instead, which is
  the same only for normal data; counts pile up at the top.
  """
  is_outlier = np.abs(values - values.mean()) > _OUTLIER * values.std()
  return _box(values, values[~is_outlier], values[is_outlier])


def _draw_boxes(axes: "Axes", boxes: Sequence[dict[str, Any]]) -> None:
  axes.bxp(
    boxes,
    widths=0.6,
    patch_artist=True,
    manage_ticks=False,
    boxprops={"facecolor": "#cfe3f2", "edgecolor": plots.COLORS[0]},
    whiskerprops={"color": plots.COLORS[0]},
    capprops={"color": plots.COLORS[0]},
    medianprops={"color": plots.COLORS[1], "linewidth": 2},
    flierprops={"marker": ".", "markersize": 3, "markeredgecolor": plots.GRAY},
  )
  axes.set_xlim(0.4, len(boxes) + 0.6)


def figure4(results: Results) -> "Figure | None":
  """Fig. 4: seen against unseen, without and with defenses; quality against undetectability."""
  attacks = (*variants.baselines(results.setup)[1:], *variants.paper_attacks(results.setup))
  contenders = results.present(attacks)
  photos = results.shared([each.name for each in contenders]) if contenders else []
  if not photos:
    return None
  styles = _marker_styles(results, contenders)
  figure = plots.new_figure(9, 9.2)
  grid = figure.subplots(2, 2).flatten()
  for contender, (title, style) in zip(contenders, styles.items(), strict=True):
    values = _trade_off(results, contender, photos)
    for axes, (x, y) in zip(grid, _TRADE_OFFS, strict=True):
      if x in values and y in values:
        _draw_point(axes, values[x], values[y], title, style)
  for axes, (x, y) in zip(grid, _TRADE_OFFS, strict=True):
    plots.dress(axes, f"{_MEASURES[y][0]} against {_MEASURES[x][0]} (%)", "better ↗")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.set(xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.set(xlabel=": ".join(_MEASURES[x]), ylabel=": ".join(_MEASURES[y]))
  plots.add_legend(figure, styles)
  return figure


def _marker_styles(results: Results, contenders: Sequence[Contender]) -> dict[str, plots.Style]:
  """Returns title -> marker, one color for variants of an attack; after the eighth it is hollow."""
  names = [each.title.removesuffix(" targeted") for each in contenders]
  colors = list(dict.fromkeys(names))
  styles = {}
  for contender, name in zip(contenders, names, strict=True):
    targeted = results.outcomes[contender.name].targeted if contender.networks else None
    kind = {None: "", True: " (targeted)", False: " (untargeted)"}[targeted]
    hollow, index = divmod(colors.index(name), len(plots.COLORS))
    color = plots.COLORS[index]
    styles[name + (kind if names.count(name) > 1 else "")] = {
      "linestyle": "none",
      "marker": {None: "D", True: "o", False: "s"}[targeted],
      "markersize": 7.5,
      "color": color,
      "markerfacecolor": "#ffffff" if hollow else color,
      "markeredgecolor": color if hollow else "#ffffff",
      "markeredgewidth": 1.8 if hollow else 0.7,
    }
  return styles


def _trade_off(
  results: Results, contender: Contender, photos: Sequence[str]
) -> dict[str, np.ndarray]:
  """Returns measure -> (value, low, high) in per cent, without those that have no rows."""
  name, reference = contender.name, [results.reference]
  found = _rates(results, name, photos, reference, detectors=reference)
  if "detectability" in found:
    found["undetectability"] = 100 - found["detectability"][[0, 2, 1]]
  psnr, brisque = (results.mean(name, column, photos) for column in ("psnr", "brisque"))
  if psnr is not None:
    found["psnr"] = np.full(3, np.clip(100 * (psnr / _BEST_PSNR), 0, 100))
  if brisque is not None:
    found["brisque"] = np.full(3, np.clip(100 * (1 - brisque / 100), 0, 100))
  return found


def _rates(
  results: Results,
  name: str,
  photos: Sequence[str],
  seen: Sequence[int],
  detectors: Sequence[int],
) -> dict[str, np.ndarray]:
  """Returns measure -> (value, low, high) of an attack in per cent; networks by their places."""
  unseen = results.networks(seen=False)
  rates = {
    measure: results.rate(name, photos, networks=networks, defended=defended, top=1)
    for measure, networks, defended in (
      ("seen", seen, False),
      ("unseen", unseen, False),
      ("seen_defended", seen, True),
      ("unseen_defended", unseen, True),
    )
  }
  if len(results.training):
    rates["detectability"] = results.detection(name, photos, detectors)
  return {
    measure: 100 * np.array((rate.value, rate.low, rate.high)) for measure, rate in rates.items()
  }


def _draw_point(axes: "Axes", x: np.ndarray, y: np.ndarray, title: str, style: plots.Style) -> None:
  # Matplotlib refuses a negative length, which rounding alone can make.
  reach = [np.maximum([[each[0] - each[1]], [each[2] - each[0]]], 0.0) for each in (x, y)]
  bars = {"ecolor": style["color"], "elinewidth": 0.8, "alpha": 0.55, "zorder": 2}
  axes.errorbar(x[:1], y[:1], xerr=reach[0], yerr=reach[1], fmt="none", clip_on=False, **bars)
  axes.scatter(
    x[:1],
    y[:1],
    s=62,
    marker=style["marker"],
    facecolors=style["markerfacecolor"],
    edgecolors=style["markeredgecolor"],
    linewidths=style["markeredgewidth"],
    label=title,
    zorder=3,
    clip_on=False,  # many lie at 0 or 100
  )


def figure5(results: Results) -> "Figure | None":
  """Fig. 5: targeted RP-FGSM against epsilon, a line for each network and one for all of them."""
  sweep = variants.epsilon_sweep(results.setup)
  lines = {title: results.present(members) for title, members in sweep.items()}
  lines = {title: members for title, members in lines.items() if len(members) > 1}
  if not lines:
    return None
  styles = plots.line_styles(list(lines))
  for style, dashes in zip(styles.values(), ("-", "--", "-.", ":") * 2, strict=False):
    style["linestyle"] = dashes
  figure = plots.new_figure(9, 8.4)
  grid = figure.subplots(3, 2, sharex=True)
  for title, members in lines.items():
    epsilons = [float(each.config.epsilon) for each in members]
    bands = _bands(results, members)
    for axes, (measure, *_) in zip(grid.flat, _SWEEP_CHARTS, strict=True):
      if measure in bands:
        values, *interval = bands[measure]
        axes.plot(epsilons, values, linewidth=1.6, label=title, **styles[title])
        if interval:
          color = styles[title]["color"]
          axes.fill_between(epsilons, *interval, color=color, alpha=0.15, linewidth=0)
  for axes, (_, title, unit, better) in zip(grid.flat, _SWEEP_CHARTS, strict=True):
    plots.dress(axes, title, better)
    axes.set_ylabel(unit)
    if unit == "%":
      axes.set_ylim(-2, 102)  # a line at 0 or 100 shows
      axes.set_yticks(range(0, 101, 20))
  epsilons = {float(each.config.epsilon) for members in lines.values() for each in members}
  plots.use_base_2(grid[0, 0], sorted(epsilons))
  for axes in grid[-1]:
    axes.set_xlabel("ε (gray levels)")
  plots.add_legend(figure, styles)
  return figure


def _bands(results: Results, members: Sequence[Contender]) -> dict[str, np.ndarray]:
  """Returns measure -> (values, low, high) along epsilon in per cent; PSNR: values in dB alone."""
  photos = results.shared([each.name for each in members])
  attacked = results.attacked(members[0].name)
  seen = attacked if len(attacked) == 1 else [results.reference]
  rates = [_rates(results, each.name, photos, seen, detectors=attacked) for each in members]
  psnr = [results.mean(each.name, "psnr", photos) for each in members]
  bands = {measure: np.stack([each[measure] for each in rates], axis=1) for measure in rates[0]}
  return bands | {"psnr": np.asarray([psnr], np.float64)}  # None, nothing changed: a gap
