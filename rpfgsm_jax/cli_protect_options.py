"""The options of `rpfgsm protect`: names, types, help."""

import itertools
import pathlib
from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from rpfgsm_jax.cli_common import NetworkName

PREPROCESSINGS = ("paper", "places365")
DEFAULT_NETWORKS = ("shield/efficientnet_lite0",)
DEFAULT_HELD_OUT = ("scenes25/resnet18", "scenes25/densenet161")
STRENGTH_NAMES = ("gentle", "medium", "strong")
MAX_SEED = 2**64 - 1
BESIDE_OUT = "beside OUT"  # the value of a `--report` that stands alone


class ProtectCommand(click.Command):
  """A command whose `--report` may stand alone: it takes the next word only where that is a page.

  Click itself would take any word, a SOURCE too.
  """

  def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
    whole = [
      f"{word}={BESIDE_OUT}" if word == "--report" and not following.endswith(".html") else word
      for word, following in itertools.pairwise([*args, ""])
    ]
    return super().parse_args(ctx, whole)


class _NumberOr(click.ParamType):
  """A number, or one of a few words that stand for themselves."""

  name = "number"

  def __init__(self, number: click.IntRange | click.FloatRange, words: tuple[str, ...]):
    self._number, self._words = number, words

  def convert(
    self, value: object, parameter: click.Parameter | None, context: click.Context | None
  ) -> object:
    if value in self._words:
      return value
    try:
      return self._number.convert(value, parameter, context)
    except click.BadParameter as error:
      largest = "" if self._number.max is None else self._number.max
      raise click.BadParameter(
        f"{value!r} is neither {', '.join(self._words)} nor a number in "
        f"{self._number.min}..{largest}.",
        context,
        parameter,
      ) from error

  def shell_complete(
    self, ctx: click.Context, param: click.Parameter, incomplete: str
  ) -> list[CompletionItem]:
    return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


