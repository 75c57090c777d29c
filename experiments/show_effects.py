"""Tables V, VI and VII, and what the paper leaves open: differences on the same photographs."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from experiments import variants
from experiments.lineup import ORIGINAL, Contender
from experiments.results import TOPS, Results
from experiments.tables import difference_cell
from experiments.variants import Setup
from rpfgsm_jax.evaluation import Difference, paired_difference
from rpfgsm_jax.report import Cell, Table
from rpfgsm_jax.report.cells import NOT_AVAILABLE

Pair = tuple[Contender, Contender]
_NOTE = (
  "Differences in percentage points on the same photos, same seed and same draws; a star where the "
  "95 % bootstrap interval over photos leaves out zero (one in twenty does by chance). +D: mean "
  "over all defenses. Detection: detectors of the attacked networks, mean over families of "
  "defenses; less is better."
)


def table5(results: Results, setup: Setup) -> list[Table]:
  """Table V: with random transformations minus without."""
  return _tables(
    results, variants.transformation_pairs(setup), "Random transformation minus none", _choice
  )


def table6(results: Results, setup: Setup) -> list[Table]:
  """Table VI: a random network minus all networks an iteration."""
  pairs = variants.choice_pairs(setup)
  return _tables(results, pairs, "A random network minus all networks", _transformed)


def table7(results: Results, setup: Setup) -> list[Table]:
  """Table VII: the same at other numbers of iterations; the paper has the targeted half."""
  pairs = variants.iteration_pairs(setup)
  title = "A random network minus all networks, by iterations"

  def group(pair: Pair) -> str:
    random, ensemble = (_steps(each) for each in pair)
    return f"{random} iterations minus {ensemble}"

  return _tables(results, pairs, title, group)


def _steps(contender: Contender) -> int:
  ensemble = contender.config.classifier_choice == "ensemble"
  return contender.passes // (len(contender.networks) if ensemble else 1)


def _choice(pair: Pair) -> str:
  one = len(pair[0].networks) == 1
  return "one network" if one else pair[0].config.classifier_choice


def _transformed(pair: Pair) -> str:
  return "random transformation" if len(pair[0].config.defenses.families) > 1 else "none"


def _tables(
  results: Results, pairs: Iterable[Pair], title: str, group_of: Callable[[Pair], str]
) -> list[Table]:
  """Returns one table for each variant, targeted and untargeted, with the mean of each group."""
  pairs, photos = _there(results, pairs)
  if not pairs:
    return []
  tables = []
  for targeted in (True, False):
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
      if pair[0].config.targeted == targeted:
        groups.setdefault(group_of(pair), []).append(pair)
    lines = []
    for group, members in groups.items():
      each = [np.stack(list(_effects(results, pair, photos))) for pair in members]
      for pair, effects in zip(members, each, strict=True):
        lines.append([group, _on(pair), *_cells(effects)])
      if len(members) > 1:
        lines.append([group, "average", *_cells(np.mean(each, axis=0))])
    kind = "targeted" if targeted else "untargeted"
    note = f"{len(photos)} photos. {_NOTE}"
    tables.append(Table(f"{title}, {kind}", _columns(results), lines, note))
  return tables


def _there(results: Results, pairs: Iterable[Pair]) -> tuple[list[Pair], list[str]]:
  """The pairs of which both have rows, and the photographs that all of them had."""
  pairs = [pair for pair in pairs if all(each.name in results.outcomes for each in pair)]
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


def _on(pair: Pair) -> str:
  return " + ".join(network.title for network in pair[0].networks)


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


def interval_cell(difference: Difference) -> Cell:
  """Returns a difference in percentage points with its interval."""
  if not difference.count:
    return NOT_AVAILABLE
  value, low, high = (100 * each for each in (difference.value, difference.low, difference.high))
  return Cell(f"{value:+.1f} [{low:+.1f}, {high:+.1f}]", difference.value)


def defaults(results: Results, setup: Setup) -> list[Table]:
  """What the paper leaves open: each other choice minus the default, decided on half the photos.

  The halves are even and odd image ids: a choice wins on the one and is reported on the other.
  """
  pairs, photos = _there(results, variants.default_pairs(setup))
  if not pairs:
    return []
  ids = results.outcomes[ORIGINAL].ids
  places = results.outcomes[ORIGINAL].places
  halves = {
    name: [photo for photo in photos if ids[places[photo]] % 2 == parity]
    for parity, name in enumerate(("decided on", "reported"))
  }
  unseen = results.networks(seen=False)
  lines = []
  for pair in pairs:
    other, usual = (each.name for each in pair)
    for name, half in halves.items():
      cells = []
      for defended in (True, False):
        for top in TOPS:
          options = {"networks": unseen, "defended": defended, "top": top}
          found = paired_difference(
            results.misled(other, half, **options), results.misled(usual, half, **options)
          )
          cells.append(interval_cell(found))
      kind = "targeted" if pair[0].config.targeted else "untargeted"
      lines.append([pair[0].note, kind, name, str(len(half)), *cells])
  note = (
    "Misleading rate of unseen networks, the other choice minus the default (straight-through "
    "gradient, balanced draws, family first), in percentage points; in brackets the 95 % bootstrap "
    "interval over photos. A choice would become the default if its first column's interval lay "
    "above zero on the half for deciding."
  )
  columns = [f"{setting} top-{top}" for setting in ("unseen, defended,", "unseen,") for top in TOPS]
  title = "Other choices minus the default"
  return [Table(title, ("choice", "variant", "half", "photos", *columns), lines, note)]
