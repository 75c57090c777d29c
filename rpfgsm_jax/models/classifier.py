"""`Classifier`: gray levels in, logits out, as a frozen pytree.

Everything an attack needs to know of a network. Division by 255, normalization and batch-norm
folding happen inside, so that nothing outside ever sees another range than 0..255.
"""

import dataclasses
import functools
import numbers
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rpfgsm_jax.models.module_apply import prepared
from rpfgsm_jax.typing import ApplyFn, Array, Images, Logits

GRAY_LEVELS = ((0.0,), (1.0 / 255.0,))  # the mean and deviation that change nothing


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params"],
  meta_fields=[
    "apply",
    "name",
    "class_names",
    "image_size",
    "mean",
    "deviation",
    "dtype",
    "family",
  ],
)
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Classifier:
  """A network with its parameters and the meaning of its inputs and outputs.

  Call it like a function: `classifier(images) -> logits`, also `jax.jit(classifier)(images)`. It
  crosses `jax.jit` as a pytree whose leaves are the parameters; everything else is static. It is
  equal to itself alone (parameters are not compared), and so may be a key of a dictionary.
  `dataclasses.replace(classifier, params=…)` is the same network with other parameters.

  Example:
    >>> classifier = rp.load_classifier("scenes25/resnet18")
    >>> logits = classifier(images)              # (B, 128, 128, 3), gray levels 0..255
    >>> scenes = [classifier.class_names[i] for i in logits.argmax(-1)]

  Attributes:
    params: any pytree of arrays, handed to `apply`.
    apply: hashable; `apply(params, images) -> logits` for a batch, see `from_function`.
    name: how reports call it.
    class_names: D names, in the order of the logits.
    image_size: (height, width), pixels.
    mean: of images / 255, a channel; subtracted first.
    deviation: of images / 255, a channel; divided by.
    dtype: in which `apply` computes; images and logits are float32 in any case.
    family: "resnet", "vit", …, as of `models.architectures`; "" where nobody said.
  """

  params: Any
  apply: ApplyFn
  name: str
  class_names: tuple[str, ...]
  image_size: tuple[int, int]
  mean: tuple[float, ...] = (0.0,)
  deviation: tuple[float, ...] = (1.0 / 255.0,)
  dtype: str = "float32"
  family: str = ""

  def __call__(self, images: Images) -> Logits:
    """Returns the logits.

    Args:
      images: `(..., H, W, C)`, gray levels 0..255, any real dtype; any leading axes.

    Returns:
      `(..., D)` float32.

    Raises:
      ValueError: (H, W) is not `image_size`, or there is no channel axis.
    """
    batch, leading = show(self, images)
    logits = self.apply(self.params, batch).astype(jnp.float32)
    return logits.reshape(*leading, logits.shape[-1])

  def astype(self, dtype: str) -> "Classifier":
    """Returns the classifier with parameters and computations in another floating dtype.

    Half of the memory traffic, and an accelerator's fast products, for a less exact gradient:
    rounding operands to bfloat16 turns some of its signs.

    Args:
      dtype: "bfloat16", "float16" or "float32".

    Returns:
      The classifier; images in and logits out stay float32.

    Raises:
      ValueError: another dtype.
    """
    return cast_floats(self, dtype)

  def __repr__(self) -> str:
    height, width = self.image_size
    return f"Classifier({self.name!r}, {len(self.class_names)} classes, {height}x{width})"

  @classmethod
  def from_function(
    cls,
    apply: ApplyFn,
    params: Any,
    *,
    class_names: Sequence[str] | int,
    image_size: tuple[int, int] | int,
    name: str = "custom",
    mean: Sequence[float] | float = (0.0,),
    deviation: Sequence[float] | float = (1.0 / 255.0,),
    family: str = "",
  ) -> "Classifier":
    """Wraps anybody's JAX network.

    Args:
      apply: `apply(params, images) -> logits`, `(B, H, W, C)` to `(B, D)`, pure and differentiable
        in `images`. It sees `(images / 255 - mean) / deviation`; with the defaults of `mean` and
        `deviation` that is the gray levels 0..255 themselves. Define it once: `jax.jit` compiles
        anew for every new function object.
      params: any pytree of arrays.
      class_names: D names, in the order of the logits; or D itself, for the names "0", "1", ….
      image_size: (height, width) that the network takes, pixels; one number for a square.
      name: how reports call it.
      mean: of images / 255, so in 0..1; one value or one a channel.
      deviation: likewise, positive.
      family: see `Classifier`; tells judges of photos what kind of network this is.

    Returns:
      The classifier.

    Raises:
      ValueError: an argument breaks its rule, or `apply` does not return one array with a logit of
        floating dtype for each class name.
    """
    class_names = _different_names(class_names)
    image_size, mean, deviation = checked_view(image_size, mean, deviation)
    classifier = cls(
      params=params,
      apply=apply,
      name=name,
      class_names=class_names,
      image_size=image_size,
      mean=mean,
      deviation=deviation,
      family=family,
    )
    _check_apply(apply, params, image_size, len(class_names))
    return classifier

  @classmethod
  def from_module(
    cls,
    module: nnx.Module,
    *,
    class_names: Sequence[str] | int,
    image_size: tuple[int, int] | int,
    name: str = "custom",
    mean: Sequence[float] | float = (0.0,),
    deviation: Sequence[float] | float = (1.0 / 255.0,),
    family: str = "",
  ) -> "Classifier":
    """Wraps one of our networks, or any `flax.nnx` module, for inference.

    Batch-norms are folded where the module's blocks declare `folds`, our convolutions prepared for
    fast input gradients; other modules are put into evaluation mode as they are.

    Args:
      module: called as `module(images)`; left unchanged.
      class_names: see `from_function`.
      image_size: see `from_function`.
      name: see `from_function`.
      mean: see `from_function`.
      deviation: see `from_function`.
      family: see `from_function`.

    Returns:
      The classifier, its parameters a flat dictionary of dotted names.

    Raises:
      ValueError: an argument breaks its rule, see `from_function`.
    """
    return cls.from_function(
      *prepared(module),
      class_names=class_names,
      image_size=image_size,
      name=name,
      mean=mean,
      deviation=deviation,
      family=family,
    )


