"""Convolutions whose input gradient is as fast as they are; NHWC.

Padding is explicit, as in PyTorch; `SAME`, for weights trained in TensorFlow, pads a strided
convolution on the other side. Reverse mode only: the gradients are `custom_vjp` rules.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rpfgsm_jax.typing import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair] | Literal["SAME"]

_FEW_CHANNELS = 4  # of a photo; a matrix unit wants at least eight


def conv(
  in_features: int,
  out_features: int,
  size: int,
  *,
  stride: int = 1,
  padding: int | Literal["SAME"] = 0,
  use_bias: bool = False,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """Returns a square convolution with zero padding and He initialization."""
  return nnx.Conv(
    in_features,
    out_features,
    (size, size),
    strides=(stride, stride),
    padding=padding if isinstance(padding, str) else ((padding, padding), (padding, padding)),
    use_bias=use_bias,
    kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
    conv_general_dilated=_conv_general_dilated,
    rngs=rngs,
  )


class PreparedConv(nnx.Module):
  """A convolution for inference that carries its kernel turned around, as its gradient needs it.

  Turning a kernel takes about a tenth of a gradient of four images, and inside the branch of a
  `lax.switch` XLA does it anew in every iteration of a loop.

  Args:
    convolution: one that `conv` made; its arrays are shared.
  """

  def __init__(self, convolution: nnx.Conv):
    kernel = convolution.kernel[...]
    turned = np.ascontiguousarray(np.asarray(kernel)[::-1, ::-1].swapaxes(2, 3))
    self.kernel = nnx.Param(kernel)
    self.turned = nnx.Param(jax.device_put(turned))
    self.bias = None if convolution.bias is None else nnx.Param(convolution.bias[...])
    self.strides = tuple(convolution.strides)
    self.padding = _hashable(convolution.padding)

  def __call__(self, images: Array) -> Array:
    """Returns `(B, H', W', out_features)` of `(B, H, W, in_features)`."""
    features = _convolve(images, self.kernel[...], self.turned[...], self.strides, self.padding)
    return features if self.bias is None else features + self.bias[...][None, None, None]


def prepare_convolutions(model: nnx.Module) -> nnx.Module:
  """Returns a copy for inference in which every `conv` is a `PreparedConv`.

  Convolutions of another make stay; outputs and input gradients are those of `model`.
  """
  model = nnx.clone(model)
  for _, module in list(nnx.iter_modules(model)):
    for name, child in list(vars(module).items()):
      if isinstance(child, nnx.Conv) and child.conv_general_dilated is _conv_general_dilated:
        setattr(module, name, PreparedConv(child))
  return model


def _conv_general_dilated(images: Array, kernel: Array, strides, padding, **options) -> Array:
  """The part of `lax.conv_general_dilated` that `conv` uses; other options are constants."""
  del options
  return _convolve(images, kernel, None, tuple(strides), _hashable(padding))


def _hashable(padding: str | Sequence[Sequence[int]]) -> Padding:
  return padding if isinstance(padding, str) else tuple(map(tuple, padding))


def _convolve(
  images: Array, kernel: Array, turned: Array | None, strides: Pair, padding: Padding
) -> Array:
  if isinstance(padding, str):
    sides = images.shape[1:3], kernel.shape[:2]
    padding = tuple(map(tuple, lax.padtype_to_pads(*sides, strides, padding)))
  return _convolve_padded(images, kernel, turned, strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _convolve_padded(
  images: Array, kernel: Array, turned: Array | None, strides: Pair, padding: tuple[Pair, Pair]
) -> Array:
  """An NHWC, HWIO convolution whose input gradient is, on a CPU, itself a plain convolution.

  JAX writes that gradient with the kernel's channel axes swapped in place. Inside a loop XLA's CPU
  backend then leaves its fast path, and a gradient costs three to five times as much. Here the
  kernel is turned around explicitly: by the caller (`turned`), or, None, in the backward pass.

  Elsewhere JAX's own form stays: a GPU's library has input gradients, and of a strided convolution
  ours would multiply the zeros between the rows and columns of its gradient. Of a stem both are
  those of the same sums over fewer pixels of more channels, see `_convolve_cells`.
  """
  del turned
  if jax.default_backend() == "cpu":
    return _plain_convolution(images, kernel, strides, padding)
  return _accelerator_convolution(images, kernel, strides, padding)


def _accelerator_convolution(images, kernel, strides, padding) -> Array:
  stem = images.shape[-1] <= _FEW_CHANNELS and max(strides) > 1
  form = _convolve_cells if stem else _plain_convolution
  return form(images, kernel, strides, padding)


def _convolve_cells(
  images: Array, kernel: Array, strides: Pair, padding: tuple[Pair, Pair]
) -> Array:
  """A strided convolution as one of stride 1 over cells: `stride x stride` pixels become channels.

  Matrix units want many channels. A 7x7 stem of stride 2 over three is a 4x4 one over twelve: more
  products, zeros among them, in a fifth of the time on a GPU.
  """
  counts, margins, kernel_margins = [], [], []
  for axis, (stride, (low, high)) in enumerate(zip(strides, padding, strict=True)):
    size = kernel.shape[axis]
    cells = -(-size // stride)
    length = images.shape[axis + 1]
    count = (length + low + high - size) // stride + cells  # rows of cells that windows touch
    counts.append(count)
    margins.append((low, count * stride - low - length, 0))  # cut where no window reaches
    kernel_margins.append((0, cells * stride - size, 0))
  zero = jnp.zeros((), images.dtype)
  images = lax.pad(images, zero, ((0, 0, 0), *margins, (0, 0, 0)))
  kernel = lax.pad(kernel, zero.astype(kernel.dtype), (*kernel_margins, (0, 0, 0), (0, 0, 0)))
  batch, channels, features = images.shape[0], images.shape[3], kernel.shape[3]
  down, across = strides
  tall, wide = kernel.shape[0] // down, kernel.shape[1] // across
  images = images.reshape(batch, counts[0], down, counts[1], across, channels)
  kernel = kernel.reshape(tall, down, wide, across, channels, features)
  return _plain_convolution(
    images.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *counts, -1),
    kernel.transpose(0, 2, 1, 3, 4, 5).reshape(tall, wide, -1, features),
    (1, 1),
    ((0, 0), (0, 0)),
  )


def _plain_convolution(images, kernel, strides, padding, dilation=(1, 1)) -> Array:
  return lax.conv_general_dilated(
    images,
    kernel,
    strides,
    padding,
    lhs_dilation=dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _convolve_forward(images, kernel, turned, strides, padding):
  return _convolve_padded(images, kernel, turned, strides, padding), (images, kernel, turned)


def _convolve_backward(strides, padding, kept, gradient):
  images, kernel, turned = kept
  _, to_kernel = jax.vjp(lambda k: _plain_convolution(images, k, strides, padding), kernel)
  if jax.default_backend() == "cpu":
    to_images = _input_gradient(images.shape, kernel, turned, strides, padding, gradient)
  else:
    _, pull = jax.vjp(lambda x: _accelerator_convolution(x, kernel, strides, padding), images)
    (to_images,) = pull(gradient)
  # The turned kernel is a copy: what would flow into it belongs to a gradient of the gradient.
  return to_images, to_kernel(gradient)[0], jax.tree.map(jnp.zeros_like, turned)


def _input_gradient(shape, kernel, turned, strides, padding, gradient) -> Array:
  if turned is None:
    turned = jnp.swapaxes(lax.rev(kernel, (0, 1)), 2, 3)
  margins = []
  for axis, (stride, (low, _)) in enumerate(zip(strides, padding, strict=True)):
    before = kernel.shape[axis] - 1 - low
    spread = (gradient.shape[axis + 1] - 1) * stride + 1
    margins.append((before, shape[axis + 1] + kernel.shape[axis] - 1 - spread - before))
  return _plain_convolution(gradient, turned, (1, 1), margins, strides)


_convolve_padded.defvjp(_convolve_forward, _convolve_backward)
