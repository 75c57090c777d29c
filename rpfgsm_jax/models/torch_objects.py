"""What a pickle of `torch.save` describes, as plain values: globals by name, storages, tensors.

`CALLABLES` is all that a pickle may call. Whatever is malformed is a `CheckpointError`, whose
message never prints a whole value from the file: it may be huge, or hold itself.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NoReturn

_MAX_RANK = 16
_MAX_EMPTY = 1 << 31  # numbers that a tensor with a zero in its size may pretend to

STORAGE_TYPES = {
  "DoubleStorage": "<f8",
  "FloatStorage": "<f4",
  "HalfStorage": "<f2",
  "BFloat16Storage": "<u2",
  "LongStorage": "<i8",
  "IntStorage": "<i4",
  "ShortStorage": "<i2",
  "CharStorage": "<i1",
  "ByteStorage": "<u1",
  "BoolStorage": "<u1",
}
"""Torch's storage types -> NumPy types of one element; bfloat16, unknown to NumPy, by its bits."""


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
    kind: one of `STORAGE_TYPES`.
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
  """A strided window into a storage, in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def make_dict(*arguments: Any) -> dict[Any, Any]:
  result: dict[Any, Any] = {}
  if len(arguments) > 1:
    malformed("an ordered dictionary is made from more than one value")
  for pair in arguments[0] if arguments else ():  # Python 2 passes the items at once
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      malformed("an ordered dictionary is made from something else than pairs")
    set_item(result, *pair)
  return result


def make_size(*arguments: Any) -> tuple[int, ...]:
  if len(arguments) != 1:
    malformed("torch.Size takes one value")
  return _integers(arguments[0], "size")


def make_tensor(*arguments: Any) -> Tensor:
  # (storage, offset, size, stride) and, from torch 0.4 on, requires_grad, hooks and metadata.
  if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage):
    malformed("a tensor does not name its storage, offset, size and stride")
  storage, offset = arguments[:2]
  shape, strides = _integers(arguments[2], "size"), _integers(arguments[3], "stride")
  if not _is_count(offset) or len(shape) != len(strides) or len(shape) > _MAX_RANK:
    malformed(f"a tensor has size {shape[:9]}, stride {strides[:9]} and a malformed offset or rank")
  count = math.prod(shape)
  if not count and math.prod(max(n, 1) for n in shape) > _MAX_EMPTY:
    malformed(f"an empty tensor has the size {shape}")
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  # A stride of zero repeats numbers: without the second bound a small file could ask for terabytes.
  if count and (last >= storage.count or count > storage.count):
    malformed(
      f"a tensor of size {shape}, stride {strides} and offset {offset} does not fit into its "
      f"storage of {storage.count} numbers"
    )
  return Tensor(storage, offset, shape, strides)


def make_parameter(*arguments: Any) -> Tensor:
  if not arguments or not isinstance(arguments[0], Tensor):
    malformed("a parameter does not hold a tensor")
  return arguments[0]


def make_storage(identity: tuple[Any, ...]) -> Storage:
  # ("storage", type, key, device, count) and, in the older layout, None or (key, start, count) of
  # the part that is meant.
  well_formed = (
    5 <= len(identity) <= 6
    and identity[0] == "storage"
    and isinstance(identity[1], Global)
    and identity[1].name not in CALLABLES
    and isinstance(identity[2], str)
    and _is_count(identity[4])
  )
  if not well_formed:
    malformed("a storage is not named by its type, key, device and length")
  kind, key, count = identity[1].name.removeprefix("torch."), identity[2], identity[4]
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
  if not isinstance(key, str | int):
    malformed("a dictionary has a key that is neither a string nor an integer")
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


def escaped(name: str | int) -> str:
  """Returns a name from a file for an error message: short, and without control characters."""
  text = str(name) if isinstance(name, str) or abs(name) < 1 << 64 else "a huge integer"
  text = text if len(text) <= 100 else text[:97] + "..."
  return text.encode("unicode_escape").decode("ascii")


CALLABLES: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": make_dict,
  "torch.Size": make_size,
  "torch._utils._rebuild_tensor": make_tensor,
  "torch._utils._rebuild_tensor_v2": make_tensor,
  "torch._utils._rebuild_parameter": make_parameter,
}
