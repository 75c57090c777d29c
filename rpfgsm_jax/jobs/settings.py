"""What decides the bytes of a job's results, as values that can be written down and sent about."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from rpfgsm_jax import __version__
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.models import weights

_NOT_NUMBERS = ("card", "weights")  # facts for people, and where the tensors lie


class Network(NamedTuple):
  """A network of a job."""

  name: str  # a known name, or the absolute path of a folder
  sha256: str  # of its tensors' own digest and everything else that its logits depend on


def identify_networks(names: Sequence[str]) -> tuple[Network, ...]:
  """Looks networks up without loading them.

  Args:
    names: known names or folders.

  Returns:
    One a name.

  Raises:
    SettingsError: there is no such network, or its description cannot be read.
  """
  known = weights.available_networks()
  found = []
  for name in names:
    folder = known.get(name)
    if folder is None:
      folder = pathlib.Path(os.path.abspath(name))
      if not folder.is_dir():
        raise SettingsError(
          f"--network must be a known network or a folder, got {name!r}; "
          "`rpfgsm weights list` lists them."
        )
      name = str(folder)
    try:
      description = json.loads((folder / weights.CONFIG_FILE).read_bytes())
      described = {key: value for key, value in description.items() if key not in _NOT_NUMBERS}
    except (OSError, ValueError, AttributeError) as error:
      raise SettingsError(
        f"--network must hold a network of ours, got {folder} ({error}); convert or fetch it again."
      ) from error
    content = json.dumps(described, sort_keys=True).encode()
    found.append(Network(name, hashlib.sha256(content).hexdigest()))
  return tuple(found)


def describe_attack(config: RPFGSMConfig) -> dict[str, Any]:
  """Returns an attack's settings as JSON values; functions become their dotted names.

  Args:
    config: the settings.

  Returns:
    Nested mappings.
  """

  def name(value: Any) -> Any:
    if callable(value):
      return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"config must consist of values that JSON or Python names, got {value!r}.")

  described = json.loads(json.dumps(dataclasses.asdict(config), default=name))
  return {"name": "rp_fgsm", **described}


def describe_environment() -> dict[str, str]:
  """Returns what last bits may depend on, in the process that computes; starts JAX's devices."""
  return {
    "device": jax.devices()[0].device_kind,
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    "jax": jax.__version__,
    "jaxlib": importlib.metadata.version("jaxlib"),
    "rpfgsm-jax": __version__,
  }
