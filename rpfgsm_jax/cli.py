"""The command `rpfgsm`: thin wrappers that turn errors into one message and an exit code.

Exit codes: 0 done, 1 failed, 2 the command was wrong.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
  from rpfgsm_jax.models.architectures import Config

# Written out so that `rpfgsm --help` needs no JAX; a test compares them with the architectures.
ARCHITECTURES = ("resnet18", "resnet50", "alexnet", "densenet161")


@contextlib.contextmanager
def _reported_failures() -> Iterator[None]:
  """Turns the errors that users cause or suffer into a message; ours stay tracebacks."""
  from rpfgsm_jax.models.checkpoint import CheckpointError
  from rpfgsm_jax.models.fetch import DownloadError
  from rpfgsm_jax.models.weights import WeightsError

  try:
    yield
  except (CheckpointError, DownloadError, WeightsError, OSError) as error:
    raise click.ClickException(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rpfgsm-jax")
def cli() -> None:
  """Protects photographs from scene classifiers with RP-FGSM."""


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option(
  "--arch", required=True, type=click.Choice(ARCHITECTURES), help="The network that FILE holds."
)
@click.option(
  "--out",
  required=True,
  type=click.Path(file_okay=False, path_type=pathlib.Path),
  help="Folder for the converted network; made if absent.",
)
@click.option(
  "--classes",
  type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path),
  help="Text file with one class name a line, in the order of the logits.  [default: Places365's]",
)
def convert(file: pathlib.Path, arch: str, out: pathlib.Path, classes: pathlib.Path | None) -> None:
  """Converts FILE, a PyTorch checkpoint of torchvision weights, without torch.

  No code in FILE is run. Nothing is written unless every weight fits.
  """
  from rpfgsm_jax.models.convert import convert_checkpoint

  config, names = _config_and_names(arch, classes)
  with _reported_failures():
    network = convert_checkpoint(file, out, config, class_names=names)
  count = sum(value.size for value in network.parameters.values())
  click.echo(f"{out}: {arch}, {len(names)} classes, {count:,} numbers")


@cli.group()
def weights() -> None:
  """Lists and fetches networks."""


@weights.command("list")
def list_weights() -> None:
  """Lists the networks that can be loaded by name: bundled and fetched ones."""
  from rpfgsm_jax.models.weights import BUNDLED, available_networks

  networks = available_networks()
  width = max((len(name) for name in networks), default=0)
  for name, directory in networks.items():
    origin = "bundled" if directory.is_relative_to(BUNDLED) else f"fetched, in {directory}"
    click.echo(f"{name:<{width}}  {origin}")
  absent = [arch for arch in ARCHITECTURES if f"places365/{arch}" not in networks]
  if absent:
    click.echo(f"not fetched: {', '.join(f'places365/{arch}' for arch in absent)}")


@weights.command()
@click.argument("collection", type=click.Choice(["places365"]))
@click.option(
  "--arch",
  "archs",
  multiple=True,
  type=click.Choice(ARCHITECTURES),
  help="Only this network; may be repeated.  [default: all four]",
)
def fetch(collection: str, archs: tuple[str, ...]) -> None:
  """Downloads and converts a public COLLECTION of networks.

  An interrupted download goes on where it stopped. The cache is the user's own; RPFGSM_CACHE names
  another folder.
  """
  from rpfgsm_jax.data.classes import places365_class_names
  from rpfgsm_jax.models.fetch import fetch_places365

  failures = []
  for arch in archs or ARCHITECTURES:
    try:
      with _reported_failures(), _progress_bar(f"{collection}/{arch}") as progress:
        directory = fetch_places365(arch, places365_class_names(), progress=progress)
    except click.ClickException as error:
      failures.append(error.message)
      click.echo(f"Error: {collection}/{arch}: {error.message}", err=True)
    else:
      click.echo(f"{collection}/{arch}: {directory}")
  if failures:
    raise click.exceptions.Exit(1)


@contextlib.contextmanager
def _progress_bar(description: str) -> Iterator[Callable[[int, int | None], None]]:
  import tqdm

  bar = tqdm.tqdm(desc=description, unit="B", unit_scale=True, disable=None, leave=False)

  def advance(done: int, total: int | None) -> None:
    bar.total = total
    bar.update(done - bar.n)

  with bar:
    yield advance


def _config_and_names(arch: str, classes: pathlib.Path | None) -> tuple["Config", tuple[str, ...]]:
  from rpfgsm_jax.data.classes import places365_class_names
  from rpfgsm_jax.models.architectures import PAPER

  if classes is None:
    return PAPER[arch], places365_class_names()
  try:
    lines = classes.read_text(encoding="utf-8").splitlines()
  except UnicodeDecodeError as error:
    raise click.BadParameter(f"{classes} is not UTF-8 text.", param_hint="--classes") from error
  names = tuple(line.strip() for line in lines if line.strip())
  if len(names) < 2 or len(set(names)) != len(names):
    raise click.BadParameter(
      f"{classes} must have at least two names, all different, one a line; it has {len(names)}, "
      f"of which {len(set(names))} differ.",
      param_hint="--classes",
    )
  return dataclasses.replace(PAPER[arch], num_classes=len(names)), names


def main() -> None:
  """Entry point of the command."""
  cli(prog_name="rpfgsm")


if __name__ == "__main__":
  main()
