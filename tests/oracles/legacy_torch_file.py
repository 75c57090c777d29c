"""Writes PyTorch checkpoints byte by byte, as torch 0.2 on Python 2.7 and as torch 2 did.

Independent of the reader under test: opcodes are spelled out, nothing of the package is imported.
The older layout follows what Python 2.7's `pickle` emits at protocol 2: byte strings
(`SHORT_BINSTRING`, `BINSTRING`), an `OrderedDict` reduced to a list of lists in batches of 1000,
longs as `LONG1`.
"""

import dataclasses
import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
  "<f8": "DoubleStorage",
  "<f4": "FloatStorage",
  "<f2": "HalfStorage",
  "<i8": "LongStorage",
  "<i4": "IntStorage",
  "<i2": "ShortStorage",
  "|i1": "CharStorage",
  "|u1": "ByteStorage",
  "|b1": "BoolStorage",
}


@dataclasses.dataclass(frozen=True)
class View:
  """A tensor: a strided window into a storage, counted in elements.

  `kind` overrides the type that the storage's dtype implies; `part` is the older layout's
  (key, start, count) of a storage that is itself a view.
  """

  key: str
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]
  kind: str | None = None
  part: tuple[str, int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Raw:
  """Opcodes to be written as they are."""

  opcodes: bytes


@dataclasses.dataclass(frozen=True)
class Ordered:
  """An `OrderedDict` with these items."""

  items: Mapping[Any, Any]


class Pickler:
  """Emits protocol 2; one object serves one pickle."""

  def __init__(self, storages: Mapping[str, np.ndarray], *, python2: bool):
    self.storages, self.python2 = storages, python2
    self.out = bytearray(b"\x80\x02")
    self.memo: dict[Any, int] = {}
    self.count = 0

  def finish(self, value: Any) -> bytes:
    self.emit(value)
    return bytes(self.out) + b"."

  def emit(self, value: Any) -> None:
    if isinstance(value, Raw):
      self.out += value.opcodes
    elif value is None or isinstance(value, bool):
      self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
    elif isinstance(value, int):
      self.integer(value)
    elif isinstance(value, float):
      self.out += b"G" + struct.pack(">d", value)
    elif isinstance(value, str):
      self.string(value)
    elif isinstance(value, View):
      self.tensor(value)
    elif isinstance(value, Ordered):
      self.ordered(value.items)
    elif isinstance(value, dict):
      self.out += b"}"
      self.put()
      self.set_items(value)
    elif isinstance(value, list):
      self.emit_list(value)
    else:
      self.emit_tuple(value)

  def integer(self, value: int) -> None:
    if 0 <= value < 1 << 8:
      self.out += b"K" + struct.pack("<B", value)
    elif 0 <= value < 1 << 16:
      self.out += b"M" + struct.pack("<H", value)
    elif -(1 << 31) <= value < 1 << 31:
      self.out += b"J" + struct.pack("<i", value)
    else:
      self.long(value)

  def long(self, value: int) -> None:
    size = value.bit_length() // 8 + 1
    self.out += b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)

  def string(self, value: str) -> None:
    if value in self.memo:
      return self.get(self.memo[value])
    if self.python2:
      content = value.encode("latin-1")
      head = b"U" + bytes([len(content)]) if len(content) < 256 else b"T"
      self.out += (head if head[:1] == b"U" else head + struct.pack("<i", len(content))) + content
    else:
      content = value.encode()
      self.out += b"X" + struct.pack("<I", len(content)) + content
    self.memo[value] = self.count
    self.put()

  def put(self) -> None:
    small = self.count < 256
    self.out += b"q" + bytes([self.count]) if small else b"r" + struct.pack("<I", self.count)
    self.count += 1

  def get(self, index: int) -> None:
    self.out += b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)

  def emit_list(self, values: list[Any]) -> None:
    self.out += b"]"
    self.put()
    for start in range(0, len(values), 1000):
      batch = values[start : start + 1000]
      if len(batch) == 1:
        self.emit(batch[0])
        self.out += b"a"
      else:
        self.out += b"("
        for value in batch:
          self.emit(value)
        self.out += b"e"

  def set_items(self, items: Mapping[Any, Any]) -> None:
    if len(items) == 1:
      [(key, value)] = items.items()
      self.emit(key)
      self.emit(value)
      self.out += b"s"
    elif items:
      self.out += b"("
      for key, value in items.items():
        self.emit(key)
        self.emit(value)
      self.out += b"u"

  def emit_tuple(self, values: tuple[Any, ...]) -> None:
    self.out += b"(" if len(values) > 3 else b""
    for value in values:
      self.emit(value)
    self.out += {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t")
    if values:
      self.put()

  def global_name(self, module: str, name: str) -> None:
    if (module, name) in self.memo:
      return self.get(self.memo[module, name])
    self.out += f"c{module}\n{name}\n".encode("latin-1")
    self.memo[module, name] = self.count
    self.put()

  def ordered(self, items: Mapping[Any, Any]) -> None:
    self.global_name("collections", "OrderedDict")
    if self.python2:
      self.emit(([[key, value] for key, value in items.items()],))
      self.out += b"R"
      self.put()
    else:
      self.out += b")R"
      self.put()
      self.set_items(items)

  def tensor(self, view: View) -> None:
    name = "_rebuild_tensor" if self.python2 else "_rebuild_tensor_v2"
    self.global_name("torch._utils", name)
    self.out += b"("
    self.storage(view)
    self.integer(view.offset)
    self.emit(view.shape)
    self.strides(view.strides)
    if not self.python2:
      self.emit(False)
      self.emit(Ordered({}))
    self.out += b"t"
    self.put()
    self.out += b"R"
    self.put()

  def strides(self, strides: tuple[int, ...]) -> None:
    # Python 2 had two kinds of integers; lengths from C often came as longs.
    self.out += b"("
    for stride in strides:
      self.long(stride) if self.python2 else self.integer(stride)
    self.out += b"t"
    self.put()

  def storage(self, view: View) -> None:
    numbers = self.storages[view.key]
    self.out += b"("
    self.emit("storage")
    kind = f"torch.{view.kind or KINDS[numbers.dtype.str]}"
    self.global_name(*kind.rsplit(".", 1))
    self.emit(view.key)
    self.emit("cuda:0" if self.python2 else "cpu")
    self.emit(numbers.size)
    if self.python2:
      self.emit(view.part)
    self.out += b"tQ"


def as_views(
  tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, View]]:
  """Returns a storage of its own for every tensor, and the tensors as views of them."""
  storages, views = {}, {}
  for index, (name, tensor) in enumerate(tensors.items()):
    # torch 0.2 named storages by their address, torch 2 numbers them; any string will do.
    key = str(94_257_634_000_000 + 64 * index)
    strides = tuple(stride // tensor.itemsize for stride in np.ascontiguousarray(tensor).strides)
    storages[key] = tensor.reshape(-1)
    views[name] = View(key, 0, tensor.shape, strides if tensor.ndim else ())
  return storages, views


def legacy_bytes(
  storages: Mapping[str, np.ndarray], root: Any, *, system: Mapping[str, Any] | None = None
) -> bytes:
  """Returns a file of the older layout: four pickles, the list of keys, the storages.

  Args:
    storages: key -> flat array.
    root: the object; plain values, `View`, `Ordered` and `Raw`.
    system: replaces what the file says of the machine.
  """
  described = {
    "protocol_version": 1001,
    "type_sizes": {"int": 4, "short": 2, "long": 8},
    "little_endian": True,
  }
  keys = sorted(storages)
  pickles = [MAGIC, 1001, dict(system or described), root, keys]
  pieces = [Pickler(storages, python2=True).finish(value) for value in pickles]
  for key in keys:
    pieces += [struct.pack("<q", storages[key].size), storages[key].tobytes()]
  return b"".join(pieces)


def archive_records(storages: Mapping[str, np.ndarray], root: Any) -> dict[str, bytes]:
  """Returns the records of a file of the newer layout, without its folder."""
  return {
    "data.pkl": Pickler(storages, python2=False).finish(root),
    "byteorder": b"little",
    **{f"data/{key}": numbers.tobytes() for key, numbers in storages.items()},
    "version": b"3\n",
  }


def archive_bytes(records: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
  """Returns the zip archive with these records in a folder `archive/`."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", compression) as archive:
    for name, content in records.items():
      archive.writestr(f"archive/{name}", content)
  return buffer.getvalue()


def places365_style(state: Mapping[str, np.ndarray], arch: str, *, legacy: bool = True) -> bytes:
  """Returns a file named and nested as the public Places365 checkpoints are.

  `module.` before every name, for AlexNet only before its convolutions', DenseNet's `norm.1` and
  `conv.2`, no `num_batches_tracked`, and `epoch`, `arch` and `best_prec1` beside the weights.
  """
  storages, views = as_views({places365_name(name, arch): array for name, array in state.items()})
  root = {"epoch": 90, "arch": arch, "state_dict": Ordered(views), "best_prec1": 54.65625}
  return legacy_bytes(storages, root) if legacy else archive_bytes(archive_records(storages, root))


def places365_name(name: str, arch: str) -> str:
  """Returns how the file of a 2017 network calls a tensor of today's torchvision."""
  if arch == "alexnet":
    return name.replace("features.", "features.module.")
  if arch.startswith("densenet"):
    for index in "12":
      name = name.replace(f".norm{index}.", f".norm.{index}.") if "denselayer" in name else name
      name = name.replace(f".conv{index}.", f".conv.{index}.") if "denselayer" in name else name
  return f"module.{name}"
