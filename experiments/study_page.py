"""One HTML page of a study: sortable tables, figures, and photographs before and after."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from experiments import show_pictures, variants
from experiments.lineup import ORIGINAL
from experiments.results import Results
from experiments.variants import Setup
from rpfgsm_jax import data, report

if TYPE_CHECKING:
  from experiments.catalog import Experiment

NAME = "index.html"
_SHOWN = ("rp-fgsm", "rp-fgsm-targeted", "di-fgsm", "u-fgsm")


def write(
  folder: pathlib.Path,
  results: Results,
  setup: Setup,
  experiments: Mapping[str, "Experiment"],
  made: Mapping[str, list[report.Table]],
) -> None:
  """Writes the page of all that was made of the rows.

  Args:
    folder: with what `catalog.show` wrote, and `images/`.
    results: of its rows.
    setup: of its rows.
    experiments: by name.
    made: the tables that are there already, by name; others in the folder are made from the rows.
  """
  sections: list[report.Section] = []
  comparisons = list(_comparisons(folder, results, setup))
  if comparisons:
    sections.append(report.Group("Before and after", comparisons))
  for name, experiment in experiments.items():
    if (folder / f"{name}.md").is_file() and experiment.tables is not None:
      sections += made[name] if name in made else experiment.tables(results, setup)
    if (folder / f"{name}.png").is_file():
      sections.append(report.Picture(experiment.title, (folder / f"{name}.png").read_bytes()))
  report.write_page(folder / NAME, "RP-FGSM and the attacks it is compared with", sections)


def _comparisons(
  folder: pathlib.Path, results: Results, setup: Setup
) -> Iterator[report.Comparison]:
  attacks = variants.by_plain_name(setup)
  titles = {attacks[name].name: attacks[name].title for name in _SHOWN}
  for name in titles:
    if name not in results.outcomes:
      continue
    outcome = results.outcomes[name]
    for photo, extra in outcome.extra.items():
      before, after = (
        show_pictures.image_path(results, folder, attack, photo) for attack in (ORIGINAL, name)
      )
      if not (before.is_file() and after.is_file()):
        continue
      clean = results.outcomes[ORIGINAL].extra[photo]
      facts = [
        (title, f"{_answer(results, clean, place)} → {_answer(results, extra, place)}")
        for place, title in enumerate(results.titles)
      ]
      yield report.Comparison(
        f"{photo}, {titles[name]}", data.read_image(before), data.read_image(after), facts=facts
      )


def _answer(results: Results, extra: dict, network: int) -> str:
  name = results.header["class_names"][extra["classes"][network][0]]
  return f"{name.replace('_', ' ')} {100 * extra['probabilities'][network][0]:.0f} %"
