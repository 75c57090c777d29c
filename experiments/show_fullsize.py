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

JudgedRows = dict[str, dict[str, rows.Row]]
"""Setting -> photograph -> its row, the verdict read."""


def read_results(folder: pathlib.Path) -> tuple[rows.Row, JudgedRows]:
  """Returns the first row of a folder, and the others by setting and photograph."""
  header, found = rows.read_run(rows.find_rows(folder))
  results: JudgedRows = collections.defaultdict(dict)
  for row in found:
    if row["kind"] == "photo":
      results[row["setting"]][row["photo"]] = row | {"verdict": Verdict.from_json(row["verdict"])}
  return header, dict(results)


def show(folder: pathlib.Path) -> None:
  """Writes fullsize.md, fullsize.csv and fullsize.png from the rows of a folder."""
  header, results = read_results(folder)
  tables = make_tables(results)
  head = f"# Photos at their own size\n\n{header['photos']}; `{header['command']}`\n\n"
  atomic.write_text(folder / "fullsize.md", head + markdown(tables))
  atomic.write_text(folder / "fullsize.csv", csv_text(tables))
  figure = make_figure(results)
  if figure is not None:
    plots.save(figure, folder / "fullsize.png")


def make_tables(results: JudgedRows) -> list[Table]:
  """Returns what every setting does, and those comparisons that the rows allow."""
  kinds = (_main_table, _scene_table, _equal_table, _size_table)
  every, *others = (table(results) for table in kinds)
  return [every, *(table for table in others if table.rows)]


def _present(results: JudgedRows) -> list[Setting]:
  return [setting for setting in SETTINGS if setting.name in results]


def _judges(results: JudgedRows) -> list[NetworkVerdict]:
  """Returns every network, as some row tells of it, those of the attack first."""
  some = next(iter(results.values()), {})
  return list(next(iter(some.values()))["verdict"].networks) if some else []


def _titles(networks: Sequence[NetworkVerdict]) -> list[str]:
  short = [each.name.rstrip("/").rsplit("/", 1)[-1] for each in networks]
  return short if len(set(short)) == len(short) else [each.name for each in networks]


def _misled(row: rows.Row, condition: str, place: int = 0) -> bool:
  """Whether a held-out network is misled; the first one stands for all where one is shown."""
  return [each for each in row["verdict"].networks if each.held_out][place].misled[condition]


def _main_table(results: JudgedRows) -> Table:
  lines = []
  held_out = [each for each in _judges(results) if each.held_out]
  asked = [(place, condition) for place in range(len(held_out)) for condition in CONDITIONS]
  for setting in _present(results):
    some = list(results[setting.name].values())
    verdicts = [row["verdict"] for row in some]
    seen = [
      [each.misled[_SHARED] for each in verdict.networks if not each.held_out]
      for verdict in verdicts
    ]
    shares = [
      *([_misled(row, condition, place) for row in some] for place, condition in asked),
      seen,
      [each.status == "protected" for each in verdicts if each.status != "no scene"],
    ]
    lines.append(
      [
        setting.name,
        Cell(str(len(some)), len(some)),
        *_looks(verdicts),
        *(rate_cell(misleading_rate(each)) for each in shares),
        number_cell(float(np.median([row["seconds"] for row in some])), 2),
      ]
    )
  conditions = CONDITIONS
  if len(held_out) > 1:
    conditions = [f"{_titles(held_out)[place]}, {condition}" for place, condition in asked]
  columns = [
    "setting", "photos", "PSNR, dB", "SSIM", *conditions, f"seen, {_SHARED}", "protected",
    "s a photo",
  ]  # fmt: skip
  note = (
    f"Judged on the encoded file. Conditions: how often {_the_held_out(results)} no longer "
    "gives the answer it gave to the original, in %. Seen: the mean over the attack's "
    "networks. Protected: of the photos in which a network was sure of a scene, those where every "
    "such network is misled under every condition."
  )
  return Table("Every setting", columns, lines, note=note)


def _looks(verdicts: Sequence[Verdict]) -> list[Cell]:
  """PSNR of what was changed, and SSIM."""
  return [
    _mean_cell([each.psnr for each in verdicts if np.isfinite(each.psnr)], 1),
    _mean_cell([each.ssim for each in verdicts if each.ssim is not None], 3),
  ]


def _the_held_out(results: JudgedRows, *, first: bool = False) -> str:
  titles = _titles([each for each in _judges(results) if each.held_out])
  if len(titles) == 1:
    return "the held-out network"
  return titles[0] if first else "a held-out network"