def _complete_files(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
  return [CompletionItem(word, type="file")]


def _complete_scenes(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
  from rpfgsm_jax.models.weights import WeightsError, class_names_of

  try:
    network = (ctx.params.get("networks") or DEFAULT_NETWORKS)[0]
    return [CompletionItem(each) for each in class_names_of(network) if each.startswith(word)]
  except WeightsError:
    return []


classes_option = click.option(
  "--classes",
  metavar="WORDS",
  help="Classes of each network clip:FOLDER, a CLIP: 'hospital room, church, …', places365 or "
  "mepp18-private; templates may follow, each after a #.  [default template: 'a photo of a {}.']",
)

OPTIONS = (
  click.argument(
    "sources", metavar="SOURCE...", nargs=-1, required=True, shell_complete=_complete_files
  ),
  click.option(
    "--out",
    required=True,
    type=click.Path(path_type=pathlib.Path),
    help="Folder of the protected photos; made if absent. Apart from the sources.",
  ),
  click.option(
    "--size",
    type=click.Choice(["photo", "network"]),
    default="photo",
    help="Each photo at its own size, or all at the networks' size, as data sets are.",
  ),
  click.option(
    "--network",
    "networks",
    type=NetworkName(),
    multiple=True,
    default=DEFAULT_NETWORKS,
    show_default=False,
    metavar="NAME",
    help="A network to mislead, by name or folder; may be repeated.  [default: "
    "shield/efficientnet_lite0, made to be attacked]",
  ),
  click.option(
    "--held-out",
    type=NetworkName(),
    multiple=True,
    metavar="NAME",
    help="A network that only judges what is written, by name or folder; may be repeated.  "
    "[default: what OUT was begun with; else modern networks that were fetched, and, beside "
    "bundled ones, the bundled ResNet18 and DenseNet161]",
  ),
  classes_option,
  click.option(
    "--strength",
    type=_NumberOr(click.FloatRange(min=1, max=255), STRENGTH_NAMES),
    metavar="gentle|medium|strong|N",
    help="By name, or in gray levels of 255.  [default: medium; at the networks' size strong]",
  ),
  click.option(
    "--epsilon",
    type=click.FloatRange(min=1, max=255),
    help="The same, as the papers call it: largest change of a value, gray levels.",
  ),
  click.option(
    "--texture/--no-texture",
    default=None,
    help="Change smooth places less, or not.  [default: less with gentle and medium]",
  ),
  click.option(
    "--scene",
    metavar="NAME",
    shell_complete=_complete_scenes,
    help="What all photos show, a class of the networks: left even where they see another.  "
    "[default: what each network sees]",
  ),
  click.option("--targeted", is_flag=True, help="Approach one random class a photo."),
  click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Iterations a photo.  [default: 15]",
  ),
  click.option(
    "--seed",
    type=click.IntRange(min=0, max=MAX_SEED),
    help="Of all random draws; keep it private.  [default: the recorded one, else a new one]",
  ),
  click.option(
    "--format",
    "encoding_format",
    type=click.Choice(["png", "webp", "jpeg"]),
    default="png",
    help="Of the protected photos; png and webp lose nothing, and the attack knows JPEG's encoder.",
  ),
  click.option(
    "--quality", type=click.IntRange(min=1, max=100), help="Of JPEG files.  [default: 90]"
  ),
  click.option(
    "--subsampling",
    type=click.Choice(["4:2:0", "4:4:4"]),
    help="Of JPEG's colors.  [default: 4:2:0]",
  ),
  click.option(
    "--working-megapixels",
    type=_NumberOr(click.FloatRange(min=0.01), ("auto", "own")),
    metavar="auto|own|N",
    default="auto",
    help="Larger photos are attacked at about this size, and the change is brought to theirs; own: "
    "none is; auto: what OUT was begun with, else what suits the machine.",
  ),
  click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    help="Leave larger photos out.  [default: Pillow's limit, 89]",
  ),
  click.option(
    "--keep-metadata",
    is_flag=True,
    help="Keep EXIF fields, place and serial numbers included; else nothing is kept.",
  ),
  click.option(
    "--overwrite",
    is_flag=True,
    help="Replace what is there: other files, and results of other settings or of photos that have "
    "changed since. What is done as asked stays.",
  ),
  click.option("--dry-run", is_flag=True, help="Only list what would be done; write nothing."),
  click.option(
    "--report",
    type=click.Path(dir_okay=False),
    metavar="[PAGE.html]",
    help="Write a private page: each photo before and after.  [default place: beside OUT]",
  ),
  click.option("--strict", is_flag=True, help="Exit code 3 where a photo is not fully protected."),
  click.option(
    "--preprocess",
    type=click.Choice(PREPROCESSINGS),
    default="paper",
    help="With --size network, how photos come to it: resized, or cropped to the center.",
  ),
  click.option(
    "--batch-size",
    type=_NumberOr(click.IntRange(min=1), ("auto",)),
    metavar="auto|N",
    default="auto",
    help="Photos attacked together on each device; auto: what suits it. Halved where they do not "
    "fit; changes no result.",
  ),
  click.option(
    "--micro-batch",
    type=_NumberOr(click.IntRange(min=1), ("auto",)),
    metavar="auto|N",
    default="auto",
    help="Photos computed together; last bits depend on it. auto: what OUT was begun with, else "
    "what suits the machine.",
  ),
  click.option(
    "--devices",
    type=click.IntRange(min=1),
    metavar="N",
    help="The first N devices; with Ray, N workers.  [default: all]",
  ),
  click.option("--shard", metavar="I/N", help="Only share I of N, counted from 0."),
  click.option("--distributed", is_flag=True, help="The share that JAX's cluster detection says."),
  click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="This process, or the workers of Ray, which see the same folders.",
  ),
  click.option(
    "--address", help="HOST:PORT of a Ray cluster.  [default: a new one, on this machine]"
  ),
  click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs."),
)


def all_options(command: Callable[..., None]) -> Callable[..., None]:
  """Gives a command `OPTIONS`, in their order."""
  for option in reversed(OPTIONS):
    command = option(command)
  return command
