"""Convolutions against XLA's own, forward and gradients, plain and prepared for inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from rpfgsm_jax.models import convolution, depthwise
from rpfgsm_jax.models.convolution import PreparedConv, prepare_convolutions

CASES = {  # size, stride, padding, height, width
  "stem 7": (7, 2, 3, 21, 18),
  "stem 11": (11, 4, 2, 30, 27),
  "3x3": (3, 1, 1, 9, 7),
  "strided 3x3": (3, 2, 1, 9, 8),
  "strided 1x1": (1, 2, 0, 8, 7),
  "unused last rows": (3, 4, 0, 14, 13),
}


class Two(nnx.Module):
  """A convolution of ours and one of Flax's, in a list and directly."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.own = nnx.List([convolution.conv(3, 4, 3, padding=1, use_bias=True, rngs=rngs)])
    self.foreign = nnx.Conv(4, 2, (3, 3), rngs=rngs)

  def __call__(self, images):
    return self.foreign(self.own[0](images))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "prepared"])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_values_and_gradients_are_those_of_xla(case, prepared, backend, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)  # XLA's CPU runs both forms
  size, stride, padding, height, width = case
  layer = convolution.conv(
    3, 5, size, stride=stride, padding=padding, use_bias=True, rngs=nnx.Rngs(1)
  )
  layer.bias[...] = jnp.arange(5.0)
  kernel = layer.kernel[...]
  if prepared:
    layer = PreparedConv(layer)
  generator = np.random.default_rng(0)
  images = jnp.asarray(generator.normal(size=(2, height, width, 3)), jnp.float32)

  def reference(images):
    margins = ((padding, padding),) * 2
    numbers = ("NHWC", "HWIO", "NHWC")
    plain = lax.conv_general_dilated(
      images, kernel, (stride,) * 2, margins, dimension_numbers=numbers
    )
    return plain + jnp.arange(5.0)[None, None, None]

  features, pull = jax.vjp(layer, images)
  expected, pull_reference = jax.vjp(reference, images)
  cotangent = jnp.asarray(generator.normal(size=expected.shape), jnp.float32)
  # The same products in another order: a few float32 roundings of sums of up to 363 terms.
  np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
  np.testing.assert_allclose(pull(cotangent)[0], pull_reference(cotangent)[0], rtol=0, atol=2e-5)


def test_the_kernels_own_gradient_is_that_of_xla():
  layer = convolution.conv(3, 4, 3, stride=2, padding=1, rngs=nnx.Rngs(2))
  images = jnp.asarray(np.random.default_rng(3).normal(size=(2, 9, 8, 3)), jnp.float32)

  def plain(kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    features = lax.conv_general_dilated(
      images, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=numbers
    )
    return jnp.sum(features**2)

  graph, state = nnx.split(layer)
  found = jax.grad(lambda state: jnp.sum(nnx.merge(graph, state)(images) ** 2))(state)
  expected = jax.grad(plain)(layer.kernel[...])
  np.testing.assert_allclose(found["kernel"][...], expected, rtol=1e-5, atol=1e-5)


def test_a_prepared_network_turns_no_kernel_in_its_gradient():
  images = jnp.zeros((1, 6, 5, 3))
  plain = convolution.conv(3, 4, 3, padding=1, rngs=nnx.Rngs(0))

  def gradient(layer):
    return str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(layer(x) ** 2)))(images))

  assert "rev[" in gradient(plain)
  assert "rev[" not in gradient(PreparedConv(plain))


def test_a_gpu_is_given_no_strided_gradient_full_of_zeros(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  layer = PreparedConv(convolution.conv(3, 4, 3, stride=2, padding=1, rngs=nnx.Rngs(0)))
  gradient = jax.grad(lambda x: jnp.sum(layer(x) ** 2))
  text = jax.jit(gradient).lower(jnp.zeros((1, 9, 8, 3))).as_text()
  # The form that GPU libraries have an operation for: the kernel turned around in place.
  assert "reverse = [true, true]" in text or "stablehlo.reverse" in text


def test_only_convolutions_of_ours_are_prepared_and_the_network_stays():
  network = Two()
  images = jnp.asarray(np.random.default_rng(4).normal(size=(1, 6, 5, 3)), jnp.float32)
  prepared = prepare_convolutions(network)
  assert isinstance(prepared.own[0], PreparedConv)
  assert type(prepared.foreign) is nnx.Conv
  assert type(network.own[0]) is nnx.Conv
  np.testing.assert_array_equal(prepared(images), network(images))


@pytest.mark.parametrize("size", [(9, 8), (8, 9)])
@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "prepared"])
def test_same_padding_is_that_of_tensorflow(size, prepared):
  layer = convolution.conv(3, 4, 3, stride=2, padding="SAME", rngs=nnx.Rngs(1))
  kernel = layer.kernel[...]
  images = jnp.asarray(np.random.default_rng(5).normal(size=(2, *size, 3)), jnp.float32)
  layer = PreparedConv(layer) if prepared else layer

  def plain(images):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (2, 2), "SAME", dimension_numbers=numbers)

  found, pull = jax.vjp(layer, images)
  expected, reference = jax.vjp(plain, images)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
  np.testing.assert_allclose(pull(found)[0], reference(found)[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("sides", [(9, 6), (4, 7), (1, 2)], ids=str)
def test_depthwise_convolution_and_both_its_gradients(size, stride, sides, backend, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)  # XLA's CPU runs both forms
  draw = np.random.default_rng(size).normal
  images = jnp.asarray(draw(size=(2, *sides, 5)), jnp.float32)
  layer = depthwise.DepthwiseConv(5, size, stride=stride, rngs=nnx.Rngs(1))

  def plain(images, kernel):
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
      images, kernel, (stride,) * 2, "SAME", dimension_numbers=axes, feature_group_count=5
    )

  kernel = layer.kernel[...]
  found, pull = jax.vjp(lambda x, k: depthwise._depthwise(x, k, stride), images, kernel)
  expected, reference = jax.vjp(plain, images, kernel)
  weights = jnp.asarray(draw(size=expected.shape), jnp.float32)
  np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)  # the bias is zero
  for ours, theirs in zip((found, *pull(weights)), (expected, *reference(weights)), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
