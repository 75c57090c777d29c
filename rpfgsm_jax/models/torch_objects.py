"""What a pickle of `torch.save` describes, as plain values: globals by name, storages, tensors.

`CALLABLES` is all that a pickle may call with an effect. Whatever is malformed is a
`CheckpointError`, whose message never prints a whole value from the file: it may be huge, or hold
itself.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from rpfgsm_jax.models.torch_names import ELEMENTS, STORAGE_TYPES

_MAX_RANK = 16
_MAX_EMPTY = 1 << 31  # numbers that a tensor with a zero in its size may pretend to


class CheckpointError(ValueError):
  """The file is not a checkpoint that can be read, or holds another network."""


@dataclasses.dataclass(frozen=True)
class Global:
  """The name of something importable. It is compared, never imported."""

  name: str


@dataclasses.dataclass(frozen=True)
class Storage:
  """A run of numbers elsewhere in the file.

  Attributes:
    kind: one of `ELEMENTS`.
    key: its name in the file.
    total: all of its numbers.
    start: first number that is meant; not zero only for a view.
    count: how many are meant.
  """

  kind: str
  key: str
  total: int
  start: int
  count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A strided window into a storage, in elements of its own `kind`, one of `ELEMENTS`."""

  kind: str
  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass(eq=False)
class Described:
  """A value that no weights need: what the file calls to make it, and with what; it is not made."""

  name: str
  parts: list[Any]


def make_dict(*arguments: Any) -> dict[Any, Any]:
  result: dict[Any, Any] = {}
  if len(arguments) > 1:
    malformed("an ordered dictionary is made from more than one value")
  pairs = arguments[0] if arguments else ()  # Python 2 passes the items at once, a Counter a dict
  if not isinstance(pairs, dict | list | tuple):
    malformed("an ordered dictionary is made from something else than pairs")
  for pair in pairs.items() if isinstance(pairs, dict) else pairs:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      malformed("an ordered dictionary is made from something else than pairs")
    set_item(result, *pair)
  return result


def make_size(*arguments: Any) -> tuple[int, ...]:
  if len(arguments) != 1:
    malformed("torch.Size takes one value")
  return _integers(arguments[0], "size")


def make_tensor(*arguments: Any) -> Tensor | Described:
  # (storage, offset, size, stride) and, from torch 0.4 on, requires_grad, hooks and metadata.
  if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage):
    malformed("a tensor does not name its storage, offset, size and stride")
  if any(arguments[6:]):
    return Described("a tensor to be conjugated or negated", list(arguments))
  return _window_of(arguments[0].kind, *arguments[:4])


def make_tensor_of_type(*arguments: Any) -> Tensor | Described:
  # As above, and the type of its elements: those of the storage are bytes.
  if not 7 <= len(arguments) <= 8 or not isinstance(arguments[0], Storage):
    malformed("a tensor does not name its storage, offset, size, stride and type")
  kind = arguments[6].name.removeprefix("torch.") if isinstance(arguments[6], Global) else ""
  if kind not in ELEMENTS or any(arguments[7:]):
    return Described(f"a tensor of the type {escaped(kind)}", list(arguments))
  return _window_of(kind, *arguments[:4])


def _window_of(kind: str, storage: Storage, offset: Any, size: Any, stride: Any) -> Tensor:
  shape, strides = _integers(size, "size"), _integers(stride, "stride")
  if not _is_count(offset) or len(shape) != len(strides) or len(shape) > _MAX_RANK:
    malformed(f"a tensor has size {shape[:9]}, stride {strides[:9]} and a malformed offset or rank")
  count = math.prod(shape)
  if not count and math.prod(max(n, 1) for n in shape) > _MAX_EMPTY:
    malformed(f"an empty tensor has the size {shape}")
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  held = storage.count * item_size(storage.kind) // item_size(kind)
  # A stride of zero repeats numbers: without the second bound a small file could ask for terabytes.
  if count and (last >= held or count > held):
    malformed(
      f"a tensor of size {shape}, stride {strides} and offset {offset} does not fit into its "
      f"storage of {held} numbers"
    )
  return Tensor(kind, storage, offset, shape, strides)


def item_size(kind: str) -> int:
  """Returns the bytes of one element."""
  return np.dtype(ELEMENTS[kind]).itemsize


def make_parameter(*arguments: Any) -> Tensor | Described:
  # The tensor, and what training makes of it: whether it has a gradient, hooks, attributes.
  if not arguments or not isinstance(arguments[0], Tensor | Described):
    malformed("a parameter does not hold a tensor")
  return arguments[0]


