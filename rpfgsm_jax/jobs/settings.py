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
from rpfgsm_jax.photos.protect import PhotoConfig

_NOT_NUMBERS = ("card", "weights")  # facts for people, and where the tensors lie
_SINCE_FORMAT_1 = {"gray": False}  # of the attack; records of before do without, and mean this


class Network(NamedTuple):
  """A network of a job."""

  name: str  # a known name, or the absolute path of a folder
  sha256: str  # of its tensors' own digest and everything else that its logits depend on


def identify_networks(names: Sequence[str], option: str = "--network") -> tuple[Network, ...]:
  """Looks networks up without loading them.

  Args:
    names: known names or folders.
    option: that gave them, for messages.

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
          f"{option} must be a known network or a folder, got {name!r}; "
          "`rpfgsm weights list` lists them."
        )
      name = str(folder)
    try:
      description = json.loads((folder / weights.CONFIG_FILE).read_bytes())
      described = {key: value for key, value in description.items() if key not in _NOT_NUMBERS}
    except (OSError, ValueError, AttributeError) as error:
      raise SettingsError(
        f"{option} must hold a network of ours, got {folder} ({error}); convert or fetch it again."
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
  for added, meant in _SINCE_FORMAT_1.items():
    if described[added] == meant:
      del described[added]
  for family in described["defenses"]["families"]:
    del family["by_parameter"]  # how an image is computed, not which
  return {"name": "rp_fgsm", **described}


def describe_photos(config: PhotoConfig) -> dict[str, Any]:
  """Returns how photos of their own size are protected and written, the attack aside.

  Args:
    config: the settings.

  Returns:
    JSON values, mappings may be nested.
  """
  described = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
  del described["attack"]
  return described | {"encoding": dataclasses.asdict(config.encoding)}


def check_held_out(networks: Sequence[Network], held_out: Sequence[Network]) -> None:
  """Refuses judges that the attack asks.

  Args:
    networks: that are misled.
    held_out: that only judge.

  Raises:
    SettingsError: one of them is the same as one of the networks, under whatever name.
  """
  for judge in held_out:
    for network in networks:
      if judge.name == network.name or judge.sha256 == network.sha256:
        raise SettingsError(
          f"--held-out must be a network that the attack never asks, got {judge.name}, which is "
          f"--network {network.name}; leave one of the two out."
        )


def digest(settings: dict[str, Any], seed: int) -> str:
  """Returns what tells two sets of settings apart.

  Args:
    settings: JSON values, mappings may be nested.
    seed: of the job.

  Returns:
    64 hexadecimal digits.
  """
  content = json.dumps({"settings": settings, "seed": seed}, sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()


def describe_environment() -> dict[str, str]:
  """Returns what last bits may depend on, in the process that computes; starts JAX's devices."""
  return {
    "device": jax.devices()[0].device_kind,
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    "jax": jax.__version__,
    "jaxlib": importlib.metadata.version("jaxlib"),
    "rpfgsm-jax": __version__,
  }
