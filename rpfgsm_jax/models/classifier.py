"""`Classifier`: gray levels in, logits out, as a frozen pytree.

Everything an attack needs to know of a network. Division by 255, normalization and batch-norm
folding happen inside, so that nothing outside ever sees another range than 0..255.
"""

import dataclasses
import functools
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rpfgsm_jax.models.convolution import prepare_convolutions
from rpfgsm_jax.models.layers import fold_batch_norm
from rpfgsm_jax.typing import ApplyFn, Array, Images, Logits

_GRAY_LEVELS = ((0.0,), (1.0 / 255.0,))  # the mean and deviation that change nothing


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params"],
  meta_fields=["apply", "name", "class_names", "image_size", "mean", "deviation", "dtype"],
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
    class_names: D names, in the order of the logits; none where these are features.
    image_size: (height, width), pixels.
    mean: of images / 255, a channel; subtracted first.
    deviation: of images / 255, a channel; divided by.
    dtype: in which `apply` computes; images and logits are float32 in any case.
  """

  params: Any
  apply: ApplyFn
  name: str
  class_names: tuple[str, ...]
  image_size: tuple[int, int]
  mean: tuple[float, ...] = (0.0,)
  deviation: tuple[float, ...] = (1.0 / 255.0,)
  dtype: str = "float32"

  def __call__(self, images: Images) -> Logits:
    """Returns the logits.

    Args:
      images: `(..., H, W, C)`, gray levels 0..255, any real dtype; any leading axes.

    Returns:
      `(..., D)` float32.

    Raises:
      ValueError: (H, W) is not `image_size`, or there is no channel axis.
    """
    if images.ndim < 3 or tuple(images.shape[-3:-1]) != self.image_size:
      raise ValueError(
        f"images must be (..., {self.image_size[0]}, {self.image_size[1]}, channels) for "
        f"{self.name}, got {tuple(images.shape)}; resize them first (rpfgsm_jax.data.preprocess)."
      )
    leading = images.shape[:-3]
    batch = jnp.asarray(images).astype(jnp.float32).reshape(-1, *images.shape[-3:])
    normalized = batch
    if (self.mean, self.deviation) != _GRAY_LEVELS:  # whole numbers stay whole
      mean, deviation = (
        jnp.asarray(value, jnp.float32).reshape(1, 1, 1, -1)
        for value in (self.mean, self.deviation)
      )
      normalized = (batch / 255.0 - mean) / deviation
    logits = self.apply(self.params, normalized.astype(self.dtype)).astype(jnp.float32)
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
    if dtype not in ("bfloat16", "float16", "float32"):
      raise ValueError(f"dtype must be 'bfloat16', 'float16' or 'float32', got {dtype!r}.")

    def cast(leaf: Array) -> Array:
      return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return dataclasses.replace(self, params=jax.tree.map(cast, self.params), dtype=dtype)

  def __repr__(self) -> str:
    height, width = self.image_size
    outputs = f"{len(self.class_names)} classes" if self.class_names else "features"
    return f"Classifier({self.name!r}, {outputs}, {height}x{width})"

  @classmethod
  def from_function(
    cls,
    apply: ApplyFn,
    params: Any,
    *,
    class_names: Sequence[str] | int,
    image_size: tuple[int, int],
    name: str = "custom",
    mean: Sequence[float] = (0.0,),
    deviation: Sequence[float] = (1.0 / 255.0,),
  ) -> "Classifier":
    """Wraps anybody's JAX network.

    Args:
      apply: `apply(params, images) -> logits`, `(B, H, W, C)` to `(B, D)`, pure and differentiable
        in `images`. It sees `(images / 255 - mean) / deviation`; with the defaults of `mean` and
        `deviation` that is the gray levels 0..255 themselves. Define it once: `jax.jit` compiles
        anew for every new function object.
      params: any pytree of arrays.
      class_names: D names, in the order of the logits; or D itself, for the names "0", "1", ….
        None of them, `()`: an embedder, whose outputs are features.
      image_size: (height, width) that the network takes, pixels.
      name: how reports call it.
      mean: of images / 255, one value or one a channel.
      deviation: likewise, positive.

    Returns:
      The classifier.

    Raises:
      ValueError: `apply` does not give one logit a class name, names repeat or are missing, or a
        deviation is not positive.
    """
    if isinstance(class_names, numbers.Integral):
      class_names = range(class_names)
    class_names = tuple(str(each) for each in class_names)
    height, width = (int(side) for side in image_size)
    if len(class_names) == 1 or len(set(class_names)) != len(class_names):
      raise ValueError(
        f"class_names must be at least two different names, got {len(class_names)} names, "
        f"{len(set(class_names))} of them different."
      )
    if min(deviation) <= 0:
      raise ValueError(f"deviation must be positive, got {tuple(deviation)}.")
    classifier = cls(
      params=params,
      apply=apply,
      name=name,
      class_names=class_names,
      image_size=(height, width),
      mean=tuple(float(value) for value in mean),
      deviation=tuple(float(value) for value in deviation),
    )
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    logits = jax.eval_shape(apply, params, image)
    if not class_names and logits.ndim == 2:
      return classifier
    if logits.shape != (2, len(class_names)):
      raise ValueError(
        f"apply must return one logit for each of the {len(class_names)} class names, shape "
        f"(B, {len(class_names)}), got {logits.shape} for B = 2."
      )
    return classifier

  @classmethod
  def from_module(
    cls,
    module: nnx.Module,
    *,
    class_names: Sequence[str] | int,
    image_size: tuple[int, int],
    name: str = "custom",
    mean: Sequence[float] = (0.0,),
    deviation: Sequence[float] = (1.0 / 255.0,),
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

    Returns:
      The classifier, its parameters a flat dictionary of dotted names.
    """
    module = prepare_convolutions(fold_batch_norm(module))
    module.eval()
    graph, state = nnx.split(module)
    leaves, structure = jax.tree.flatten(state)
    names = tuple(".".join(str(part) for part in path) for path, _ in nnx.to_flat_state(state))
    return cls.from_function(
      _ModuleApply(graph, structure, names),
      dict(zip(names, leaves, strict=True)),
      class_names=class_names,
      image_size=image_size,
      name=name,
      mean=mean,
      deviation=deviation,
    )


@dataclasses.dataclass(frozen=True)
class _ModuleApply:
  """Calls a module whose state is a flat dictionary: the static half of `from_module`."""

  graph: nnx.GraphDef
  structure: jax.tree_util.PyTreeDef
  names: tuple[str, ...]

  def __call__(self, params: dict[str, Array], images: Array) -> Array:
    state = jax.tree.unflatten(self.structure, [params[name] for name in self.names])
    return nnx.merge(self.graph, state)(images)
