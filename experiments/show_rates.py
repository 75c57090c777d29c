"""Every rate there is, one a line: each network, each defense at each parameter, each family."""

from collections.abc import Iterator, Sequence

from experiments.lineup import ORIGINAL
from experiments.results import OWN, TOPS, TRUE, Results
from rpfgsm_jax.evaluation import Rate
from rpfgsm_jax.report import Cell, Table

_COLUMNS = ("attack", "photos", "network", "defense", "measure", "rate", "low", "high")


def every_rate(results: Results) -> Table:
  """Returns misleading and detection rates of all attacks in the rows, unrounded.

  Measures: `top-K TRUE`, misled about the true class; `top-K own`, about the network's own answer
  on the clean photo; `detected`, by the network's detector for that defense or family; `detected,
  misled`, the same of photos whose undefended image misleads this network about the scene.
  """
  lines = [
    [name, Cell(str(rate.count), rate.count), title, defense, measure, *_cells(rate)]
    for name in results.outcomes
    for network, title in enumerate(results.titles)
    for defense, settings in _groups(results)
    for measure, rate in _rates(results, name, network, settings)
  ]
  return Table("Every rate", _COLUMNS, lines)


def _groups(results: Results) -> Iterator[tuple[str, Sequence[int]]]:
  """(name, settings): none, each defense at each parameter, each family, all."""
  names = [setting["name"] for setting in results.header["settings"]]
  for place, name in enumerate(names):
    yield name, [place]
  for family, settings in results.families.items():
    yield f"{family}, all", settings
  yield "all", range(1, len(names))


def _rates(
  results: Results, name: str, network: int, settings: Sequence[int]
) -> Iterator[tuple[str, Rate]]:
  photos = results.outcomes[name].photos
  scenes = ((TRUE, "true"),) if results.labeled else ()
  for field, scene in (*scenes, (OWN, "own")):
    for top in TOPS:
      options = {"networks": [network], "defended": settings, "top": top, "field": field}
      yield f"top-{top} {scene}", results.rate(name, photos, **options)
  if len(results.training) and 0 not in settings:
    yield "detected", results.detection(name, photos, [network], [settings])
    if name != ORIGINAL:
      successful = results.detection(name, photos, [network], [settings], successful=True)
      yield "detected, misled", successful


def _cells(rate: Rate) -> list[Cell]:
  """Value and interval; empty where no photo counts."""
  if not rate.count:
    return [Cell("", None)] * 3
  return [Cell(f"{value:.4f}", value) for value in (rate.value, rate.low, rate.high)]
