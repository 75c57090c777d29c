"""Linear heads on the frozen features of a backbone: the file that may lie beside one.

`head.safetensors` holds `weight` (D, F), `bias` (D) and `mean` (F), and as metadata, under the name
"head", what the F features are and the names of the D classes. A score is
`weight @ (features - mean) + bias`.
"""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from rpfgsm_jax.models.convnext import ConvNeXtConfig
from rpfgsm_jax.models.features import NORMS, POOLINGS
from rpfgsm_jax.models.parameters import Network, WeightsError, expected_shapes
from rpfgsm_jax.models.tensor_files import read_safetensors
from rpfgsm_jax.models.vit import ViTConfig

HEAD_FILE = "head.safetensors"
FORMAT = 1
_TENSORS = ("weight", "bias", "mean")
# Another form of the same: classes in a file, and the features described in words.
_SCENE_HEAD, _SCENE_CLASSES = "scene_head.safetensors", "classes.json"
_SCENE_FEATURES = re.compile(
  r"blocks (\d+(?:, \d+)*): each standardised per token \(mean 0, variance 1, eps 1e-6, no scale "
  r"or bias\); class token, then mean of patch tokens; .*"
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Head:
  """A linear classifier of features; see `features.Features` for what they may be.

  Attributes:
    weight: `(D, F)`.
    bias: `(D,)`.
    mean: `(F,)`, of the features, subtracted first.
    class_names: D names.
    layers: of the backbone, counted from 0; their features stand behind one another.
    norm: "final", "plain" or "none".
    pooling: "class", "mean" or "class+mean".
    projected: whether the features are what CLIP's projection makes of them.
    card: facts for people; anything JSON can hold.
  """

  weight: np.ndarray
  bias: np.ndarray
  mean: np.ndarray
  class_names: tuple[str, ...]
  layers: tuple[int, ...]
  norm: str = "plain"
  pooling: str = "class+mean"
  projected: bool = False
  card: dict[str, Any] = dataclasses.field(default_factory=dict)


def head_files(directory: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files of the head that lies in a folder; none where there is no head."""
  if (directory / HEAD_FILE).is_file():
    return [directory / HEAD_FILE]
  if (directory / _SCENE_HEAD).is_file():
    return [directory / _SCENE_HEAD, directory / _SCENE_CLASSES]
  return []


def write_head(directory: str | os.PathLike, head: Head) -> pathlib.Path:
  """Writes a head's file into the folder of its backbone."""
  import safetensors.numpy

  from rpfgsm_jax import atomic

  described = {
    "format": FORMAT,
    "layers": list(head.layers),
    "norm": head.norm,
    "pooling": head.pooling,
    "projected": head.projected,
    "class_names": list(head.class_names),
    "card": head.card,
  }
  tensors = {name: np.ascontiguousarray(getattr(head, name), dtype=np.float32) for name in _TENSORS}
  path = pathlib.Path(directory) / HEAD_FILE
  atomic.write_bytes(path, safetensors.numpy.save(tensors, {"head": json.dumps(described)}))
  return path


def read_head(directory: pathlib.Path) -> Head:
  """Reads the head that lies in a folder, in either form."""
  file, *classes = head_files(directory)
  tensors, metadata = read_safetensors(file)
  if set(tensors) != set(_TENSORS):
    raise WeightsError(f"{file} must hold {list(_TENSORS)}, got {sorted(tensors)}.")
  try:
    described = _scene_head(metadata, classes[0]) if classes else _described(metadata)
  except (KeyError, TypeError, ValueError, OSError) as error:
    raise WeightsError(f"{file} does not say what its features are: {error}.") from error
  return Head(**described, **{name: value.astype(np.float32) for name, value in tensors.items()})


def _described(metadata: dict[str, str]) -> dict[str, Any]:
  described = json.loads(metadata["head"])
  if described.pop("format") != FORMAT:
    raise ValueError(f"format must be {FORMAT}")
  known = {field.name for field in dataclasses.fields(Head)} - set(_TENSORS)
  if set(described) != known:
    raise ValueError(f"its fields must be {sorted(known)}, got {sorted(described)}")
  names = tuple(described["class_names"])
  return described | {"layers": tuple(described["layers"]), "class_names": names}


def _scene_head(metadata: dict[str, str], classes: pathlib.Path) -> dict[str, Any]:
  match = _SCENE_FEATURES.fullmatch(metadata.get("features", ""))
  if match is None:
    raise ValueError(f"unknown features {metadata.get('features')!r}")
  blocks = tuple(int(number) - 1 for number in match[1].split(", "))  # they count from 1
  names = tuple(json.loads(classes.read_bytes()))
  return {"layers": blocks, "class_names": names, "card": {"features": metadata["features"]}}


def with_head(network: Network, head: Head) -> Network:
  """Returns a backbone with this head instead of its own, an ordinary network of ours.

  The mean goes into the bias. Every fault of the head is named at once.
  """
  config = feature_config(network.config, head.layers, head.norm, head.pooling, head.projected)
  config = dataclasses.replace(config, num_classes=len(head.class_names))
  shapes = expected_shapes(config)
  inputs, classes = shapes["head.dense.kernel"]
  wanted = {"weight": (classes, inputs), "bias": (classes,), "mean": (inputs,)}
  given = {name: getattr(head, name) for name in wanted}
  faults = [
    f"{name} is {given[name].shape}, must be {shape}"
    for name, shape in wanted.items()
    if given[name].shape != shape
  ]
  faults += [f"{name} is not finite" for name in wanted if not np.all(np.isfinite(given[name]))]
  if classes < 2 or len(set(head.class_names)) != classes:
    faults.append(f"the {classes} class names must be at least two, and all different")
  if faults:
    raise WeightsError("the head does not fit its backbone: " + "; ".join(faults) + ".")
  weight = head.weight.astype(np.float64)
  own = {
    "head.dense.kernel": weight.T.astype(np.float32),
    "head.dense.bias": (head.bias - weight @ head.mean).astype(np.float32),
  }
  backbone = {name: value for name, value in network.parameters.items() if name in shapes}
  return dataclasses.replace(
    network,
    config=config,
    parameters=backbone | own,
    class_names=head.class_names,
    card={**network.card, "head": head.card},
  )


def feature_config(
  config: Any,
  layers: Sequence[int] | None = None,
  norm: str | None = None,
  pooling: str | None = None,
  projected: bool = False,
) -> ViTConfig | ConvNeXtConfig:
  """Returns a backbone's config without a head that puts out these features; None: its own."""
  if not isinstance(config, ViTConfig | ConvNeXtConfig):
    raise WeightsError(
      f"features are put out by a ViT, CLIP or ConvNeXt, got a {type(config).__name__}."
    )
  layers = config.layers if layers is None else tuple(int(layer) for layer in layers)
  norm, pooling = norm or config.norm, pooling or config.pooling
  count = config.depth if isinstance(config, ViTConfig) else len(config.depths)
  if not layers or not set(layers) <= set(range(count)) or len(set(layers)) != len(layers):
    raise WeightsError(f"layers must be different numbers in 0..{count - 1}, got {layers}.")
  if norm not in NORMS or pooling not in POOLINGS:
    raise WeightsError(
      f"norm must be one of {NORMS} and pooling one of {POOLINGS}, got {norm!r} and {pooling!r}."
    )
  if norm == "final" and isinstance(config, ConvNeXtConfig) and layers != (count - 1,):
    raise WeightsError("the final norm of a ConvNeXt is for its last stage; choose norm='plain'.")
  if projected and not config.projection:
    raise WeightsError("projected features need a CLIP; this network has no projection.")
  return dataclasses.replace(
    config,
    layers=layers,
    norm=norm,
    pooling=pooling,
    projection=config.projection if projected else 0,
    num_classes=0,
  )