def make_subclass(*arguments: Any) -> Any:
  # (function, type, its arguments, attributes): a tensor on which a program has set attributes.
  match arguments:
    case (Global(name), Global(), tuple(inner), _) if name in _TENSORS:
      return _TENSORS[name](*inner)
  return Described("torch._tensor._rebuild_from_type_v2", list(arguments))


def make_bytes(*arguments: Any) -> bytes | Described:
  # How Python 3 writes bytes for Python 2.
  match arguments:
    case (str(text), "latin1" | "latin-1") if not text or ord(max(text)) < 256:
      return text.encode("latin-1")
  return Described("_codecs.encode", list(arguments))


def make_scalar(*arguments: Any) -> bool | int | float | Described:
  # (dtype, bytes): NumPy's numbers, such as the accuracy in a record of the training.
  match arguments:
    case (Described("numpy.dtype", [str(code), _, _, (_, str(order), *_)]), bytes() | str()) if (
      code in _NUMPY_NUMBERS and order in ("<", ">", "|", "=")
    ):
      content, dtype = arguments[1], np.dtype(order.replace("=", "<") + code)
      if isinstance(content, str):  # Python 2's bytes
        content = content.encode("latin-1", "replace")
      if len(content) == dtype.itemsize:
        return np.frombuffer(content, dtype)[0].item()
  return Described("numpy.core.multiarray.scalar", list(arguments))


def make_storage(identity: tuple[Any, ...]) -> Storage:
  # ("storage", type, key, device, count) and, in the older layout, None or (key, start, count) of
  # the part that is meant.
  well_formed = (
    5 <= len(identity) <= 6
    and identity[0] == "storage"
    and isinstance(identity[1], Global)
    and identity[1].name in STORAGE_TYPES
    and isinstance(identity[2], str)
    and _is_count(identity[4])
  )
  if not well_formed:
    malformed("a storage is not named by its type, key, device and length")
  kind, key, count = STORAGE_TYPES[identity[1].name], identity[2], identity[4]
  view = identity[5] if len(identity) == 6 else None
  if view is None:
    return Storage(kind, key, count, 0, count)
  if not isinstance(view, tuple) or len(view) != 3 or not all(_is_count(n) for n in view[1:]):
    malformed("a view of a storage is not named by its key, start and length")
  if view[1] + view[2] > count:
    malformed(f"a view reaches number {view[1] + view[2]} of a storage of {count}")
  return Storage(kind, key, count, view[1], view[2])


def set_item(target: dict[Any, Any], key: Any, value: Any) -> None:
  """Sets an item of a dictionary, once."""
  # No nested tuples: Python hashes a pair of pairs of pairs … leaf by leaf.
  plain = (str, bytes, int, float, type(None), Global, Described)
  if not all(isinstance(part, plain) for part in (key if isinstance(key, tuple) else (key,))):
    malformed("a dictionary has a key that is neither a string, a number nor a tuple of those")
  if key in target:
    malformed(f"a dictionary has the key {escaped(key)} twice")
  target[key] = value


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _integers(values: Any, what: str) -> tuple[int, ...]:
  if not isinstance(values, tuple | list) or not all(_is_count(value) for value in values):
    malformed(f"the {what} of a tensor is not a tuple of non-negative integers")
  return tuple(values)


def malformed(fault: str) -> NoReturn:
  raise CheckpointError(f"{fault}.")


def escaped(name: Any) -> str:
  """Returns a name from a file for an error message: short, and without control characters."""
  if isinstance(name, int) and not isinstance(name, bool):
    name = name if abs(name) < 1 << 64 else "a huge integer"
  elif not isinstance(name, str):
    name = f"a {type(name).__name__}"
  text = str(name)
  text = text if len(text) <= 100 else text[:97] + "..."
  return text.encode("unicode_escape").decode("ascii")


_NUMPY_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_TENSORS: dict[str, Callable[..., Any]] = {
  "torch._utils._rebuild_tensor": make_tensor,
  "torch._utils._rebuild_tensor_v2": make_tensor,
  "torch._utils._rebuild_tensor_v3": make_tensor_of_type,
  "torch._utils._rebuild_parameter": make_parameter,
  "torch._utils._rebuild_parameter_with_state": make_parameter,
  "torch._utils._rebuild_device_tensor_from_cpu_tensor": make_parameter,
  "torch.nn.parameter.Parameter": make_parameter,
}
CALLABLES: dict[str, Callable[..., Any]] = {
  **_TENSORS,
  "collections.OrderedDict": make_dict,
  "collections.Counter": make_dict,
  "collections.defaultdict": lambda *_: {},
  "torch.Size": make_size,
  "torch._tensor._rebuild_from_type_v2": make_subclass,
  "_codecs.encode": make_bytes,
  "numpy.core.multiarray.scalar": make_scalar,
  "numpy._core.multiarray.scalar": make_scalar,
}
