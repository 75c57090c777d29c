"""`Protector`: an attack compiled for batches of one shape, on one device or on several."""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rpfgsm_jax import devices as placement
from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig, rp_fgsm
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.devices import Devices
from rpfgsm_jax.models.answers import check_answers
from rpfgsm_jax.models.embedder import Network
from rpfgsm_jax.randomness import seed_key
from rpfgsm_jax.typing import Array, Images, Integers, Key

Attack = Callable[..., AttackResult]
MAX_SEED = 2**64 - 1


class OutOfMemoryError(MemoryError):
  """A batch does not fit into a device's memory; the message says what to try."""


class Protector:
  """An attack with its networks, config and seed, compiled for batches of one shape.

  An image's result depends on the seed, its id, the image, the networks and the config; it is the
  same bits at any `batch_size` and on any number of devices of one kind. Devices compute while the
  host does other things: start the next batch before you ask for the result of the one before.

  Example:
    >>> protector = rp.Protector(nets, rp.RPFGSMConfig(epsilon=8.0), seed=1, batch_size=8)
    >>> result = protector(photos[:8], image_ids=range(8))
    >>> float(abs(result.adversarial - photos[:8]).max())
    8.0

  Attributes:
    devices: that share the images of a batch.
    batch_size: images on each of them.
  """

  def __init__(
    self,
    classifiers: Sequence[Network],
    config: Any = None,
    *,
    attack: Attack = rp_fgsm,
    seed: int = 0,
    batch_size: int = 8,
    devices: Devices = None,
  ) -> None:
    """Places the networks on the devices; nothing is compiled before the first batch.

    See `protect` for the arguments; `batch_size` is a number here. The attack checks its config
    when the first batch starts. On several devices the config is static: an equal one compiles
    nothing anew.
    """
    self.batch_size = check_batch_size(batch_size)
    self.devices = placement.choose_devices(devices)
    if config is None and attack is rp_fgsm:
      config = RPFGSMConfig()
    self._attack, self._seed, self._config = attack, seed, _check_config(config)
    self._classifiers = placement.on_each(
      inputs.check_classifiers(classifiers, mixed=True), self.devices
    )

  @property
  def capacity(self) -> int:
    """The most images of one call."""
    return self.batch_size * len(self.devices)

  @property
  def at_its_smallest(self) -> bool:
    """Whether one image is computed at a time, so that `halved` would raise."""
    return max(self.batch_size, getattr(self._config, "micro_batch", 1)) == 1

  def start(
    self,
    images: np.ndarray,
    image_ids: Integers,
    *,
    target: Integers | None = None,
    label: Integers | None = None,
  ) -> "Pending":
    """Starts a batch of 1..capacity images and returns at once (after compiling, the first time).

    See `protect` for the arguments.

    Returns:
      What will be the result.

    Raises:
      ValueError: an argument, or one of the constructor's, breaks its rule.
      OutOfMemoryError: the batch does not fit; see `halved`.
    """
    images = as_uint8(images)
    count = len(images)
    if not 1 <= count <= self.capacity:
      raise ValueError(
        f"images must be 1..{self.capacity}, {self.batch_size} on each of {len(self.devices)} "
        f"device(s), got {count}; protect() takes any number."
      )
    options = check_options(self._classifiers, image_ids, images.shape, target, label)
    rows = np.minimum(np.arange(self.capacity), count - 1)  # the last one fills up
    padded = {name: values[rows] for name, values in options.items()}
    with watching_memory(self._too_large):
      return Pending(self, self._dispatch(images[rows], padded), images)

  def __call__(
    self,
    images: np.ndarray,
    image_ids: Integers,
    *,
    target: Integers | None = None,
    label: Integers | None = None,
  ) -> AttackResult:
    """Returns the result of one batch.

    See `start` for the arguments.

    Returns:
      The attack's result with NumPy leaves for these images.
    """
    return self.start(images, image_ids, target=target, label=label).result()

  def halved(self) -> "Protector":
    """Returns the same for half the images on each device, for when a batch did not fit.

    Results keep their bits until a whole batch is one micro-batch; then `config.micro_batch` is
    halved too, which may change last bits.

    Raises:
      ValueError: one image is computed at a time already.
    """
    micro_batch = getattr(self._config, "micro_batch", 1)
    if self.at_its_smallest:
      raise ValueError("one image is computed at a time: there is no half of it.")
    smaller = copy.copy(self)  # the networks stay where they lie
    if micro_batch >= self.batch_size:  # so many rows are computed, however few are asked for
      smaller._config = dataclasses.replace(self._config, micro_batch=max(micro_batch // 2, 1))
    smaller.batch_size = max(self.batch_size // 2, 1)
    return smaller

  def _dispatch(self, images: np.ndarray, options: dict[str, np.ndarray]) -> AttackResult:
    key = root_key(self._seed)
    if len(self.devices) > 1:
      mesh = placement.mesh_of(self.devices)
      images, options = placement.split((images, options), self.devices)
      return _on_shards(self._attack, mesh, self._config, key, self._classifiers, images, options)
    (device,) = self.devices
    # Named only where it changes something: programs are compiled for the name as well.
    usual = device == placement.default_device()
    with contextlib.nullcontext() if usual else jax.default_device(device):
      return self._attack(key, images, self._classifiers, self._config, **options)

  def _too_large(self) -> str:
    size, first = self.batch_size, self.devices[0]
    where = f"{first} ({first.device_kind})"
    if len(self.devices) > 1:
      where = f"each of {len(self.devices)} devices like {where}"
    remedy = (
      f'try batch_size={size // 2}, or batch_size="auto" to halve it until it fits'
      if size > 1
      else "take a smaller micro_batch in config, fewer or smaller networks, or another device"
    )
    return f"batch_size={size} does not fit into the memory of {where}; {remedy}."


@contextlib.contextmanager
def watching_memory(message: Callable[[], str]) -> Iterator[None]:
  """Turns the runtime's own error into an `OutOfMemoryError` that says what to try."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    # The second is how a CPU says it of a program that waited for one that ran out.
    if not any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory")):
      raise
    raise OutOfMemoryError(message()) from error


def root_key(seed: int) -> Key:
  """Returns the key of a seed in 0..2^64-1, see `seed_key`."""
  number = as_int(seed)
  if number is None or not 0 <= number <= MAX_SEED:
    raise ValueError(f"seed must be an integer in 0..2^64-1, got {seed!r}.")
  return seed_key(number)


class Pending:
  """A batch that a `Protector` has started."""

  def __init__(self, protector: Protector, result: AttackResult, images: np.ndarray) -> None:
    self._protector, self._result, self._images = protector, result, images

  def result(self) -> AttackResult:
    """Waits, and returns the attack's result with NumPy leaves for the images that were given.

    Raises:
      ValueError: a network is broken, or has no finite answer to one of the images.
      OutOfMemoryError: the batch does not fit.
    """
    count = len(self._images)
    with watching_memory(self._protector._too_large):
      result = jax.tree.map(lambda leaf: leaf[:count], jax.device_get(self._result))
      if result.finite is not None:
        facts = self._images, result.finite, result.has_gradient
        check_answers(self._protector._classifiers, *facts)
    return result


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _on_shards(
  attack: Attack,
  mesh: Mesh,
  config: Any,
  key: Key,
  classifiers: tuple[Network, ...],
  images: Images,
  options: dict[str, Array],
) -> AttackResult:
  """Runs the attack on each device's own images; nothing passes between devices.

  The config is static: attacks check its numbers and derive shapes from them while they trace.
  """

  def run(key: Key, classifiers: Any, images: Images, options: dict[str, Array]) -> AttackResult:
    return attack(key, images, classifiers, config, **options)

  everywhere, own = PartitionSpec(), PartitionSpec(placement.IMAGES)
  # Unchecked: the check proves what is equal on all devices, and here no result is. It would refuse
  # loops that begin with a plain zero and end with something of their images.
  sharded = jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(everywhere, everywhere, own, own),
    out_specs=own,
    check_vma=False,
  )
  return sharded(key, classifiers, images, options)


def as_uint8(images: Any) -> np.ndarray:
  """Returns `(n, H, W, C)` images as uint8; refuses anything but whole gray levels."""
  images = np.asarray(images)
  if images.ndim != 4:
    raise ValueError(
      f"images must be (n, H, W, 3) gray levels, got shape {images.shape}; "
      "one image needs a leading axis."
    )
  if images.dtype != np.uint8:
    if images.size:
      inputs.check_gray_levels(images)
    images = images.astype(np.uint8)
  return images


def check_options(
  classifiers: tuple[Network, ...],
  image_ids: Integers,
  shape: tuple[int, ...],
  target: Integers | None,
  label: Integers | None,
) -> dict[str, np.ndarray]:
  """Returns what an attack is given for each of the images of a shape, checked on the host."""
  options: dict[str, Any] = {"image_ids": inputs.check_image_ids(np.asarray(image_ids), shape[0])}
  if inputs.is_image(target):
    options["target"] = inputs.check_target_images(target, shape)
    target = None
  for name, classes in (("target", target), ("label", label)):
    if classes is not None:
      num_classes = inputs.count_classes(classifiers)
      options[name] = inputs.check_labels(name, classes, shape[0], num_classes)
  return options


def check_batch_size(batch_size: int) -> int:
  """Returns the batch size; refuses anything but an integer >= 1."""
  size = as_int(batch_size)
  if size is None or size < 1:
    raise ValueError(
      f'batch_size must be an integer >= 1, got {batch_size!r}; protect() also takes "auto".'
    )
  return size


def _check_config(config: Any) -> Any:
  """Returns the config with plain numbers for arrays of shape (), so that it can be static."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(config):
    if np.ndim(leaf):
      raise ValueError(
        f"config{jax.tree_util.keystr(path)} must be one number for all images, got shape "
        f"{np.shape(leaf)}; call the attack itself for one an image."
      )
  return jax.tree.map(
    lambda leaf: np.asarray(leaf)[()] if isinstance(leaf, np.ndarray | jax.Array) else leaf, config
  )
