"""Small networks as transformers, timm and torchvision write them, and what these make of images.

`main` writes `tests/golden/published`: a folder a case with the library's own files and
`golden.npz`. The tests that read it need no torch; `tests/models/test_published_oracle.py` compares
with the live libraries, at full size too.

  python tests/oracles/published_models.py
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

if __name__ == "__main__":
  _root = pathlib.Path(__file__).resolve().parents[2]
  sys.path[:0] = [str(_root), str(_root / "tests")]

from oracles.torchvision_models import import_torchvision

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "published"
MEAN, DEVIATION = (0.45, 0.5, 0.4), (0.25, 0.2, 0.3)
TOKENS = np.array([[1, 9, 4, 6, 11, 0, 0], [1, 3, 8, 2, 7, 5, 11]])  # 11 ends a text
CLASSES = 5

# A folder's size of images where it is not what positions were learned for: (height, width).
SIZES = {
  "vit": (16, 16),
  "dinov2": (21, 31),  # grows, and not by whole patches
  "dinov2_swiglu": (12, 16),
  "dinov2_registers": (8, 12),  # shrinks, antialiased
  "clip": (20, 12),
  "convnext": (40, 32),
}
STATE_DICTS = ("timm_vit", "torchvision_vit", "timm_convnext", "torchvision_convnext")
FULL_SIZE = ("dinov2_small", "clip_base", "convnext_tiny", "vit_base")


def build(name: str) -> Any:
  """Returns a live model with random weights, in evaluation mode."""
  import torch

  import_torchvision()
  torch.manual_seed(7)
  maker = _state_dict_model if name in STATE_DICTS else _transformers_model
  return randomize(maker(name).eval())


def randomize(model: Any) -> Any:
  """Draws every number of a live model anew: none stays at its neutral value."""
  import torch

  generator = torch.Generator().manual_seed(11)
  with torch.no_grad():
    for key, value in model.named_parameters():
      if value.ndim <= 1 or "token" in key or "layer_scale" in key:
        centers = key.endswith("weight") or "scale" in key or "gamma" in key
        noise = 0.3 * torch.randn(value.shape, generator=generator)
        value.copy_(noise + (1.0 if centers else 0.0))
      elif "embed" in key and "patch" not in key:
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
      else:
        fan_in = value[0].numel()
        value.copy_(torch.randn(value.shape, generator=generator) * fan_in**-0.5)
    if hasattr(model, "logit_scale"):
      model.logit_scale.fill_(1.7)
  return model


def _transformers_model(name: str) -> Any:
  import transformers as hf

  tiny = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
  }
  text = {"vocab_size": 12, "max_position_embeddings": 7, "eos_token_id": 11, "bos_token_id": 1}
  text |= {k: tiny[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
  inner, labels = {"intermediate_size": 12}, {"num_labels": CLASSES}
  makers = {
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**tiny, **inner, **labels)),
    "dinov2": lambda: hf.Dinov2ForImageClassification(
      hf.Dinov2Config(**{**tiny, "image_size": 20, "patch_size": 5}, **labels)
    ),
    "dinov2_swiglu": lambda: hf.Dinov2Model(hf.Dinov2Config(**tiny, use_swiglu_ffn=True)),
    "dinov2_registers": lambda: hf.Dinov2WithRegistersForImageClassification(
      hf.Dinov2WithRegistersConfig(**tiny, **labels, num_register_tokens=3)
    ),
    "clip": lambda: hf.CLIPModel(
      hf.CLIPConfig(
        text_config=text | inner, vision_config=tiny | inner | {"num_channels": 3}, projection_dim=6
      )
    ),
    "convnext": lambda: hf.ConvNextForImageClassification(
      hf.ConvNextConfig(hidden_sizes=[4, 6, 8], depths=[1, 2, 1], num_stages=3, **labels)
    ),
    "dinov2_small": lambda: hf.Dinov2Model(
      hf.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518)
    ),
    "clip_base": lambda: hf.CLIPModel(hf.CLIPConfig()),
    "convnext_tiny": lambda: hf.ConvNextForImageClassification(hf.ConvNextConfig(num_labels=365)),
    "vit_base": lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=365)),
  }
  return makers[name]()


def _state_dict_model(name: str) -> Any:
  if name.startswith("timm"):
    import timm.models as timm

    if name == "timm_vit":
      return timm.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=8, depth=2, num_heads=2, num_classes=CLASSES
      )
    return timm.ConvNeXt(depths=(1, 2, 1, 1), dims=(4, 6, 8, 8), num_classes=CLASSES)
  models = import_torchvision().models
  if name == "torchvision_vit":
    return models.VisionTransformer(16, 4, 2, 2, 8, 32, num_classes=CLASSES)
  setting = models.convnext.CNBlockConfig
  blocks = [setting(4, 6, 1), setting(6, 8, 2), setting(8, 8, 1), setting(8, None, 1)]
  return models.ConvNeXt(blocks, num_classes=CLASSES)


def pictures(height: int, width: int) -> np.ndarray:
  """Returns two lopsided pictures, `(2, height, width, 3)`, whole gray levels."""
  generator = np.random.default_rng([16, height, width])
  slope = np.linspace(0, 90, height)[None, :, None, None] * np.array([1.0, -1.0, 0.5])
  return np.rint(np.clip(128 + slope + generator.normal(0, 50, (2, height, width, 3)), 0, 255))


def weighting(count: int) -> np.ndarray:
  """Returns what outputs are multiplied by before they are summed and differentiated."""
  return np.cos(np.arange(count)).astype(np.float32)


def run(model: Any, name: str, images: np.ndarray, *, double: bool) -> dict[str, np.ndarray]:
  """Returns our stage names -> outputs, channels last; "logits", "gradient", and CLIP's texts."""
  import torch

  kind = torch.float64 if double else torch.float32
  model = model.to(kind)
  found: dict[str, np.ndarray] = {}
  for ours, module in _stages(model, name):
    module.register_forward_hook(_recorder(found, ours))
  gray = torch.tensor(images.transpose(0, 3, 1, 2), dtype=kind, requires_grad=True)
  mean, deviation = (torch.tensor(v, dtype=kind).reshape(1, 3, 1, 1) for v in (MEAN, DEVIATION))
  normalized = (gray / 255.0 - mean) / deviation
  if name.startswith("clip"):
    out = model(
      input_ids=torch.tensor(TOKENS), pixel_values=normalized, interpolate_pos_encoding=True
    )
    logits = out.image_embeds
    found["texts"] = out.text_embeds.detach().numpy()
    found["scores"] = out.logits_per_image.detach().numpy()
  else:
    more = {"interpolate_pos_encoding": True} if name.startswith("vit") else {}
    out = model(normalized, **more)
    logits = out if name in STATE_DICTS else getattr(out, "logits", None)
    logits = out.pooler_output if logits is None else logits
  (logits * torch.tensor(weighting(logits.shape[-1]), dtype=kind)).sum().backward()
  found["logits"] = logits.detach().numpy()
  found["gradient"] = gray.grad.numpy().transpose(0, 2, 3, 1)
  return found


