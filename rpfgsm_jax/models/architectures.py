"""Which architectures there are: the paper's four by name, and `Config` <-> plain dictionary."""

import dataclasses
from typing import Any

from flax import nnx

from rpfgsm_jax.models.alexnet import AlexNet, AlexNetConfig
from rpfgsm_jax.models.clip import CLIPText, CLIPTextConfig
from rpfgsm_jax.models.convnext import ConvNeXt, ConvNeXtConfig
from rpfgsm_jax.models.densenet import DenseNet, DenseNetConfig
from rpfgsm_jax.models.resnet import ResNet, ResNetConfig
from rpfgsm_jax.models.vit import ViT, ViTConfig

Config = AlexNetConfig | CLIPTextConfig | ConvNeXtConfig | DenseNetConfig | ResNetConfig | ViTConfig

PAPER: dict[str, Config] = {
  "resnet18": ResNetConfig(),
  "resnet50": ResNetConfig(stage_sizes=(3, 4, 6, 3), bottleneck=True),
  "alexnet": AlexNetConfig(),
  "densenet161": DenseNetConfig(),
}
"""The four networks of the paper: 365 classes, 224 x 224 pixels."""

_FAMILIES: dict[str, tuple[type, type]] = {
  "alexnet": (AlexNetConfig, AlexNet),
  "clip_text": (CLIPTextConfig, CLIPText),
  "convnext": (ConvNeXtConfig, ConvNeXt),
  "densenet": (DenseNetConfig, DenseNet),
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
