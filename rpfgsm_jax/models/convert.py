"""A PyTorch checkpoint -> one of our network folders; nothing is written unless all of it fits."""

import hashlib
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from rpfgsm_jax.models.name_map import map_tensors
from rpfgsm_jax.models.parameters import Network
from rpfgsm_jax.models.published_config import IMAGENET, Normalization
from rpfgsm_jax.models.tensor_files import read_safetensors
from rpfgsm_jax.models.weights import save_network


def convert_checkpoint(
  path: str | os.PathLike[str],
  directory: str | os.PathLike[str],
  config: Config,
  *,
  class_names: Sequence[str],
  card: dict[str, Any] | None = None,
  normalization: Normalization = IMAGENET,
) -> Network:
  """Converts a file of torchvision's or timm's weights and writes the network's folder.

  A `.safetensors` file is read as such, any other as PyTorch's. The images' mean and deviation are
  torchvision's unless `normalization` gives others; the file's name, SHA-256 and plain entries are
  added to the card. Nothing is written unless all of it fits.
  """
  if len(class_names) != config.num_classes or len(set(class_names)) != len(class_names):
    raise ValueError(
      f"class_names must be {config.num_classes} different names, one a logit, got "
      f"{len(class_names)} of which {len(set(class_names))} differ."
    )
  path = pathlib.Path(path)
  if path.suffix == ".safetensors":
    checkpoint = Checkpoint(tensors=read_safetensors(path)[0], entries={})
  else:
    checkpoint = read_checkpoint(path)
  try:
    parameters = map_tensors(checkpoint.tensors, config)
  except CheckpointError as error:
    raise CheckpointError(f"{path}: {error}") from error
  network = Network(
    config=config,
    parameters=parameters,
    class_names=tuple(class_names),
    mean=normalization[0],
    deviation=normalization[1],
    card={
      "architecture": architectures.family(config),
      **(card or {}),
      "converted_from": {"file": path.name, "sha256": sha256(path), **_plain_facts(checkpoint)},
    },
  )
  save_network(directory, network)
  return network


def sha256(path: pathlib.Path) -> str:
  """Returns the hexadecimal SHA-256 of a file."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _plain_facts(checkpoint: Checkpoint) -> dict[str, Any]:
  # Only what the training script of Places365 wrote, and only if JSON can hold it.
  wanted = {"arch": str, "epoch": int, "best_prec1": float}
  facts = {}
  for name, kind in wanted.items():
    value = checkpoint.entries.get(name)
    if not isinstance(value, kind) or (kind is str and len(value) > 100):
      continue
    if kind is str or math.isfinite(value):
      facts[name] = value
  return facts
