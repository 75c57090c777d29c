"""Tables and the figure of photos at their own size, from rows alone."""

import collections
import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import fullsize, plots, rows
from experiments.fullsize import SETTINGS, Setting
from experiments.tables import csv_text, difference_cell
from rpfgsm_jax import atomic
from rpfgsm_jax.evaluation import misleading_rate, paired_difference
from rpfgsm_jax.photos.judging import CONDITIONS
from rpfgsm_jax.photos.verdict import AS_WRITTEN, NetworkVerdict, Verdict
from rpfgsm_jax.report import Cell, Table, markdown
from rpfgsm_jax.report.cells import number_cell, rate_cell

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_SHARED = "JPEG 75"
_DRAWN = (fullsize.DEFAULT, fullsize.EVEN, fullsize.TEXTURE_DEFAULT)
_EQUAL = (
  (fullsize.TEXTURE_DEFAULT, (fullsize.DEFAULT,)),
  (fullsize.TEXTURE, (fullsize.EVEN, fullsize.LUMA, fullsize.TEXTURE_LUMA)),
)
"""A form of the change, and those that are compared with it where they protect as well."""
_COMPARED = (fullsize.EVEN, fullsize.DEFAULT, fullsize.TEXTURE, fullsize.TEXTURE_DEFAULT)

Results = dict[str, dict[str, rows.Row]]
"""Setting -> photograph -> its row, the verdict read."""


def read_results(folder: pathlib.Path) -> tuple[rows.Row, Results]:
  """Returns the first row of a folder, and the others by setting and photograph.

  Args:
    folder: of results.

  Returns:
    Both.

  Raises:
    RowsError: the rows cannot be read.
  """
  header, found = rows.read_run(rows.find_rows(folder))
  results: Results = collections.defaultdict(dict)
  for row in found:
    if row["kind"] == "photo":
      results[row["setting"]][row["photo"]] = row | {"verdict": Verdict.from_json(row["verdict"])}
  return header, dict(results)


def show(folder: pathlib.Path) -> None:
  """Writes fullsize.md, fullsize.csv and fullsize.png from the rows of a folder.

  Args:
    folder: of results.
  """
  header, results = read_results(folder)
  tables = make_tables(results)
  head = f"# Photos at their own size\n\n{header['photos']}; `{header['command']}`\n\n"
  atomic.write_text(folder / "fullsize.md", head + markdown(tables))
  atomic.write_text(folder / "fullsize.csv", csv_text(tables))
  figure = make_figure(results)
  if figure is not None:
    plots.save(figure, folder / "fullsize.png")


def make_tables(results: Results) -> list[Table]:
  """Returns the tables that these rows allow.

  Args:
    results: as read.

  Returns:
    What every setting does; where its change is less visible at the same protection; full size
    against the networks' size.
  """
  present = [setting for setting in SETTINGS if setting.name in results]
  tables = [_main_table(results, present)]
  equal = _equal_table(results, present)
  if equal.rows:
    tables.append(equal)
  sizes = _size_table(results, present)
  if sizes.rows:
    tables.append(sizes)
  return tables


def _held_out(row: rows.Row) -> NetworkVerdict:
  return next(network for network in row["verdict"].networks if network.held_out)


def _misled(row: rows.Row, condition: str) -> bool:
  return _held_out(row).misled[condition]


def _main_table(results: Results, present: Sequence[Setting]) -> Table:
  lines = []
  for setting in present:
    some = list(results[setting.name].values())
    verdicts = [row["verdict"] for row in some]
    sure = [each.status for each in verdicts if each.status != "no scene"]
    seen = [
      [each.misled[_SHARED] for each in verdict.networks if not each.held_out]
      for verdict in verdicts
    ]
    finite = [each.psnr for each in verdicts if np.isfinite(each.psnr)]
    similar = [each.ssim for each in verdicts if each.ssim is not None]
    lines.append(
      [
        setting.name,
        Cell(str(len(some)), len(some)),
        number_cell(float(np.mean(finite)) if finite else None),
        number_cell(float(np.mean(similar)) if similar else None, 3),
        *(rate_cell(misleading_rate([_misled(row, each) for row in some])) for each in CONDITIONS),
        rate_cell(misleading_rate(seen)),
        rate_cell(misleading_rate([status == "protected" for status in sure])),
        number_cell(float(np.median([row["seconds"] for row in some])), 2),
      ]
    )
  columns = [
    "setting", "photos", "PSNR, dB", "SSIM", *CONDITIONS, f"seen, {_SHARED}", "protected",
    "s a photo",
  ]  # fmt: skip
  note = (
    "Judged on the encoded file. Conditions: how often the network that the attack never asked no "
    "longer gives the answer it gave to the original, in %. Seen: the mean over the attack's "
    "networks. Protected: of the photos in which a network was sure of a scene, those where every "
    "such network is misled under every condition."
  )
  return Table("Every setting", columns, lines, note=note)


