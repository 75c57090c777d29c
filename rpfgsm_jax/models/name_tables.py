"""The closed tables of other libraries' names: torchvision's, transformers', timm's and others'.

Every rule is an anchored pattern of a whole name. A family's table has the names of all libraries
that write it; no name matches two rules.
"""

import bisect
import functools
import itertools
import re
from collections.abc import Callable

from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.clip import CLIPTextConfig
from rpfgsm_jax.models.convnext import ConvNeXtConfig
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.efficientnet import EfficientNetConfig
from rpfgsm_jax.models.transformer_names import (
  LAYER,
  NUMBER,
  SCALE,
  SINGLE,
  Rule,
  clip_text_rules,
  table,
  vit_rules,
)
from rpfgsm_jax.models.vit import ViTConfig

_NORM_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_COUNTER = "num_batches_tracked"


def _norm(prefix: str, ours: Callable[[re.Match[str]], str]) -> list[Rule]:
  leaves = "|".join(_NORM_LEAVES)
  return [
    (rf"{prefix}\.(?P<leaf>{leaves})", lambda m: f"{ours(m)}.{_NORM_LEAVES[m['leaf']]}"),
    (rf"{prefix}\.{_COUNTER}", lambda m: None),
  ]


def _conv(prefix: str, ours: Callable[[re.Match[str]], str]) -> Rule:
  return rf"{prefix}\.weight", lambda m: f"{ours(m)}.kernel"


def _with_bias(prefix: str, ours: Callable[[re.Match[str]], str]) -> list[Rule]:
  return [_conv(prefix, ours), (rf"{prefix}\.bias", lambda m: f"{ours(m)}.bias")]


def _below(group: str, m: re.Match[str]) -> int:
  """Returns the number in a group, counted from zero where torchvision counts from one."""
  return int(m[group]) - 1


_ONE_UP = "[1-9][0-9]{0,2}"


