"""Networks on disk: a folder with `model.safetensors` and `config.json`, and names -> folders.

The file holds the unfolded network under the dotted names of its modules, so that it can be trained
further; folding happens when a `Classifier` is made. Strict both ways: a missing, unknown,
mis-shaped or non-finite tensor is an error, and all faults are reported at once.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from rpfgsm_jax import atomic
from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.user_folders import user_folder

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_NOT_NUMBERS = ("card", "weights")  # of a description: facts for people, where tensors lie
_WEIGHTS_NAME = re.compile(r"model(-[0-9a-f]{16})?\.safetensors")
BUNDLED = pathlib.Path(__file__).resolve().parents[1] / "bundled"


class WeightsError(ValueError):
  """A network on disk that cannot be used; the message says which file and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """What one folder holds.

  Attributes:
    config: the architecture's shape.
    parameters: dotted name -> float32 array; batch statistics included.
    class_names: in the order of the logits.
    mean: of images / 255, a channel.
    deviation: of images / 255, a channel.
    card: facts for people (source, command, accuracy); anything JSON can hold.
  """

  config: architectures.Config
  parameters: dict[str, np.ndarray]
  class_names: tuple[str, ...]
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
  card: dict[str, Any] = dataclasses.field(default_factory=dict)


def cache_directory() -> pathlib.Path | None:
  """Returns the user's folder for fetched weights; None where there is no home to have it in."""
  return user_folder("cache", "RPFGSM_CACHE")


def flatten(module: nnx.Module) -> dict[str, np.ndarray]:
  """Returns a module's parameters and batch statistics by dotted name, as NumPy arrays."""
  state = nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
  return {_dotted(path): np.asarray(variable[...]) for path, variable in state}


def expected_shapes(config: architectures.Config) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every tensor of an architecture by dotted name; computes nothing."""
  state = nnx.state(_outline(config), nnx.Any(nnx.Param, nnx.BatchStat))
  return {_dotted(path): tuple(leaf.shape) for path, leaf in nnx.to_flat_state(state)}


def unflatten(config: architectures.Config, parameters: dict[str, np.ndarray]) -> nnx.Module:
  """Returns the network of `config` with these parameters; the inverse of `flatten`."""
  check_parameters(config, parameters)
  graph, state = nnx.split(_outline(config))
  leaves = {
    path: variable.replace(jax.device_put(np.asarray(parameters[_dotted(path)], np.float32)))
    for path, variable in nnx.to_flat_state(state)
  }
  return nnx.merge(graph, nnx.from_flat_state(leaves))


class _ConstantKeys:
  """Stands in for `nnx.Rngs` when nothing is drawn; its counters make tracing quadratic."""

  def params(self) -> jax.Array:
    return jax.random.key(0)


@functools.lru_cache(maxsize=32)
def _outline(config: architectures.Config) -> nnx.Module:
  # A network without numbers; tracing a deep one takes seconds, and loading needs it twice.
  return nnx.eval_shape(lambda: architectures.build(config, rngs=_ConstantKeys()))


def check_parameters(config: architectures.Config, parameters: dict[str, np.ndarray]) -> None:
  """Checks names, shapes and finiteness of a network's tensors, all at once."""
  expected = expected_shapes(config)
  faults = [
    f"missing: {name} {shape}" for name, shape in expected.items() if name not in parameters
  ]
  for name, value in parameters.items():
    if name not in expected:
      faults.append(f"unknown: {name} {value.shape}")
    elif tuple(value.shape) != expected[name]:
      faults.append(f"shape: {name} is {value.shape}, must be {expected[name]}")
    elif not np.all(np.isfinite(np.asarray(value, np.float32))):
      faults.append(f"not finite: {name}")
  if faults:
    raise WeightsError(
      f"parameters do not fit a {architectures.family(config)} of this config, "
      f"{len(faults)} faults:\n  " + "\n  ".join(faults)
    )


def save_network(directory: str | os.PathLike, network: Network, *, dtype: str = "float32") -> None:
  """Writes a network's two files; a network that was there stays usable until the last step.

  The weights go to `model.safetensors`, or, while an older network still owns that name, to
  `model-<hash>.safetensors`. `config.json`, which names them, is replaced afterwards, and only then
  are weights removed that it does not name. `dtype`, float32 or float16, is that of the kernels;
  all else stays float32, because a small running variance would not survive.
  """
  import safetensors.numpy

  if dtype not in ("float32", "float16"):
    raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}.")
  check_parameters(network.config, network.parameters)
  tensors = {}
  for name, value in network.parameters.items():
    stored = dtype if name.endswith(".kernel") else "float32"
    if np.max(np.abs(value), initial=0.0) > np.finfo(stored).max:
      raise ValueError(f"{name} leaves the range of {stored}; save with dtype='float32'.")
    tensors[name] = np.ascontiguousarray(value, dtype=stored)
  payload = safetensors.numpy.save(tensors)
  directory = pathlib.Path(directory)
  digest = hashlib.sha256(payload).hexdigest()
  taken = (directory / WEIGHTS_FILE).exists()
  weights = directory / (f"model-{digest[:16]}.safetensors" if taken else WEIGHTS_FILE)
  description = {
    "format": FORMAT,
    "weights": weights.name,
    "config": architectures.config_to_dict(network.config),
    "class_names": list(network.class_names),
    "mean": list(network.mean),
    "deviation": list(network.deviation),
    "sha256": digest,
    "card": network.card,
  }
  content = atomic.strict_json(description, indent=2) + "\n"
  directory.mkdir(parents=True, exist_ok=True)
  atomic.write_bytes(weights, payload)
  atomic.write_text(directory / CONFIG_FILE, content)
  for stale in directory.glob("model*.safetensors"):
    if _WEIGHTS_NAME.fullmatch(stale.name) and stale != weights:
      stale.unlink()


