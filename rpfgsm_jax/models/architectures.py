"""Which architectures there are: some by name, and `Config` <-> plain dictionary."""

import dataclasses
from typing import Any

from flax import nnx

from rpfgsm_jax.models.alexnet import AlexNet, AlexNetConfig
from rpfgsm_jax.models.clip import CLIPText, CLIPTextConfig
from rpfgsm_jax.models.convnext import ConvNeXt, ConvNeXtConfig
from rpfgsm_jax.models.densenet import DenseNet, DenseNetConfig
from rpfgsm_jax.models.efficientnet import EfficientNet, EfficientNetConfig, scaled
from rpfgsm_jax.models.resnet import ResNet, ResNetConfig
from rpfgsm_jax.models.vit import ViT, ViTConfig

Config = (
  AlexNetConfig
  | CLIPTextConfig
  | ConvNeXtConfig
  | DenseNetConfig
  | EfficientNetConfig
  | ResNetConfig
  | ViTConfig
)

PAPER: dict[str, Config] = {
  "resnet18": ResNetConfig(),
  "resnet50": ResNetConfig(stage_sizes=(3, 4, 6, 3), bottleneck=True),
  "alexnet": AlexNetConfig(),
  "densenet161": DenseNetConfig(),
}
"""The four networks of the paper: 365 classes, 224 x 224 pixels."""

_PLAIN_VIT = ViTConfig(patch_size=16, layer_scale=False, grid=(14, 14), num_classes=365)


def _vit(width: int, heads: int, depth: int = 12) -> ViTConfig:
  return dataclasses.replace(
    _PLAIN_VIT, width=width, heads=heads, depth=depth, layers=(depth - 1,), mlp_width=4 * width
  )


def _convnext(width: int, middle: int) -> ConvNeXtConfig:
  widths = (width, 2 * width, 4 * width, 8 * width)
  return ConvNeXtConfig(widths=widths, depths=(3, 3, middle, 3), num_classes=365)


PRESETS: dict[str, Config] = PAPER | {
  "convnext_tiny": _convnext(96, 9),
  "convnext_small": _convnext(96, 27),
  "convnext_base": _convnext(128, 27),
  "convnext_large": _convnext(192, 27),
  "efficientnet_lite0": scaled(1.0, 1.0, 224, 0.2),
  "efficientnet_lite1": scaled(1.0, 1.1, 240, 0.2),
  "efficientnet_lite2": scaled(1.1, 1.2, 260, 0.3),
  "efficientnet_lite3": scaled(1.2, 1.4, 280, 0.3),
  "efficientnet_lite4": scaled(1.4, 1.8, 300, 0.3),
  "vit_small_patch16": _vit(384, 6),
  "vit_base_patch16": _vit(768, 12),
  "vit_large_patch16": _vit(1024, 16, 24),
}
"""All that have a name: files of torchvision's and timm's weights say no shape themselves."""

_FAMILIES: dict[str, tuple[type, type]] = {
  "alexnet": (AlexNetConfig, AlexNet),
  "clip_text": (CLIPTextConfig, CLIPText),
  "convnext": (ConvNeXtConfig, ConvNeXt),
  "densenet": (DenseNetConfig, DenseNet),
  "efficientnet": (EfficientNetConfig, EfficientNet),
  "resnet": (ResNetConfig, ResNet),
  "vit": (ViTConfig, ViT),
}


def family(config: Config) -> str:
  """Returns the name of a config's family, such as `"resnet"`."""
  for name, (config_type, _) in _FAMILIES.items():
    if isinstance(config, config_type):
      return name
  raise ValueError(f"config must be one of {_names()}, got {type(config).__name__}.")


def build(config: Config, *, rngs: nnx.Rngs) -> nnx.Module:
  """Returns the network that `config` describes, with fresh weights drawn from `rngs`."""
  return _FAMILIES[family(config)][1](config, rngs=rngs)


def config_to_dict(config: Config) -> dict[str, Any]:
  """Returns what JSON can hold: the family's name beside the config's own fields."""
  return {"family": family(config), **dataclasses.asdict(config)}


def config_from_dict(fields: dict[str, Any]) -> Config:
  """Returns the config that `config_to_dict` wrote."""
  fields = dict(fields)
  name = fields.pop("family", None)
  if name not in _FAMILIES:
    raise ValueError(f"family must be one of {sorted(_FAMILIES)}, got {name!r}.")
  config_type = _FAMILIES[name][0]
  known = {field.name for field in dataclasses.fields(config_type)}
  if set(fields) != known:
    raise ValueError(
      f"the config of a {name} must have exactly the fields {sorted(known)}; "
      f"missing {sorted(known - set(fields))}, unknown {sorted(set(fields) - known)}."
    )
  tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
  return config_type(**tuples)


def _names() -> list[str]:
  return [config_type.__name__ for config_type, _ in _FAMILIES.values()]
