"""Where a job's work is done: in this process, or, in `ray_engine.py`, by the workers of a cluster.

An engine is a context manager that says what its processes run on (`environment`) and turns tasks
into outcomes (`run`). All engines run the same workers, and an image's bits depend neither on the
batch nor on the device it shares, so that all write the same bytes.
"""

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from typing import Self

import jax

from rpfgsm_jax import __version__
from rpfgsm_jax.engine.batches import even_batches
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.spec import Job, SettingsError, identify_networks
from rpfgsm_jax.jobs.worker import Worker
from rpfgsm_jax.models.weights import load_classifier
from rpfgsm_jax.photos.config import default_batch_size
from rpfgsm_jax.photos.protector import PhotoProtector
from rpfgsm_jax.randomness import unusual_settings


def describe_environment() -> dict[str, str]:
  """Returns what last bits may depend on, in the process that computes; starts JAX's devices."""
  return {
    "device": jax.devices()[0].device_kind,
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    "jax": jax.__version__,
    "jaxlib": importlib.metadata.version("jaxlib"),
    "rpfgsm-jax": __version__,
    **{name: str(value) for name, value in unusual_settings().items()},
  }


class LocalEngine:
  """The devices of this process; `RayEngine` has the same methods."""

  environment = staticmethod(describe_environment)

  def __init__(self) -> None:
    self._worker: Worker | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *failure: object) -> None:
    pass

  @property
  def idle_share(self) -> float | None:
    """The idle part of the devices' time, 0..1; None: not known."""
    return self._worker.clock.idle_share if self._worker else None

  def platform(self) -> str:
    """The kind of this process's devices: "cpu", "gpu" or "tpu"."""
    return jax.local_devices()[0].platform

  def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yields one outcome a photo; closing the iterator stops the work."""
    self._worker = make_worker(job, len(tasks))
    yield from self._worker.run(tasks)


def make_worker(job: Job, count: int) -> Worker:
  """Loads the networks onto this process's devices, for so many photos, or so many at once.

  Raises SettingsError where the networks are not the job's or do not fit together, or devices are
  too few, and WeightsError where a network's files are damaged.
  """
  for wanted, found in zip(job.identities, identify_networks(job), strict=True):
    if wanted != found:
      raise SettingsError(
        f"{wanted.name} must be one network wherever this job runs, got {found.sha256[:8]} on this "
        f"machine for {wanted.sha256[:8]}; copy its folder to all of them."
      )
  networks = [load_classifier(each.name) for each in job.identities]
  attacked, held_out = networks[: len(job.networks)], networks[len(job.networks) :]
  config, batch_size = job.photos, job.batch_size
  if batch_size == "auto":
    platform, micro_batch = jax.local_devices()[0].platform, config.attack.micro_batch
    batch_size = default_batch_size(platform, config.size, micro_batch)
  try:
    batch_size, chosen = even_batches(count, batch_size, job.devices)
    protectors = [
      PhotoProtector(attacked, config, held_out=held_out, seed=job.seed, device=device)
      for device in chosen
    ]
  except ValueError as error:
    raise SettingsError(str(error)) from error
  return Worker(protectors, job, batch_size)