def load_network(directory: str | os.PathLike) -> Network:
  """Reads a folder that `save_network` wrote."""
  import safetensors.numpy

  directory = pathlib.Path(directory)
  description = _read_description(directory)
  weights = directory / description.get("weights", WEIGHTS_FILE)
  payload = weights.read_bytes()
  if hashlib.sha256(payload).hexdigest() != description["sha256"]:
    raise WeightsError(
      f"{weights} does not have the SHA-256 that {CONFIG_FILE} names; "
      "the file is damaged or belongs to another network: fetch or convert it again."
    )
  parameters = {
    name: value.astype(np.float32) for name, value in safetensors.numpy.load(payload).items()
  }
  try:
    config = architectures.config_from_dict(description["config"])
  except ValueError as error:
    raise WeightsError(f"{directory / CONFIG_FILE}: {error}") from error
  check_parameters(config, parameters)
  return Network(
    config=config,
    parameters=parameters,
    class_names=tuple(description["class_names"]),
    mean=tuple(description["mean"]),
    deviation=tuple(description["deviation"]),
    card=description["card"],
  )


def available_networks() -> dict[str, pathlib.Path]:
  """Returns name -> folder of every bundled and every fetched network, bundled ones first."""
  found: dict[str, pathlib.Path] = {}
  cache = cache_directory()
  for root in (BUNDLED, *([] if cache is None else [cache / "weights"])):
    for file in sorted(root.glob(f"*/*/{CONFIG_FILE}")):
      found.setdefault(file.parent.relative_to(root).as_posix(), file.parent)
  return found


def load_classifier(name: str | os.PathLike) -> Classifier:
  """Returns a network ready for use.

  Args:
    name: `"scenes25/resnet18"`, `"places365/…"` (after `rpfgsm weights fetch places365`), or a
      folder that `rpfgsm convert` or `save_network` wrote.

  Returns:
    The classifier, batch-norms folded.

  Raises:
    WeightsError: no such network (the nearest names are suggested), or its files are unusable.
  """
  networks = available_networks()
  directory = networks.get(os.fspath(name))
  if directory is None:
    directory = pathlib.Path(name)
    if not os.fspath(name) or not directory.is_dir():  # "" would be the current folder
      raise WeightsError(_unknown_name(os.fspath(name), networks))
  network = load_network(directory)
  return Classifier.from_module(
    unflatten(network.config, network.parameters),
    class_names=network.class_names,
    image_size=network.config.image_size,
    name=os.fspath(name),
    mean=network.mean,
    deviation=network.deviation,
  )


class NetworkIdentity(NamedTuple):
  """What tells one network from another, also on other machines."""

  name: str  # a known name, or the absolute path of a folder
  sha256: str  # of its tensors' own digest and everything else that its logits depend on


def identify_network(name: str) -> NetworkIdentity:
  """Looks a known network or a folder up without loading it."""
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
  except (OSError, ValueError, AttributeError) as error:
    raise WeightsError(
      f"must hold a network of ours, got {folder} ({error}); convert or fetch it again."
    ) from error
  content = json.dumps(described, sort_keys=True).encode()
  return NetworkIdentity(name, hashlib.sha256(content).hexdigest())


def _read_description(directory: pathlib.Path) -> dict[str, Any]:
  path = directory / CONFIG_FILE
  if not path.is_file():
    raise WeightsError(f"{directory} lacks {CONFIG_FILE}; it holds no network of ours.")
  try:
    description = json.loads(path.read_bytes())
  except ValueError as error:
    raise WeightsError(f"{path} is not JSON: {error}") from error
  if not isinstance(description, dict) or description.get("format") != FORMAT:
    raise WeightsError(f"{path} must have format {FORMAT}.")
  needed = {"config", "class_names", "mean", "deviation", "sha256", "card"}
  if needed - set(description):
    raise WeightsError(f"{path} lacks {sorted(needed - set(description))}.")
  weights = description.get("weights", WEIGHTS_FILE)
  if not isinstance(weights, str) or not _WEIGHTS_NAME.fullmatch(weights):
    raise WeightsError(f"{path} must name weights as {WEIGHTS_FILE} in its own folder.")
  if not (directory / weights).is_file():
    raise WeightsError(f"{directory} lacks {weights}; fetch or convert the network again.")
  return description


def _unknown_name(name: str, networks: Iterable[str]) -> str:
  networks = list(networks)
  nearest = difflib.get_close_matches(name, networks, n=2, cutoff=0.5)
  suggestion = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {networks}."
  fetch = (
    " Places365's are fetched by `rpfgsm weights fetch places365`."
    if name.startswith("places")
    else ""
  )
  return f"name must be a known network or a folder, got {name!r}; {suggestion}{fetch}"


def _dotted(path: tuple) -> str:
  return ".".join(str(part) for part in path)
