"""The batch engine: uint8 photographs in, uint8 photographs out, one compilation a run."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from rpfgsm_jax import devices as placement
from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import rp_fgsm
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.devices import Devices
from rpfgsm_jax.engine.protector import (
  Attack,
  OutOfMemoryError,
  Pending,
  Protector,
  as_uint8,
  check_batch_size,
  check_options,
)
from rpfgsm_jax.models.embedder import Network
from rpfgsm_jax.typing import ArrayLike, ImagesLike, Integers

BatchSize = int | Literal["auto"]
Progress = Callable[[int, int], None]
"""`progress(done, total)`, images."""

# Where "auto" begins, images a device: halving finds what fits, and costs a compilation each time.
_GENEROUS_ON_CPU, _GENEROUS = 32, 768


def protect(
  images: ImagesLike,
  classifiers: Sequence[Network],
  config: Any = None,
  *,
  attack: Attack = rp_fgsm,
  seed: int = 0,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
  batch_size: BatchSize = 8,
  devices: Devices = None,
  progress: Progress | None = None,
) -> np.ndarray:
  """Returns the protected photographs.

  Any number of images through batches of one shape, compiled once; an image's result does not
  depend on `batch_size`, the number of devices, its place or its mates.

  Example:
    >>> adversarial = rp.protect(photos, nets, rp.RPFGSMConfig(epsilon=8.0), seed=1)
    >>> int(abs(adversarial.astype(int) - photos).max())
    8

  Args:
    images: `(n, H, W, 3)` uint8, or any real dtype that holds whole gray levels 0..255.
    classifiers: the networks to mislead, all of one image size (H, W).
    config: the attack's settings, each number one for all images; None: `RPFGSMConfig()`.
    attack: any attack of this package, or another of the form
      `attack(key, images, classifiers, config, image_ids=…) -> AttackResult`; on several devices
      `jax.jit` traces it.
    seed: of the root key. A fixed public seed makes targets guessable.
    image_ids: `(n,)` stable integers in 0..2^32-1; default 0..n-1.
    target: for targeted attacks: chosen classes, one or `(n,)`, or images to be taken for, one or
      `(n, H, W, 3)`.
    label: classes to leave, one or `(n,)`; for untargeted attacks.
    batch_size: most images on each device at once; "auto": many, halved until they fit, at the end
      `config.micro_batch` too, which may change last bits.
    devices: that share the images; a number: the first so many; None: all of this process.
    progress: called as `progress(done, n)` after each batch.

  Returns:
    `(n, H, W, 3)` uint8.

  Raises:
    ValueError: an argument breaks its rule; nothing has been computed then.
    OutOfMemoryError: a batch, or with "auto" even one image, does not fit into a device's memory.
  """
  images = as_uint8(images)
  each: dict[str, Any] = {"image_ids": image_ids, "target": target, "label": label}
  how: dict[str, Any] = {
    "attack": attack,
    "seed": seed,
    "batch_size": batch_size,
    "devices": devices,
  }
  protected = np.empty_like(images)
  for batch, result in protect_batches(
    images, classifiers, config, progress=progress, **each, **how
  ):
    protected[batch] = to_uint8(result.adversarial)
  return protected


def protect_batches(
  images: ImagesLike,
  classifiers: Sequence[Network],
  config: Any = None,
  *,
  attack: Attack = rp_fgsm,
  seed: int = 0,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
  batch_size: BatchSize = 8,
  devices: Devices = None,
  progress: Progress | None = None,
) -> Iterator[tuple[slice, AttackResult]]:
  """Yields each batch's place in `images` and its whole result, as soon as it is ready.

  For callers who need targets, draws, or results while the run goes on: the next batch is computed
  while the caller has the one before. See `protect` for the arguments.

  Yields:
    The slice of `images`, and the attack's result with NumPy leaves for just those images.
  """
  images = as_uint8(images)
  classifiers = inputs.check_classifiers(classifiers, mixed=True)
  inputs.check_images(images[:1], classifiers)
  ids = np.arange(len(images)) if image_ids is None else image_ids
  options = check_options(classifiers, ids, images.shape, target, label)
  size, chosen = even_batches(len(images), batch_size, devices)
  protector = Protector(
    classifiers, config, attack=attack, seed=seed, batch_size=size, devices=chosen
  )
  return _batches(protector, images, options, batch_size == "auto", progress)


def even_batches(
  count: int, batch_size: BatchSize = 8, devices: Devices = None
) -> tuple[int, tuple[jax.Device, ...]]:
  """Returns a `Protector`'s batch_size and devices for so many images in even batches.

  Of 9 images with batch_size 8 on one device, two batches of 5 instead of 8 and 1 padded to 8. No
  device is kept for padding alone.
  """
  chosen = placement.choose_devices(devices)
  if batch_size == "auto":
    batch_size = _GENEROUS_ON_CPU if chosen[0].platform == "cpu" else _GENEROUS
  capacity = check_batch_size(batch_size) * len(chosen)
  num_batches = max(-(-count // capacity), 1)
  return placement.share(-(-count // num_batches), chosen)


def to_uint8(adversarial: ArrayLike) -> np.ndarray:
  """Returns an attack's float images as uint8, shape kept.

  Whole gray levels stay; what `quantize=False` left between or beyond them is rounded and clipped.
  """
  return np.clip(np.rint(np.asarray(adversarial)), 0, 255).astype(np.uint8)


def _batches(
  protector: Protector,
  images: np.ndarray,
  options: dict[str, np.ndarray],
  auto: bool,
  progress: Progress | None,
) -> Iterator[tuple[slice, AttackResult]]:
  count, begun = len(images), 0
  running: collections.deque[tuple[slice, Pending]] = collections.deque()
  while begun < count or running:
    try:
      # The next batch is under way before this one is waited for: the devices do not idle.
      while begun < count and len(running) < 2:
        part = slice(begun, min(begun + protector.capacity, count))
        picked = {name: values[part] for name, values in options.items()}
        running.append((part, protector.start(images[part], **picked)))
        begun = part.stop
      part, pending = running[0]
      result = pending.result()
    except OutOfMemoryError:
      if not auto or protector.at_its_smallest:
        raise
      protector = protector.halved()
      # The same bits in any batch: what was under way is simply done again in parts.
      begun = running[0][0].start if running else begun
      running.clear()
      continue
    running.popleft()
    if progress is not None:
      progress(part.stop, count)
    yield part, result
