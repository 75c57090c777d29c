"""Box plots: candidate target classes (Fig. 3) and seconds a photograph (Fig. 6)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

OUTLIER = 2.7
"""Standard deviations from the average beyond which Fig. 3 draws a dot."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuntimeGroup:
  """One plot of Fig. 6: (a) the attacks, or (b) RP-FGSM on one, two and three networks.

  Attributes:
    title: above the plot.
    names: of the boxes, from the left.
    seconds: for each name, seconds a photograph, `(N,)`, all positive.
  """

  title: str
  names: tuple[str, ...]
  seconds: tuple[np.ndarray, ...]


def candidate_boxes(gammas: Sequence[float], counts: np.ndarray, *, num_classes: int) -> "Figure":
  """Draws how many target classes Eq. 17 leaves for each gamma.

  Sanchez-Matilla et al. (2020), Fig. 3: median, quartiles, dots beyond 2.7 standard deviations from
  the average, whiskers to the farthest photographs that are no dots.

  Args:
    gammas: G thresholds in [0, 1], increasing.
    counts: number of candidates, `(N, G)` integers in 0..num_classes.
    num_classes: D of the networks; the top of the axis.

  Returns:
    The figure.

  Raises:
    ValueError: the shapes differ, nothing to draw, or numbers out of range.

  Note:
    The rule is the caption's. Plotting software commonly draws whiskers of 1.5 times the distance
    between the quartiles instead, which is 2.7 standard deviations only for normal data; counts
    pile up at the top.
  """
  plots.require_some("gammas", gammas)
  steps = np.diff(gammas)
  if not ((steps > 0).all() and gammas[0] >= 0 and gammas[-1] <= 1):
    raise ValueError(f"gammas must increase within 0..1, got {list(gammas)}.")
  counts = np.asarray(counts)
  if counts.ndim != 2 or not len(counts) or counts.shape[1] != len(gammas):
    raise ValueError(f"counts must be (N, {len(gammas)}) with N >= 1, got {counts.shape}.")
  if not np.issubdtype(counts.dtype, np.integer):
    raise ValueError(f"counts must be integers, got {counts.dtype}.")
  if counts.min() < 0 or counts.max() > num_classes:
    raise ValueError(f"counts must be in 0..{num_classes}, got {counts.min()}..{counts.max()}.")
  figure = plots.new_figure(max(0.55 * len(gammas) + 1.2, 5), 4.2)
  axes = figure.subplots()
  boxes = [_candidate_box(column.astype(np.float64)) for column in counts.T]
  _draw_boxes(axes, boxes)
  axes.set_ylim(-0.02 * num_classes, 1.02 * num_classes)  # boxes and dots at the ends stay whole
  axes.set_xticks(range(1, len(gammas) + 1), [f"{gamma:g}" for gamma in gammas])
  axes.set_xlabel("γ, cumulative probability that is left out")
  axes.set_ylabel(f"classes, of {num_classes}")
  plots.entitle(axes, f"Candidate target classes of {len(counts)} photos")
  return figure


def runtime_boxes(groups: Sequence[RuntimeGroup]) -> "Figure":
  """Draws the seconds that attacks take for a photograph, on one logarithmic axis.

  Sanchez-Matilla et al. (2020), Fig. 6 (a) and (b): median, quartiles, whiskers to the smallest and
  the largest.

  Args:
    groups: the plots, from the left.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, names without seconds, or seconds that are not positive.
  """
  plots.require_some("groups", groups)
  for group in groups:
    _check_seconds(group)
  everything = np.concatenate([seconds for group in groups for seconds in group.seconds])
  counts = [len(group.names) for group in groups]
  figure = plots.new_figure(max(0.5 * sum(counts) + 1.2 * len(counts), 5), 4.6)
  grid = figure.subplots(
    1, len(groups), squeeze=False, sharey=True, width_ratios=[max(count, 2.5) for count in counts]
  )[0]
  for axes, group in zip(grid, groups, strict=True):
    _draw_boxes(axes, [_runtime_box(np.asarray(each, np.float64)) for each in group.seconds])
    axes.set_xticks(
      range(1, len(group.names) + 1),
      group.names,
      rotation=40,
      ha="right",
      rotation_mode="anchor",
      fontsize=9,
      parse_math=False,
    )
    plots.entitle(axes, group.title)
  grid[0].set_yscale("log")
  # From a whole decade up to the next one at least, so that two of them have a label.
  bottom = 10.0 ** math.floor(math.log10(everything.min()))
  grid[0].set_ylim(bottom, max(10 * bottom, 1.2 * everything.max()))
  grid[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
  grid[0].yaxis.set_minor_formatter(lambda value, _: "")
  grid[0].set_ylabel("seconds a photo (fewer is better)")
  return figure


def _check_seconds(group: RuntimeGroup) -> None:
  plots.require_some("names", group.names)
  if len(group.names) != len(group.seconds):
    raise ValueError(
      f"seconds must have an entry for each of {len(group.names)} names, got {len(group.seconds)}."
    )
  for name, seconds in zip(group.names, group.seconds, strict=True):
    numbers = np.asarray(seconds, np.float64)
    if numbers.ndim != 1 or not numbers.size:
      raise ValueError(f"seconds of {name} must be (N,) with N >= 1, got {numbers.shape}.")
    if not (np.isfinite(numbers) & (numbers > 0)).all():
      raise ValueError(f"seconds of {name} must be positive and finite, got {numbers.min()}.")


def _quartiles(values: np.ndarray) -> dict[str, Any]:
  first, median, third = np.percentile(values, (25, 50, 75))
  return {"q1": first, "med": median, "q3": third}


def _candidate_box(values: np.ndarray) -> dict[str, Any]:
  is_outlier = np.abs(values - values.mean()) > OUTLIER * values.std()
  kept = values[~is_outlier]
  return _quartiles(values) | {
    "whislo": kept.min(),
    "whishi": kept.max(),
    "fliers": values[is_outlier],
  }


def _runtime_box(values: np.ndarray) -> dict[str, Any]:
  return _quartiles(values) | {"whislo": values.min(), "whishi": values.max(), "fliers": []}


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
  axes.grid(axis="y", color="#dddddd", linewidth=0.6)
  axes.set_axisbelow(True)
  plots.despine(axes)
