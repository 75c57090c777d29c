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
from rpfgsm_jax.models.weights import Network, save_network


def convert_checkpoint(
  path: str | os.PathLike[str],
  directory: str | os.PathLike[str],
  config: Config,
  *,
  class_names: Sequence[str],
  card: dict[str, Any] | None = None,
) -> Network:
  """Converts a file of torchvision weights and writes the network's folder.

  The images' mean and deviation are torchvision's, which Places365 used as well.

  Args:
    path: a checkpoint in either of torch's layouts.
    directory: where `model.safetensors` and `config.json` go; made if absent.
    config: the network that the file should hold.
    class_names: in the order of the logits, `config.num_classes` of them.
    card: facts for the model card; the file's name, SHA-256 and plain entries are added.

  Returns:
    The network that was written.

  Raises:
    CheckpointError: the file is unreadable or holds another network; nothing was written.
    ValueError: the number of class names is wrong, or a name occurs twice.
    OSError: a file cannot be read or written.
  """
  if len(class_names) != config.num_classes or len(set(class_names)) != len(class_names):
    raise ValueError(
      f"class_names must be {config.num_classes} different names, one a logit, got "
      f"{len(class_names)} of which {len(set(class_names))} differ."
    )
  path = pathlib.Path(path)
  checkpoint = read_checkpoint(path)
  try:
    parameters = map_tensors(checkpoint.tensors, config)
  except CheckpointError as error:
    raise CheckpointError(f"{path}: {error}") from error
  network = Network(
    config=config,
    parameters=parameters,
    class_names=tuple(class_names),
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
