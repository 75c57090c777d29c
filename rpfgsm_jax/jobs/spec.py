"""What is asked for: the job, as values that can be written down and sent to other machines."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from PIL import Image

from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.engine.batches import BatchSize
from rpfgsm_jax.models import weights
from rpfgsm_jax.models.clip_words import parse_name
from rpfgsm_jax.models.identity import NetworkIdentity, identify_network
from rpfgsm_jax.photos.config import PhotoConfig
from rpfgsm_jax.photos.scene import scene_class
from rpfgsm_jax.randomness import unusual_settings

# Of the attack; records of before do without, and mean this.
_SINCE_FORMAT_1 = {"gray": False, "random_start": False, "masking": None}
_PROCESS = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")  # beside JAX's own JAX_COORDINATOR_ADDRESS


class SettingsError(ValueError):
  """The job was asked for wrongly; the message names the option, the rule and the remedy."""


class JobError(RuntimeError):
  """The job cannot start or go on; the message says why. The same command goes on later."""


class Shard(NamedTuple):
  """One share of a job: the photos whose id leaves the rest `index` when divided by `count`."""

  index: int  # 0..count - 1
  count: int  # at least 1

  @classmethod
  def parse(cls, text: str) -> "Shard":
    """Reads what a user wrote."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or int(match[1]) >= int(match[2]):
      raise SettingsError(
        f"--shard must be I/N with 0 <= I < N, got {text!r}; three machines take 0/3, 1/3 and 2/3."
      )
    return cls(int(match[1]), int(match[2]))

  @classmethod
  def of_this_process(cls) -> "Shard":
    """Joins the other processes for as long as it takes to know which one this is.

    JAX knows the clusters it can ask (TPU pods, Slurm, Open MPI, Kubernetes); elsewhere
    JAX_COORDINATOR_ADDRESS and the two of `_PROCESS` say it. Afterwards the processes have nothing
    to tell each other: one that dies or takes longer stops no other.
    """
    try:
      count, index = (int(os.environ[name]) if name in os.environ else None for name in _PROCESS)
      jax.distributed.initialize(num_processes=count, process_id=index)
    except (TypeError, ValueError) as error:
      raise SettingsError(
        "--distributed must be started by a cluster that JAX knows, or with "
        f"JAX_COORDINATOR_ADDRESS, {' and '.join(_PROCESS)} set; JAX says: {error} --shard I/N "
        "needs none of it."
      ) from error
    except RuntimeError as error:
      raise JobError(f"the processes of --distributed did not meet; JAX says: {error}") from error
    # Devices get to know their process now; later the others would be needed again.
    shard = cls(jax.process_index(), jax.process_count())
    jax.distributed.shutdown()
    return shard

  def __str__(self) -> str:
    return f"{self.index}/{self.count}"

  def holds(self, image_id: int) -> bool:
    """Says whether a photo belongs to this share; files added to a folder move no other photo."""
    return image_id % self.count == self.index


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is to be done. `open_job` fills in what the user left open before workers get it."""

  sources: Sequence[str | os.PathLike[str]]  # folders, files, patterns
  out: pathlib.Path  # the folder of results; made if absent
  networks: Sequence[str]  # that are misled: known names or folders
  held_out: Sequence[str] = ()  # that only judge
  photos: PhotoConfig = dataclasses.field(default_factory=PhotoConfig)  # how they are protected
  by_device: frozenset[str] = frozenset()  # of "working_pixels", "micro_batch": left to the devices
  seed: int | None = None  # None: the job's recorded one, or a new one from the system's entropy
  batch_size: BatchSize = "auto"  # most images on each device at once; changes no result
  devices: int | None = None  # the first so many; None: all
  shard: Shard | None = None  # one share of the photos; None: all of them
  only: frozenset[str] | None = None  # of the photos those of these names; None: all of them
  max_pixels: int = Image.MAX_IMAGE_PIXELS  # larger photos fail
  overwrite: bool = False  # replace what is there and is not this very result
  identities: tuple[NetworkIdentity, ...] = ()  # of `networks`, then of `held_out`; filled in
  settings: str = ""  # digest of all that decides the bytes of results; filled in

  @property
  def judged(self) -> bool:
    """Whether networks judge what is written; data sets at the networks' size are only made."""
    return self.photos.size == "photo"


