"""The command `rpfgsm`: thin wrappers that turn errors into one message and an exit code.

`protect`, `doctor` and `weights` have files of their own beside this one.
"""

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import click

from rpfgsm_jax import atomic, cli_app, cli_doctor, cli_protect, cli_weights, process, result_folder
from rpfgsm_jax.cli_common import (
  ARCHITECTURES,
  ExitCode,
  NetworkName,
  epilog,
  progress_bar,
  reported_failures,
)
from rpfgsm_jax.cli_protect_options import PREPROCESSINGS, classes_option

if TYPE_CHECKING:
  from rpfgsm_jax.models.architectures import Config
  from rpfgsm_jax.quality import BrisqueModel


PRESETS = (
  *ARCHITECTURES,
  *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
  *(f"efficientnet_lite{number}" for number in range(5)),
  *(f"vit_{size}_patch16" for size in ("small", "base", "large")),
)
BUNDLED_NETWORKS = tuple(f"scenes25/{arch}" for arch in ARCHITECTURES)


class _Program(click.Group):
  """A group that refuses empty words before any command sees them, and ends alike on Ctrl-C."""

  def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
    try:
      result_folder.check_words(args)
    except result_folder.FolderError as error:
      raise click.UsageError(str(error), ctx) from error
    return super().parse_args(ctx, args)

  def invoke(self, ctx: click.Context) -> object:
    try:
      return super().invoke(ctx)
    except KeyboardInterrupt:
      click.echo("interrupted", err=True)
      raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


@click.group(
  cls=_Program,
  context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
  epilog=epilog(
    "rpfgsm protect ~/Pictures/holiday --out ~/Protected --report",
    "rpfgsm evaluate ~/Pictures/holiday ~/Protected",
    "rpfgsm weights fetch dinov2-small",
    "rpfgsm doctor",
  ),
)
@cli_doctor.version_option
def cli() -> None:
  """Protects photographs from scene classifiers with RP-FGSM."""


cli.add_command(cli_protect.protect)
cli.add_command(cli_doctor.doctor)
cli.add_command(cli_weights.weights)
cli.add_command(cli_app.app)


@cli.command(
  epilog=epilog(
    "rpfgsm evaluate ~/Pictures/holiday ~/Protected",
    "rpfgsm evaluate photos protected --train others --out report",
    "rpfgsm evaluate photos protected --network dinov2-small --preprocess places365",
  )
)
@click.argument("original", type=click.Path(path_type=pathlib.Path))
@click.argument("protected", type=click.Path(path_type=pathlib.Path))
@click.option(
  "--network",
  "networks",
  type=NetworkName(),
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
  with reported_failures(ComparisonError):
    if out is not None:
      check_out(out, [folder for folder in (original, protected, training) if folder is not None])
    with progress_bar("photos", unit=" photos", unit_scale=False) as progress:
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


@cli.command(
  epilog=epilog(
    "rpfgsm convert resnet18.pth.tar --arch resnet18 --out nets/resnet18",
    "rpfgsm convert mine.pth --arch vit_base_patch16 --out nets/mine --classes names.txt",
  )
)
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
  with reported_failures():
    network = convert_checkpoint(file, out, config, class_names=names, normalization=known)
  count = sum(value.size for value in network.parameters.values())
  click.echo(f"{out}: {arch}, {len(names)} classes, {count:,} numbers")


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
    sys.exit(ExitCode.FAILED)
  except SystemExit as ended:
    if ended.code == ExitCode.INTERRUPTED:
      cli_protect.leave_at_once()
    raise


if __name__ == "__main__":
  main()
