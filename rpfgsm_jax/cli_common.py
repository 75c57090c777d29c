"""What commands of `rpfgsm` share: exit codes, examples, failures as messages, progress."""

import contextlib
import enum
import textwrap
from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

# Written out so that `rpfgsm --help` needs no JAX; tests compare them with the package's own.
ARCHITECTURES = ("resnet18", "resnet50", "alexnet", "densenet161")


class ExitCode(enum.IntEnum):
  """How a command ended; FAILED and WRONG are also what Click itself ends with."""

  meaning: str

  def __new__(cls, value: int, meaning: str) -> "ExitCode":
    member = int.__new__(cls, value)
    member._value_, member.meaning = value, meaning
    return member

  DONE = 0, "all is done"
  FAILED = 1, "a photo could not be done, or the command failed on its way"
  WRONG = 2, "the command was wrong: an option, a folder or a network"
  NOT_PROTECTED = 3, "protect --strict: all is done, and not every photo is protected"
  INTERRUPTED = 130, "interrupted (Ctrl-C); the same command begins or goes on"


class NetworkName(click.ParamType):
  """A network's name or folder; a shell completes both."""

  name = "name"

  def shell_complete(
    self, ctx: click.Context, param: click.Parameter, incomplete: str
  ) -> list[CompletionItem]:
    from rpfgsm_jax.models.weights import available_networks

    known = [CompletionItem(each) for each in available_networks() if each.startswith(incomplete)]
    return known or [CompletionItem(incomplete, type="dir")]


def epilog(*examples: str) -> str:
  """Returns what stands below a command's options: examples, which tests parse, and exit codes."""
  codes = [
    textwrap.fill(f"{code.meaning}.", 72, initial_indent=f"  {code:3}  ", subsequent_indent=" " * 7)
    for code in ExitCode
  ]
  # A \b keeps Click from joining the lines of a paragraph.
  return "\n".join(
    ["\b", "Examples:", *(f"  {each}" for each in examples), "", "\b", "Exit codes:", *codes]
  )


@contextlib.contextmanager
def reported_failures(*more: type[Exception]) -> Iterator[None]:
  """Turns the errors that users cause or suffer into a message; ours stay tracebacks."""
  from rpfgsm_jax.models.checkpoint import CheckpointError
  from rpfgsm_jax.models.fetch import DownloadError
  from rpfgsm_jax.models.weights import WeightsError

  try:
    yield
  except (CheckpointError, DownloadError, WeightsError, OSError, *more) as error:
    raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def progress_bar(
  description: str, *, unit: str = "B", unit_scale: bool = True
) -> Iterator[Callable[[int, int | None], None]]:
  """Shows progress on a terminal; yields what takes the count so far, and the total if known."""
  import tqdm

  bar = tqdm.tqdm(desc=description, unit=unit, unit_scale=unit_scale, disable=None, leave=False)

  def advance(done: int, total: int | None) -> None:
    bar.total = total
    bar.update(done - bar.n)

  with bar:
    yield advance
