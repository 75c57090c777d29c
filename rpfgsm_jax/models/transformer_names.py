"""The names in transformers' files of ViT, DINOv2 and CLIP, and in timm's and torchvision's of ViT.

"#" stands for a number, in their name and in ours.
"""

import functools
import re
from collections.abc import Callable, Mapping

Rule = tuple[str, Callable[[re.Match[str]], str | None]]
"""A pattern for a whole name, and what makes our name of the match (`None`: it takes no part)."""

NUMBER = "(?:0|[1-9][0-9]{0,2})"  # without leading zeros: one spelling a number
LAYER = {"weight": "kernel", "bias": "bias"}
SCALE = {"weight": "scale", "bias": "bias"}
SINGLE = {"": ""}

_QKV = ("query", "key", "value")
PACKED = {
  ".attn.qkv.weight": _QKV,
  ".attn.qkv.bias": _QKV,
  ".self_attention.in_proj_weight": _QKV,
  ".self_attention.in_proj_bias": _QKV,
  ".mlp.weights_in.weight": ("gate", "up"),
  ".mlp.weights_in.bias": ("gate", "up"),
}
"""Ends of names whose rows belong to several layers, `x.weight` to `x[query].weight` and so on."""


def table(root: str, leaves: Mapping[str, str], names: Mapping[str, str | None]) -> list[Rule]:
  """Returns the rules for their names -> ours below a root; None: it takes no part."""
  return [
    (root + _pattern(theirs) + _pattern(f".{end}" if end else ""), _maker(ours, leaf))
    for theirs, ours in names.items()
    for end, leaf in leaves.items()
  ]


def _pattern(name: str) -> str:
  return re.escape(name).replace(r"\#", f"({NUMBER})")


def _maker(ours: str | None, leaf: str) -> Callable[[re.Match[str]], str | None]:
  def make(m: re.Match[str]) -> str | None:
    if ours is None:
      return None
    name = functools.reduce(lambda name, number: name.replace("#", number, 1), m.groups(), ours)
    return f"{name}.{leaf}" if leaf else name

  return make


def _attention(theirs: Mapping[str, str]) -> dict[str, str]:
  return {name: f"blocks.#.attention.{ours}" for name, ours in theirs.items()}


_SELF_ATTENTION = {f"self_attn.{ours[0]}_proj": ours for ours in _QKV} | {
  "self_attn.out_proj": "out"
}


def _transformers_vit_rules() -> list[Rule]:
  """ViT's and DINOv2's names: the classifier's, and the bare model's without a root."""
  root = r"(?:vit\.|dinov2\.|dinov2_with_registers\.)?"
  layer = "encoder.layer.#"
  own = {f"{layer}.attention.attention.{each}": each for each in _QKV}
  layers = _attention(own | {f"{layer}.attention.output.dense": "out"}) | {
    "embeddings.patch_embeddings.projection": "patches",
    f"{layer}.intermediate.dense": "blocks.#.mlp.dense1",
    f"{layer}.output.dense": "blocks.#.mlp.dense2",
    f"{layer}.mlp.fc1": "blocks.#.mlp.dense1",
    f"{layer}.mlp.fc2": "blocks.#.mlp.dense2",
    f"{layer}.mlp.weights_in[gate]": "blocks.#.mlp.gate",
    f"{layer}.mlp.weights_in[up]": "blocks.#.mlp.dense1",
    f"{layer}.mlp.weights_out": "blocks.#.mlp.dense2",
  }
  norms = {
    f"{layer}.layernorm_before": "blocks.#.norm1",
    f"{layer}.layernorm_after": "blocks.#.norm2",
    f"{layer}.norm1": "blocks.#.norm1",
    f"{layer}.norm2": "blocks.#.norm2",
    "layernorm": "norm",
  }
  single = {
    "embeddings.cls_token": "class_token",
    "embeddings.position_embeddings": "positions",
    "embeddings.register_tokens": "registers",
    f"{layer}.layer_scale1.lambda1": "blocks.#.scale1",
    f"{layer}.layer_scale2.lambda1": "blocks.#.scale2",
    "embeddings.mask_token": None,
    "pooler.dense.weight": None,
    "pooler.dense.bias": None,
  }
  return [
    *table(root, LAYER, layers),
    *table(root, SCALE, norms),
    *table(root, SINGLE, single),
    *table("", LAYER, {"classifier": "head.dense"}),
  ]


