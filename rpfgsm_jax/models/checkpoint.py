"""Reads PyTorch checkpoints without torch and without running anything that is in the file.

Both layouts are read: the one of 2016 to 2020 (five pickles, then the raw storages behind one
another) and the zip archive that followed it. Pickles go through `torch_pickle`, which runs
nothing; every length is checked against the file before memory is taken.
"""

import dataclasses
import io
import os
import pathlib
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np

from rpfgsm_jax.models.torch_names import ELEMENTS
from rpfgsm_jax.models.torch_objects import (
  CheckpointError,
  Described,
  Storage,
  Tensor,
  escaped,
  item_size,
)
from rpfgsm_jax.models.torch_pickle import run_pickle

__all__ = ["Checkpoint", "CheckpointError", "read_checkpoint"]

_MAGIC = 0x1950A86A20F9469CFC6C  # what every file of the older layout starts with
_PROTOCOL = 1001
_MAX_PICKLE_BYTES = 1 << 26  # of the archive's data.pkl; DenseNet161's is 0.2 MB
_ARCHIVE_END = 22  # bytes of a zip file's last record when it has no comment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """What a checkpoint held.

  Attributes:
    tensors: name -> array, in the file's order, element types as stored (bfloat16 as float32).
    entries: the plain values beside the weights, such as `arch`, `epoch`, `best_prec1`.
  """

  tensors: dict[str, np.ndarray]
  entries: dict[str, str | int | float | bool | None]


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
  """Reads the weights that `torch.save` wrote, in either layout, on any Python or torch version."""
  with pathlib.Path(path).open("rb") as file:
    size = os.fstat(file.fileno()).st_size
    start = file.read(512)
    file.seek(0)
    try:
      if start.startswith(b"PK\x03\x04"):
        root, contents = _read_archive(file, size)
      else:
        _refuse_other_formats(start)
        root, contents = _read_legacy(file, size)
      return _collect(root, contents)
    except CheckpointError as error:
      raise CheckpointError(f"{path}: {error}") from error


def _refuse_other_formats(start: bytes) -> None:
  remedy = "expected a file written by torch.save; download it again"
  if not start:
    raise CheckpointError(f"the file is empty; {remedy}.")
  if start.lstrip()[:1] == b"<":
    raise CheckpointError(f"this is a web page, not a checkpoint; {remedy}.")
  if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
    raise CheckpointError(
      "this is a real tar or gzip archive (a checkpoint named .pth.tar is none); unpack it and "
      "pass the file inside."
    )
  if not start.startswith(b"\x80"):
    raise CheckpointError(f"this is not a PyTorch checkpoint; {remedy}.")


def _read_legacy(file: BinaryIO, size: int) -> tuple[Any, dict[str, bytes]]:
  if run_pickle(file) != _MAGIC:
    raise CheckpointError(
      "this is a pickle, but not a PyTorch checkpoint; torch's magic is missing."
    )
  if run_pickle(file) != _PROTOCOL:
    raise CheckpointError(f"the version of the layout must be {_PROTOCOL}; the file is damaged.")
  system = run_pickle(file)
  if not isinstance(system, dict) or system.get("little_endian") is not True:
    raise CheckpointError("the file must say that it comes from a little-endian machine.")
  root = run_pickle(file)
  _weights(root)
  keys = run_pickle(file)
  storages = _storages(root)
  if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
    raise CheckpointError("the list of storages is damaged.")
  if sorted(keys) != sorted(storages):
    raise CheckpointError(
      f"the {len(keys)} storages listed and the {len(storages)} that tensors use must be the same."
    )
  contents = {key: _read_storage(file, size, storages[key]) for key in keys}
  if file.tell() != size:
    raise CheckpointError(f"{size - file.tell()} bytes follow the last storage; expected none.")
  return root, contents


def _read_storage(file: BinaryIO, size: int, storage: Storage) -> bytes:
  name = f"storage {escaped(storage.key)}"
  header = file.read(8)
  if len(header) < 8:
    raise CheckpointError(f"the file is cut off before {name}; download it again.")
  (count,) = struct.unpack("<q", header)
  if count != storage.total:
    raise CheckpointError(f"{name} must hold {storage.total} numbers, but announces {count}.")
  needed = count * item_size(storage.kind)
  left = size - file.tell()
  if needed > left:
    raise CheckpointError(
      f"the file is cut off: {name} needs {needed} bytes, {left} are left; download it again."
    )
  return file.read(needed)


def _read_archive(file: BinaryIO, size: int) -> tuple[Any, dict[str, bytes]]:
  # zipfile looks for the directory anywhere near the end; ours must be the very end of the file.
  file.seek(max(0, size - _ARCHIVE_END))
  end = file.read()
  if end[:4] != b"PK\x05\x06" or end[-2:] != b"\x00\x00":
    raise CheckpointError("the archive is cut off, or bytes follow its end; download it again.")
  try:
    with zipfile.ZipFile(file) as archive:
      records = _records(archive, size)
      root = run_pickle(io.BytesIO(archive.read(records["data.pkl"])))
      _weights(root)
      if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
        raise CheckpointError("the file must come from a little-endian machine.")
      storages = _storages(root)
      stored = {name.removeprefix("data/") for name in records if name.startswith("data/")}
      if stored != set(storages):
        raise CheckpointError(
          f"the {len(stored)} storages in the archive and the {len(storages)} that tensors use "
          "must be the same."
        )
      return root, {
        key: _whole(archive.read(records[f"data/{key}"]), storage)
        for key, storage in storages.items()
      }
  except CheckpointError:
    raise
  except (zipfile.BadZipFile, ValueError, EOFError, struct.error, OSError, RuntimeError) as error:
    # zipfile's own complaints: a bad checksum or offset, a record cut short, encryption, a feature
    # that it lacks (NotImplementedError is a RuntimeError).
    raise CheckpointError(f"the archive is damaged ({error}); download it again.") from error


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
  records: dict[str, zipfile.ZipInfo] = {}
  folders, left = set(), size
  for info in archive.infolist():
    folder, _, name = info.filename.partition("/")
    folders.add(folder)
    if name in records:
      raise CheckpointError(f"the archive has the record {escaped(name)} twice.")
    # torch never compresses; records that are stored, and do not overlap, fit into the file.
    left -= info.file_size
    if info.compress_type != zipfile.ZIP_STORED or left < 0:
      raise CheckpointError(f"the record {escaped(name)} is compressed or longer than the file.")
    records[name] = info
  if len(folders) != 1 or "data.pkl" not in records:
    raise CheckpointError("this zip archive is not a PyTorch checkpoint; it has no data.pkl.")
  if records["data.pkl"].file_size > _MAX_PICKLE_BYTES:
    raise CheckpointError(f"the archive's data.pkl is longer than {_MAX_PICKLE_BYTES} bytes.")
  return records


def _whole(content: bytes, storage: Storage) -> bytes:
  needed = storage.total * item_size(storage.kind)
  if len(content) != needed:
    raise CheckpointError(
      f"storage {escaped(storage.key)} must have {needed} bytes, got {len(content)}."
    )
  return content


def _storages(root: Any) -> dict[str, Storage]:
  """Returns every storage by its key; several tensors may share one, but not as two types."""
  found: dict[str, Storage] = {}
  pending, seen = [root], set()
  while pending:
    value = pending.pop()
    if isinstance(value, Described):
      value = value.parts
    if isinstance(value, dict | list | tuple):
      if id(value) not in seen:  # a pickle can make a container hold itself
        seen.add(id(value))
        pending.extend(value.values() if isinstance(value, dict) else value)
    elif isinstance(value, Tensor | Storage):
      storage = value.storage if isinstance(value, Tensor) else value
      first = found.setdefault(storage.key, storage)
      if (first.kind, first.total) != (storage.kind, storage.total):
        raise CheckpointError(
          f"storage {escaped(storage.key)} is used with two element types or lengths."
        )
  return found


_USUAL_ENTRIES = ("state_dict", "model_state_dict")  # where they are, others are not the weights


def _weights(root: Any) -> dict[str, Tensor]:
  if not isinstance(root, dict):
    raise CheckpointError(
      f"expected a dictionary of weights, got a {_kind(root)}; save the state_dict alone."
    )
  entry = _entry_of_weights(root)
  state = root if entry is None else root[entry]
  if not isinstance(state, dict) or not state:
    raise CheckpointError("the weights (the entry state_dict, if there is one) are no dictionary.")
  for name, value in state.items():
    if not isinstance(name, str) or not isinstance(value, Tensor):
      raise CheckpointError(
        f"every weight must be a named tensor, got a {_kind(value)} as {escaped(name)}; save a "
        "state_dict of plain tensors (dense, not quantized) alone."
      )
  return state


def _kind(value: Any) -> str:
  return value.name if isinstance(value, Described) else type(value).__name__


def _entry_of_weights(root: dict[Any, Any]) -> str | None:
  """Returns the entry that holds the weights, by its usual name or because no other does."""
  for name in _USUAL_ENTRIES:
    if name in root:
      return name
  found = [
    name
    for name, value in root.items()
    if isinstance(name, str) and isinstance(value, dict) and value
    if all(isinstance(each, Tensor) for each in value.values())
  ]
  if len(found) > 1:
    shown = ", ".join(escaped(name) for name in found[:9])
    raise CheckpointError(
      f"the file holds several sets of weights: {shown}; save the one that you mean alone: "
      f'torch.save(torch.load(FILE)["{escaped(found[0])}"], NEW_FILE).'
    )
  return found[0] if found else None


def _collect(root: Any, contents: dict[str, bytes]) -> Checkpoint:
  tensors = {
    name: _window(tensor, contents[tensor.storage.key]) for name, tensor in _weights(root).items()
  }
  entries = {
    name: value
    for name, value in root.items()
    if isinstance(name, str) and isinstance(value, str | int | float | None)
  }
  return Checkpoint(tensors=tensors, entries=entries)


def _window(tensor: Tensor, content: bytes) -> np.ndarray:
  # np.ndarray checks the window against the buffer once more. The strides of sides of length one
  # mean nothing, and may be too large for it.
  dtype, item = np.dtype(ELEMENTS[tensor.kind]), item_size(tensor.kind)
  numbers = np.empty(tensor.shape, dtype)
  if numbers.size:
    sides = zip(tensor.shape, tensor.strides, strict=True)
    numbers[...] = np.ndarray(
      tensor.shape,
      dtype,
      buffer=content,
      offset=tensor.storage.start * item_size(tensor.storage.kind) + tensor.offset * item,
      strides=tuple(stride * item if length > 1 else 0 for length, stride in sides),
    )
  if tensor.kind == "bfloat16":
    return np.asarray(numbers.astype("<u4") << 16).view("<f4")
  return numbers.astype(np.bool_) if tensor.kind == "bool" else numbers
