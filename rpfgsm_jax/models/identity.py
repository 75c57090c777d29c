"""What tells one network on disk from another, without loading it."""

import hashlib
import json
import os
import pathlib
from typing import NamedTuple

from rpfgsm_jax.models.clip_words import parse_name, tokenizer_file
from rpfgsm_jax.models.parameters import WeightsError
from rpfgsm_jax.models.published import file_digest, is_published, published_digests
from rpfgsm_jax.models.weights import CONFIG_FILE, available_networks

_NOT_NUMBERS = ("card", "weights")  # of a description: facts for people, where tensors lie


class NetworkIdentity(NamedTuple):
  """What tells one network from another, also on other machines."""

  name: str  # a known name, or the absolute path of a folder
  sha256: str  # of its tensors' own digest and everything else that its logits depend on


def identify_network(name: str) -> NetworkIdentity:
  """Looks a known network, a folder, or a CLIP with its words up without loading it."""
  name, words = parse_name(name)
  folder = available_networks().get(name)
  if folder is None:
    folder = pathlib.Path(os.path.abspath(name))
    if not name or not folder.is_dir():
      raise WeightsError(
        f"must be a known network or a folder, got {name!r}; `rpfgsm weights list` lists them."
      )
    name = str(folder)
  try:
    description = json.loads((folder / CONFIG_FILE).read_bytes())
    described = {key: value for key, value in description.items() if key not in _NOT_NUMBERS}
    if is_published(described):
      described["files"] = published_digests(folder)
  except (OSError, ValueError, AttributeError) as error:
    raise WeightsError(
      f"must hold a network of ours, got {folder} ({error}); convert or fetch it again."
    ) from error
  if words is not None:
    described["tokenizer"] = file_digest(tokenizer_file(folder))
    described["words"] = words.classes, words.templates
    name = words.full_name(name)
  content = json.dumps(described, sort_keys=True).encode()
  return NetworkIdentity(name, hashlib.sha256(content).hexdigest())
