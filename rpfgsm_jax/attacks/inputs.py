"""Checks that every attack makes of its arguments, before any work.

Static facts (shapes, names) are always checked; values only where they are known, that is outside
tracing. Inside `jax.jit` or `jax.vmap` the caller answers for them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.checks import as_int
from rpfgsm_jax.defenses.bank import DefenseBank
from rpfgsm_jax.models import answers
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Embedder, Network
from rpfgsm_jax.typing import Array, ArrayLike, Images, Integers, Labels

Config = TypeVar("Config")


def concrete_or_none(value: Any) -> np.ndarray | None:
  """Returns the value as a NumPy array, or None while it is traced."""
  return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def check_classifiers(
  classifiers: Sequence[Network],
  *,
  same_size: bool = True,
  mixed: bool = False,
) -> tuple[Network, ...]:
  """Returns the networks as a tuple, after checking that they go together.

  `mixed`: they may have different classes, or none, for attacks that ask each for its own goal.
  """
  if isinstance(classifiers, Classifier | Embedder):
    classifiers = (classifiers,)
  classifiers = tuple(classifiers)
  if not classifiers:
    raise ValueError("classifiers must be at least one Classifier (K >= 1), got none.")
  for classifier in classifiers:
    if isinstance(classifier, Embedder) and not mixed:
      raise ValueError(
        f"classifiers must have classes here, got the embedder {classifier.name}; the attacks of "
        "signed steps take it: rp_fgsm, u_fgsm, e_fgsm, di_fgsm and what signed_attack makes."
      )
    if not isinstance(classifier, Classifier | Embedder):
      raise ValueError(
        f"classifiers must be Classifier objects, got {type(classifier).__name__}; "
        "use load_classifier or Classifier.from_function."
      )
  first = classifiers[0]
  for other in classifiers[1:]:
    if same_size and other.image_size != first.image_size:
      raise ValueError(
        f"classifiers must share one image_size, got {first.image_size} in {first.name} and "
        f"{other.image_size} in {other.name}."
      )
  if not mixed:
    _check_same_classes(classifiers)
  return classifiers


def _check_same_classes(networks: Sequence[Network]) -> None:
  """Checks that those of the networks that have classes have one list of them."""
  classifiers = [network for network in networks if isinstance(network, Classifier)]
  for other in classifiers[1:]:
    first = classifiers[0]
    if other.class_names != first.class_names:
      raise ValueError(
        f"classifiers must share one list of classes, got {len(first.class_names)} in {first.name} "
        f"and {len(other.class_names)} in {other.name}, first difference: "
        f"{_first_difference(first.class_names, other.class_names)}."
      )


def is_image(target: Any) -> bool:
  """Says whether a target is an image, or several, instead of classes; also of traced ones."""
  depth = 0
  while isinstance(target, list | tuple) and target:
    target, depth = target[0], depth + 1
  return depth + getattr(target, "ndim", 0) > 2


def check_target_images(target: Any, shape: tuple[int, ...]) -> Images | np.ndarray:
  """Returns images whose class and features are approached, gray levels of shape `(B, H, W, C)`.

  They stay on the host unless traced.
  """
  given, values = np.shape(target), concrete_or_none(target)
  if given not in (shape, shape[1:]):
    raise ValueError(
      f"target must be a class, one for each image, or an image to approach, {shape[1:]} or "
      f"{shape}, got shape {given}; resize it first."
    )
  if values is None:
    return jnp.broadcast_to(jnp.asarray(target), shape).astype(jnp.float32)
  if values.dtype != np.uint8 and values.size:
    check_gray_levels(values)
  return np.broadcast_to(values.astype(np.float32), shape)


def config_or_default(config: Config | None, kind: type[Config]) -> Config:
  """Returns the settings, the default ones for None; refuses those of another attack."""
  return kind() if config is None else check_config("config", config, kind)


def check_config(name: str, config: Any, kind: type[Config]) -> Config:
  """Returns the settings, after checking that they are of one kind."""
  if not isinstance(config, kind):
    given = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
    raise ValueError(
      f"{name} must be a {kind.__name__} here, got {given}; {kind.__name__}() is the default."
    )
  return config


def check_networks(
  classifiers: Sequence[Network],
  images: Images,
  finite: Array,
  has_gradient: Array | None = None,
) -> None:
  """Refuses broken networks by name, unless traced or known; see `AttackResult` for the values."""
  if isinstance(finite, jax.core.Tracer) or not len(images) or answers.all_known(classifiers):
    return
  unknown = jnp.ones_like(finite) if has_gradient is None else has_gradient
  answers.check_answers(classifiers, images, finite, unknown)
  if has_gradient is not None:
    answers.remember(classifiers)


def check_single(name: str, classifiers: Sequence[Network]) -> None:
  """Checks that an attack on one network got one."""
  if len(classifiers) > 1:
    raise ValueError(
      f"classifiers must be one network for {name}, got {len(classifiers)} "
      f"({', '.join(each.name for each in classifiers)}); e_fgsm, di_fgsm and rp_fgsm take several."
    )


def check_goal(
  name: str,
  targeted: bool,
  target: Integers | None,
  label: Integers | None,
  batch: int,
  classifiers: Sequence[Network],
) -> Labels | np.ndarray | None:
  """Returns the chosen classes, to approach or to leave, as `(B,)` int32; None when none are."""
  if targeted and label is not None:
    raise ValueError(
      f"label is for the untargeted attacks; {name} approaches a class: give a target, or none."
    )
  if not targeted and target is not None:
    raise ValueError(
      f"target needs a targeted attack (targeted=True where the config has it); {name} leaves a "
      "class: give a label, or none."
    )
  chosen = target if targeted else label
  if chosen is None and not targeted:
    return None
  for network in classifiers:
    if targeted and isinstance(network, Embedder):
      raise ValueError(
        f"target must be an image to approach, the embedder {network.name} has no classes; give "
        "images of the same shape, or leave its features by an untargeted attack."
      )
  _check_same_classes(classifiers)
  if chosen is None:
    return None
  return check_labels("target" if targeted else "label", chosen, batch, count_classes(classifiers))


def count_classes(networks: Sequence[Network]) -> int:
  """Returns how many classes a class may be chosen from: those that all networks have."""
  counts = [len(each.class_names) for each in networks if isinstance(each, Classifier)]
  if not counts:
    raise ValueError("a label or a target class needs a network with classes; embedders have none.")
  return min(counts)


def check_enough_classes(classifiers: Sequence[Network]) -> None:
  """Checks that there are more classes than networks: one is surely no network's prediction."""
  num_classes = count_classes(classifiers)
  if num_classes <= len(classifiers):
    raise ValueError(
      f"a target can only be drawn from more classes than networks, got {num_classes} classes and "
      f"{len(classifiers)} networks: every class may be some network's prediction; give a target."
    )