def identified(job: Job) -> Job:
  """Returns the job with its networks looked up, and its scene as they spell it."""
  identities, photos = identify_networks(job), job.photos
  if photos.scene is not None:
    names = [each.name for each in identities[: len(job.networks)]]
    classes = [(name, weights.class_names_of(name)) for name in names]
    try:
      place = scene_class(photos.scene, classes)
    except ValueError as error:
      raise SettingsError(f"--{error}") from error
    photos = dataclasses.replace(photos, scene=classes[0][1][place])
  return dataclasses.replace(job, identities=identities, photos=photos)


def identify_networks(job: Job) -> tuple[NetworkIdentity, ...]:
  """Looks the job's networks up without loading them, and refuses judges that the attack uses."""
  networks = [_identify(name, "--network") for name in job.networks]
  held_out = [_identify(name, "--held-out") for name in job.held_out]
  for judge in held_out:
    for network in networks:
      same_folder = parse_name(judge.name)[0] == parse_name(network.name)[0]  # words aside
      if same_folder or judge.sha256 == network.sha256:
        raise SettingsError(
          f"--held-out must be a network that the attack does not use, got {judge.name}, which is "
          f"--network {network.name}; leave one of the two out."
        )
  return (*networks, *held_out)


def fetched_judges(networks: Sequence[str]) -> tuple[str, ...]:
  """Returns the modern networks that the user has fetched and that the attack does not use."""
  fetched = weights.fetched_modern()
  used = {_identify(name, "--network").sha256 for name in networks} if fetched else ()
  return tuple(name for name in fetched if _identify(name, "--held-out").sha256 not in used)


def _identify(name: str, option: str) -> NetworkIdentity:
  try:
    return identify_network(name)
  except weights.WeightsError as error:
    raise SettingsError(f"{option} {error}") from error


def describe_settings(job: Job) -> dict[str, Any]:
  """Returns what decides the bytes of a job's results, as JSON values.

  Each photo has a record of its own, so the sources are no part of it.
  """
  attacked = len(job.networks)
  photos = {field.name: getattr(job.photos, field.name) for field in dataclasses.fields(job.photos)}
  del photos["attack"], photos["size"]
  if photos["scene"] is None:  # as in records of before
    del photos["scene"]
  network_size = job.photos.size == "network"
  for name in ("shrink", "working_pixels") if network_size else ("preprocess",):
    del photos[name]  # without a meaning at this size
  textured = job.photos.attack.masking is not None  # what records of before say of it
  unusual = unusual_settings()
  return {
    "size": job.photos.size,
    "networks": [each._asdict() for each in job.identities[:attacked]],
    "held_out": [each._asdict() for each in job.identities[attacked:]],
    "attack": _describe_attack(job.photos.attack),
    "photo": photos | {"encoding": dataclasses.asdict(job.photos.encoding), "texture": textured},
  } | ({"jax": unusual} if unusual else {})


def _describe_attack(config: RPFGSMConfig) -> dict[str, Any]:
  """Returns an attack's settings as JSON values; functions become their dotted names."""

  def name(value: Any) -> Any:
    if callable(value):
      return f"{value.__module__}.{value.__qualname__}"
    if as_int(value) is not None:
      return as_int(value)
    raise TypeError(f"config must consist of values that JSON or Python names, got {value!r}.")

  described = json.loads(json.dumps(dataclasses.asdict(config), default=name))
  for added, meant in _SINCE_FORMAT_1.items():
    if described[added] == meant:
      del described[added]
  for family in described["defenses"]["families"]:
    del family["by_parameter"]  # how an image is computed, not which
  return {"name": "rp_fgsm", **described}


def settings_digest(settings: dict[str, Any], seed: int) -> str:
  """Returns 64 hexadecimal digits that tell two sets of settings apart."""
  content = json.dumps({"settings": settings, "seed": seed}, sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()
