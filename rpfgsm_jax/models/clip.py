"""CLIP (Radford et al., ICML 2021): a text tower, and scene classifiers out of words.

CLIP's image tower is a `ViT` that projects its features to unit length; the text tower does the
same with words. A class is named by its text's direction, so the head of the classifier is the
texts' features, times the logit scale: words are read once, and a plain `ViT` is left.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from rpfgsm_jax.models.layers import LayerNorm
from rpfgsm_jax.models.vit import TransformerBlock
from rpfgsm_jax.typing import Array

EARLY_END_TOKEN = 2  # in configs whose end token is really the vocabulary's last


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
  """Shape of a text tower; the defaults are CLIP ViT-B/32's."""

  vocabulary: int = 49408  # tokens
  length: int = 77  # of a text, tokens
  width: int = 512  # numbers a token
  depth: int = 12  # blocks
  heads: int = 8  # of attention
  mlp_width: int = 2048
  activation: str = "quick_gelu"  # of `vit.ACTIVATIONS`
  norm_epsilon: float = 1e-5
  projection: int = 512  # numbers of a text's features
  end_token: int = 49407  # whose place holds a text's features


class CLIPText(nnx.Module):
  """CLIP's text tower.

  Args:
    config: its shape.
    rngs: source of the initial weights.
  """

  def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
    width, normal = config.width, nnx.initializers.normal(0.02)
    self.config = config
    self.words = nnx.Param(normal(rngs.params(), (config.vocabulary, width)))
    self.positions = nnx.Param(normal(rngs.params(), (config.length, width)))
    self.blocks = nnx.List(
      TransformerBlock(
        width,
        config.heads,
        config.mlp_width,
        activation=config.activation,
        norm_epsilon=config.norm_epsilon,
        rngs=rngs,
      )
      for _ in range(config.depth)
    )
    self.norm = LayerNorm(width, config.norm_epsilon)
    self.projection = nnx.Linear(width, config.projection, use_bias=False, rngs=rngs)

  def stages(self, tokens: Array):
    """Yields (name, output) of embeddings, blocks and features in forward order."""
    features = self.words[...][tokens] + self.positions[: tokens.shape[1]][None]
    yield "embeddings", features
    for index, block in enumerate(self.blocks):
      features = block(features, causal=True)
      yield f"block{index + 1}", features
    early = self.config.end_token == EARLY_END_TOKEN
    ends = jnp.argmax(tokens if early else tokens == self.config.end_token, axis=1)
    features = jnp.take_along_axis(self.norm(features), ends[:, None, None], axis=1)[:, 0]
    features = self.projection(features)
    square = jnp.sum(features * features, axis=-1, keepdims=True)
    yield "features", features * lax.rsqrt(square)

  def __call__(self, tokens: Array) -> Array:
    """Returns unit features `(B, projection)` of `(B, T)` token numbers, T at most `length`."""
    *_, (_, features) = self.stages(tokens)
    return features


def word_head(texts: np.ndarray, logit_scale: float) -> dict[str, np.ndarray]:
  """Returns the head's parameters of classes whose texts have these unit features, `(D, P)`."""
  kernel = np.asarray(texts, np.float64).T * np.exp(logit_scale)
  return {
    "head.dense.kernel": kernel.astype(np.float32),
    "head.dense.bias": np.zeros(kernel.shape[1], np.float32),
  }
