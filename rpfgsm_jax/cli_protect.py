"""The command `rpfgsm protect`: options, progress and exit codes around `rpfgsm_jax.jobs`."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
  from rpfgsm_jax.jobs import RunningJob, Shard
  from rpfgsm_jax.jobs.engines import Engine

PREPROCESSINGS = ("paper", "places365")
DEFAULT_NETWORKS = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
MAX_SEED = 2**32 - 1
INTERRUPTED = 130
_SAID_NOTES = 20


class _BatchSize(click.ParamType):
  name = "N|auto"

  def convert(
    self, value: object, parameter: click.Parameter | None, context: click.Context | None
  ) -> int | str:
    if value == "auto":
      return "auto"
    return click.IntRange(min=1).convert(value, parameter, context)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=pathlib.Path))
@click.option(
  "--out",
  required=True,
  type=click.Path(path_type=pathlib.Path),
  help="Folder of the protected photos; made if absent. Apart from DIR.",
)
@click.option(
  "--network",
  "networks",
  multiple=True,
  default=DEFAULT_NETWORKS,
  metavar="NAME",
  help="A network to mislead, by name or folder; may be repeated.  [default: the bundled ResNet18, "
  "ResNet50 and AlexNet]",
)
@click.option(
  "--epsilon",
  type=click.FloatRange(min=1, max=255),
  default=16.0,
  show_default=True,
  help="Largest change of a value, of 255 grey levels.",
)
@click.option("--targeted", is_flag=True, help="Approach one random class a photo.")
@click.option(
  "--steps",
  type=click.IntRange(min=1),
  help="Iterations a photo.  [default: the paper's, from epsilon and the number of networks]",
)
@click.option(
  "--seed",
  type=click.IntRange(min=0, max=MAX_SEED),
  help="Of all random draws; who knows it can compute them.  [default: the recorded one, or a new "
  "one from the system's entropy]",
)
@click.option(
  "--preprocess",
  type=click.Choice(PREPROCESSINGS),
  default="paper",
  show_default=True,
  help="How photos come to the networks' size: resized, or cropped to the center.",
)
@click.option(
  "--batch-size",
  type=_BatchSize(),
  default="auto",
  show_default=True,
  help="Photos on each device at once; auto: many, halved until they fit. Changes no result.",
)
@click.option(
  "--devices",
  type=click.IntRange(min=1),
  metavar="N",
  help="The first N devices; with Ray, N workers.  [default: all]",
)
@click.option(
  "--shard",
  metavar="I/N",
  help="Only share I of N (0 <= I < N), as with the array ids of a cluster.",
)
@click.option(
  "--distributed", is_flag=True, help="The share of this process, as JAX's cluster detection says."
)
@click.option(
  "--engine",
  type=click.Choice(["local", "ray"]),
  default="local",
  show_default=True,
  help="This process, or the workers of Ray, which see the same folders.",
)
@click.option(
  "--address",
  help="HOST:PORT of a running Ray cluster.  [default: a new one, on this machine]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def protect(
  folder: pathlib.Path,
  out: pathlib.Path,
  networks: tuple[str, ...],
  epsilon: float,
  targeted: bool,
  steps: int | None,
  seed: int | None,
  preprocess: str,
  batch_size: int | str,
  devices: int | None,
  shard: str | None,
  distributed: bool,
  engine: str,
  address: str | None,
  as_json: bool,
) -> None:
  """Protects every photo below DIR with RP-FGSM and writes it as a PNG of the same relative name.

  The PNGs have the size of the networks' input, not that of the photos. Each is written whole as
  soon as it is ready, and a photo is done when its PNG exists: whatever ends a run, the same
  command goes on. A photo that was changed later is not done again; remove its PNG first.

  OUT/.rpfgsm holds the job's settings and its seed, from which targets and draws can be computed:
  keep it private, and do not publish it with the photos.

  Exit codes: 0 all done, 1 a photo could not be done or the job failed, 2 the command was wrong,
  130 interrupted.
  """
  from rpfgsm_jax import process

  cache = process.prepare()
  from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
  from rpfgsm_jax.jobs import Job, open_job

  with _exit_codes():
    job = Job(
      source=folder,
      out=out,
      networks=networks,
      config=RPFGSMConfig(epsilon=epsilon, targeted=targeted, num_steps=steps),
      how=preprocess,
      seed=seed,
      batch_size=batch_size,
      devices=devices if engine == "local" else None,
      shard=_shard(shard, distributed=distributed, engine=engine),
    )
    with open_job(job, _engine(engine, address, devices)) as running:
      if running.total:
        click.echo(f"{running.total} to do; {cache.describe()}", err=True)
      try:
        interrupted = _follow(running)
      finally:
        summary = running.summary()
        click.echo(summary.to_text(), err=as_json)
        if as_json:
          click.echo(json.dumps(summary.to_json()))
    if interrupted:
      click.echo("interrupted; the same command goes on", err=True)
      raise click.exceptions.Exit(INTERRUPTED)
    if summary.failures:
      raise click.exceptions.Exit(1)


def leave_at_once() -> None:
  """Ends an interrupted process without waiting for what the devices still compute."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(INTERRUPTED)


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
  from rpfgsm_jax.jobs import JobError, SettingsError
  from rpfgsm_jax.models.weights import WeightsError

  try:
    yield
  except (SettingsError, WeightsError) as error:
    raise click.UsageError(str(error)) from error
  except (JobError, OSError) as error:
    raise click.ClickException(str(error)) from error
  except KeyboardInterrupt:
    click.echo("interrupted before the first photo; the same command begins again", err=True)
    raise click.exceptions.Exit(INTERRUPTED) from None


def _shard(shard: str | None, *, distributed: bool, engine: str) -> "Shard | None":
  from rpfgsm_jax.jobs import Shard
  from rpfgsm_jax.jobs.distributed import shard_of_this_process

  if shard is not None and distributed:
    raise click.UsageError("--shard and --distributed exclude each other; leave one out.")
  if engine == "ray" and (shard is not None or distributed):
    raise click.UsageError(
      "--engine ray divides the photos itself; leave --shard and --distributed out."
    )
  if distributed:
    return shard_of_this_process()
  return None if shard is None else Shard.parse(shard)


def _engine(name: str, address: str | None, workers: int | None) -> "Engine":
  if name == "local":
    if address is not None:
      raise click.UsageError("--address is Ray's; add --engine ray or leave it out.")
    from rpfgsm_jax.jobs.engines import LocalEngine

    return LocalEngine()
  from rpfgsm_jax.jobs.ray_engine import RayEngine

  return RayEngine(address, workers)


def _follow(running: "RunningJob") -> bool:
  """Does the work with a progress bar; True when Ctrl-C ended it."""
  import tqdm

  said = 0
  for note in running.notes:
    click.echo(f"note: {note}", err=True)
  # Off where nobody watches; what goes wrong is said in any case.
  bar = tqdm.tqdm(total=running.total, unit="photo", disable=None, leave=False, smoothing=0.05)
  with bar, contextlib.closing(iter(running)) as outcomes:
    try:
      for outcome in outcomes:
        bar.update()
        if outcome.failure is not None:
          bar.write(f"failed: {outcome.failure}", file=sys.stderr)
        for note in outcome.notes:
          said += 1
          if said <= _SAID_NOTES:
            bar.write(f"note: {note}", file=sys.stderr)
    except KeyboardInterrupt:
      return True
  if said > _SAID_NOTES:
    click.echo(f"note: and {said - _SAID_NOTES} more of this kind", err=True)
  return False
