"""One HTML page of a study: sortable tables, figures, and photographs before and after."""

from collections.abc import Iterable, Iterator

from experiments import show_pictures, variants
from experiments.lineup import ORIGINAL
from experiments.results import Results
from rpfgsm_jax import data, report

_SHOWN = ("rp-fgsm", "rp-fgsm-targeted", "di-fgsm", "u-fgsm")


def write(results: Results, sections: Iterable[report.Section]) -> None:
  """Writes the page: kept photographs before and after, then the sections."""
  comparisons = list(_comparisons(results))
  shown = [report.Group("Before and after", comparisons)] if comparisons else []
  title = "RP-FGSM and the attacks it is compared with"
  report.write_page(results.folder / "index.html", title, [*shown, *sections])


def _comparisons(results: Results) -> Iterator[report.Comparison]:
  attacks = variants.by_plain_name(results.setup)
  titles = {attacks[name].name: attacks[name].title for name in _SHOWN}
  for name in titles:
    if name not in results.outcomes:
      continue
    outcome = results.outcomes[name]
    for photo, extra in outcome.extra.items():
      before, after = (
        show_pictures.image_path(results, attack, photo) for attack in (ORIGINAL, name)
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
