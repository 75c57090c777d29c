"""Networks as transformers saves them: a folder with `config.json` and `model.safetensors`.

The tensors go through the strict name map; `preprocessor_config.json` says size, mean and deviation
where it is there. A head beside a backbone (`heads`) makes it a classifier.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.clip import CLIPTextConfig
from rpfgsm_jax.models.heads import head_files, read_head, with_head
from rpfgsm_jax.models.name_map import map_tensors
from rpfgsm_jax.models.parameters import Network, WeightsError
from rpfgsm_jax.models.published_config import (
  class_names,
  image_config,
  image_rule,
  text_config,
)
from rpfgsm_jax.models.tensor_files import read_tensors, tensor_files

_PREPROCESSOR = "preprocessor_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIP:
  """What the folder of a CLIP holds.

  Attributes:
    image: the image tower, which puts out unit features.
    text_config: the text tower's shape.
    text_parameters: dotted name -> float32 array.
    logit_scale: the logarithm of what cosines are multiplied by.
  """

  image: Network
  text_config: CLIPTextConfig
  text_parameters: dict[str, np.ndarray]
  logit_scale: float


def is_published(description: Mapping[str, Any]) -> bool:
  """Tells a `config.json` of transformers from one of ours."""
  return "model_type" in description and "format" not in description


def load_published(directory: pathlib.Path, description: Mapping[str, Any]) -> Network:
  """Reads the network that sees images; of CLIP, its image tower. A head beside it is put on."""
  tensors = read_tensors(directory)
  if description["model_type"] == "clip":
    tensors = _split_clip(tensors)[0]
  network = _image_network(directory, description, tensors)
  return with_head(network, read_head(directory)) if head_files(directory) else network


def load_clip_folder(directory: pathlib.Path, description: Mapping[str, Any]) -> CLIP:
  """Reads both towers of a CLIP."""
  if description.get("model_type") != "clip":
    raise WeightsError(
      f"{directory} must hold a CLIP, got model_type {description.get('model_type')!r}."
    )
  image, text, scale = _split_clip(read_tensors(directory))
  if not text:
    raise WeightsError(f"{directory} holds no text tower, only that of images; fetch a whole CLIP.")
  if scale is None or scale.size != 1 or not np.isfinite(scale).all():
    raise WeightsError(f"{directory} must hold logit_scale, one finite number.")
  config = text_config(description)
  return CLIP(
    image=_image_network(directory, description, image),
    text_config=config,
    text_parameters=_mapped(directory, text, config),
    logit_scale=float(scale.reshape(())),
  )


def published_digests(directory: pathlib.Path) -> dict[str, str]:
  """Returns SHA-256 by name of the files that logits depend on, beside the `config.json`."""
  described = [directory / _PREPROCESSOR] if (directory / _PREPROCESSOR).is_file() else []
  files = described + tensor_files(directory) + head_files(directory)
  return {file.name: file_digest(file) for file in files}


def file_digest(path: pathlib.Path) -> str:
  """Returns a file's SHA-256."""
  status = path.stat()
  return _digest_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest_of(path: pathlib.Path, size: int, modified: int) -> str:
  with path.open("rb") as file:  # gigabytes, and asked for several times in a run
    return hashlib.file_digest(file, "sha256").hexdigest()


def _image_network(
  directory: pathlib.Path, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> Network:
  try:
    config = image_config(description)
    rule = image_rule(description, _preprocessing(directory), config.image_size)
    names = class_names(description)
  except (WeightsError, TypeError, KeyError, ValueError) as error:
    raise WeightsError(f"{directory}: {error}") from error
  parameters = _mapped(directory, tensors, config)
  return Network(
    config=dataclasses.replace(config, image_size=rule.size),
    parameters=parameters,
    class_names=names,
    mean=rule.mean,
    deviation=rule.deviation,
    card={"architecture": architectures.family(config), "model_type": description["model_type"]},
  )


def _mapped(
  directory: pathlib.Path, tensors: Mapping[str, np.ndarray], config: architectures.Config
) -> dict[str, np.ndarray]:
  try:
    return map_tensors(tensors, config)
  except CheckpointError as error:
    raise WeightsError(f"{directory}: {error}") from error


def _split_clip(
  tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray | None]:
  text = {name: value for name, value in tensors.items() if name.startswith("text_")}
  image = {n: value for n, value in tensors.items() if n not in text and n != "logit_scale"}
  return image, text, tensors.get("logit_scale")


def _preprocessing(directory: pathlib.Path) -> dict[str, Any]:
  path = directory / _PREPROCESSOR
  if not path.is_file():
    return {}
  try:
    fields = json.loads(path.read_bytes())
  except ValueError as error:
    raise WeightsError(f"{path} is not JSON: {error}") from error
  if not isinstance(fields, dict):
    raise WeightsError(f"{path} must be a JSON object.")
  return fields