def _scene_table(results: JudgedRows) -> Table:
  """How often each network still names the true scene, first or among five."""
  networks = _judges(results)
  scenes = {
    name: row["scenes"]
    for some in results.values()
    for name, row in some.items()
    if "scenes" in row
  }
  lines = []
  for setting in _present(results):
    some = {name: row["verdict"] for name, row in results[setting.name].items() if name in scenes}
    if not some:
      continue
    cells = []
    for place in range(len(networks)):
      found = [
        (scenes[name][place], [scene for scene, _ in verdict.networks[place].after])
        for name, verdict in some.items()
        if scenes[name][place] is not None
      ]
      for top in (1, 5):
        cells.append(rate_cell(misleading_rate([own in after[:top] for own, after in found])))
    count = Cell(str(len(some)), len(some))
    lines.append([setting.name, count, *_looks(list(some.values())), *cells])
  titles = _titles(networks)
  kinds = ", ".join(
    f"{title} {'held out' if each.held_out else 'attacked'}"
    + (f" ({each.kind})" if each.kind else "")
    for title, each in zip(titles, networks, strict=True)
  )
  lacking = [
    f" {title} has no class for {count} of {len(scenes)} photos: not counted."
    for place, title in enumerate(titles)
    if (count := sum(own[place] is None for own in scenes.values()))
  ]
  note = (
    "Photos whose true scene a network still names first, or among five, of the file as written, "
    "in %; lower is better, random noise of the same eps is what an attack must beat. In brackets: "
    f"95 % Wilson interval. Networks: {kinds}.{''.join(lacking)}"
  )
  columns = ["setting", "photos", "PSNR, dB", "SSIM"]
  columns += [f"{title}, top-{top}" for title in titles for top in (1, 5)]
  return Table("True scene still named", columns, lines, note=note)


def _mean_cell(values: Sequence[float], digits: int) -> Cell:
  return number_cell(float(np.mean(values)) if values else None, digits)


Line = np.ndarray
"""(epsilon, SSIM, PSNR, rate behind JPEG 75) of each setting of a family, by epsilon; `(n, 4)`."""


def _lines(results: JudgedRows, families: Sequence[str]) -> dict[str, Line]:
  """Returns a line for each family that has settings, all of the same photographs."""
  members = [setting for setting in _present(results) if setting.family in families]
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


def _equal_table(results: JudgedRows) -> Table:
  cells = []
  for form, others in _EQUAL:
    lines = _lines(results, (form, *others))
    # Where two epsilons protect as well, the smaller.
    reference = {rate: epsilon for epsilon, *_, rate in lines.get(form, ())[::-1]}
    for rate, epsilon in sorted(reference.items()):
      reached = Cell(f"{100 * rate:.0f} %, {form} at eps {epsilon:g}", rate)
      for family, line in lines.items():
        found = _at_rate(line, rate)
        if found is not None:
          numbers = zip(found[:3], (1, 3, 1), strict=True)
          cells.append([reached, family, *(number_cell(*each) for each in numbers)])
  note = (
    f"Where each form of the change misleads {_the_held_out(results, first=True)} as often, behind "
    f"{_SHARED}, on the same photographs; between two settings a straight line."
  )
  return Table(
    "At equal protection", ["misled", "change", "eps", "SSIM", "PSNR, dB"], cells, note=note
  )


def _size_table(results: JudgedRows) -> Table:
  """Full size against the networks' size, at the same epsilon, on the same photographs."""
  lines = []
  present = _present(results)
  small = {each.epsilon: each for each in present if each.family == fullsize.NETWORK_SIZE}
  for setting in present:
    if setting.family not in _COMPARED or setting.epsilon not in small:
      continue
    here, there = results[setting.name], results[small[setting.epsilon].name]
    both = sorted(here.keys() & there.keys())
    png = [float(_misled(there[name], AS_WRITTEN)) for name in both]
    cells = [
      difference_cell(paired_difference([float(_misled(here[name], own)) for name in both], png))
      for own in (AS_WRITTEN, _SHARED)
    ]
    lines.append([setting.name, Cell(str(len(both)), len(both)), *cells])
  columns = ["setting", "photos", "as written", f"behind {_SHARED}"]
  whose = _the_held_out(results, first=True)
  note = (
    f"{whose[:1].upper()}{whose[1:]}'s rate minus its rate on the PNG of the attack at the "
    "networks' size, in percentage points, at the same epsilon; a star where the interval leaves "
    "out zero."
  )
  return Table("Full size against the networks' size", columns, lines, note=note)


def make_figure(results: JudgedRows) -> "Figure | None":
  """Returns protection against similarity, a line a family; None without two settings of one."""
  counts = collections.Counter(setting.family for setting in _present(results))
  lines = _lines(results, [family for family in _DRAWN if counts[family] > 1])
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
    whose = _the_held_out(results, first=True).removeprefix("the ")
    plots.dress(axes, f"{whose} misled behind {_SHARED}, %", "better ↗")
  plots.add_legend(figure, styles)
  return figure
