"""Runs an experiment: `python experiments/run.py [NAME] [OPTIONS]`; without a name, the demo."""

import contextlib
import importlib
import pathlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import click

from experiments import options, runtime

if TYPE_CHECKING:
  from rpfgsm_jax.process import CompileCache

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# Written out so that `--help` needs no JAX; a test compares them with the catalog.
TITLES = {
  "table1": "What each attack is: norm, density, targets, networks, transformations.",
  "table2": "Clean accuracy of the networks.",
  "table3": "All attacks: misleading rates, detectability, image quality; eps and eps / 2.",
  "table4": "Examples with every network's five most likely classes.",
  "table5": "Effect of the random transformation.",
  "table6": "A random network an iteration against all networks.",
  "table7": "The same with other numbers of iterations.",
  "fig1": "Cumulative perturbations of the attacks.",
  "fig3": "Number of candidate target classes against gamma.",
  "fig4": "Trade-offs between misleading, quality and detectability.",
  "fig5": "Targeted RP-FGSM against epsilon.",
  "fig6": "Seconds a photograph of every attack.",
  "claims": "The statements of the paper's Sec. V, there and here.",
  "defaults": "What the paper leaves open: rounding gradient, draws, odds of the defenses.",
  "passes": "Protection a gradient pass: fewer passes, momentum, larger first steps.",
  "all": "Everything above in one folder, and one page.",
}


class _DemoByDefault(click.Group):
  """A group that runs the demo when the first word is an option or missing; lists what there is."""

  def resolve_command(
    self, ctx: click.Context, args: list[str]
  ) -> tuple[str | None, click.Command | None, list[str]]:
    if self.get_command(ctx, args[0]) is None:
      known = ", ".join(self.list_commands(ctx))
      raise click.UsageError(f"NAME must be one of {known}; got {args[0]!r}.", ctx)
    return super().resolve_command(ctx, args)

  def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
    if not all(word and not word.endswith("=") for word in args):
      from rpfgsm_jax import result_folder  # and JAX with it: not for `--help`

      try:
        result_folder.check_words(args)
      except result_folder.FolderError as error:
        raise click.UsageError(str(error), ctx) from error
    asks_group = bool(args) and args[0] in ("-h", "--help")
    if not asks_group and (not args or args[0].startswith("-")):
      args = ["demo", *args]
    return super().parse_args(ctx, args)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
  """Ends the command with one line about what a user can mend."""
  from rpfgsm_jax import process

  process.write_anything()
  try:
    with process.absent_devices_named():
      yield
  except (ValueError, OSError, process.NoDeviceError) as error:
    raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def _working() -> Iterator["CompileCache"]:
  """Prepares the process, and turns what a user can mend into one line."""
  cache = runtime.prepare()
  click.echo("loading JAX, the networks and the photographs", err=True)
  with _errors():
    yield cache


def _say(line: str) -> None:
  # Through tqdm, so that a line does not run into the bar.
  from tqdm import tqdm

  tqdm.write(line, file=sys.stderr)


def _chosen(kind: type, given: Mapping[str, object]) -> Any:
  """Returns a command's config; options that may be repeated and were not are the defaults."""
  chosen = {name: value for name, value in given.items() if value != ()}
  return kind(**chosen, command=_command())


def _command() -> str:
  return shlex.join(["python", "experiments/run.py", *sys.argv[1:]])


@click.group(cls=_DemoByDefault, context_settings=_SETTINGS)
def cli() -> None:
  """Runs an experiment of the paper or of this project; the demo when none is named."""


@cli.command()
@options.add_options(
  options.StudyConfig,
  {
    "data": {"help": "Folder of images.  [default: scikit-image's own]", "type": options.FOLDER},
    "out": {"default": options.DEMO["out"]},
    "seed": {},
    "limit": {"default": None, "help": "Images at most, of all classes alike."},
    "epsilon": {},
    "batch_size": {"default": options.DEMO["batch_size"]},
    "seen": {},
    "unseen": {},
    "reference": {"help": "The seen network that U-FGSM attacks.  [default: ResNet50]"},
  },
)
def demo(**given: object) -> None:
  """Protects photographs and measures how well, on seen and unseen networks.

  Class sub-folders of --data whose names the networks know give true classes.
  """
  with _working() as cache:
    from experiments import demo as experiment

    chosen = {name: value for name, value in given.items() if value not in (None, ())}
    plan = experiment.prepare(experiment.config_of(**chosen, command=_command()))
    place = experiment.run(plan, cache=cache, say=_say)
  click.echo((place / "report.md").read_text(encoding="utf-8").split("\n## ", 1)[0])
  click.echo(f"results: {place}")


