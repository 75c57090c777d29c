"""Vision transformers (Dosovitskiy et al., ICLR 2021), NHWC: ViT, DINOv2, CLIP's image tower.

One network, in the arrangement of the published checkpoints: patches become tokens behind a class
token; positions learned on one grid are resized to others; blocks normalize before attention and
before the MLP. A linear head reads pooled tokens of one or several blocks.
"""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rpfgsm_jax.models.features import FeatureHead, Features
from rpfgsm_jax.models.layers import LayerNorm, Patches
from rpfgsm_jax.typing import Array

ACTIVATIONS = {
  "gelu": functools.partial(jax.nn.gelu, approximate=False),
  "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
  "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig(Features):
  """Shape of a vision transformer; the defaults are DINOv2's ViT-S/14 without a head."""

  layers: tuple[int, ...] = (11,)
  patch_size: int = 14  # pixels, square
  width: int = 384  # numbers a token
  depth: int = 12  # blocks
  heads: int = 6  # of attention
  mlp_width: int = 1536
  activation: str = "gelu"  # of `ACTIVATIONS`
  gated: bool = False  # SwiGLU instead of the activation
  layer_scale: bool = True  # a factor a channel behind attention and behind the MLP
  registers: int = 0  # tokens that no head reads (Darcet et al., ICLR 2024)
  qkv_bias: bool = True
  patch_bias: bool = True
  norm_before: bool = False  # of the embeddings, in CLIP
  norm_epsilon: float = 1e-6
  grid: tuple[int, int] = (16, 16)  # patches (down, across) for which positions were learned
  antialias: bool = False  # when positions shrink


class Attention(nnx.Module):
  """Self-attention of several heads."""

  def __init__(self, width: int, heads: int, *, use_bias: bool = True, rngs: nnx.Rngs):
    self.heads = heads
    self.query, self.key, self.value = (
      nnx.Linear(width, width, use_bias=use_bias, rngs=rngs) for _ in range(3)
    )
    self.out = nnx.Linear(width, width, rngs=rngs)

  def __call__(self, tokens: Array, *, causal: bool = False) -> Array:
    """Returns `(B, T, width)` of the same; `causal`: a token sees none behind it."""
    shape = (*tokens.shape[:2], self.heads, -1)
    query, key, value = (
      project(tokens).reshape(shape) for project in (self.query, self.key, self.value)
    )
    with jax.numpy_dtype_promotion("standard"):  # it promotes half precision itself
      attended = jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    return self.out(attended.reshape(tokens.shape))


class MLP(nnx.Module):
  """Two dense layers; gated, the first of them times a sigmoid-weighted other (SwiGLU)."""

  def __init__(self, width: int, inner: int, activation: str, *, gated: bool, rngs: nnx.Rngs):
    self.activation = activation
    self.gate = nnx.Linear(width, inner, rngs=rngs) if gated else None
    self.dense1 = nnx.Linear(width, inner, rngs=rngs)
    self.dense2 = nnx.Linear(inner, width, rngs=rngs)

  def __call__(self, tokens: Array) -> Array:
    hidden = self.dense1(tokens)
    if self.gate is None:
      return self.dense2(ACTIVATIONS[self.activation](hidden))
    return self.dense2(jax.nn.silu(self.gate(tokens)) * hidden)


class TransformerBlock(nnx.Module):
  """Attention and MLP, each behind a norm and added to what came in; also of text towers."""

  def __init__(
    self,
    width: int,
    heads: int,
    mlp_width: int,
    *,
    activation: str,
    norm_epsilon: float,
    qkv_bias: bool = True,
    gated: bool = False,
    layer_scale: bool = False,
    rngs: nnx.Rngs,
  ):
    self.norm1 = LayerNorm(width, norm_epsilon)
    self.attention = Attention(width, heads, use_bias=qkv_bias, rngs=rngs)
    self.norm2 = LayerNorm(width, norm_epsilon)
    self.mlp = MLP(width, mlp_width, activation, gated=gated, rngs=rngs)
    self.scale1, self.scale2 = (
      nnx.Param(jnp.ones(width)) if layer_scale else None for _ in range(2)
    )

  def __call__(self, tokens: Array, *, causal: bool = False) -> Array:
    """Returns `(B, T, width)` of the same."""
    attended = self.attention(self.norm1(tokens), causal=causal)
    tokens = tokens + _scaled(attended, self.scale1)
    return tokens + _scaled(self.mlp(self.norm2(tokens)), self.scale2)


def _scaled(branch: Array, scale: nnx.Param | None) -> Array:
  return branch if scale is None else branch * scale[...][None, None]


class ViT(nnx.Module):
  """A vision transformer of any size.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
    width = config.width
    self.config = config
    self.patches = Patches(3, width, config.patch_size, use_bias=config.patch_bias, rngs=rngs)
    normal = nnx.initializers.normal(0.02)
    rows, columns = config.grid
    self.class_token = nnx.Param(normal(rngs.params(), (width,)))
    self.positions = nnx.Param(normal(rngs.params(), (1 + rows * columns, width)))
    self.registers = (
      nnx.Param(normal(rngs.params(), (config.registers, width))) if config.registers else None
    )
    self.norm_before = LayerNorm(width, config.norm_epsilon) if config.norm_before else None
    self.blocks = nnx.List(
      TransformerBlock(
        width,
        config.heads,
        config.mlp_width,
        activation=config.activation,
        norm_epsilon=config.norm_epsilon,
        qkv_bias=config.qkv_bias,
        gated=config.gated,
        layer_scale=config.layer_scale,
        rngs=rngs,
      )
      for _ in range(config.depth)
    )
    self.norm = LayerNorm(width, config.norm_epsilon)
    self.head = FeatureHead(config, (width,) * config.depth, rngs=rngs)

  def embed(self, images: Array) -> Array:
    """Returns `(B, 1 + registers + patches, width)`: tokens with their positions."""
    patches = self.patches(images)
    batch, rows, columns, width = patches.shape
    positions = self.positions[...]
    resized = resize_positions(
      positions[1:].reshape(*self.config.grid, width),
      (rows, columns),
      antialias=self.config.antialias,
    )
    tokens = patches.reshape(batch, rows * columns, width) + resized.reshape(1, -1, width)
    first = [(self.class_token[...] + positions[0])[None]]
    if self.registers is not None:
      first.append(self.registers[...])
    first = jnp.concatenate(first).astype(tokens.dtype)
    first = jnp.broadcast_to(first[None], (batch, *first.shape))
    tokens = jnp.concatenate([first, tokens], axis=1)
    return tokens if self.norm_before is None else self.norm_before(tokens)

  def stages(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Iterator[tuple[str, Array]]:
    """Yields (name, output) of embeddings, blocks and logits in forward order; see `__call__`."""
    del training, rngs  # neither batch statistics nor dropout
    tokens = self.embed(images)
    yield "embeddings", tokens
    kept = {}
    for index, block in enumerate(self.blocks):
      tokens = block(tokens)
      yield f"block{index + 1}", tokens
      if index in self.config.layers:
        kept[index] = tokens
    parts = [kept[index] for index in self.config.layers]
    split = [(part[:, 0], part[:, 1 + self.config.registers :]) for part in parts]
    yield "logits", self.head(split, self.norm)

  def __call__(
    self, images: Array, *, training: bool = False, rngs: nnx.Rngs | None = None
  ) -> Array:
    """Returns the logits of normalized images, or their features where there are no classes."""
    *_, (_, logits) = self.stages(images, training=training, rngs=rngs)
    return logits


def resize_positions(positions: Array, size: tuple[int, int], *, antialias: bool) -> Array:
  """Returns `(rows, columns, width)` positions at another size, as PyTorch's bicubic resize.

  Not `jax.image.resize`, whose cubic is another one: PyTorch's has a = -0.75 without antialias and
  -0.5 with it, and clamps at the border without it.
  """
  if positions.shape[:2] == size:
    return positions
  down, across = (
    jnp.asarray(_bicubic_weights(before, after, antialias), positions.dtype)
    for before, after in zip(positions.shape[:2], size, strict=True)
  )
  return jnp.einsum("ri,cj,ijw->rcw", down, across, positions, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def _bicubic_weights(before: int, after: int, antialias: bool) -> np.ndarray:
  """Returns `(after, before)` weights of a one-dimensional resize, rows summing to one."""
  ratio = before / after
  a, stretch = (-0.5, max(ratio, 1.0)) if antialias else (-0.75, 1.0)
  centers = (np.arange(after) + 0.5) * ratio - 0.5
  reach = int(np.ceil(2 * stretch)) + 1
  places = np.floor(centers)[:, None].astype(int) + np.arange(-reach, reach + 1)
  distance = np.abs(places - centers[:, None]) / stretch
  near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
  far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
  taps = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
  if antialias:  # places outside do not count
    taps = np.where((places >= 0) & (places < before), taps, 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
  weights = np.zeros((after, before))
  rows = np.broadcast_to(np.arange(after)[:, None], places.shape)
  np.add.at(weights, (rows, np.clip(places, 0, before - 1)), taps)
  return weights
