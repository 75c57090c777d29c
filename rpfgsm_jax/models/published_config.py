"""transformers' `config.json` and `preprocessor_config.json` -> our configs."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rpfgsm_jax.models.clip import CLIPTextConfig
from rpfgsm_jax.models.convnext import ConvNeXtConfig
from rpfgsm_jax.models.parameters import WeightsError
from rpfgsm_jax.models.vit import ACTIVATIONS, ViTConfig

Fields = Mapping[str, Any]
Config = TypeVar("Config", CLIPTextConfig, ConvNeXtConfig, ViTConfig)

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and deviation of images / 255, a channel."""

IMAGENET: Normalization = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE: Normalization = (127 / 255,) * 3, (128 / 255,) * 3
"""Of EfficientNet-Lite: gray levels less 127, by 128."""
HALF: Normalization = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_CLIP: Normalization = (
  (0.48145466, 0.4578275, 0.40821073),
  (0.26862954, 0.26130258, 0.27577711),
)
_CLASSIFIER = "ForImageClassification"


@dataclasses.dataclass(frozen=True)
class ImageRule:
  """How a network wants its images."""

  size: tuple[int, int]  # (height, width), pixels
  mean: tuple[float, ...]  # of images / 255, a channel
  deviation: tuple[float, ...]


def image_config(fields: Fields) -> ViTConfig | ConvNeXtConfig:
  """Returns the config of the network that sees images; of CLIP, its image tower's."""
  kind = fields.get("model_type")
  if kind not in _FAMILIES:
    raise WeightsError(f"model_type must be one of {sorted(_FAMILIES)}, got {kind!r}.")
  try:
    return _checked(_FAMILIES[kind][0](fields))
  except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
    if isinstance(error, WeightsError):
      raise
    raise WeightsError(f"config.json mistakes a field of a {kind}: {error}.") from error


def text_config(fields: Fields) -> CLIPTextConfig:
  """Returns the config of CLIP's text tower."""
  text = _part(fields, "text_config")
  default = CLIPTextConfig()
  config = CLIPTextConfig(
    vocabulary=text.get("vocab_size", default.vocabulary),
    length=text.get("max_position_embeddings", default.length),
    width=text.get("hidden_size", default.width),
    depth=text.get("num_hidden_layers", default.depth),
    heads=text.get("num_attention_heads", default.heads),
    mlp_width=text.get("intermediate_size", default.mlp_width),
    activation=_activation(text, default.activation),
    norm_epsilon=text.get("layer_norm_eps", default.norm_epsilon),
    projection=fields.get("projection_dim", default.projection),
    end_token=text.get("eos_token_id", default.end_token),
  )
  try:
    return _checked(config)
  except ValueError as error:
    raise WeightsError(f"config.json mistakes a field of a clip's text_config: {error}.") from error


def _part(fields: Fields, name: str) -> dict[str, Any]:
  """Returns a tower's own fields; older files have them a second time, which then counts."""
  return {**(fields.get(name) or {}), **(fields.get(f"{name}_dict") or {})}


def _checked(config: Config) -> Config:
  """Returns a config whose numbers are numbers, as large as a network's can be."""
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    numbers = value if isinstance(value, tuple) else (value,)
    if field.type is int or isinstance(value, tuple):
      if not all(type(each) is int and 0 <= each < 1 << 20 for each in numbers):
        raise ValueError(f"{field.name} must be made of whole numbers, got {value!r}")
    elif field.type is float and not isinstance(value, int | float):
      raise ValueError(f"{field.name} must be a number, got {value!r}")
  if hasattr(config, "heads") and (config.heads < 1 or config.width % config.heads):
    raise ValueError(f"width must be a multiple of heads, got {config.width} and {config.heads}")
  return config


def class_names(fields: Fields) -> tuple[str, ...]:
  """Returns the names of a classifier's classes; doubled ones get their number behind them."""
  if not any(name.endswith(_CLASSIFIER) for name in fields.get("architectures") or ()):
    return ()
  labels = fields.get("id2label")
  if labels is None:  # left out by transformers where there are as many as by default
    labels = {index: f"LABEL_{index}" for index in range(fields.get("num_labels", 2))}
  try:
    names = {int(index): str(name) for index, name in labels.items()}
    ordered = [names[index] for index in range(len(names))]
  except (AttributeError, KeyError, ValueError) as error:
    raise WeightsError("id2label must name the classes 0, 1, 2, … without a gap.") from error
  return tuple(
    f"{name} ({index})" if ordered.count(name) > 1 else name for index, name in enumerate(ordered)
  )


def image_rule(fields: Fields, processing: Fields, size: tuple[int, int]) -> ImageRule:
  """Returns size, mean and deviation: as the preprocessor's file says, else the family's usual."""
  mean, deviation = _FAMILIES[fields["model_type"]][1]
  scale = processing.get("rescale_factor", 1 / 255)
  if processing.get("do_rescale", True) is not True or not math.isclose(scale, 1 / 255):
    raise WeightsError(f"rescale_factor must be 1/255, got {scale}; other scales are not read.")
  if processing.get("do_normalize", True):
    mean = tuple(processing.get("image_mean", mean))
    deviation = tuple(processing.get("image_std", deviation))
  else:
    mean, deviation = (0.0,) * 3, (1.0,) * 3
  cropped = processing.get("do_center_crop", "crop_size" in processing)
  wanted = processing.get("crop_size") if cropped else processing.get("size")
  return ImageRule(_size(wanted) if wanted else size, mean, deviation)