_CLASSIFIERS = click.option(
  "--classifiers",
  help="scenes25, places365, or a folder with resnet18, resnet50, alexnet (seen) and densenet161 "
  "(unseen).  [default: scenes25]",
)
_CHANGES = click.option(
  "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Any field of StudyConfig."
)


def _add_study_command(name: str, title: str) -> None:
  def command(**given: object) -> None:
    with _working() as cache:
      from experiments import catalog, study

      config = options.study_config({**given, "command": _command()})
      catalog.run(study.prepare(config), name, cache=cache, say=_say)
    click.echo(f"results: {config.out}")

  command.__doc__ = f"{title}\n\nRun again with the same options, it goes on where it stopped."
  for add in (_CHANGES, _CLASSIFIERS, options.add_options(options.StudyConfig)):
    command = add(command)
  cli.command(name)(command)


def _run_and_show(
  kind: type, given: Mapping[str, Any], experiment: str, *, shown_by: str | None = None
) -> None:
  """Makes an experiment's rows and then its tables; `shown_by` names their module, if another."""
  with _working() as cache:
    config = _chosen(kind, given)
    importlib.import_module(f"experiments.{experiment}").run(config, cache=cache, say=_say)
    importlib.import_module(f"experiments.{shown_by or experiment}").show(config.out)
  click.echo(f"results: {config.out}")


@cli.command()
@options.add_options(options.FullsizeConfig)
def fullsize(**given: object) -> None:
  """Photos at their own size: protection against looks, for strengths and forms of the change.

  Run again with the same options, it goes on where it stopped.
  """
  _run_and_show(options.FullsizeConfig, given, "fullsize", shown_by="show_fullsize")


@cli.command()
@options.add_options(options.SurrogatesConfig)
def surrogates(**given: object) -> None:
  """The same attack on other networks: what judges that nobody attacked make of the photos.

  Run again with more networks in the same folder, it goes on where it stopped.
  """
  _run_and_show(options.SurrogatesConfig, given, "surrogates")


@cli.command()
@options.add_options(options.AdaptiveConfig)
def adaptive(**given: object) -> None:
  """Adversaries who know: purifiers, and classifiers trained on protected photos.

  Run again with the same options, it goes on where it stopped.
  """
  _run_and_show(options.AdaptiveConfig, given, "adaptive")


@cli.command()
@options.add_options(options.LooksConfig)
def looks(**given: object) -> None:
  """Photos at every strength side by side: what protection looks like.

  Run again with the same options, it goes on where it stopped.
  """
  _run_and_show(options.LooksConfig, given, "looks")


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
def report(folder: pathlib.Path) -> None:
  """Makes the tables and figures of a results FOLDER again, from its rows and kept images."""
  with _errors():
    from experiments import adaptive, catalog, looks, rows, show_fullsize, surrogates
    from experiments import report as demo_report

    writers = {
      "demo": demo_report.report_from_rows,
      "study": catalog.show,
      "fullsize": show_fullsize.show,
      "surrogates": surrogates.show,
      "adaptive": adaptive.show,
      "looks": looks.show,
    }
    header, _ = rows.read_run(rows.find_rows(folder))
    experiment = header["experiment"]
    if experiment not in writers:
      raise rows.RowsError(f"{folder} must hold the rows of {' or '.join(writers)}.")
    writers[experiment](folder)
  click.echo(f"made from its rows: {folder}")


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
def fill(file: pathlib.Path) -> None:
  """Writes the tables that FILE names between its `table` and `end` marks into it anew."""
  with _errors():
    from experiments import document

    document.fill(file)
  click.echo(f"filled: {file}")


for _name, _title in TITLES.items():
  _add_study_command(_name, _title)


def main() -> None:
  """Entry point of the script."""
  cli(prog_name="experiments/run.py")


if __name__ == "__main__":
  main()
