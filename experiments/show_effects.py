"""Tables V, VI and VII, and what the paper leaves open: differences on the same photographs."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from experiments import variants
from experiments.lineup import ORIGINAL, Contender
from experiments.results import TOPS, Results
from experiments.tables import difference_cell, interval_cell
from rpfgsm_jax.evaluation import paired_difference
from rpfgsm_jax.report import Cell, Table

Pair = tuple[Contender, Contender]
_NOTE = (
  "Differences in percentage points on the same photos, same seed and same draws; a star where the "
  "95 % bootstrap interval over photos leaves out zero (one in twenty does by chance). +D: mean "
  "over all defenses. Detection: detectors of the attacked networks, mean over families of "
  "defenses; less is better."
)


def table5(results: Results) -> list[Table]:
  """Table V: with random transformations minus without."""
  pairs, title = variants.transformation_pairs(results.setup), "Random transformation minus none"

  def group(pair: Pair) -> str:
    choice = variants.choice_of(pair[0])
    return "one network" if choice == "one" else choice

  return _tables(results, pairs, title, group)


def table6(results: Results) -> list[Table]:
  """Table VI: a random network minus all networks an iteration."""
  pairs, title = variants.choice_pairs(results.setup), "A random network minus all networks"
  words = {True: "random transformation", False: "none"}
  return _tables(results, pairs, title, lambda pair: words[pair[0].transforms])


def table7(results: Results) -> list[Table]:
  """Table VII: the same at other numbers of iterations; the paper has the targeted half."""
  pairs = variants.iteration_pairs(results.setup)

  def iterations(contender: Contender) -> int:
    ensemble = variants.choice_of(contender) == "ensemble"
    return contender.passes // (len(contender.networks) if ensemble else 1)

  def group(pair: Pair) -> str:
    return f"{iterations(pair[0])} iterations minus {iterations(pair[1])}"

  return _tables(results, pairs, "A random network minus all networks, by iterations", group)


def _tables(
  results: Results, pairs: Iterable[Pair], title: str, group_of: Callable[[Pair], str]
) -> list[Table]:
  """Returns one table for each variant, targeted and untargeted, with the mean of each group."""
  pairs, photos = _there(results, pairs)
  tables = []
  for targeted in (True, False) if pairs else ():
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
      if pair[0].config.targeted == targeted:
        groups.setdefault(group_of(pair), []).append(pair)
    lines = []
    for group, members in groups.items():
      effects = [np.stack(list(_effects(results, pair, photos))) for pair in members]
      for (first, _), each in zip(members, effects, strict=True):
        lines.append([group, first.on, *_cells(each)])
      if len(members) > 1:
        lines.append([group, "average", *_cells(np.mean(effects, axis=0))])
    kind = "targeted" if targeted else "untargeted"
    note = f"{len(photos)} photos. {_NOTE}"
    tables.append(Table(f"{title}, {kind}", _columns(results), lines, note))
  return tables


def _there(results: Results, pairs: Iterable[Pair]) -> tuple[list[Pair], list[str]]:
  """The pairs of which both have rows, and the photographs that all of them had."""
  pairs = [pair for pair in pairs if len(results.present(pair)) == 2]
  names = {each.name: None for pair in pairs for each in pair}
  return pairs, results.shared(names) if names else []


def _columns(results: Results) -> list[str]:
  columns = [
    f"{title}{defended} top-{top}"
    for defended in ("", " +D")
    for title in results.titles
    for top in TOPS
  ]
  return ["", "on", *columns, *(["detection"] if len(results.training) else [])]


def _cells(effects: np.ndarray) -> list[Cell]:
  return [difference_cell(paired_difference(each, np.zeros_like(each))) for each in effects]


def _effects(results: Results, pair: Pair, photos: Sequence[str]) -> Iterator[np.ndarray]:
  """Yields `(N,)` differences, a column of the table each."""
  first, second = (each.name for each in pair)
  for defended in (False, True):
    for network in range(len(results.titles)):
      for top in TOPS:
        options = {"networks": [network], "defended": defended, "top": top}
        yield results.misled(first, photos, **options) - results.misled(second, photos, **options)
  if len(results.training):
    attacked = results.attacked(first)
    yield results.detected(first, photos, attacked) - results.detected(second, photos, attacked)


def defaults(results: Results) -> list[Table]:
  """What the paper leaves open: other choices minus the default, on even and on odd image ids."""
  pairs, photos = _there(results, variants.default_pairs(results.setup))
  if not pairs:
    return []
  original, unseen = results.outcomes[ORIGINAL], results.networks(seen=False)
  is_odd = original.ids[original.at(photos)] % 2
  halves = {
    name: [photo for photo, odd in zip(photos, is_odd, strict=True) if odd == half]
    for half, name in enumerate(("decided on", "reported"))
  }
  lines = []
  for other, usual in pairs:
    kind = "targeted" if other.config.targeted else "untargeted"
    for name, half in halves.items():
      columns = [
        [
          results.misled(each.name, half, networks=unseen, defended=defended, top=top)
          for each in (other, usual)
        ]
        for defended in (True, False)
        for top in TOPS
      ]
      cells = [interval_cell(paired_difference(*both)) for both in columns]
      lines.append([other.note, kind, name, str(len(half)), *cells])
  note = (
    "Misleading rate of unseen networks, the other choice minus the default (straight-through "
    "gradient, balanced draws, family first), in percentage points; in brackets the 95 % bootstrap "
    "interval over photos. A choice would become the default if its first column's interval lay "
    "above zero on the half for deciding."
  )
  columns = [f"{setting} top-{top}" for setting in ("unseen, defended,", "unseen,") for top in TOPS]
  title = "Other choices minus the default"
  return [Table(title, ("choice", "variant", "half", "photos", *columns), lines, note)]