Line = np.ndarray
"""(epsilon, SSIM, PSNR, rate behind JPEG 75) of each setting of a family, by epsilon; `(n, 4)`."""


def _lines(
  results: Results, present: Sequence[Setting], families: Sequence[str]
) -> dict[str, Line]:
  """Returns a line for each family that has settings, all of the same photographs."""
  members = [setting for setting in present if setting.family in families]
  members.sort(key=lambda each: each.epsilon)
  if not members:
    return {}
  shared = set.intersection(*(set(results[each.name]) for each in members))
  lines = collections.defaultdict(list)
  for setting in members:
    some = [results[setting.name][name] for name in sorted(shared)]
    similar = np.mean([row["verdict"].ssim for row in some])
    noise = np.mean([row["verdict"].psnr for row in some])
    rate = np.mean([_misled(row, _SHARED) for row in some])
    lines[setting.family].append((setting.epsilon, similar, noise, rate))
  return {family: np.array(line) for family, line in lines.items()}


def _at_rate(line: np.ndarray, rate: float) -> np.ndarray | None:
  """Returns (epsilon, SSIM, PSNR, rate) where a family first reaches a rate, between settings."""
  for before, after in itertools.pairwise(line):
    if before[3] <= rate <= after[3] and after[3] > before[3]:
      share = (rate - before[3]) / (after[3] - before[3])
      return before + share * (after - before)
  return None


def _equal_table(results: Results, present: Sequence[Setting]) -> Table:
  cells = []
  for form, others in _EQUAL:
    lines = _lines(results, present, (form, *others))
    if form not in lines:
      continue
    reference = {rate: epsilon for epsilon, *_, rate in lines[form][::-1]}
    for rate, epsilon in sorted(reference.items()):
      for family, line in lines.items():
        found = _at_rate(line, rate)
        if found is None:
          continue
        cells.append(
          [
            Cell(f"{100 * rate:.0f} %, {form} at eps {epsilon:g}", rate),
            family,
            number_cell(found[0]),
            number_cell(found[1], 3),
            number_cell(found[2]),
          ]
        )
  note = (
    f"Where each form of the change misleads the network that was never asked as often, behind "
    f"{_SHARED}, on the same photographs; between two settings a straight line."
  )
  return Table(
    "At equal protection", ["misled", "change", "eps", "SSIM", "PSNR, dB"], cells, note=note
  )


def _size_table(results: Results, present: Sequence[Setting]) -> Table:
  """Full size against the networks' size, at the same epsilon, on the same photographs."""
  lines = []
  small = {each.epsilon: each for each in present if each.family == fullsize.NETWORK_SIZE}
  for setting in present:
    if setting.family not in _COMPARED or setting.epsilon not in small:
      continue
    here, there = results[setting.name], results[small[setting.epsilon].name]
    both = sorted(here.keys() & there.keys())
    pairs = [
      (AS_WRITTEN, AS_WRITTEN),
      (_SHARED, AS_WRITTEN),
    ]
    cells = [
      difference_cell(
        paired_difference(
          [float(_misled(here[name], own)) for name in both],
          [float(_misled(there[name], other)) for name in both],
        )
      )
      for own, other in pairs
    ]
    lines.append([setting.name, Cell(str(len(both)), len(both)), *cells])
  columns = ["setting", "photos", "as written", f"behind {_SHARED}"]
  note = (
    "The held-out network's rate minus its rate on the PNG of the attack at the networks' size, in "
    "percentage points, at the same epsilon; a star where the interval leaves out zero."
  )
  return Table("Full size against the networks' size", columns, lines, note=note)


def make_figure(results: Results) -> "Figure | None":
  """Returns protection against similarity, a line a family; None without two settings of one."""
  present = [setting for setting in SETTINGS if setting.name in results]
  counts = collections.Counter(setting.family for setting in present)
  lines = _lines(results, present, [family for family in _DRAWN if counts[family] > 1])
  if not lines:
    return None
  styles = {
    family: {"color": color, "marker": "o", "linewidth": 1.6}
    for family, color in zip(lines, plots.COLORS, strict=False)
  }
  figure = plots.new_figure(10, 4.5)
  grid = figure.subplots(1, 2, sharey=True)
  for axes, column, label in zip(grid, (1, 2), ("SSIM", "PSNR, dB"), strict=True):
    for family, line in lines.items():
      axes.plot(line[:, column], 100 * line[:, 3], label=family, **styles[family])
      beside = {"textcoords": "offset points", "fontsize": 8, "color": styles[family]["color"]}
      for epsilon, *point in line:
        axes.annotate(f"{epsilon:g}", (point[column - 1], 100 * point[2]), (3, 4), **beside)
    axes.set_xlabel(label)
    plots.dress(axes, f"held-out network misled behind {_SHARED}, %", "better ↗")
  plots.add_legend(figure, styles)
  return figure
