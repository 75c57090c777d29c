"""Every experiment by name: what it runs, and what it makes of the rows."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from experiments import (
  claims,
  claims_list,
  passes,
  plots,
  rows,
  show_attacks,
  show_effects,
  show_figures,
  show_passes,
  show_pictures,
  show_rates,
  study,
  study_page,
  timing,
  variants,
)
from experiments.journal import Say
from experiments.lineup import ORIGINAL, Contender
from experiments.results import Results
from experiments.study_plan import StudyPlan
from experiments.tables import csv_text
from experiments.variants import Setup
from rpfgsm_jax import atomic
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.report import Picture, Section, Table, markdown

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A table or figure: whose rows it needs, and what it makes of them."""

  title: str
  contenders: Callable[[Setup], Iterable[Contender]]
  tables: Callable[[Results], list[Table]] | None = None
  figure: Callable[[Results], "Figure | None"] | None = None  # may need images
  data: Callable[[Results], Table] | None = None  # a long table, written as CSV only


def _original(setup: Setup) -> Iterable[Contender]:
  return variants.baselines(setup)[:1]


def _at_run_epsilon(setup: Setup) -> Iterable[Contender]:
  yield from variants.baselines(setup)
  yield from variants.paper_attacks(setup)


def _all_attacks(setup: Setup) -> Iterable[Contender]:
  yield from _at_run_epsilon(setup)
  half = setup.epsilon / 2
  yield variants.baselines(setup, half)[1]
  yield from variants.paper_attacks(setup, half)


def _pairs(pairs: Callable[[Setup], Iterable[tuple[Contender, Contender]]]):
  def contenders(setup: Setup) -> Iterable[Contender]:
    yield from variants.baselines(setup)
    yield from itertools.chain.from_iterable(pairs(setup))

  return contenders


def _sweep(setup: Setup) -> Iterable[Contender]:
  yield from _original(setup)
  yield from itertools.chain.from_iterable(variants.epsilon_sweep(setup).values())


def _claims(results: Results) -> list[Table]:
  return [claims.table(results, claims_list.claims_of(results.setup))]


def _everything(setup: Setup) -> Iterable[Contender]:
  for name in ("table3", "table5", "table6", "table7", "fig5"):
    yield from EXPERIMENTS[name].contenders(setup)


EXPERIMENTS = {
  "table1": Experiment("What each attack is", _at_run_epsilon, tables=show_attacks.table1),
  "table2": Experiment("Clean accuracy", _original, tables=show_attacks.table2),
  "table3": Experiment(
    "All attacks", _all_attacks, tables=show_attacks.table3, data=show_rates.every_rate
  ),
  "table4": Experiment("Examples", _at_run_epsilon, figure=show_pictures.table4),
  "table5": Experiment(
    "Random transformation against none",
    _pairs(variants.transformation_pairs),
    tables=show_effects.table5,
  ),
  "table6": Experiment(
    "Random network against all networks", _pairs(variants.choice_pairs), tables=show_effects.table6
  ),
  "table7": Experiment(
    "Numbers of iterations", _pairs(variants.iteration_pairs), tables=show_effects.table7
  ),
  "fig1": Experiment("Cumulative perturbations", _at_run_epsilon, figure=show_pictures.figure1),
  "fig3": Experiment("Candidate targets against gamma", _original, figure=show_figures.figure3),
  "fig4": Experiment("Trade-offs", _at_run_epsilon, figure=show_figures.figure4),
  "fig5": Experiment("RP-FGSM against epsilon", _sweep, figure=show_figures.figure5),
  "fig6": Experiment("Seconds a photograph", _original, figure=show_figures.figure6),
  "claims": Experiment("The paper's statements", _everything, tables=_claims),
  "defaults": Experiment(
    "What the paper leaves open", _pairs(variants.default_pairs), tables=show_effects.defaults
  ),
  "passes": Experiment(
    "Protection a gradient pass",
    passes.contenders,
    tables=show_passes.tables,
    figure=show_passes.figure,
  ),
}
TIMED = "fig6"
_NO_BRISQUE = (
  "BRISQUE will be n/a: LIVE's model is not here; run 'rpfgsm weights fetch brisque', or name the "
  "folder of its files allmodel and allrange in RPFGSM_BRISQUE."
)
_NO_TRAINING = (
  "detectability will be n/a: name a folder of clean training photographs with --train."
)


