"""`Embedder`: gray levels in, features out; a network without classes, as a frozen pytree."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rpfgsm_jax.models.classifier import Classifier, cast_floats, checked_view, show
from rpfgsm_jax.models.module_apply import ModuleApply, prepared
from rpfgsm_jax.typing import ApplyFn, Array, Images


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params"],
  meta_fields=["apply", "name", "image_size", "threshold", "mean", "deviation", "dtype"],
)
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Embedder:
  """A network that turns an image into features, which are compared by their cosine.

  Face recognition, image search, and the inside of a classifier are of this kind. The attacks of
  signed steps take it as one more network: untargeted, the image leaves its own features; towards
  a target image it approaches that one's. Like a `Classifier` it is a pytree of its parameters.

  Example:
    >>> inside = rp.Embedder.from_classifier(net, layers=("layer3", "layer4"))
    >>> result = rp.rp_fgsm(jax.random.key(0), images, [net, inside])
    >>> similarity = inside.similarity(images, result.adversarial)    # (B,), at most 1

  Attributes:
    params: any pytree of arrays, handed to `apply`.
    apply: hashable; `apply(params, images)` gives `(B, ...)` features, or a tuple of such, one for
      each of several layers.
    name: how reports call it.
    image_size: (height, width), pixels.
    threshold: similarity from which two images count as showing the same, -1..1.
    mean: of images / 255, a channel; subtracted first.
    deviation: of images / 255, a channel; divided by.
    dtype: in which `apply` computes; images and features are float32 in any case.
  """

  params: Any
  apply: Callable[..., Any]
  name: str
  image_size: tuple[int, int]
  threshold: float = 0.5
  mean: tuple[float, ...] = (0.0,)
  deviation: tuple[float, ...] = (1.0 / 255.0,)
  dtype: str = "float32"

  def __call__(self, images: Images) -> tuple[Array, ...]:
    """Returns the features of each layer, of length one, so that a product is a cosine.

    Args:
      images: `(..., H, W, C)`, gray levels 0..255, any real dtype; any leading axes.

    Returns:
      For each layer `(..., F)` float32.

    Raises:
      ValueError: (H, W) is not `image_size`, or there is no channel axis.
    """
    return tuple(map(_unit, self.features(images)))

  def features(self, images: Images) -> tuple[Array, ...]:
    """Returns the features of each layer as they are, for heads to be fitted on them.

    Args:
      images: as in `__call__`.

    Returns:
      For each layer `(..., F)` float32.

    Raises:
      ValueError: see `__call__`.
    """
    batch, leading = show(self, images)
    features = self.apply(self.params, batch)
    layers = features if isinstance(features, tuple | list) else (features,)
    return tuple(layer.astype(jnp.float32).reshape(*leading, -1) for layer in layers)

  def similarity(self, images: Images, others: Images) -> Array:
    """Returns the cosine of the features of two images, averaged over the layers.

    Args:
      images: as in `__call__`.
      others: likewise; one for each of `images`.

    Returns:
      `(...)` float32, in -1..1.

    Raises:
      ValueError: see `__call__`.
    """
    return similarity(self(images), self(others))

  def astype(self, dtype: str) -> "Embedder":
    """Returns the embedder with parameters and computations in another floating dtype.

    Args:
      dtype: "bfloat16", "float16" or "float32".

    Returns:
      The embedder.

    Raises:
      ValueError: another dtype.
    """
    return cast_floats(self, dtype)

  def __repr__(self) -> str:
    height, width = self.image_size
    return f"Embedder({self.name!r}, {height}x{width})"

  @classmethod
  def from_function(
    cls,
    apply: ApplyFn,
    params: Any,
    *,
    image_size: tuple[int, int] | int,
    name: str = "custom",
    threshold: float = 0.5,
    mean: Sequence[float] | float = (0.0,),
    deviation: Sequence[float] | float = (1.0 / 255.0,),
  ) -> "Embedder":
    """Wraps anybody's JAX embedding network.

    Args:
      apply: `apply(params, images)`, pure and differentiable in `images` `(B, H, W, C)`; returns
        features `(B, ...)` or a tuple of them. It sees `(images / 255 - mean) / deviation`. Define
        it once: `jax.jit` compiles anew for every new function object.
      params: any pytree of arrays.
      image_size: (height, width) that the network takes, pixels; one number for a square.
      name: how reports call it.
      threshold: see the attribute.
      mean: of images / 255, so in 0..1; one value or one a channel.
      deviation: likewise, positive.

    Returns:
      The embedder.

    Raises:
      ValueError: an argument breaks its rule, or features have no batch axis.
    """
    if not -1.0 <= threshold <= 1.0:
      raise ValueError(f"threshold must be a cosine in -1..1, got {threshold!r}.")
    image_size, mean, deviation = checked_view(image_size, mean, deviation)
    embedder = cls(
      params=params,
      apply=apply,
      name=name,
      image_size=image_size,
      threshold=float(threshold),
      mean=mean,
      deviation=deviation,
    )
    image = jax.ShapeDtypeStruct((2, *image_size, 3), jnp.float32)
    for layer in jax.tree.leaves(jax.eval_shape(apply, params, image)):
      if layer.ndim < 2 or layer.shape[0] != 2:
        raise ValueError(f"apply must return features (B, ...), got {layer.shape} for B = 2.")
    return embedder

  @classmethod
  def from_module(
    cls,
    module: nnx.Module,
    *,
    image_size: tuple[int, int] | int,
    name: str = "custom",
    threshold: float = 0.5,
    mean: Sequence[float] | float = (0.0,),
    deviation: Sequence[float] | float = (1.0 / 255.0,),
  ) -> "Embedder":
    """Wraps a `flax.nnx` module that returns features, prepared as by `Classifier.from_module`.

    Args:
      module: called as `module(images)`; left unchanged.
      image_size: see `from_function`.
      name: see `from_function`.
      threshold: see the attribute.
      mean: see `from_function`.
      deviation: see `from_function`.

    Returns:
      The embedder, its parameters a flat dictionary of dotted names.

    Raises:
      ValueError: an argument breaks its rule, see `from_function`.
    """
    return cls.from_function(
      *prepared(module),
      image_size=image_size,
      name=name,
      threshold=threshold,
      mean=mean,
      deviation=deviation,
    )

  @classmethod
  def from_classifier(
    cls, classifier: Classifier, *, layers: Sequence[str], threshold: float = 0.5
  ) -> "Embedder":
    """Returns the inside of a network of this package as an embedder.

    Args:
      classifier: from `load_classifier` or `Classifier.from_module`, its module having `stages`.
      layers: names of its stages, such as "layer4" of a ResNet; each gives one layer of features,
        averaged over the image's places.
      threshold: see the attribute.

    Returns:
      The embedder; its parameters are the classifier's own arrays.

    Raises:
      ValueError: the classifier has no stages, or none of such a name.
    """
    if not isinstance(classifier.apply, ModuleApply) or not hasattr(
      classifier.apply.module(classifier.params), "stages"
    ):
      raise ValueError(
        f"classifier must be a network with stages, got {classifier.name}; wrap a function that "
        "returns its features by Embedder.from_function."
      )
    apply = _StagesApply(classifier.apply, tuple(layers))
    image = jax.ShapeDtypeStruct((1, *classifier.image_size, 3), jnp.dtype(classifier.dtype))
    known: list[str] = []
    jax.eval_shape(lambda *args: known.extend(apply.stages(*args)), classifier.params, image)
    if not apply.layers or not set(apply.layers) <= set(known):
      raise ValueError(f"layers must be among {', '.join(known)}, got {', '.join(layers)!r}.")
    return cls(
      params=classifier.params,
      apply=apply,
      name=f"{classifier.name}:{'+'.join(apply.layers)}",
      image_size=classifier.image_size,
      threshold=threshold,
      mean=classifier.mean,
      deviation=classifier.deviation,
      dtype=classifier.dtype,
    )


Network = Classifier | Embedder

Answer = Array | tuple[Array, ...]
"""Of a classifier logits `(B, D)`, of an embedder the features of each layer, `(B, F)`."""


def similarity(features: tuple[Array, ...], others: tuple[Array, ...]) -> Array:
  """Returns the cosine of features of length one, averaged over the layers, `(...)`."""
  cosines = [jnp.sum(a * b, axis=-1) for a, b in zip(features, others, strict=True)]
  return jnp.asarray(sum(cosines) / len(cosines))


def _unit(features: Array) -> Array:
  # The root of a zero has an infinite derivative; features that are all zero stay so.
  square = jnp.sum(features**2, axis=-1, keepdims=True)
  return features * jax.lax.rsqrt(jnp.maximum(square, 1e-12))


@dataclasses.dataclass(frozen=True)
class _StagesApply:
  """Calls a module up to some of its stages: the static half of `from_classifier`."""

  module: ModuleApply
  layers: tuple[str, ...]

  def stages(self, params: dict[str, Array], images: Array) -> dict[str, Array]:
    """Returns every stage's output."""
    module: Any = self.module.module(params)
    return dict(module.stages(images))

  def __call__(self, params: dict[str, Array], images: Array) -> tuple[Array, ...]:
    outputs = self.stages(params, images)
    return tuple(_pooled(outputs[layer]) for layer in self.layers)


def _pooled(features: Array) -> Array:
  """Returns `(B, F)`: the mean over all axes between the first and the last."""
  return jnp.mean(features, axis=tuple(range(1, features.ndim - 1)))