def _clip_rules(tower: str, projection: tuple[str, str], single: Mapping[str, str]) -> list[Rule]:
  layer = f"{tower}.encoder.layers.#"
  layers = _attention({f"{layer}.{name}": ours for name, ours in _SELF_ATTENTION.items()}) | {
    f"{layer}.mlp.fc1": "blocks.#.mlp.dense1",
    f"{layer}.mlp.fc2": "blocks.#.mlp.dense2",
  }
  norms = {f"{layer}.layer_norm{each}": f"blocks.#.norm{each}" for each in (1, 2)}
  theirs, ours = projection
  single = {f"{tower}.embeddings.{name}": slot for name, slot in single.items()}
  single |= {f"{tower}.embeddings.position_ids": None, f"{theirs}.weight": f"{ours}.kernel"}
  last = "post_layernorm" if tower == "vision_model" else "final_layer_norm"
  return [
    *table("", LAYER, layers),
    *table("", SCALE, norms | {f"{tower}.{last}": "norm"}),
    *table("", SINGLE, single),
  ]


def _clip_image_rules() -> list[Rule]:
  single = {
    "class_embedding": "class_token",
    "patch_embedding.weight": "patches.kernel",
    "position_embedding.weight": "positions",
  }
  return [
    *_clip_rules("vision_model", ("visual_projection", "head.projection"), single),
    *table("", SCALE, {"vision_model.pre_layrnorm": "norm_before"}),
  ]


def clip_text_rules() -> list[Rule]:
  single = {"token_embedding.weight": "words", "position_embedding.weight": "positions"}
  return _clip_rules("text_model", ("text_projection", "projection"), single)


def _timm_vit_rules() -> list[Rule]:
  """timm's names, which DINOv2's own files have too."""
  packed = {f"blocks.#.attn.qkv[{each}]": each for each in _QKV} | {"blocks.#.attn.proj": "out"}
  layers = _attention(packed) | {
    "patch_embed.proj": "patches",
    "blocks.#.mlp.fc1": "blocks.#.mlp.dense1",
    "blocks.#.mlp.fc2": "blocks.#.mlp.dense2",
    "head": "head.dense",
  }
  norms = {f"blocks.#.norm{each}": f"blocks.#.norm{each}" for each in (1, 2)} | {"norm": "norm"}
  scales = {f"blocks.#.ls{each}.gamma": f"blocks.#.scale{each}" for each in (1, 2)}
  single = {"cls_token": "class_token", "pos_embed": "positions", "mask_token": None} | scales
  return [
    *table("", LAYER, layers),
    *table("", SCALE, norms),
    *table("", SINGLE, single),
  ]


def _torchvision_vit_rules() -> list[Rule]:
  layer = "encoder.layers.encoder_layer_#"
  packed = {f"{layer}.self_attention.in_proj[{each}]": each for each in _QKV}
  layers = _attention(packed | {f"{layer}.self_attention.out_proj": "out"}) | {
    "conv_proj": "patches",
    f"{layer}.mlp.0": "blocks.#.mlp.dense1",
    f"{layer}.mlp.3": "blocks.#.mlp.dense2",
    f"{layer}.mlp.linear_1": "blocks.#.mlp.dense1",  # until 2022
    f"{layer}.mlp.linear_2": "blocks.#.mlp.dense2",
    "heads.head": "head.dense",
  }
  norms = {f"{layer}.ln_{each}": f"blocks.#.norm{each}" for each in (1, 2)}
  single = {"class_token": "class_token", "encoder.pos_embedding": "positions"}
  return [
    *table("", LAYER, layers),
    *table("", SCALE, norms | {"encoder.ln": "norm"}),
    *table("", SINGLE, single),
  ]


def vit_rules() -> list[Rule]:
  """Returns the rules for a `ViT`, whoever wrote its file."""
  transformers = _transformers_vit_rules() + _clip_image_rules()
  return transformers + _timm_vit_rules() + _torchvision_vit_rules()