def names_of(name: str) -> tuple[str, ...]:
  """Returns the experiments that a name stands for: itself, or all of them."""
  return tuple(EXPERIMENTS) if name == "all" else (name,)


def run(plan: StudyPlan, name: str, *, cache: CompileCache | None = None, say: Say = print) -> None:
  """Makes the rows that an experiment needs and does not have yet, and shows them."""
  names = names_of(name)
  contenders = itertools.chain.from_iterable(
    EXPERIMENTS[each].contenders(plan.setup) for each in names
  )
  if plan.brisque_model is None:
    say(_NO_BRISQUE)
  if plan.training is None:
    say(_NO_TRAINING)
  study.run(plan, tuple(contenders), cache=cache, say=say)
  if TIMED in names:
    timing.run(plan, say)
  show(plan.place, names, say=say)


def show(
  folder: pathlib.Path, names: Iterable[str] = tuple(EXPERIMENTS), *, say: Say = print
) -> None:
  """Makes tables, figures and the page from the rows and kept images of a folder alone."""
  results = Results(rows.find_rows(folder))
  made: dict[str, list[Table]] = {}
  for name in names:
    experiment = EXPERIMENTS[name]
    if not _has_rows(results, experiment):
      continue
    written = []
    tables = experiment.tables(results) if experiment.tables else []
    if tables:
      made[name] = tables
      text = f"# {experiment.title}\n\n{describe_run(results)}\n\n{markdown(tables)}"
      atomic.write_text(folder / f"{name}.md", text)
      atomic.write_text(folder / f"{name}.csv", csv_text(tables))
      written += [f"{name}.md", f"{name}.csv"]
    if experiment.data is not None:
      atomic.write_text(folder / f"{name}-rates.csv", csv_text([experiment.data(results)]))
      written.append(f"{name}-rates.csv")
    figure = experiment.figure(results) if experiment.figure else None
    if figure is not None:
      plots.save(figure, folder / f"{name}.png")
      written.append(f"{name}.png")
    if written:
      say(f"{experiment.title}: {', '.join(written)}")
  study_page.write(results, _sections(results, made))


def _sections(results: Results, made: dict[str, list[Table]]) -> Iterator[Section]:
  """Yields the tables and figures of a folder; a table that was not made just now is made again."""
  for name, experiment in EXPERIMENTS.items():
    page, figure = (results.folder / f"{name}{suffix}" for suffix in (".md", ".png"))
    if page.is_file() and experiment.tables is not None:
      yield from made[name] if name in made else experiment.tables(results)
    if figure.is_file():
      yield Picture(experiment.title, figure.read_bytes())


def describe_run(results: Results) -> str:
  """Returns a paragraph: what was run on what, with which seed."""
  header = results.header
  seen, unseen = (
    ", ".join(results.titles[place] for place in results.networks(seen=kind))
    for kind in (True, False)
  )
  photos = max(len(outcome.photos) for outcome in results.outcomes.values())
  seed = "drawn, in run.json" if header["seed_given"] is None else header["seed_given"]
  where = header["data"] or "scikit-image's photographs"
  height, width = header["image_size"]
  commands = ", ".join(f"`{command}`" for command in results.commands)
  failed = f" ({len(results.failures)} could not be read)" if results.failures else ""
  return (
    f"Made by {commands}. {photos} photos{failed} of {where} at {height} x {width} pixels, "
    f"{len(header['class_names'])} classes; seen {seen}; unseen {unseen}; eps "
    f"{header['epsilon']:g} of 255; seed {seed}; on {header['device']}, jax "
    f"{header['versions']['jax']}."
  )


def _has_rows(results: Results, experiment: Experiment) -> bool:
  """Whether more than the baselines are there, or all that is needed."""
  wanted = {each.name: each for each in experiment.contenders(results.setup)}
  there = results.present(wanted.values())
  return ORIGINAL in results.outcomes and (
    len(there) == len(wanted) or any(each.attack is not None for each in there)
  )
