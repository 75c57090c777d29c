"""One of our classifiers as a torch module, so that torch's attack libraries run on our networks.

Torch's convention outside, `(B, 3, H, W)` in 0..1; ours inside, `(B, H, W, 3)` gray levels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rpfgsm_jax.models.classifier import Classifier


class JaxInTorch(torch.nn.Module):
  """A classifier that torch can call and differentiate: images in, logits `(B, D)` out.

  The gradient is JAX's vector-Jacobian product, anew from the saved images at each backward pass,
  so that one graph may be differentiated as often as wanted. There is no second derivative.

  Args:
    classifier: ours.
    batch_size: images computed together; every call is cut and filled up to it: one compilation.
  """

  def __init__(self, classifier: Classifier, batch_size: int = 10):
    super().__init__()

    def logits(classifier: Classifier, images: jax.Array) -> jax.Array:
      return classifier(jnp.moveaxis(images, 1, -1) * 255.0)

    def gradient(classifier: Classifier, images: jax.Array, cotangent: jax.Array) -> jax.Array:
      return jax.vjp(lambda images: logits(classifier, images), images)[1](cotangent)[0]

    self._classifier, self._batch_size = classifier, batch_size
    self._logits, self._gradient = jax.jit(logits), jax.jit(gradient)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    return _Call.apply(images, self)

  def compute_logits(self, images: torch.Tensor) -> torch.Tensor:
    return self._in_batches(self._logits, images)

  def compute_gradient(self, images: torch.Tensor, cotangent: torch.Tensor) -> torch.Tensor:
    return self._in_batches(self._gradient, images, cotangent)

  def _in_batches(self, function: Any, *tensors: torch.Tensor) -> torch.Tensor:
    arrays = [tensor.detach().numpy() for tensor in tensors]
    count = len(arrays[0])
    filled = -count % self._batch_size
    arrays = [
      np.concatenate([each, np.zeros_like(each, shape=(filled, *each.shape[1:]))])
      for each in arrays
    ]
    parts = [
      np.asarray(function(self._classifier, *(each[i : i + self._batch_size] for each in arrays)))
      for i in range(0, count, self._batch_size)
    ]
    return torch.from_numpy(np.concatenate(parts)[:count])


class _Call(torch.autograd.Function):
  """The bridge between the two differentiations."""

  @staticmethod
  def forward(ctx: Any, images: torch.Tensor, network: JaxInTorch) -> torch.Tensor:
    ctx.save_for_backward(images)
    ctx.network = network
    return network.compute_logits(images)

  @staticmethod
  @torch.autograd.function.once_differentiable
  def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor, None]:
    (images,) = ctx.saved_tensors
    return ctx.network.compute_gradient(images, cotangent), None