def check_bank(name: str, bank: Any, remedy: str) -> None:
  """Checks the transformations of an attack."""
  if not isinstance(bank, DefenseBank) or not bank.families:
    raise ValueError(
      f"{name} must be a DefenseBank with at least one family, got {bank!r}; {remedy}."
    )


def with_counts(config: Any, **least: int) -> Any:
  """Returns the config with plain ints in fields that count something, each with its `least`.

  None is left to its own meaning.
  """
  counts = {name: getattr(config, name) for name in least if getattr(config, name) is not None}
  for name, value in counts.items():
    counts[name] = as_int(value)
    if counts[name] is None or counts[name] < least[name]:
      raise ValueError(f"{name} must be an integer >= {least[name]}, got {value!r}.")
  return dataclasses.replace(config, **counts)


def check_images(images: ArrayLike, classifiers: Sequence[Network]) -> Images:
  """Returns the images, `(B, H, W, C)` of the classifiers' size, as float32 gray levels."""
  shape, size = np.shape(images), classifiers[0].image_size
  if len(shape) != 4 or tuple(shape[1:3]) != size:
    raise ValueError(
      f"images must be (B, {size[0]}, {size[1]}, channels) for {classifiers[0].name}, got {shape}; "
      "one image needs a leading axis, another size must be resized first."
    )
  values = concrete_or_none(images)
  if values is not None and values.dtype != np.uint8 and values.size:
    check_gray_levels(values)
  return jnp.asarray(images).astype(jnp.float32)


