"""What is asked for, and what the workers of every engine are told of it."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from PIL import Image

from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.jobs.plan import Shard
from rpfgsm_jax.jobs.settings import Network
from rpfgsm_jax.photos.protect import PhotoConfig
from rpfgsm_jax.protect import BatchSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is to be done."""

  sources: Sequence[str | os.PathLike[str]]  # folders, files, patterns; without `photo` one folder
  out: pathlib.Path  # the folder of results; made if absent
  networks: Sequence[str]  # that are misled: known names or folders
  held_out: Sequence[str] = ()  # that only judge; with `photo`
  config: RPFGSMConfig = dataclasses.field(default_factory=RPFGSMConfig)  # without `photo`
  photo: PhotoConfig | None = None  # each photo at its own size; None: at the networks'
  fit_working_size: bool = False  # in `photo`: the one recorded, or what suits the devices
  how: str = "paper"  # preprocessing, see `rpfgsm_jax.data.preprocess`; without `photo`
  seed: int | None = None  # None: the job's recorded one, or a new one from the system's entropy
  batch_size: BatchSize = "auto"  # most images on each device at once; without `photo`
  devices: int | None = None  # the first so many; None: all
  shard: Shard | None = None  # one share of the photos; None: all of them
  max_pixels: int = Image.MAX_IMAGE_PIXELS  # larger photos fail; with `photo`
  overwrite: bool = False  # replace what is there and is not this very result; with `photo`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """What a worker needs to know; can be sent to another machine."""

  networks: tuple[Network, ...]
  config: RPFGSMConfig
  how: str  # preprocessing
  seed: int
  batch_size: BatchSize  # most images on each device at once
  devices: int | None  # the first so many of the worker's own; None: all
  out: pathlib.Path  # the folder of results, absolute
  held_out: tuple[Network, ...] = ()  # that only judge
  photo: PhotoConfig | None = None  # photos at their own size; None: at the networks'
  settings: str = ""  # digest of what decides the bytes of results
  max_pixels: int = 0  # of a photo at its own size
  overwrite: bool = False  # files that are there are replaced
