"""The few layers that the three families share, and batch-norm folding.

Contract: NHWC float32; every padding is explicit, as in PyTorch, because `SAME` pads a strided
convolution on the other side. Each block names the (convolution, norm) pairs that stand directly
behind one another in `folds`; `fold_batch_norm` merges those and turns every other norm into a
scale and a shift.
"""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from rpfgsm_jax.typing import Array

BATCH_NORM_EPSILON = 1e-5  # PyTorch's default; part of the weights' meaning


class Affine(nnx.Module):
  """A batch-norm with frozen statistics: one scale and one shift a channel.

  Args:
    scale: `(C,)`.
    shift: `(C,)`.
  """

  def __init__(self, scale: Array, shift: Array):
    self.scale = nnx.Param(scale)
    self.shift = nnx.Param(shift)

  def __call__(self, features: Array) -> Array:
    """Returns `features * scale + shift`, same shape `(B, H, W, C)`."""
    shape = (1,) * (features.ndim - 1) + (-1,)
    return features * self.scale[...].reshape(shape) + self.shift[...].reshape(shape)


class Block(nnx.Module):
  """A module that knows which of its norms directly follow one of its convolutions."""

  folds: ClassVar[tuple[tuple[str, str], ...]] = ()


def conv(
  in_features: int,
  out_features: int,
  size: int,
  *,
  stride: int = 1,
  padding: int = 0,
  use_bias: bool = False,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """Returns a square convolution with explicit zero padding and He initialization."""
  return nnx.Conv(
    in_features,
    out_features,
    (size, size),
    strides=(stride, stride),
    padding=((padding, padding), (padding, padding)),
    use_bias=use_bias,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
    rngs=rngs,
  )


def batch_norm(num_features: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
  """Returns a batch-norm with PyTorch's constants (its momentum 0.1 is 0.9 here)."""
  return nnx.BatchNorm(num_features, momentum=0.9, epsilon=BATCH_NORM_EPSILON, rngs=rngs)


def normalize(norm: nnx.Module | None, features: Array, *, training: bool) -> Array:
  """Applies a batch-norm, what folding left of it, or nothing."""
  if norm is None:
    return features
  if isinstance(norm, Affine):
    return norm(features)
  return norm(features, use_running_average=not training)


def max_pool(features: Array, *, padding: int = 0) -> Array:
  """Returns the 3x3 maximum at stride 2; padding counts as minus infinity (torch's rule)."""
  return nnx.max_pool(features, (3, 3), (2, 2), ((padding, padding), (padding, padding)))


def average_pool(features: Array) -> Array:
  """Returns 2x2 means at stride 2; an odd last row or column is dropped (torch's rule)."""
  batch, height, width, channels = features.shape
  rows, columns = height // 2, width // 2
  cells = features[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
  return jnp.mean(cells, axis=(2, 4))


def global_average(features: Array) -> Array:
  """Returns the mean over height and width, `(B, H, W, C) -> (B, C)`."""
  return jnp.mean(features, axis=(1, 2))


def _frozen_statistics(norm: nnx.BatchNorm) -> tuple[np.ndarray, np.ndarray]:
  # NumPy in float64: the JAX operations would compile anew for every width of a network.
  scale, bias, mean, variance = (
    np.asarray(leaf[...], np.float64) for leaf in (norm.scale, norm.bias, norm.mean, norm.var)
  )
  scale = scale / np.sqrt(variance + norm.epsilon)
  return scale, bias - mean * scale


def _fold(convolution: nnx.Conv, norm: nnx.BatchNorm) -> None:
  scale, shift = _frozen_statistics(norm)
  if convolution.bias is not None:
    shift = shift + np.asarray(convolution.bias[...], np.float64) * scale
  kernel = np.asarray(convolution.kernel[...], np.float64) * scale  # outputs are the last axis
  convolution.kernel = nnx.Param(jnp.asarray(kernel.astype(np.float32)))
  convolution.bias = nnx.Param(jnp.asarray(shift.astype(np.float32)))
  convolution.use_bias = True


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
  """Returns a copy for inference in which no batch statistics are left.

  A norm right behind a convolution is merged into its kernel and bias; every other norm becomes an
  `Affine`. Logits agree with the unfolded network up to float32 rounding.

  Args:
    model: a network whose blocks declare `folds`, with concrete weights; left unchanged.

  Returns:
    The folded copy, parameters only.
  """
  model = nnx.clone(model)
  blocks = [module for _, module in nnx.iter_modules(model)]
  for block in blocks:
    for conv_name, norm_name in getattr(type(block), "folds", ()):
      convolution, norm = getattr(block, conv_name), getattr(block, norm_name)
      if convolution is not None and isinstance(norm, nnx.BatchNorm):
        _fold(convolution, norm)
        setattr(block, norm_name, None)
  for block in blocks:
    for name, child in list(vars(block).items()):
      if isinstance(child, nnx.BatchNorm):
        scale, shift = (jnp.asarray(each.astype(np.float32)) for each in _frozen_statistics(child))
        setattr(block, name, Affine(scale, shift))
  return model
