"""Pooling against slow loops, and folding against the batch-norm formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rpfgsm_jax.models import convolution, layers
from rpfgsm_jax.models.alexnet import adaptive_average


def features(height: int, width: int) -> np.ndarray:
  generator = np.random.default_rng([height, width])
  return generator.normal(-1.0, 2.0, (2, height, width, 3)).astype(np.float32)


def loop_pool(values, size, stride, padding, reduce, fill):
  edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  padded = np.pad(values, edges, constant_values=fill)
  rows, columns = ((side - size) // stride + 1 for side in padded.shape[1:3])
  cells = [
    reduce(padded[:, i * stride : i * stride + size, j * stride : j * stride + size], axis=(1, 2))
    for i in range(rows)
    for j in range(columns)
  ]
  return np.stack(cells, axis=1).reshape(values.shape[0], rows, columns, -1)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("side", [(7, 10), (8, 3)])
def test_max_pool(side, padding):
  values = features(*side) - 10.0  # all negative: zero padding would show
  expected = loop_pool(values, 3, 2, padding, np.max, -np.inf)
  np.testing.assert_array_equal(layers.max_pool(jnp.asarray(values), padding=padding), expected)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("side", [(9, 12), (8, 7)])
def test_max_pool_gradient_goes_to_the_first_of_equals(side, padding):
  generator = np.random.default_rng(0)
  values = generator.integers(0, 3, (1, *side, 2)).astype(np.float32)  # ties in every window
  pooled, pull = jax.vjp(lambda x: layers.max_pool(x, padding=padding), jnp.asarray(values))
  weights = generator.normal(size=pooled.shape).astype(np.float32)
  expected = np.zeros_like(values)
  for i, j, channel in np.ndindex(*pooled.shape[1:]):
    rows = [r for r in range(2 * i - padding, 2 * i - padding + 3) if 0 <= r < side[0]]
    columns = [c for c in range(2 * j - padding, 2 * j - padding + 3) if 0 <= c < side[1]]
    winner = max(((r, c) for r in rows for c in columns), key=lambda at: values[0, *at, channel])
    expected[0, *winner, channel] += weights[0, i, j, channel]
  np.testing.assert_allclose(pull(jnp.asarray(weights))[0], expected, atol=1e-6)


@pytest.mark.parametrize("side", [(6, 4), (7, 5), (3, 2)])
def test_average_pool_drops_an_odd_edge(side):
  values = features(*side)
  expected = loop_pool(values, 2, 2, 0, np.mean, 0.0)
  np.testing.assert_allclose(layers.average_pool(jnp.asarray(values)), expected, atol=1e-6)


# 6 -> 6 is the identity, 13 -> 6 and 7 -> 6 overlap, 4 -> 6 repeats.
@pytest.mark.parametrize("side", [(6, 6), (13, 7), (12, 6), (4, 9)])
def test_adaptive_average(side):
  values, size = features(*side), 6

  def cells(length):
    return [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]

  expected = np.stack(
    [
      np.stack([values[:, a:b, c:d].mean(axis=(1, 2)) for c, d in cells(side[1])], axis=1)
      for a, b in cells(side[0])
    ],
    axis=1,
  )
  with jax.default_matmul_precision("highest"):
    result = adaptive_average(jnp.asarray(values), size)
  np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("side", [(13, 7), (4, 9), (15, 11)])
def test_pools_are_torchs(side):
  torch = pytest.importorskip("torch")
  values = features(*side)
  theirs = torch.from_numpy(values.transpose(0, 3, 1, 2))
  ours = jnp.asarray(values)
  functional = torch.nn.functional
  for result, expected in (
    (layers.max_pool(ours, padding=1), functional.max_pool2d(theirs, 3, 2, 1)),
    (layers.average_pool(ours), functional.avg_pool2d(theirs, 2, 2)),
    (adaptive_average(ours, 6), functional.adaptive_avg_pool2d(theirs, 6)),
    (layers.global_average(ours)[:, None, None], theirs.mean((2, 3), keepdim=True)),
  ):
    np.testing.assert_allclose(result, expected.numpy().transpose(0, 2, 3, 1), atol=1e-6)


# ---- folding ----


class Pair(layers.Block):
  """One convolution with its norm, and a norm in front of it that cannot be merged."""

  folds = (("conv", "norm"),)

  def __init__(self, *, use_bias: bool):
    rngs = nnx.Rngs(0)
    self.before = layers.batch_norm(3, rngs=rngs)
    self.conv = convolution.conv(3, 4, 3, stride=2, padding=1, use_bias=use_bias, rngs=rngs)
    self.norm = layers.batch_norm(4, rngs=rngs)
    generator = np.random.default_rng(1)
    for norm in (self.before, self.norm):
      width = norm.scale[...].shape
      for leaf in (norm.scale, norm.bias, norm.mean, norm.var):
        leaf[...] = jnp.asarray(generator.uniform(0.2, 3.0, width), jnp.float32)
    if use_bias:
      self.conv.bias[...] = jnp.asarray(generator.normal(size=4), jnp.float32)

  def __call__(self, images):
    images = layers.normalize(self.before, images, training=False)
    return layers.normalize(self.norm, self.conv(images), training=False)


def by_formula(norm, values):
  scale, bias, mean, variance = (
    np.asarray(leaf[...], np.float64).reshape(1, 1, 1, -1)
    for leaf in (norm.scale, norm.bias, norm.mean, norm.var)
  )
  return scale * (np.asarray(values, np.float64) - mean) / np.sqrt(variance + 1e-5) + bias


@pytest.mark.parametrize("use_bias", [False, True], ids=["plain", "bias"])
def test_fold_keeps_the_function(use_bias):
  pair, values = Pair(use_bias=use_bias), features(9, 6)
  folded = layers.fold_batch_norm(pair)
  with jax.default_matmul_precision("highest"):
    normalized = jnp.asarray(by_formula(pair.before, values).astype(np.float32))
    expected = by_formula(pair.norm, pair.conv(normalized))
    np.testing.assert_allclose(pair(jnp.asarray(values)), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(folded(jnp.asarray(values)), expected, rtol=1e-4, atol=1e-4)


def test_fold_merges_what_it_can_and_leaves_the_model_alone():
  pair = Pair(use_bias=False)
  kernel = np.array(pair.conv.kernel[...])
  folded = layers.fold_batch_norm(pair)
  assert folded.norm is None
  assert isinstance(folded.before, layers.Affine)
  assert not jax.tree.leaves(nnx.state(folded, nnx.BatchStat))
  assert isinstance(pair.norm, nnx.BatchNorm)
  assert isinstance(pair.before, nnx.BatchNorm)
  assert pair.conv.bias is None
  np.testing.assert_array_equal(pair.conv.kernel[...], kernel)


def test_fold_twice_is_fold_once():
  folded = layers.fold_batch_norm(Pair(use_bias=True))
  again = layers.fold_batch_norm(folded)
  for one, two in zip(*(jax.tree.leaves(nnx.state(each)) for each in (folded, again)), strict=True):
    np.testing.assert_array_equal(one, two)
