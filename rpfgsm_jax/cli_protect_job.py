"""From the options of `rpfgsm protect` to a job, and to the engine that does it."""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rpfgsm_jax.cli_protect_options import DEFAULT_HELD_OUT, DEFAULT_NETWORKS

if TYPE_CHECKING:
  from rpfgsm_jax.jobs import Job, Shard
  from rpfgsm_jax.jobs.engines import Engine
  from rpfgsm_jax.photos.protect import PhotoConfig

_PAPERS_EPSILON = 16.0  # gray levels
_MEGA = 1e6
_PHOTO_ONLY = {
  "held_out", "encoding_format", "quality", "subsampling", "working_megapixels", "max_megapixels",
  "keep_metadata", "overwrite", "report", "strict", "texture",
}  # fmt: skip
_NETWORK_ONLY = {"preprocess", "batch_size"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """The values of all options, under the names they have in `OPTIONS`."""

  sources: tuple[str, ...]
  out: pathlib.Path
  size: str
  networks: tuple[str, ...]
  held_out: tuple[str, ...]
  strength: float | None
  epsilon: float | None
  texture: bool
  targeted: bool
  steps: int | None
  seed: int | None
  encoding_format: str
  quality: int | None
  subsampling: str | None
  working_megapixels: float | str
  max_megapixels: float | None
  keep_metadata: bool
  overwrite: bool
  dry_run: bool
  report: bool
  strict: bool
  preprocess: str
  batch_size: int | str
  devices: int | None
  shard: str | None
  distributed: bool
  engine: str
  address: str | None
  as_json: bool


def check_together(asked: Asked, context: click.Context) -> None:
  """Refuses options that do not go together.

  Args:
    asked: all values.
    context: knows which of them the user gave.

  Raises:
    click.UsageError: two exclude each other, or one has no meaning beside another.
  """
  names = {option.name: option.opts[0] for option in context.command.params}
  given = {
    name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
  }
  other = _PHOTO_ONLY if asked.size == "network" else _NETWORK_ONLY
  for name in sorted(other & given):
    if name == "batch_size" and asked.batch_size == "auto":
      continue
    remedy = "--size photo" if asked.size == "network" else "--size network"
    raise click.UsageError(f"{names[name]} belongs to {remedy}; leave it out or change the size.")
  if {"strength", "epsilon"} <= given:
    raise click.UsageError("--strength and --epsilon say the same; leave one out.")
  for name in sorted({"quality", "subsampling"} & given):
    if asked.encoding_format != "jpeg":
      raise click.UsageError(f"{names[name]} is JPEG's; add --format jpeg or leave it out.")
  if asked.shard is not None and asked.distributed:
    raise click.UsageError("--shard and --distributed exclude each other; leave one out.")
  if asked.engine == "ray" and (asked.shard is not None or asked.distributed):
    raise click.UsageError(
      "--engine ray divides the photos itself; leave --shard and --distributed out."
    )
  if asked.engine == "local" and asked.address is not None:
    raise click.UsageError("--address is Ray's; add --engine ray or leave it out.")


def job_of(asked: Asked) -> "Job":
  """Returns the job that was asked for.

  Args:
    asked: all values.

  Returns:
    The job.

  Raises:
    click.UsageError: a value breaks a rule.
  """
  from PIL import Image

  from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
  from rpfgsm_jax.jobs import Job

  largest = asked.max_megapixels
  return Job(
    sources=asked.sources,
    out=asked.out,
    networks=asked.networks,
    held_out=_held_out(asked),
    config=RPFGSMConfig(
      epsilon=_epsilon(asked) or _PAPERS_EPSILON,
      targeted=asked.targeted,
      num_steps=asked.steps,
    ),
    photo=_photo(asked) if asked.size == "photo" else None,
    fit_working_size=asked.working_megapixels == "auto",
    how=asked.preprocess,
    seed=asked.seed,
    batch_size=asked.batch_size,
    devices=asked.devices if asked.engine == "local" else None,
    shard=_shard(asked),
    max_pixels=Image.MAX_IMAGE_PIXELS if largest is None else round(_MEGA * largest),
    overwrite=asked.overwrite,
  )


def engine_of(asked: Asked) -> "Engine":
  """Returns the engine that was asked for; with Ray, devices are its workers.

  Args:
    asked: all values.

  Returns:
    The engine.
  """
  if asked.engine == "local":
    from rpfgsm_jax.jobs.engines import LocalEngine

    return LocalEngine()
  from rpfgsm_jax.jobs.ray_engine import RayEngine

  return RayEngine(asked.address, asked.devices)


def _epsilon(asked: Asked) -> float | None:
  return asked.epsilon if asked.strength is None else asked.strength


def _held_out(asked: Asked) -> tuple[str, ...]:
  bundled = {*DEFAULT_NETWORKS}
  if asked.size == "network" or asked.held_out or not bundled.issuperset(asked.networks):
    return asked.held_out
  return (DEFAULT_HELD_OUT,)


def _photo(asked: Asked) -> "PhotoConfig":
  from rpfgsm_jax.data.photo_files import Encoding
  from rpfgsm_jax.photos.protect import PhotoConfig, photo_attack

  attack = dataclasses.replace(photo_attack(), targeted=asked.targeted, num_steps=asked.steps)
  epsilon, size = _epsilon(asked), asked.working_megapixels
  if epsilon is not None:
    attack = dataclasses.replace(attack, epsilon=epsilon)
  chosen = {"quality": asked.quality, "subsampling": asked.subsampling}
  encoding = Encoding(format=asked.encoding_format)
  encoding = dataclasses.replace(
    encoding, **{name: value for name, value in chosen.items() if value is not None}
  )
  # With "auto" the job finds the number itself.
  pixels = None if isinstance(size, str) else round(_MEGA * size)
  try:
    return PhotoConfig(
      attack=attack,
      texture=asked.texture,
      working_pixels=pixels,
      encoding=encoding,
      keep_metadata=asked.keep_metadata,
    )
  except ValueError as error:
    raise click.UsageError(str(error)) from error


def _shard(asked: Asked) -> "Shard | None":
  from rpfgsm_jax.jobs import Shard
  from rpfgsm_jax.jobs.distributed import shard_of_this_process

  if asked.distributed:
    return shard_of_this_process()
  return None if asked.shard is None else Shard.parse(asked.shard)
