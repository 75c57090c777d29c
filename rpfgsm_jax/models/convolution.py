"""Convolutions whose input gradient is as fast as they are; NHWC float32, explicit padding.

Explicit, as in PyTorch, because `SAME` pads a strided convolution on the other side. Reverse mode
only: the gradients are `custom_vjp` rules.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rpfgsm_jax.typing import Array

Pair = tuple[int, int]


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
    self.padding = tuple(map(tuple, convolution.padding))

  def __call__(self, images: Array) -> Array:
    """Returns `(B, H', W', out_features)` of `(B, H, W, in_features)`."""
    features = _convolve(images, self.kernel[...], self.turned[...], self.strides, self.padding)
    return features if self.bias is None else features + self.bias[...][None, None, None]


def prepare_convolutions(model: nnx.Module) -> nnx.Module:
  """Returns a copy for inference in which every `conv` is a `PreparedConv`.

  Args:
    model: a network with concrete weights; left unchanged. Convolutions of another make stay.

  Returns:
    The copy; outputs and input gradients are those of `model`.
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
  return _convolve(images, kernel, None, tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _convolve(
  images: Array, kernel: Array, turned: Array | None, strides: Pair, padding: tuple[Pair, Pair]
) -> Array:
  """An NHWC, HWIO convolution whose input gradient is itself a plain convolution.

  JAX writes that gradient with the kernel's channel axes swapped in place. Inside a loop XLA's CPU
  backend then leaves its fast path, and a gradient costs three to five times as much. Here the
  kernel is turned around explicitly: by the caller (`turned`), or, None, in the backward pass.
  """
  del turned
  return _plain_convolution(images, kernel, strides, padding)


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
  return _convolve(images, kernel, turned, strides, padding), (images, kernel, turned)


def _convolve_backward(strides, padding, kept, gradient):
  images, kernel, turned = kept
  if turned is None:
    turned = jnp.swapaxes(lax.rev(kernel, (0, 1)), 2, 3)
  margins = []
  for axis, (stride, (low, _)) in enumerate(zip(strides, padding, strict=True)):
    before = kernel.shape[axis] - 1 - low
    spread = (gradient.shape[axis + 1] - 1) * stride + 1
    margins.append((before, images.shape[axis + 1] + kernel.shape[axis] - 1 - spread - before))
  to_images = _plain_convolution(gradient, turned, (1, 1), margins, strides)
  _, to_kernel = jax.vjp(lambda k: _plain_convolution(images, k, strides, padding), kernel)
  # The turned kernel is a copy: what would flow into it belongs to a gradient of the gradient.
  return to_images, to_kernel(gradient)[0], jax.tree.map(jnp.zeros_like, kept[2])


_convolve.defvjp(_convolve_forward, _convolve_backward)