def _different_names(class_names: Sequence[str] | int) -> tuple[str, ...]:
  if isinstance(class_names, str):
    raise ValueError(f"class_names must be several names or their number, got {class_names!r}.")
  if isinstance(class_names, int | numbers.Integral):
    class_names = [str(number) for number in range(int(class_names))]
  names = tuple(str(each) for each in class_names)
  if len(names) < 2 or len(set(names)) != len(names):
    raise ValueError(
      f"class_names must be at least two different names, got {len(names)} names, "
      f"{len(set(names))} of them different."
    )
  return names


def checked_view(
  image_size: tuple[int, int] | int,
  mean: Sequence[float] | float,
  deviation: Sequence[float] | float,
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
  """Returns how a network is to be shown images, checked: its size, mean and deviation."""
  sides = _two_sides(image_size)
  mean, deviation = _per_channel("mean", mean), _per_channel("deviation", deviation)
  if not all(0 <= value <= 1 for value in mean):
    raise ValueError(
      f"mean must be of images / 255, in 0..1, got {mean}; divide by 255 what is of gray levels, "
      "deviation likewise."
    )
  if min(deviation) <= 0:
    raise ValueError(f"deviation must be positive, got {deviation}.")
  return sides, mean, deviation


def _two_sides(image_size: tuple[int, int] | int) -> tuple[int, int]:
  given: Any = image_size
  sides = (given, given) if np.ndim(given) == 0 else tuple(given)
  try:
    height, width = (operator.index(side) for side in sides)
  except (TypeError, ValueError):
    height = width = 0
  if min(height, width) < 1:
    raise ValueError(
      f"image_size must be (height, width), whole pixels >= 1, got {image_size!r}; one number is a "
      "square."
    )
  return height, width


def _per_channel(name: str, value: Sequence[float] | float) -> tuple[float, ...]:
  try:
    values = np.atleast_1d(np.asarray(value, np.float64))
  except (TypeError, ValueError):
    values = np.empty(0)
  if values.shape not in ((1,), (3,)) or not np.isfinite(values).all():
    raise ValueError(f"{name} must be one finite number or one a channel, three, got {value!r}.")
  return tuple(values.tolist())


def _check_apply(apply: ApplyFn, params: Any, size: tuple[int, int], num_classes: int) -> None:
  """Checks what a network returns of two images, without computing it."""
  if not callable(apply):
    raise ValueError(
      f"apply must be a function (params, images) -> logits, got a {type(apply).__name__}; of a "
      "Linen module take lambda variables, images: module.apply(variables, images)."
    )

  def checked(params: Any, images: Images) -> Logits:
    logits = apply(params, images)
    _check_logits(logits, (len(images), num_classes))
    return logits

  jax.eval_shape(checked, params, jax.ShapeDtypeStruct((2, *size, 3), jnp.float32))


def _check_logits(logits: Any, wanted: tuple[int, int]) -> None:
  if not isinstance(logits, jax.Array | np.ndarray):
    parts = {
      jax.tree_util.keystr(path): np.shape(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(logits)
    }
    fitting = [path for path, shape in parts.items() if shape == wanted]
    shown = ", ".join(f"{path} {shape}" for path, shape in list(parts.items())[:9])
    remedy = f"return its part {fitting[0]}" if len(fitting) == 1 else "return the logits alone"
    raise ValueError(
      f"apply must return one array, the logits (B, {wanted[1]}), got a {type(logits).__name__}: "
      f"{shown or 'no array'} for B = 2; {remedy}, by a function or module around the network."
    )
  if logits.shape != wanted:
    raise ValueError(
      f"apply must return one logit for each of the {wanted[1]} class names, shape "
      f"(B, {wanted[1]}), got {logits.shape} for B = 2."
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(
      f"apply must return logits of a floating dtype, got {logits.dtype}; an attack follows their "
      "gradient, and classes or counts have none."
    )


def show(network: Any, images: Images) -> tuple[Array, tuple[int, ...]]:
  """Returns images as a network's `apply` sees them, in one batch, and their leading axes."""
  if images.ndim < 3 or tuple(images.shape[-3:-1]) != network.image_size:
    raise ValueError(
      f"images must be (..., {network.image_size[0]}, {network.image_size[1]}, channels) for "
      f"{network.name}, got {tuple(images.shape)}; resize them first (rpfgsm_jax.data.preprocess)."
    )
  leading = images.shape[:-3]
  batch = jnp.asarray(images).astype(jnp.float32).reshape(-1, *images.shape[-3:])
  if (network.mean, network.deviation) != GRAY_LEVELS:  # whole numbers stay whole
    mean, deviation = (
      jnp.asarray(value, jnp.float32).reshape(1, 1, 1, -1)
      for value in (network.mean, network.deviation)
    )
    batch = (batch / 255.0 - mean) / deviation
  return batch.astype(network.dtype), leading


def cast_floats(network: Any, dtype: str) -> Any:
  """Returns a network with its floating parameters, and its computations, in another dtype."""
  if dtype not in ("bfloat16", "float16", "float32"):
    raise ValueError(f"dtype must be 'bfloat16', 'float16' or 'float32', got {dtype!r}.")

  def cast(leaf: Array) -> Array:
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

  return dataclasses.replace(network, params=jax.tree.map(cast, network.params), dtype=dtype)
