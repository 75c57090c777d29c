"""Which devices share the images of a job, and how data lies on them."""

import threading
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rpfgsm_jax.checks import as_int

Devices = Sequence[jax.Device] | int | None
"""Devices of this process; a number: the first so many; None: all of `jax.local_devices()`."""

IMAGES = "images"
"""The one axis over which work is split."""


def choose_devices(devices: Devices = None) -> tuple[jax.Device, ...]:
  """Returns the devices that are meant, each once; see `Devices`."""
  local = tuple(jax.local_devices())
  if devices is None:
    return local
  number = as_int(devices)
  if number is not None:
    if not 1 <= number <= len(local):
      more = "; before JAX starts, jax_num_cpu_devices divides a CPU into more"
      raise ValueError(
        f"devices must be in 1..{len(local)}, the {local[0].platform} devices of this process, got "
        f"{devices}; leave it out to use all{more if local[0].platform == 'cpu' else ''}."
      )
    return local[:number]
  if not isinstance(devices, Sequence) or not all(isinstance(d, jax.Device) for d in devices):
    raise ValueError(
      f"devices must be a number, a sequence of jax devices or None, got {devices!r}; "
      "jax.local_devices() lists them."
    )
  chosen = tuple(devices)
  if not chosen or len(set(chosen)) < len(chosen):
    raise ValueError(f"devices must be at least one, each once, got {list(chosen)}.")
  if len({device.platform for device in chosen}) > 1:
    raise ValueError(f"devices must be of one platform, got {list(chosen)}.")
  foreign = [each for each in chosen if each.process_index != jax.process_index()]
  if foreign:
    raise ValueError(
      f"devices must be this process's own, got {foreign}; every process protects its own images: "
      "choose from jax.local_devices()."
    )
  return chosen


def share(count: int, devices: tuple[jax.Device, ...]) -> tuple[int, tuple[jax.Device, ...]]:
  """Returns how many images each device gets of so many (>= 1), and the devices that get any."""
  each = max(-(-count // len(devices)), 1)
  return each, devices[: max(-(-count // each), 1)]


def mesh_of(devices: tuple[jax.Device, ...]) -> Mesh:
  """Returns the devices as a mesh of the one axis `images`."""
  return Mesh(np.asarray(devices), (IMAGES,))


def split(tree: Any, devices: tuple[jax.Device, ...]) -> Any:
  """Returns arrays with their first axis split evenly over the devices; one is left to JAX."""
  if len(devices) == 1:
    return jax.tree.map(jnp.asarray, tree)
  return jax.device_put(tree, NamedSharding(mesh_of(devices), PartitionSpec(IMAGES)))


def on_each(tree: Any, devices: tuple[jax.Device, ...]) -> Any:
  """Returns arrays that lie on every one of the devices.

  On one device, what is there already stays as it is: what nobody pinned to a device stays unpinned
  too, and programs compiled for it serve on.
  """
  if len(devices) > 1:
    return jax.device_put(tree, NamedSharding(mesh_of(devices), PartitionSpec()))
  wanted, default = set(devices), {default_device()}

  def place(leaf: Any) -> Any:
    here = leaf.devices() if isinstance(leaf, jax.Array) else default
    return leaf if here == wanted else jax.device_put(leaf, devices[0])

  return jax.tree.map(place, tree)


def default_device() -> jax.Device:
  """Returns where JAX puts what nobody places."""
  return next(iter(jax.device_put(np.zeros((), np.float32)).devices()))


class DeviceClock:
  """How long the devices had nothing to do between the first start and the last result."""

  def __init__(self, devices: int = 1) -> None:
    self.busy = 0.0  # seconds in which a device had at least one started batch that was not ready
    self._first: float | None = None
    self._until = [0.0] * devices
    self._lock = threading.Lock()

  def add(self, started: float, ready: float, device: int = 0) -> None:
    """Counts one batch; those of one device in the order in which they were started."""
    with self._lock:
      self._first = started if self._first is None else min(started, self._first)
      self.busy += max(ready - max(started, self._until[device]), 0.0)
      self._until[device] = max(ready, self._until[device])

  @property
  def idle_share(self) -> float | None:
    """The idle part of the time between, 0..1; None before the first result."""
    if self._first is None or max(self._until) == self._first:
      return None
    return 1.0 - self.busy / (len(self._until) * (max(self._until) - self._first))
