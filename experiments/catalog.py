"""Every experiment by name: what it runs, and what it makes of the rows."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from experiments import (
  claims,
  claims_list,
  lineup,
  passes,
  plots,
  rows,
  runtime,
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
from experiments.study_plan import Plan
from experiments.tables import csv_text
from experiments.variants import Setup
from rpfgsm_jax import atomic, defenses
from rpfgsm_jax.report import Table, markdown

if TYPE_CHECKING:
  from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """A table or figure.

  Attributes:
    title: what it shows, one line.
    contenders: whose rows it needs.
    tables: makes the tables from the rows; none when these rows are not there.
    figure: makes the figure from the rows and the kept images, if they are there.
    data: makes a long table that is written as CSV only.
  """

  title: str
  contenders: Callable[[Setup], Iterable[Contender]]
  tables: Callable[[Results, Setup], list[Table]] | None = None
  figure: Callable[[Results, Setup, pathlib.Path], "Figure | None"] | None = None
  data: Callable[[Results, Setup], Table] | None = None


def _original(setup: Setup) -> Iterable[Contender]:
  return variants.baselines(setup)[:1]


def _all_attacks(setup: Setup) -> Iterable[Contender]:
  yield from variants.baselines(setup)
  yield from variants.paper_attacks(setup)
  half = setup.epsilon / 2
  yield variants.baselines(setup, half)[1]
  yield from variants.paper_attacks(setup, half)


def _at_run_epsilon(setup: Setup) -> Iterable[Contender]:
  yield from variants.baselines(setup)
  yield from variants.paper_attacks(setup)


def _pairs(pairs: Callable[[Setup], Iterable[tuple[Contender, Contender]]]):
  def contenders(setup: Setup) -> Iterable[Contender]:
    yield from variants.baselines(setup)
    yield from itertools.chain.from_iterable(pairs(setup))

  return contenders


def _sweep(setup: Setup) -> Iterable[Contender]:
  yield from _original(setup)
  yield from itertools.chain.from_iterable(variants.epsilon_sweep(setup).values())


def _claims(results: Results, setup: Setup) -> list[Table]:
  return [claims.table(results, claims_list.claims_of(setup))]


def _everything(setup: Setup) -> Iterable[Contender]:
  yield from _all_attacks(setup)
  for pairs in (
    variants.transformation_pairs,
    variants.choice_pairs,
    variants.iteration_pairs,
  ):
    yield from itertools.chain.from_iterable(pairs(setup))
  yield from _sweep(setup)


EXPERIMENTS = {
  "table1": Experiment(
    title="What each attack is", contenders=_at_run_epsilon, tables=show_attacks.table1
  ),
  "table2": Experiment(title="Clean accuracy", contenders=_original, tables=show_attacks.table2),
  "table3": Experiment(
    title="All attacks",
    contenders=_all_attacks,
    tables=show_attacks.table3,
    data=show_rates.every_rate,
  ),
  "table4": Experiment(title="Examples", contenders=_at_run_epsilon, figure=show_pictures.table4),
  "table5": Experiment(
    title="Random transformation against none",
    contenders=_pairs(variants.transformation_pairs),
    tables=show_effects.table5,
  ),
  "table6": Experiment(
    title="Random network against all networks",
    contenders=_pairs(variants.choice_pairs),
    tables=show_effects.table6,
  ),
  "table7": Experiment(
    title="Numbers of iterations",
    contenders=_pairs(variants.iteration_pairs),
    tables=show_effects.table7,
  ),
  "fig1": Experiment(
    title="Cumulative perturbations", contenders=_at_run_epsilon, figure=show_pictures.figure1
  ),
  "fig3": Experiment(
    title="Candidate targets against gamma", contenders=_original, figure=show_figures.figure3
  ),
  "fig4": Experiment(title="Trade-offs", contenders=_at_run_epsilon, figure=show_figures.figure4),
  "fig5": Experiment(
    title="RP-FGSM against epsilon", contenders=_sweep, figure=show_figures.figure5
  ),
  "fig6": Experiment(
    title="Seconds a photograph", contenders=_original, figure=show_figures.figure6
  ),
  "claims": Experiment(title="The paper's statements", contenders=_everything, tables=_claims),
  "defaults": Experiment(
    title="What the paper leaves open",
    contenders=_pairs(variants.default_pairs),
    tables=show_effects.defaults,
  ),
  "passes": Experiment(
    title="Protection a gradient pass",
    contenders=passes.contenders,
    tables=show_passes.tables,
    figure=show_passes.figure,
  ),
}
TIMED = "fig6"


def names_of(name: str) -> tuple[str, ...]:
  """Returns the experiments that a name stands for: itself, or all of them."""
  return tuple(EXPERIMENTS) if name == "all" else (name,)


def run(
  plan: Plan, name: str, *, cache: runtime.CompileCache | None = None, say: Say = print
) -> None:
  """Makes the rows that an experiment needs and does not have yet, and shows them.

  Args:
    plan: from `study_plan.prepare`.
    name: of the experiment, or `all`.
    cache: where compiled programs are kept, for the message.
    say: receives a line now and then.

  Raises:
    ValueError: the folder holds rows made with other settings.
    OSError: the disk is full, or a folder cannot be written to.
  """
  names = names_of(name)
  contenders = itertools.chain.from_iterable(
    EXPERIMENTS[each].contenders(plan.setup) for each in names
  )
  study.run(plan, tuple(contenders), cache=cache, say=say)
  if TIMED in names:
    timing.run(plan, say)
  show(plan.place, names, say=say)


def show(
  folder: pathlib.Path, names: Iterable[str] = tuple(EXPERIMENTS), *, say: Say = print
) -> None:
  """Makes tables, figures and the page from the rows of a folder, and from nothing else.

  Args:
    folder: with the rows, and `images/` for those figures that show photographs.
    names: of experiments; one whose rows are not there is left out.
    say: receives a line for each.

  Raises:
    RowsError: the rows cannot be read.
  """
  results = Results(rows.find_rows(folder))
  setup = setup_of(results.header)
  made: dict[str, list[Table]] = {}
  for name in names:
    experiment = EXPERIMENTS[name]
    if not _has_rows(results, experiment, setup):
      continue
    written = []
    tables = experiment.tables(results, setup) if experiment.tables else []
    if tables:
      made[name] = tables
      text = f"# {experiment.title}\n\n{describe_run(results)}\n\n{markdown(tables)}"
      atomic.write_text(folder / f"{name}.md", text)
      atomic.write_text(folder / f"{name}.csv", csv_text(tables))
      written += [f"{name}.md", f"{name}.csv"]
    if experiment.data is not None:
      atomic.write_text(folder / f"{name}-rates.csv", csv_text([experiment.data(results, setup)]))
      written.append(f"{name}-rates.csv")
    figure = experiment.figure(results, setup, folder) if experiment.figure else None
    if figure is not None:
      plots.save(figure, folder / f"{name}.png")
      written.append(f"{name}.png")
    if written:
      say(f"{experiment.title}: {', '.join(written)}")
  study_page.write(folder, results, setup, EXPERIMENTS, made)


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


def setup_of(header: rows.Row) -> Setup:
  """Returns the setup of a run from its header: the networks' names, not the networks."""
  networks = tuple(lineup.Network(**each, classifier=None) for each in header["networks"])
  families = {
    each.name: each for each in vars(defenses).values() if isinstance(each, defenses.Defense)
  }
  bank = defenses.DefenseBank(
    tuple(
      dataclasses.replace(families[name], parameters=tuple(parameters))
      for name, *parameters in header["bank"]
    )
  )
  return Setup(
    networks=networks,
    reference=lineup.reference_network(networks, header["reference"]),
    epsilon=header["epsilon"],
    budget=header["budget"],
    bank=bank,
  )


def _has_rows(results: Results, experiment: Experiment, setup: Setup) -> bool:
  """Whether more than the baselines are there, or all that is needed."""
  wanted = {each.name: each for each in experiment.contenders(setup)}
  there = [each for name, each in wanted.items() if name in results.outcomes]
  return ORIGINAL in results.outcomes and (
    len(there) == len(wanted) or any(each.attack is not None for each in there)
  )