def _size(value: Any) -> tuple[int, int]:
  """Returns (height, width) of a number, a pair, or a dictionary of sides."""
  if isinstance(value, Mapping):
    value = value.get("shortest_edge") or (value["height"], value["width"])
  height, width = (value, value) if isinstance(value, int) else value
  return int(height), int(width)


def _square(value: Any, name: str) -> int:
  height, width = _size(value)
  if height != width:
    raise WeightsError(f"{name} must be square, got {value}.")
  return height


def _activation(fields: Fields, default: str) -> str:
  name = fields.get("hidden_act", default)
  if name not in ACTIVATIONS:
    raise WeightsError(f"hidden_act must be one of {sorted(ACTIVATIONS)}, got {name!r}.")
  return name


def _vit(fields: Fields, **more: Any) -> ViTConfig:
  """Returns what all vision transformers have in common, by transformers' own defaults."""
  if fields.get("num_channels", 3) != 3:
    raise WeightsError(f"num_channels must be 3, got {fields['num_channels']}.")
  patch = _square(fields.get("patch_size", 16), "patch_size")
  height, width = _size(fields.get("image_size", 224))
  hidden, depth = fields.get("hidden_size", 768), fields.get("num_hidden_layers", 12)
  common = {
    "layers": (depth - 1,),
    "patch_size": patch,
    "width": hidden,
    "depth": depth,
    "heads": fields.get("num_attention_heads", 12),
    "mlp_width": fields.get("intermediate_size", 3072),
    "activation": _activation(fields, "gelu"),
    "layer_scale": False,
    "qkv_bias": fields.get("qkv_bias", True),
    "norm_epsilon": fields.get("layer_norm_eps", 1e-12),
    "grid": (height // patch, width // patch),
    "num_classes": len(class_names(fields)),
    "image_size": (height, width),
  }
  return ViTConfig(**common | more)


def _dinov2(fields: Fields) -> ViTConfig:
  registers = fields.get("num_register_tokens", 4) if _has_registers(fields) else 0
  gated = fields.get("use_swiglu_ffn", False)
  inner = int(fields.get("hidden_size", 768) * fields.get("mlp_ratio", 4))
  default_patch = 16 if _has_registers(fields) else 14
  return _vit(
    {"patch_size": default_patch, "layer_norm_eps": 1e-6, **fields},
    mlp_width=(int(inner * 2 / 3) + 7) // 8 * 8 if gated else inner,
    gated=gated,
    layer_scale=True,
    registers=registers,
    antialias=_has_registers(fields),
    pooling="class+mean" if class_names(fields) else "class",
  )


def _has_registers(fields: Fields) -> bool:
  return fields["model_type"] == "dinov2_with_registers"


def _clip(fields: Fields) -> ViTConfig:
  return _clip_image(_part(fields, "vision_config"), fields.get("projection_dim", 512))


def _clip_image(fields: Fields, projection: int | None = None) -> ViTConfig:
  projected = any("WithProjection" in name for name in fields.get("architectures") or ())
  if projection is None:
    projection = fields.get("projection_dim", 512) if projected else 0
  defaults = {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
  return _vit(
    {**defaults, **fields}, patch_bias=False, norm_before=True, projection=projection, num_classes=0
  )


def _convnext(fields: Fields) -> ConvNeXtConfig:
  default = ConvNeXtConfig()
  if fields.get("hidden_act", "gelu") != "gelu" or fields.get("num_channels", 3) != 3:
    raise WeightsError("hidden_act must be 'gelu' and num_channels 3 in a convnext.")
  depths = tuple(fields.get("depths") or default.depths)
  return ConvNeXtConfig(
    layers=(len(depths) - 1,),
    patch_size=_square(fields.get("patch_size", 4), "patch_size"),
    widths=tuple(fields.get("hidden_sizes") or default.widths),
    depths=depths,
    layer_scale=fields.get("layer_scale_init_value", 1e-6) > 0,
    norm_epsilon=fields.get("layer_norm_eps", 1e-12),
    num_classes=len(class_names(fields)),
    image_size=_size(fields.get("image_size", 224)),
  )


_FAMILIES: dict[str, tuple[Callable[[Fields], ViTConfig | ConvNeXtConfig], Normalization]] = {
  "clip": (_clip, _CLIP),
  "clip_vision_model": (_clip_image, _CLIP),
  "convnext": (_convnext, IMAGENET),
  "dinov2": (_dinov2, IMAGENET),
  "dinov2_with_registers": (_dinov2, IMAGENET),
  "vit": (_vit, HALF),
}
"""model_type -> what makes our config, and (mean, deviation) where no file says them."""
