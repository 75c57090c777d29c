"""The layers besides convolutions that families share, and batch-norm folding.

Contract: NHWC float32; every padding is explicit, as in PyTorch. Each block names the
(convolution, norm) pairs that stand directly behind one another in `folds`; `fold_batch_norm`
merges those and turns every other norm into a scale and a shift.
"""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

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


def batch_norm(
  num_features: int, *, epsilon: float = BATCH_NORM_EPSILON, rngs: nnx.Rngs
) -> nnx.BatchNorm:
  """Returns a batch-norm with PyTorch's constants (its momentum 0.1 is 0.9 here)."""
  return nnx.BatchNorm(num_features, momentum=0.9, epsilon=epsilon, rngs=rngs)


def normalize(norm: nnx.Module | None, features: Array, *, training: bool) -> Array:
  """Applies a batch-norm, what folding left of it, or nothing."""
  if norm is None:
    return features
  if isinstance(norm, Affine):
    return norm(features)
  return norm(features, use_running_average=not training)


class Patches(nnx.Module):
  """A convolution whose windows touch and do not overlap: one dense layer over them.

  Rows and columns that fill no window are dropped, as in PyTorch.

  Args:
    in_features: channels in.
    out_features: channels out.
    size: side of a window, and stride.
    use_bias: whether a bias is added.
    rngs: source of the initial weights.
  """

  def __init__(
    self, in_features: int, out_features: int, size: int, *, use_bias: bool = True, rngs: nnx.Rngs
  ):
    shape = (size, size, in_features, out_features)
    self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), shape))
    self.bias = nnx.Param(jnp.zeros(out_features)) if use_bias else None

  def __call__(self, images: Array) -> Array:
    """Returns `(B, H / size, W / size, out_features)` of `(B, H, W, in_features)`."""
    kernel = self.kernel[...]
    size, _, channels, features = kernel.shape
    batch, rows, columns = images.shape[0], images.shape[1] // size, images.shape[2] // size
    images = images[:, : rows * size, : columns * size]
    windows = images.reshape(batch, rows, size, columns, size, channels).swapaxes(2, 3)
    windows = windows.reshape(batch, rows, columns, -1)
    out = windows @ kernel.reshape(-1, features)
    return out if self.bias is None else out + self.bias[...][None, None, None]


class LayerNorm(nnx.Module):
  """Mean 0 and variance 1 over the channels of each place, then a scale and a shift a channel.

  Flax's own does not take half precision under strict promotion.

  Args:
    features: channels.
    epsilon: added to the variance.
  """

  def __init__(self, features: int, epsilon: float):
    self.epsilon = epsilon
    self.scale, self.bias = nnx.Param(jnp.ones(features)), nnx.Param(jnp.zeros(features))

  def __call__(self, features: Array) -> Array:
    """Returns the same shape, `(..., C)`."""
    shape = (1,) * (features.ndim - 1) + (-1,)
    scale, bias = (each[...].reshape(shape) for each in (self.scale, self.bias))
    return standardize(features, self.epsilon) * scale + bias


def standardize(features: Array, epsilon: float) -> Array:
  """Returns the channels of each place at mean 0 and variance 1, computed in float32."""
  values = features.astype(jnp.float32)
  # About the mean: some channels of trained networks are large.
  centered = values - jnp.mean(values, axis=-1, keepdims=True)
  variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
  return (centered * lax.rsqrt(variance + epsilon)).astype(features.dtype)


def max_pool(features: Array, *, padding: int = 0) -> Array:
  """Returns the 3x3 maximum at stride 2; padding counts as minus infinity (torch's rule).

  Of equal values the first in the window, by rows, takes the gradient, as in torch. The backward
  pass is nine masked, dilated sums: XLA's own (select-and-scatter) is ten times slower on a CPU.
  """
  return _max_pool(features, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(features: Array, padding: int) -> Array:
  return functools.reduce(jnp.maximum, _pool_taps(_pad_pool(features, padding)))


def _max_pool_forward(features: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
  """Returns the maxima, and which tap of each window is the first of them."""
  taps = _pool_taps(_pad_pool(features, padding))
  pooled, winner = taps[0], jnp.zeros(taps[0].shape, jnp.int8)
  for number, tap in enumerate(taps[1:], start=1):
    winner = jnp.where(tap > pooled, jnp.int8(number), winner)
    pooled = jnp.maximum(pooled, tap)
  return pooled, (features, winner)  # the former for its shape alone


def _max_pool_backward(padding: int, kept: tuple[Array, Array], gradient: Array) -> tuple[Array]:
  """Rows 2r and 2r + 1 of the padded features, columns likewise, are four sums over windows.

  Windows r and r - 1 meet in row 2r, their taps 0 and 2; row 2r + 1 is tap 1 of window r alone.
  """
  features, winner = kept
  height, width = features.shape[1:3]
  zero = jnp.zeros((), gradient.dtype)

  def tap(row: int, column: int) -> Array:
    won = jnp.where(winner == 3 * row + column, gradient, zero)
    down, across = row // 2, column // 2
    margins = ((0, 0, 0), (down, 1 - down, 0), (across, 1 - across, 0), (0, 0, 0))
    return lax.pad(won, zero, margins)

  def along_row(row: int) -> Array:
    return jnp.stack([tap(row, 0) + tap(row, 2), tap(row, 1)], axis=3)

  both = jnp.stack([along_row(0) + along_row(2), along_row(1)], axis=2)
  batch, rows, _, columns, _, channels = both.shape
  total = both.reshape(batch, 2 * rows, 2 * columns, channels)
  return (total[:, padding : padding + height, padding : padding + width],)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pad_pool(features: Array, padding: int) -> Array:
  margin = (padding, padding, 0)
  return lax.pad(
    features, jnp.array(-jnp.inf, features.dtype), ((0, 0, 0), margin, margin, (0,) * 3)
  )


def _pool_taps(padded: Array) -> list[Array]:
  rows, columns = ((side - 3) // 2 + 1 for side in padded.shape[1:3])
  return [
    padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]
    for i in range(3)
    for j in range(3)
  ]


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
  # NumPy in float64: JAX operations, `jnp.asarray` among them, compile anew for every shape.
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
  convolution.kernel = nnx.Param(jax.device_put(kernel.astype(np.float32)))
  convolution.bias = nnx.Param(jax.device_put(shift.astype(np.float32)))
  convolution.use_bias = True


def fold_batch_norm(model: nnx.Module) -> nnx.Module:
  """Returns a copy for inference in which no batch statistics are left.

  A norm right behind a convolution is merged into its kernel and bias; every other norm becomes an
  `Affine`. Logits agree with the unfolded network up to float32 rounding.
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
        scale, shift = (
          jax.device_put(each.astype(np.float32)) for each in _frozen_statistics(child)
        )
        setattr(block, name, Affine(scale, shift))
  return model
