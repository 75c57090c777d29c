"""Protection a gradient pass: the cheapest settings, their tables, and the figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import passes, plots
from experiments.lineup import Contender
from experiments.passes import MARGIN, Blend, Compared
from experiments.results import TOPS, Results
from experiments.tables import interval_cell
from rpfgsm_jax.evaluation import Rate, misleading_rate
from rpfgsm_jax.report import Cell, Table
from rpfgsm_jax.report.cells import number_cell, rate_cell

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_DIFFERENCES = tuple(f"difference, defended, top-{top}" for top in TOPS)
_RATES = tuple(f"unseen{kind} top-{top}" for kind in ("", ", defended,") for top in TOPS)
_RULE = (
  "Defended: mean over all defenses. Difference: from the paper's passes on the same photos, in "
  "percentage points. In brackets 95 % intervals, of differences by bootstrap over photos. A "
  "setting protects as well when both its differences have the whole interval above "
  f"-{100 * MARGIN:g} points (one that is truly that far below has a chance of one in forty), and "
  "does not when otherwise one has the whole interval below zero; else it is not clear."
)
_EQUAL_PSNR = (
  "A setting with a lower PSNR than the paper's passes stands at the smaller eps that has theirs, "
  "interpolated between its rows at two; without such rows it is left out. One with a higher PSNR "
  "stands as it is."
)


def tables(results: Results) -> list[Table]:
  """The cheapest settings that protect as well, and all settings at equal eps and equal PSNR."""
  photos = passes.shared_photos(results)
  if not photos:
    return []
  compared = {
    kind: passes.compare(results, photos, equal_psnr=equal_psnr)
    for kind, equal_psnr in (("at equal eps", False), ("at equal PSNR", True))
  }
  note = f"{len(photos)} photos. {_RULE}"
  found = [_cheapest(compared, passes.reference(results.setup).passes, f"{note} {_EQUAL_PSNR}")]
  columns = ("setting", "first step", "passes", "eps", "PSNR", *_RATES, *_DIFFERENCES, "as well")
  for (kind, some), more in zip(compared.items(), ("", f" {_EQUAL_PSNR}"), strict=True):
    lines = [_line(results, each, photos) for each in some]
    found.append(Table(f"RP-FGSM by passes, {kind}", columns, lines, f"{note}{more}"))
  return found


def _cheapest(compared: dict[str, list[Compared]], most: int, note: str) -> Table:
  lines = []
  for kind, some in compared.items():
    best = passes.cheapest(some, most)
    if best is None:
      verdicts = [each.as_well for each in some if each.passes < most]
      none = f"none of {len(verdicts)}; {verdicts.count('not clear')} not clear"
      lines.append([kind, none, *[""] * (5 + len(TOPS))])
    else:
      share = Cell(f"{100 * best.passes / most:.0f} %", best.passes / most)
      *setting, epsilon, psnr = _setting(best)
      found = map(interval_cell, best.differences)
      lines.append([kind, *setting, share, epsilon, psnr, *found])
  columns = ("", "setting", "first step", "passes", "of the paper's", "eps", "PSNR", *_DIFFERENCES)
  title = "The fewest passes that protect as well as the paper's"
  return Table(title, columns, lines, f"Only settings with fewer than its {most}. {note}")


def _line(results: Results, each: Compared, photos: Sequence[str]) -> list[str | Cell]:
  rates = [
    rate_cell(_rate(results, each.blend, photos, defended=defended, top=top))
    for defended in (False, True)
    for top in TOPS
  ]
  found = map(interval_cell, each.differences)
  return [*_setting(each), *rates, *found, each.as_well]


def _setting(each: Compared) -> tuple[str, Cell, Cell, Cell, Cell]:
  """Option, first step, passes, epsilon and PSNR."""
  psnr = each.blend.psnr
  return (
    each.setting.option,
    number_cell(each.setting.contender.config.step_size, 0),
    Cell(str(each.passes), float(each.passes)),
    number_cell(each.blend.epsilon),
    number_cell(psnr if np.isfinite(psnr) else None),
  )


def _rate(
  results: Results, blend: Blend, photos: Sequence[str], *, defended: bool, top: int
) -> Rate:
  return misleading_rate(passes.misled(results, blend, photos, defended=defended, top=top))


def figure(results: Results) -> "Figure | None":
  """Misleading rates of unseen networks behind defenses, against passes and against PSNR."""
  photos = passes.shared_photos(results)
  if not photos:
    return None
  paper = _point(results, passes.reference(results.setup), photos)
  options: dict[str, list[list[_Point]]] = {}
  for setting in passes.settings_in(results):
    points = [_point(results, each, photos) for each in results.present(setting.members)]
    options.setdefault(setting.option, []).append(points)
  styles = plots.line_styles(list(options))
  made = plots.new_figure(10, 3.6 * len(TOPS) + 0.9)
  grid = made.subplots(len(TOPS), 2, squeeze=False, sharex="col", sharey="row")
  for row, (top, (left, right)) in enumerate(zip(TOPS, grid, strict=True)):
    for title, style in styles.items():
      _draw_option(left, right, options[title], row, style)
    first = next(iter(styles))
    _shade_intervals(left, options[first], row, styles[first]["color"])
    dotted = {"color": plots.GRAY, "linestyle": ":", "linewidth": 1}
    for axes, x, better in ((left, paper.passes, "better ↖"), (right, paper.psnr, "better ↗")):
      axes.axvline(x, **dotted)
      axes.axhline(paper.rates[row][0], **dotted)
      plots.dress(axes, f"unseen, defended, top-{top}", better)
    left.set_ylabel("%")
  counts = {points[0].passes for some in options.values() for points in some}
  plots.use_base_2(left, sorted(counts))
  left.set_xlabel("gradient passes a photograph")
  right.set_xlabel("PSNR (dB); dashed: the same at smaller ε")
  plots.add_legend(made, styles)
  return made


class _Point(NamedTuple):
  """A setting at one epsilon; of each of TOPS (value, low, high) in per cent."""

  passes: int
  psnr: float
  rates: list[np.ndarray]


def _point(results: Results, contender: Contender, photos: Sequence[str]) -> _Point:
  blend = passes.as_it_is(results, contender, photos)
  rates = [_rate(results, blend, photos, defended=True, top=top) for top in TOPS]
  percent = [100 * np.array((each.value, each.low, each.high)) for each in rates]
  return _Point(contender.passes, blend.psnr, percent)


def _draw_option(
  left: "Axes", right: "Axes", settings: Sequence[list[_Point]], row: int, style: plots.Style
) -> None:
  """Draws a line through the settings against passes, and each with its smaller epsilon by PSNR."""
  first = [points[0] for points in settings]
  values = [point.rates[row][0] for point in first]
  left.plot([point.passes for point in first], values, linewidth=1.6, **style)
  for points in settings:
    there = [point for point in points if np.isfinite(point.psnr)]  # infinite: nothing was changed
    values = [point.rates[row][0] for point in there]
    right.plot([point.psnr for point in there], values, linewidth=0.9, linestyle="--", **style)


def _shade_intervals(axes: "Axes", settings: Sequence[list[_Point]], row: int, color: str) -> None:
  """Shades the intervals of the option that the others are measured by."""
  first = [points[0] for points in settings]
  low, high = ([point.rates[row][end] for point in first] for end in (1, 2))
  axes.fill_between([p.passes for p in first], low, high, color=color, alpha=0.15, linewidth=0)