def check_gray_levels(values: np.ndarray) -> None:
  """Checks that images hold whole gray levels in 0..255."""
  real = jnp.issubdtype(values.dtype, jnp.integer) or jnp.issubdtype(values.dtype, jnp.floating)
  if not real:
    raise ValueError(f"images must be real numbers, got dtype {values.dtype}.")
  if values.dtype.itemsize < 4:  # bfloat16 and its kin, of which NumPy knows little
    values = values.astype(np.float32)
  low, high = values.min(), values.max()
  if not np.isfinite(low) or not np.isfinite(high):
    raise ValueError("images must be finite gray levels 0..255, got NaN or infinity.")
  if low < 0 or high > 255:
    raise ValueError(f"images must be gray levels 0..255, got values in {low:g}..{high:g}.")
  if not np.array_equal(values, np.rint(values)):
    remedy = "they look like 0..1: multiply by 255 and round" if high <= 1 else "round them first"
    raise ValueError(f"images must be whole gray levels 0..255, got fractions; {remedy}.")


def check_image_ids(image_ids: Integers | None, batch: int) -> Array | np.ndarray:
  """Returns ids in 0..2^32-1 as `(B,)` uint32, on the host unless traced; 0..B-1 when None."""
  if image_ids is None:
    return np.arange(batch, dtype=np.uint32)
  ids = _as_array(image_ids)
  if ids.shape != (batch,) or not jnp.issubdtype(ids.dtype, jnp.integer):
    raise ValueError(
      f"image_ids must be ({batch},) integers, one an image, got {ids.dtype} {ids.shape}."
    )
  values = concrete_or_none(ids)
  if values is None:
    return ids.astype(jnp.uint32)
  if values.size and (values.min() < 0 or int(values.max()) > 0xFFFFFFFF):
    raise ValueError("image_ids must be in 0..2^32-1; take the first 32 bits of a longer hash.")
  return values.astype(np.uint32)


def check_labels(name: str, labels: Integers, batch: int, num_classes: int) -> Labels | np.ndarray:
  """Returns given classes, in 0..D-1, as `(B,)` int32; a single class serves all images.

  They stay on the host unless traced: nobody who checks waits for what a device is computing.
  """
  labels = _as_array(labels)
  if labels.shape not in ((), (batch,)) or not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(
      f"{name} must be one class or ({batch},) integers, got {labels.dtype} {labels.shape}."
    )
  values = concrete_or_none(labels)
  if values is None:
    return jnp.broadcast_to(labels.astype(jnp.int32), (batch,))
  if values.size and (values.min() < 0 or values.max() >= num_classes):
    raise ValueError(
      f"{name} must be classes in 0..{num_classes - 1}, got {values.min()}..{values.max()}."
    )
  return np.broadcast_to(values.astype(np.int32), (batch,))


def per_image(name: str, value: ArrayLike, batch: int) -> Array:
  """Returns a number, or one number an image, as `(B,)` float32."""
  shape = np.shape(value)
  if shape not in ((), (batch,)):
    raise ValueError(f"{name} must be one number or one an image, ({batch},), got shape {shape}.")
  return jnp.broadcast_to(jnp.asarray(value, jnp.float32), (batch,))


def per_pixel(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
  """Returns a number, one an image, or one a pixel, as float32 `(B,)` or `(B, H, W, 1 or C)`."""
  given = np.shape(value)
  if len(given) < 2:
    return per_image(name, value, shape[0])
  if given not in (shape, (*shape[:-1], 1)):
    raise ValueError(
      f"{name} must be one number, one an image, {shape[:1]}, or one a pixel, "
      f"{(*shape[:-1], 1)} or {shape}, got shape {given}."
    )
  return jnp.asarray(value, jnp.float32)


def _as_array(values: Any) -> Array | np.ndarray:
  """Returns what is given as integers, also in lists and tuples, as an array; traced if it is."""
  if hasattr(values, "dtype"):
    return values
  if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)):
    return jnp.asarray(values)
  found = np.asarray(values)
  return found if found.size else found.astype(np.int32)  # nothing has no dtype of its own


def _first_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
  for index, (a, b) in enumerate(zip(first, second, strict=False)):
    if a != b:
      return f"class {index} is {a!r} and {b!r}"
  return "the shorter list is the beginning of the longer"
