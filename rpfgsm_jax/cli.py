"""The command `rpfgsm`: thin wrappers that turn errors into one message and an exit code.

Exit codes: 0 done, 1 failed, 2 the command was wrong, 130 interrupted. `protect` has a file of its
own, `cli_protect.py`.
"""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from rpfgsm_jax import atomic, cli_app, cli_protect, process, result_folder
from rpfgsm_jax.cli_protect_options import PREPROCESSINGS, classes_option

if TYPE_CHECKING:
  from rpfgsm_jax.models.architectures import Config
  from rpfgsm_jax.quality import BrisqueModel

# Written out so that `rpfgsm --help` needs no JAX; tests compare them with the package's own.
ARCHITECTURES = ("resnet18", "resnet50", "alexnet", "densenet161")
PRESETS = (
  *ARCHITECTURES,
  *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
  *(f"efficientnet_lite{number}" for number in range(5)),
  *(f"vit_{size}_patch16" for size in ("small", "base", "large")),
)
BUNDLED_NETWORKS = tuple(f"scenes25/{arch}" for arch in ARCHITECTURES)


@contextlib.contextmanager
def _reported_failures(*more: type[Exception]) -> Iterator[None]:
  """Turns the errors that users cause or suffer into a message; ours stay tracebacks."""
  from rpfgsm_jax.models.checkpoint import CheckpointError
  from rpfgsm_jax.models.fetch import DownloadError
  from rpfgsm_jax.models.weights import WeightsError

  try:
    yield
  except (CheckpointError, DownloadError, WeightsError, OSError, *more) as error:
    raise click.ClickException(str(error)) from error


class _Program(click.Group):
  """A group that refuses empty words before any command sees them."""

  def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
    try:
      result_folder.check_words(args)
    except result_folder.FolderError as error:
      raise click.UsageError(str(error), ctx) from error
    return super().parse_args(ctx, args)


@click.group(
  cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="rpfgsm-jax")
def cli() -> None:
  """Protects photographs from scene classifiers with RP-FGSM."""


cli.add_command(cli_protect.protect)
cli.add_command(cli_app.app)


