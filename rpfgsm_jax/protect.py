"""The batch engine: uint8 photographs in, uint8 photographs out, one compilation a run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import rp_fgsm
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import ArrayLike

Attack = Callable[..., AttackResult]
Progress = Callable[[int, int], None]
"""`progress(done, total)`, images."""


def protect(
  images: np.ndarray,
  classifiers: Sequence[Classifier],
  config: Any = None,
  *,
  attack: Attack = rp_fgsm,
  seed: int = 0,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
  batch_size: int = 8,
  progress: Progress | None = None,
) -> np.ndarray:
  """Returns the protected photographs.

  Any number of images through batches of one shape, compiled once; an image's result does not
  depend on `batch_size`, on its place or on its mates.

  Example:
    >>> adversarial = rp.protect(photos, nets, rp.RPFGSMConfig(epsilon=8.0), seed=1)
    >>> int(abs(adversarial.astype(int) - photos).max())
    8

  Args:
    images: `(n, H, W, 3)` uint8, or any real dtype that holds whole grey levels 0..255.
    classifiers: the networks to mislead, all of one image size (H, W).
    config: the attack's settings; None: `RPFGSMConfig()`.
    attack: any attack of this package, or another of the form
      `attack(key, images, classifiers, config, image_ids=…) -> AttackResult`.
    seed: of the root key. A fixed public seed makes targets guessable.
    image_ids: `(n,)` stable integers in 0..2^32-1; default 0..n-1.
    target: chosen classes, one or `(n,)`; for targeted attacks.
    label: classes to leave, one or `(n,)`; for untargeted attacks.
    batch_size: most images held on the device at once.
    progress: called as `progress(done, n)` after each batch.

  Returns:
    `(n, H, W, 3)` uint8.

  Raises:
    ValueError: an argument breaks its rule; nothing has been computed then.
  """
  images = _as_uint8(images)
  protected = np.empty_like(images)
  for batch, result in protect_batches(
    images,
    classifiers,
    config,
    attack=attack,
    seed=seed,
    image_ids=image_ids,
    target=target,
    label=label,
    batch_size=batch_size,
    progress=progress,
  ):
    protected[batch] = to_uint8(result.adversarial)
  return protected


def protect_batches(
  images: np.ndarray,
  classifiers: Sequence[Classifier],
  config: Any = None,
  *,
  attack: Attack = rp_fgsm,
  seed: int = 0,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
  batch_size: int = 8,
  progress: Progress | None = None,
) -> Iterator[tuple[slice, AttackResult]]:
  """Yields each batch's place in `images` and its whole result, as soon as it is ready.

  For callers who need targets, draws, or results while the run goes on. See `protect` for the
  arguments.

  Yields:
    The slice of `images`, and the attack's result with NumPy leaves for just those images.
  """
  images = _as_uint8(images)
  classifiers = inputs.check_classifiers(classifiers)
  if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
    raise ValueError(f"batch_size must be an integer >= 1, got {batch_size!r}.")
  count, num_classes = len(images), len(classifiers[0].class_names)
  inputs.check_images(images[:1], classifiers)
  options = {"image_ids": np.asarray(inputs.check_image_ids(image_ids, count))}
  for name, classes in (("target", target), ("label", label)):
    if classes is not None:
      options[name] = np.asarray(inputs.check_labels(name, classes, count, num_classes))
  return _batches(images, classifiers, config, attack, seed, options, batch_size, progress)


def to_uint8(adversarial: ArrayLike) -> np.ndarray:
  """Returns an attack's float images as uint8, shape kept.

  Whole grey levels stay; what `quantize=False` left between or beyond them is rounded and clipped.
  """
  return np.clip(np.rint(np.asarray(adversarial)), 0, 255).astype(np.uint8)


def _batches(
  images: np.ndarray,
  classifiers: tuple[Classifier, ...],
  config: Any,
  attack: Attack,
  seed: int,
  options: dict[str, np.ndarray],
  batch_size: int,
  progress: Progress | None,
) -> Iterator[tuple[slice, AttackResult]]:
  count = len(images)
  num_batches = -(-count // batch_size)
  # Even batches: of 9 images with batch_size 8, two batches of 5 instead of 8 and 1 padded to 8.
  size = -(-count // max(num_batches, 1))
  for start in range(0, count, max(size, 1)):
    stop = min(start + size, count)
    rows = np.minimum(np.arange(start, start + size), count - 1)  # the last one fills up
    picked = {name: values[rows] for name, values in options.items()}
    result = attack(jax.random.key(seed), images[rows], classifiers, config, **picked)
    result = jax.tree.map(lambda leaf, kept=stop - start: np.asarray(leaf)[:kept], result)
    if progress is not None:
      progress(stop, count)
    yield slice(start, stop), result


def _as_uint8(images: np.ndarray) -> np.ndarray:
  images = np.asarray(images)
  if images.ndim != 4:
    raise ValueError(
      f"images must be (n, H, W, 3) grey levels, got shape {images.shape}; "
      "one image needs a leading axis."
    )
  if images.dtype != np.uint8:
    if images.size:
      inputs.check_grey_levels(images)
    images = images.astype(np.uint8)
  return images