def _stages(model: Any, name: str) -> Iterator[tuple[str, Any]]:
  if name in STATE_DICTS:
    return
  if name.startswith("convnext"):
    yield "stem", model.convnext.embeddings
    for index, stage in enumerate(model.convnext.encoder.stages):
      yield f"stage{index + 1}", stage
    return
  model = getattr(model, model.base_model_prefix, model)
  model = getattr(model, "vision_model", model)
  yield "embeddings", getattr(model, "pre_layrnorm", model.embeddings)
  layers = model.layers if hasattr(model, "layers") else None
  if layers is None:
    layers = getattr(model.encoder, "layer", None) or model.encoder.layers
  for index, layer in enumerate(layers):
    yield f"block{index + 1}", layer


def _recorder(found: dict[str, np.ndarray], name: str) -> Any:
  def record(module: Any, inputs: Any, output: Any) -> None:
    output = output[0] if isinstance(output, tuple) else output
    value = output.detach().numpy().copy()
    found[name] = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value

  return record


def save(model: Any, directory: pathlib.Path, size: tuple[int, int]) -> None:
  """Writes a model as its library does, with a preprocessor that asks for `size`."""
  import torch

  directory.mkdir(parents=True, exist_ok=True)
  if not hasattr(model, "save_pretrained"):
    torch.save(model.state_dict(), directory / "state_dict.pth")
    return
  model.save_pretrained(directory)
  processing = {
    "crop_size": {"height": size[0], "width": size[1]},
    "do_center_crop": True,
    "image_mean": MEAN,
    "image_std": DEVIATION,
  }
  (directory / "preprocessor_config.json").write_text(json.dumps(processing))


def main() -> None:
  """Writes all golden folders."""
  for name in (*SIZES, *STATE_DICTS):
    size = SIZES.get(name, (16, 16) if name.endswith("vit") else (40, 32))
    model = build(name)
    save(model, GOLDEN / name, size)
    found = run(model, name, pictures(*size), double=True)
    arrays = {key: value.astype(np.float32) for key, value in found.items()}
    np.savez_compressed(GOLDEN / name / "golden.npz", **arrays)
    print(name, {key: value.shape for key, value in arrays.items()})


if __name__ == "__main__":
  main()