@cli.command()
@click.argument("original", type=click.Path(path_type=pathlib.Path))
@click.argument("protected", type=click.Path(path_type=pathlib.Path))
@click.option(
  "--network",
  "networks",
  multiple=True,
  default=BUNDLED_NETWORKS,
  show_default=False,
  metavar="NAME",
  help="A network that judges, by name or folder; may be repeated.  [default: the bundled four]",
)
@classes_option
@click.option(
  "--train",
  type=click.Path(path_type=pathlib.Path),
  help="Folder of other, clean photos, for detectability.",
)
@click.option(
  "--train-limit",
  type=click.IntRange(min=1),
  default=1000,
  help="How many of them at most, evenly spread.",
)
@click.option(
  "--preprocess",
  type=click.Choice(PREPROCESSINGS),
  default="paper",
  help="How photos come to a network's size: resized, or cropped to the center.",
)
@click.option(
  "--out",
  type=click.Path(path_type=pathlib.Path),
  help="Folder for report.md, index.html and rows.jsonl; an earlier one is replaced.",
)
def evaluate(original: pathlib.Path, protected: pathlib.Path, **options: Any) -> None:
  """Measures the photos of PROTECTED against those of ORIGINAL, whatever made them.

  Photos are paired by relative path, suffix aside (photo.jpg and photo.png). Sub-folders of
  ORIGINAL that are named like the networks' classes give true classes. Files should have the size
  of their original; where they have not, the networks judge them and image quality is left out.
  """
  from rpfgsm_jax.comparison import (
    ComparisonError,
    check_out,
    compare_folders,
    summary,
    write_comparison,
  )
  from rpfgsm_jax.models.clip_words import with_classes

  out, training = options["out"], options["train"]
  with _reported_failures(ComparisonError):
    if out is not None:
      check_out(out, [folder for folder in (original, protected, training) if folder is not None])
    with _progress_bar("photos", unit=" photos", unit_scale=False) as progress:
      found = compare_folders(
        original,
        protected,
        with_classes(options["networks"], options["classes"]),
        training=training,
        training_limit=options["train_limit"],
        preprocess=options["preprocess"],
        brisque_model=_brisque_model(),
        progress=progress,
      )
    click.echo(summary(found))
    if out is not None:
      click.echo(f"\n{write_comparison(found, out)}")


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option(
  "--arch", required=True, type=click.Choice(PRESETS), help="The network that FILE holds."
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
@click.option(
  "--normalization",
  type=click.Choice(["imagenet", "half", "lite"]),
  help="Mean and deviation of its images: ImageNet's, 0.5 (many of timm's ViTs), or 127 and 128 "
  "gray levels.  [default: lite for efficientnet_lite, else imagenet]",
)
def convert(
  file: pathlib.Path,
  arch: str,
  out: pathlib.Path,
  classes: pathlib.Path | None,
  normalization: str | None,
) -> None:
  """Converts FILE, torchvision's or timm's weights from PyTorch or safetensors, without torch.

  No code in FILE is run. Nothing is written unless every weight fits.
  """
  from rpfgsm_jax.models.convert import convert_checkpoint
  from rpfgsm_jax.models.published_config import HALF, IMAGENET, LITE

  config, names = _config_and_names(arch, classes)
  if normalization is None:
    normalization = "lite" if arch.startswith("efficientnet_lite") else "imagenet"
  known = {"imagenet": IMAGENET, "half": HALF, "lite": LITE}[normalization]
  with _reported_failures():
    network = convert_checkpoint(file, out, config, class_names=names, normalization=known)
  count = sum(value.size for value in network.parameters.values())
  click.echo(f"{out}: {arch}, {len(names)} classes, {count:,} numbers")


@cli.group()
def weights() -> None:
  """Lists and fetches networks."""


@weights.command("list")
def list_weights() -> None:
  """Lists the networks that can be loaded by name: bundled and fetched ones."""
  from rpfgsm_jax.models.hub import fetched_commit
  from rpfgsm_jax.models.weights import BUNDLED, available_networks

  networks = available_networks()
  width = max((len(name) for name in networks), default=0)
  for name, directory in networks.items():
    commit = fetched_commit(directory)
    fetched = f"fetched, commit {commit}" if commit else "fetched"
    origin = "bundled" if directory.is_relative_to(BUNDLED) else f"{fetched}, in {directory}"
    click.echo(f"{name:<{width}}  {origin}")
  absent = [arch for arch in ARCHITECTURES if f"places365/{arch}" not in networks]
  if absent:
    click.echo(f"not fetched: {', '.join(f'places365/{arch}' for arch in absent)}")


@weights.command()
@click.argument("collection")
@click.option(
  "--arch",
  "archs",
  multiple=True,
  type=click.Choice(ARCHITECTURES),
  help="Of places365, only this network; may be repeated.  [default: all four]",
)
def fetch(collection: str, archs: tuple[str, ...]) -> None:
  """Downloads a public COLLECTION of networks, or one network.

  \b
  places365                   the paper's four, which are converted
  brisque                     LIVE's BRISQUE model
  hf:OWNER/NAME[@REVISION]    any ViT, DINOv2, CLIP or ConvNeXt of Hugging Face ([hub])
  dinov2-small, vit-base, clip-vit-base-patch32, convnext-tiny, …  some of these

  An interrupted download goes on where it stopped; Hugging Face's begin the file anew that they
  stopped in. The cache is the user's own; RPFGSM_CACHE names another folder.
  """
  from rpfgsm_jax.data.classes import places365_class_names
  from rpfgsm_jax.models.fetch import fetch_places365
  from rpfgsm_jax.quality.fetch import fetch_brisque_model

  if collection != "places365" and archs:
    raise click.BadParameter("goes with places365 alone; leave it out.", param_hint="--arch")
  if collection == "brisque":
    with _reported_failures(), _progress_bar(collection) as progress:
      directory = fetch_brisque_model(progress=progress)
    click.echo(f"{collection}: {directory}")
    return
  if collection != "places365":
    return _fetch_from_hub(collection)
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


def _fetch_from_hub(text: str) -> None:
  from rpfgsm_jax.models import hub

  try:
    wanted = hub.parse_wanted(text)
  except ValueError as error:
    raise click.BadParameter(
      f"{error}; also: places365, brisque.", param_hint="COLLECTION"
    ) from error
  with _reported_failures():
    directory = hub.fetch_from_hub(wanted)
  click.echo(f"{wanted.network}: {directory}, commit {hub.fetched_commit(directory)}")


@contextlib.contextmanager
def _progress_bar(
  description: str, *, unit: str = "B", unit_scale: bool = True
) -> Iterator[Callable[[int, int | None], None]]:
  import tqdm

  bar = tqdm.tqdm(desc=description, unit=unit, unit_scale=unit_scale, disable=None, leave=False)

  def advance(done: int, total: int | None) -> None:
    bar.total = total
    bar.update(done - bar.n)

  with bar:
    yield advance


def _brisque_model() -> "BrisqueModel | None":
  from rpfgsm_jax.quality import ModelNotFoundError, load_brisque_model

  try:
    return load_brisque_model()
  except ModelNotFoundError:
    return None  # the summary says how to get it
  except ValueError as error:
    raise click.ClickException(str(error)) from error


def _config_and_names(arch: str, classes: pathlib.Path | None) -> tuple["Config", tuple[str, ...]]:
  from rpfgsm_jax.data.classes import places365_class_names
  from rpfgsm_jax.models.architectures import PRESETS

  if classes is None:
    return PRESETS[arch], places365_class_names()
  try:
    lines = atomic.read_text(classes).splitlines()
  except UnicodeDecodeError as error:
    raise click.BadParameter(f"{classes} is not UTF-8 text.", param_hint="--classes") from error
  names = tuple(line.strip() for line in lines if line.strip())
  if len(names) < 2 or len(set(names)) != len(names):
    raise click.BadParameter(
      f"{classes} must have at least two names, all different, one a line; it has {len(names)}, "
      f"of which {len(set(names))} differ.",
      param_hint="--classes",
    )
  return dataclasses.replace(PRESETS[arch], num_classes=len(names)), names


def main() -> None:
  """Entry point of the command."""
  process.write_anything()
  try:
    with process.absent_devices_named():
      cli(prog_name="rpfgsm")
  except process.NoDeviceError as error:
    click.ClickException(str(error)).show()
    sys.exit(1)
  except SystemExit as ended:
    if ended.code == cli_protect.INTERRUPTED:
      cli_protect.leave_at_once()
    raise


if __name__ == "__main__":
  main()
