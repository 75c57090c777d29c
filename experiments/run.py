"""Runs an experiment: `python experiments/run.py [NAME] [OPTIONS]`; without a name, the demo."""

import pathlib
import shlex
import sys

if __name__ == "__main__":
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import click

from experiments import runtime

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
FOLDER = click.Path(file_okay=False, path_type=pathlib.Path)


class _DemoByDefault(click.Group):
  """A group that runs the demo when the first word is an option or missing."""

  def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
    asks_group = bool(args) and args[0] in ("-h", "--help")
    if not asks_group and (not args or args[0].startswith("-")):
      args = ["demo", *args]
    return super().parse_args(ctx, args)


@click.group(cls=_DemoByDefault, context_settings=_SETTINGS)
def cli() -> None:
  """Runs an experiment of the paper or of this project; the demo when none is named."""


@cli.command()
@click.option("--data", type=FOLDER, help="Folder of images.  [default: scikit-image's own]")
@click.option(
  "--out", type=FOLDER, default=pathlib.Path("results/demo"), show_default=True, help="Results."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="[default: drawn; in run.json]")
@click.option("--limit", type=click.IntRange(1), help="Images at most, of all classes alike.")
@click.option("--epsilon", type=float, default=16.0, show_default=True, help="Grey levels.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--seen", multiple=True, help="A network for the attacks; may be repeated.")
@click.option("--unseen", multiple=True, help="A network kept from the attacks; may be repeated.")
@click.option("--reference", help="The seen network that U-FGSM attacks.  [default: ResNet50]")
def demo(**options: object) -> None:
  """Protects photographs and measures how well, on seen and unseen networks.

  Class sub-folders of --data whose names the networks know give true classes.
  """
  cache = runtime.prepare()
  click.echo("loading JAX, the networks and the photographs", err=True)
  from experiments import demo as experiment
  from experiments import verify

  chosen = {name: value for name, value in options.items() if value not in (None, ())}
  config = experiment.DemoConfig(**chosen, command=_command())
  try:
    plan = experiment.prepare(config)
    place = experiment.run(plan, cache=cache, say=_say)
  except (ValueError, OSError, verify.VerificationError) as error:
    raise click.ClickException(str(error)) from error
  click.echo((place / "report.md").read_text(encoding="utf-8").split("\n## ", 1)[0])
  click.echo(f"results: {place}")


@cli.command()
@click.option("--data", type=FOLDER, help="Folder of images.  [default: scikit-image's own]")
@click.option(
  "--out", type=FOLDER, default=pathlib.Path("results/attacks"), show_default=True, help="Results."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="[default: drawn; in run.json]")
@click.option(
  "--limit", type=click.IntRange(1), default=100, show_default=True, help="Images at most."
)
@click.option(
  "--slow-limit",
  type=click.IntRange(1),
  default=50,
  show_default=True,
  help="Images at most for JSMA, CW and SparseFool.",
)
@click.option("--epsilon", type=float, default=16.0, show_default=True, help="Grey levels.")
@click.option(
  "--budget",
  type=click.Choice(["quick", "paper"]),
  default="quick",
  show_default=True,
  help="Of JSMA, CW and SparseFool.",
)
@click.option("--batch-size", type=click.IntRange(1), default=25, show_default=True)
@click.option("--attack", "attacks", multiple=True, help="Only this one; may be repeated.")
@click.option("--seen", multiple=True, help="A network for the attacks; may be repeated.")
@click.option("--unseen", multiple=True, help="A network kept from the attacks; may be repeated.")
@click.option("--reference", help="The network of single-network attacks.  [default: ResNet50]")
def attacks(**options: object) -> None:
  """Compares RP-FGSM with the eleven attacks of the paper: one table.

  Run again with the same options, it goes on where it stopped.
  """
  cache = runtime.prepare()
  click.echo("loading JAX, the networks and the photographs", err=True)
  from experiments import attacks as experiment

  chosen = {name: value for name, value in options.items() if value not in (None, ())}
  config = experiment.AttacksConfig(**chosen, command=_command())
  try:
    place = experiment.run(experiment.prepare(config), cache=cache, say=_say)
  except (ValueError, OSError) as error:
    raise click.ClickException(str(error)) from error
  click.echo((place / "table.md").read_text(encoding="utf-8").split("\n## Settings", 1)[0])
  click.echo(f"results: {place}")


@cli.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=pathlib.Path))
def report(folder: pathlib.Path) -> None:
  """Makes the tables of a results FOLDER again, from its rows alone."""
  from experiments import attack_table, rows
  from experiments import report as demo_report

  writers = {"demo": demo_report.report_from_rows, "attacks": attack_table.write_table}
  try:
    header, _ = rows.read_run(rows.find_rows(folder))
    experiment = header["experiment"]
    if experiment not in writers:
      raise rows.RowsError(f"{folder} must hold the rows of {' or '.join(writers)}.")
    writers[experiment](folder)
  except (ValueError, OSError) as error:
    raise click.ClickException(str(error)) from error
  click.echo(f"made from its rows: {folder}")


def _say(line: str) -> None:
  # Through tqdm, so that a line does not run into the bar.
  from tqdm import tqdm

  tqdm.write(line, file=sys.stderr)


def _command() -> str:
  return shlex.join(["python", "experiments/run.py", *sys.argv[1:]])


def main() -> None:
  """Entry point of the script."""
  cli(prog_name="experiments/run.py")


if __name__ == "__main__":
  main()
