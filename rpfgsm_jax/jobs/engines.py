"""Where a job's work is done: in this process, or, in `ray_engine.py`, by the workers of a cluster.

An engine is a context manager that says what its processes run on (`environment`) and turns tasks
into outcomes (`run`). All engines run the same workers, and an image's bits depend neither on the
batch nor on the device it shares, so that all write the same bytes.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import jax

from rpfgsm_jax import devices as placement
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.jobs.order import Order
from rpfgsm_jax.jobs.photo_worker import PhotoWorker
from rpfgsm_jax.jobs.pipeline import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.settings import describe_environment, identify_networks
from rpfgsm_jax.jobs.worker import Worker
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import load_classifier
from rpfgsm_jax.photos.protect import PhotoProtector
from rpfgsm_jax.protect import Protector, even_batches


class Engine(Protocol):
  """See this file's first lines."""

  idle_share: float | None  # of the devices, 0..1; None: not known

  def __enter__(self) -> Self: ...

  def __exit__(self, *failure: object) -> None: ...

  def environment(self) -> dict[str, str]:
    """What last bits may depend on, where the work is done."""
    ...

  def platform(self) -> str:
    """The kind of device there: "cpu", "gpu" or "tpu"."""
    ...

  def run(self, order: Order, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Yields one outcome a photo; closing the iterator stops the work."""
    ...


def make_worker(order: Order, count: int) -> Worker | PhotoWorker:
  """Loads the networks and puts them on this process's devices.

  Args:
    order: what the worker needs to know.
    count: photos that it will get, or that it will get at once.

  Returns:
    The worker; it compiles when its first photos start.

  Raises:
    SettingsError: the networks are not the order's or do not fit together, or devices are too few.
    WeightsError: a network's files are damaged.
  """
  named = (*order.networks, *order.held_out)
  here = identify_networks([network.name for network in named])
  for wanted, found in zip(named, here, strict=True):
    if wanted != found:
      raise SettingsError(
        f"{wanted.name} must be one network wherever this job runs, got {found.sha256[:8]} on this "
        f"machine for {wanted.sha256[:8]}; copy its folder to all of them."
      )
  classifiers = [load_classifier(network.name) for network in order.networks]
  try:
    if order.photo is not None:
      held_out = [load_classifier(network.name) for network in order.held_out]
      return _make_photo_worker(order, classifiers, held_out, count)
    size, devices = even_batches(count, order.batch_size, order.devices)
    protector = Protector(
      classifiers, order.config, seed=order.seed, batch_size=size, devices=devices
    )
  except ValueError as error:
    raise SettingsError(str(error)) from error
  adaptive = order.batch_size == "auto"
  return Worker(protector, classifiers[0].image_size, order.how, adaptive=adaptive)


def _make_photo_worker(
  order: Order, classifiers: Sequence[Classifier], held_out: Sequence[Classifier], count: int
) -> PhotoWorker:
  devices = placement.choose_devices(order.devices)[: max(count, 1)]
  protectors = [
    PhotoProtector(classifiers, order.photo, held_out=held_out, seed=order.seed, device=device)
    for device in devices
  ]
  return PhotoWorker(protectors, order)


class LocalEngine:
  """The devices of this process."""

  def __init__(self) -> None:
    self._worker: Worker | PhotoWorker | None = None

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

  def platform(self) -> str:
    """The kind of this process's devices: "cpu", "gpu" or "tpu"."""
    return jax.local_devices()[0].platform

  def run(self, order: Order, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects the photos; see `Worker.run` and `PhotoWorker.run`.

    Args:
      order: what is to be done with each.
      tasks: the photos.

    Yields:
      One outcome a photo.
    """
    self._worker = make_worker(order, len(tasks))
    yield from self._worker.run(tasks)
