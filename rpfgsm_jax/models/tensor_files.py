"""Files of tensors: safetensors in one piece or in shards, and PyTorch's pickles, nothing run."""

import json
import os
import pathlib
import re

import numpy as np

from rpfgsm_jax.models.checkpoint import read_checkpoint
from rpfgsm_jax.models.parameters import WeightsError

SAFETENSORS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"


def tensor_files(directory: pathlib.Path) -> list[pathlib.Path]:
  """Returns the files that hold a folder's tensors: one, or the shards that an index names."""
  if (directory / SAFETENSORS).is_file():
    return [directory / SAFETENSORS]
  if (directory / INDEX).is_file():
    shards = sorted(set(_weight_map(directory).values()))
    absent = [name for name in shards if not (directory / name).is_file()]
    if absent:
      raise WeightsError(f"{directory} lacks {absent}, which {INDEX} names; fetch it again.")
    return [directory / name for name in shards]
  if (directory / PICKLE).is_file():
    return [directory / PICKLE]
  found = sorted(path.name for path in directory.iterdir() if path.is_file())
  raise WeightsError(
    f"{directory} must hold {SAFETENSORS} (or {INDEX} and its shards, or one {PICKLE}), "
    f"got {found}; other formats are not read."
  )


def read_tensors(directory: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns a folder's tensors by the names in its files, in the types that they are stored in.

  Bfloat16 comes as float32. A pickle is read by `checkpoint`, which runs nothing.
  """
  files = tensor_files(directory)
  check_memory(sum(file.stat().st_size for file in files), str(directory))
  if files[0].name == PICKLE:
    return read_checkpoint(files[0]).tensors
  tensors: dict[str, np.ndarray] = {}
  for file in files:
    tensors |= read_safetensors(file)[0]
  if files[0].name != SAFETENSORS:
    listed = set(_weight_map(directory))
    if listed != set(tensors):
      raise WeightsError(
        f"{directory}: {INDEX} and its shards must name the same tensors; not in the shards: "
        f"{sorted(listed - set(tensors))}, not in the index: {sorted(set(tensors) - listed)}."
      )
  return tensors


def check_memory(size: int, name: str) -> None:
  """Refuses tensors whose files, and as much again for reading them, do not fit into the memory."""
  there = available_memory()
  if there is not None and 2 * size > there:
    raise WeightsError(
      f"{name} is too large for the memory: its tensors are {size / 1e9:.2f} GB, loading takes "
      f"twice that, and {there / 1e9:.2f} GB are available; take a smaller network, or a larger "
      "machine."
    )


def available_memory() -> int | None:
  """Returns the bytes that may still be used; other than on Linux all that the machine has."""
  try:
    found = re.search(r"MemAvailable:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    if found:
      return int(found[1]) * 1024
  except OSError:
    pass
  try:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  except (AttributeError, ValueError, OSError):
    return None


def read_safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns one file's tensors and its metadata."""
  import safetensors

  try:
    with safetensors.safe_open(path, "np") as file:
      metadata = file.metadata() or {}
    stored = safetensors.deserialize(path.read_bytes())
  except (safetensors.SafetensorError, OSError) as error:
    raise WeightsError(f"{path} is no whole safetensors file ({error}); fetch it again.") from error
  return {name: _array(path, name, **entry) for name, entry in stored}, metadata


def _array(path: pathlib.Path, name: str, *, dtype: str, shape: list[int], data) -> np.ndarray:
  types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
  if dtype not in types:
    raise WeightsError(f"{path}: {name} is {dtype}; tensors must be one of {sorted(types)}.")
  numbers = np.frombuffer(data, types[dtype])
  if dtype == "BF16":
    numbers = (numbers.astype("<u4") << 16).view("<f4")
  return numbers.reshape(shape)


def _weight_map(directory: pathlib.Path) -> dict[str, str]:
  path = directory / INDEX
  try:
    names = json.loads(path.read_bytes())["weight_map"]
    if not all(isinstance(n, str) and pathlib.PurePath(n).name == n for n in names.values()):
      raise ValueError("a shard must be a file of the same folder")
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise WeightsError(f"{path} must map tensors to the folder's shards: {error}.") from error
  return names