def _resnet_rules() -> list[Rule]:
  block = rf"layer(?P<stage>{_ONE_UP})\.(?P<block>{NUMBER})"

  def inside(suffix: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"layers.{_below('stage', m)}.{m['block']}.{m.expand(suffix)}"

  return [
    _conv(r"conv1", lambda m: "stem_conv"),
    *_norm(r"bn1", lambda m: "stem_norm"),
    _conv(rf"{block}\.conv(?P<index>[123])", inside(r"conv\g<index>")),
    *_norm(rf"{block}\.bn(?P<index>[123])", inside(r"norm\g<index>")),
    _conv(rf"{block}\.downsample\.0", inside("shortcut_conv")),
    *_norm(rf"{block}\.downsample\.1", inside("shortcut_norm")),
    *_with_bias(r"fc", lambda m: "head"),
  ]


def _densenet_rules(config: DenseNetConfig) -> list[Rule]:
  layer = rf"features\.denseblock(?P<stage>{_ONE_UP})\.denselayer(?P<layer>{_ONE_UP})"
  transition = rf"features\.transition(?P<stage>{_ONE_UP})"

  def inside(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"blocks.{_below('stage', m)}.{_below('layer', m)}.{kind}{m['index']}"

  def between(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"transitions.{_below('stage', m)}.{kind}"

  return [
    _conv(r"features\.conv0", lambda m: "stem_conv"),
    *_norm(r"features\.norm0", lambda m: "stem_norm"),
    # Until 2018 these were `norm.1`, `conv.2`.
    _conv(rf"{layer}\.conv\.?(?P<index>[12])", inside("conv")),
    *_norm(rf"{layer}\.norm\.?(?P<index>[12])", inside("norm")),
    _conv(rf"{transition}\.conv", between("conv")),
    *_norm(rf"{transition}\.norm", between("norm")),
    *_norm(rf"features\.norm{len(config.stage_sizes) + 1}", lambda m: "final_norm"),
    *_with_bias(r"classifier", lambda m: "head"),
  ]


_ALEXNET_CONVOLUTIONS = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5"}
_ALEXNET_DENSE = {"1": "dense1", "4": "dense2", "6": "head"}


def _alexnet_rules() -> list[Rule]:
  return [
    *_with_bias(
      rf"features\.(?P<place>{'|'.join(_ALEXNET_CONVOLUTIONS)})",
      lambda m: _ALEXNET_CONVOLUTIONS[m["place"]],
    ),
    *_with_bias(
      rf"classifier\.(?P<place>{'|'.join(_ALEXNET_DENSE)})",
      lambda m: _ALEXNET_DENSE[m["place"]],
    ),
  ]


def _convnext_rules() -> list[Rule]:
  """The names of transformers and of timm."""
  root, stage = r"(?:convnext\.)?", "encoder.stages.#"
  theirs = {"dwconv": "conv", "pwconv1": "dense1", "pwconv2": "dense2"}
  timms = {"conv_dw": "conv", "mlp.fc1": "dense1", "mlp.fc2": "dense2"}
  layers = {f"{stage}.layers.#.{name}": f"layers.#.#.{ours}" for name, ours in theirs.items()} | {
    "embeddings.patch_embeddings": "stem",
    f"{stage}.downsampling_layer.1": "downsamplings.#.conv",
  }
  norms = {
    "embeddings.layernorm": "stem_norm",
    f"{stage}.layers.#.layernorm": "layers.#.#.norm",
    f"{stage}.downsampling_layer.0": "downsamplings.#.norm",
    "layernorm": "norm",
  }
  timm_layers = {f"stages.#.blocks.#.{name}": f"layers.#.#.{our}" for name, our in timms.items()}
  timm_layers |= {
    "stem.0": "stem",
    "stages.#.downsample.1": "downsamplings.#.conv",
    "head.fc": "head.dense",
    "classifier": "head.dense",  # transformers'
  }
  timm_norms = {
    "stem.1": "stem_norm",
    "stages.#.blocks.#.norm": "layers.#.#.norm",
    "stages.#.downsample.0": "downsamplings.#.norm",
    "head.norm": "norm",
  }
  return [
    *table(root, LAYER, layers),
    *table(root, SCALE, norms),
    *table(root, SINGLE, {f"{stage}.layers.#.layer_scale_parameter": "layers.#.#.scale"}),
    *table("", LAYER, timm_layers),
    *table("", SCALE, timm_norms),
    *table("", SINGLE, {"stages.#.blocks.#.gamma": "layers.#.#.scale"}),
  ]


def _torchvision_convnext_rules(config: ConvNeXtConfig) -> list[Rule]:
  """torchvision counts stem, stage, downsampling, stage, … in one list."""
  rules = []
  for stage in range(len(config.depths)):
    place = f"features.{2 * stage + 1}"
    layers = {
      f"{place}.#.block.{n}": ours for n, ours in ((0, "conv"), (3, "dense1"), (5, "dense2"))
    }
    rules += table("", LAYER, {name: f"layers.{stage}.#.{ours}" for name, ours in layers.items()})
    rules += table("", SCALE, {f"{place}.#.block.2": f"layers.{stage}.#.norm"})
    rules += table("", SINGLE, {f"{place}.#.layer_scale": f"layers.{stage}.#.scale"})
    if stage:
      before = f"features.{2 * stage}"
      rules += table("", SCALE, {f"{before}.0": f"downsamplings.{stage}.norm"})
      rules += table("", LAYER, {f"{before}.1": f"downsamplings.{stage}.conv"})
  return [
    *rules,
    *table("", LAYER, {"features.0.0": "stem", "classifier.2": "head.dense"}),
    *table("", SCALE, {"features.0.1": "stem_norm", "classifier.0": "norm"}),
  ]


def _timm_efficientnet_rules() -> list[Rule]:
  """The blocks of timm's first stage have no expansion, and so count their layers otherwise."""
  parts = {
    "0": {"conv_dw": "depthwise", "conv_pw": "project"},
    "[1-9]": {"conv_pw": "expand", "conv_dw": "depthwise", "conv_pwl": "project"},
  }
  found = [
    _conv(r"conv_stem", lambda m: "stem_conv"),
    *_norm(r"bn1", lambda m: "stem_norm"),
    _conv(r"conv_head", lambda m: "head_conv"),
    *_norm(r"bn2", lambda m: "head_norm"),
    *_with_bias(r"classifier", lambda m: "head"),
  ]
  for stage, names in parts.items():
    block = rf"blocks\.(?P<stage>{stage})\.(?P<block>{NUMBER})"
    for index, (theirs, ours) in enumerate(names.items(), start=1):

      def inside(m: re.Match[str], ours: str = ours) -> str:
        return f"layers.{m['stage']}.{m['block']}.{ours}"

      found.append(_conv(rf"{block}\.{theirs}", inside))
      found += _norm(rf"{block}\.bn{index}", lambda m, inside=inside: f"{inside(m)}_norm")
  return found


def _efficientnet_rules(config: EfficientNetConfig) -> list[Rule]:
  """The names of `efficientnet_lite_pytorch`, which counts the blocks of all stages in one list."""
  first = [0, *itertools.accumulate(config.depths[:-1])]  # block of each stage
  block = rf"_blocks\.(?P<block>{NUMBER})"

  def inside(ours: str) -> Callable[[re.Match[str]], str]:
    def name(m: re.Match[str]) -> str:
      number = int(m["block"])
      stage = bisect.bisect_right(first, number) - 1
      return f"layers.{stage}.{number - first[stage]}.{ours}"

    return name

  layers = []
  for index, part in enumerate(("expand", "depthwise", "project")):
    layers.append(_conv(rf"{block}\._{part}_conv", inside(part)))
    layers += _norm(rf"{block}\._bn{index}", inside(f"{part}_norm"))
  return [
    _conv(r"_conv_stem", lambda m: "stem_conv"),
    *_norm(r"_bn0", lambda m: "stem_norm"),
    *layers,
    _conv(r"_conv_head", lambda m: "head_conv"),
    *_norm(r"_bn1", lambda m: "head_norm"),
    *_with_bias(r"_fc", lambda m: "head"),
  ]


@functools.cache
def rules(config: Config) -> list[Rule]:
  """Returns a family's table."""
  match config:
    case AlexNetConfig():
      return _alexnet_rules()
    case CLIPTextConfig():
      return clip_text_rules()
    case ConvNeXtConfig():
      return _convnext_rules() + _torchvision_convnext_rules(config)
    case DenseNetConfig():
      return _densenet_rules(config)
    case EfficientNetConfig():
      return _timm_efficientnet_rules() + _efficientnet_rules(config)
    case ViTConfig():
      return vit_rules()
  return _resnet_rules()
