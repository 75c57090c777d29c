"""Where a job's work is done: in this process, or, in `ray_engine.py`, by the workers of a cluster.

An engine is a context manager that says what its processes run on (`environment`) and turns tasks
into outcomes (`run`). All engines run the same `Worker`, and an image's bits depend neither on the
batch nor on the device it shares, so that all write the same bytes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, Self

from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.settings import Network, describe_environment, identify_networks
from rpfgsm_jax.jobs.worker import Outcome, Worker
from rpfgsm_jax.models.weights import load_classifier
from rpfgsm_jax.protect import BatchSize, Protector, even_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """What a worker needs to know; can be sent to another machine."""

  networks: tuple[Network, ...]
  config: RPFGSMConfig
  how: str  # preprocessing
  seed: int
  batch_size: BatchSize  # most images on each device at once
  devices: int | None  # the first so many of the worker's own; None: all


class Engine(Protocol):
  """See this file's first lines."""

  idle_share: float | None  # of the devices, 0..1; None: not known

  def __enter__(self) -> Self: ...

  def __exit__(self, *failure: object) -> None: ...

  def environment(self) -> dict[str, str]:
    """What last bits may depend on, where the work is done."""
    ...

  def run(self, order: Order, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yields one outcome a photo; closing the iterator stops the work."""
    ...


def make_worker(order: Order, count: int) -> Worker:
  """Loads the networks and puts them on this process's devices.

  Args:
    order: what the worker needs to know.
    count: photos that it will get, or that it will get at once.

  Returns:
    The worker; it compiles when its first batch starts.

  Raises:
    SettingsError: the networks are not the order's or do not fit together, or devices are too few.
    WeightsError: a network's files are damaged.
  """
  here = identify_networks([network.name for network in order.networks])
  for wanted, found in zip(order.networks, here, strict=True):
    if wanted != found:
      raise SettingsError(
        f"{wanted.name} must be one network wherever this job runs, got {found.sha256[:8]} on this "
        f"machine for {wanted.sha256[:8]}; copy its folder to all of them."
      )
  classifiers = [load_classifier(network.name) for network in order.networks]
  try:
    size, devices = even_batches(count, order.batch_size, order.devices)
    protector = Protector(
      classifiers, order.config, seed=order.seed, batch_size=size, devices=devices
    )
  except ValueError as error:
    raise SettingsError(str(error)) from error
  adaptive = order.batch_size == "auto"
  return Worker(protector, classifiers[0].image_size, order.how, adaptive=adaptive)


class LocalEngine:
  """The devices of this process."""

  def __init__(self) -> None:
    self._worker: Worker | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *failure: object) -> None:
    pass

  @property
  def idle_share(self) -> float | None:
    """Of the devices, 0..1; None before the first result."""
    return self._worker.clock.idle_share if self._worker else None

  def environment(self) -> dict[str, str]:
    """What last bits may depend on."""
    return describe_environment()

  def run(self, order: Order, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects the photos; see `Worker.run`.

    Args:
      order: what is to be done with each.
      tasks: the photos.

    Yields:
      One outcome a photo.
    """
    self._worker = make_worker(order, len(tasks))
    yield from self._worker.run(tasks)
