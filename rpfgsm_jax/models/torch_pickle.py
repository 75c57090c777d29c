"""Interprets the pickles that `torch.save` writes, over plain data, without running anything.

A pickle is a program: loading one with `pickle` runs whatever its author wrote. Here the opcodes
that torch needs (of protocol 2, and 4 on request) are interpreted; a global is only ever compared
with a closed list and never imported, and the few "calls" on that list build dictionaries and
descriptions of tensors.
Error messages never print a whole value from the file: it may be huge, or hold itself.
"""

import dataclasses
import io
import math
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

_MAX_OPCODES = 5_000_000  # DenseNet161 needs about 40,000
_MAX_READ = 1 << 26  # bytes of one argument; a name is the longest that is needed
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
class _Global:
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


_MARK = object()


class _Reader:
  """What `pickletools` needs of a file, without memory for bytes that the file does not have.

  `file.read(n)` makes room for n bytes before it looks; a damaged length would ask for gigabytes.
  """

  def __init__(self, file: BinaryIO):
    self._file, start = file, file.tell()
    self._end = file.seek(0, io.SEEK_END)
    file.seek(start)
    self.tell = file.tell

  def read(self, count: int) -> bytes:
    return self._file.read(max(0, min(count, self._end - self._file.tell(), _MAX_READ)))

  def readline(self) -> bytes:
    return self._file.readline(_MAX_READ)


def _make_dict(*arguments: Any) -> dict[Any, Any]:
  result: dict[Any, Any] = {}
  if len(arguments) > 1:
    _malformed("an ordered dictionary is made from more than one value")
  for pair in arguments[0] if arguments else ():  # Python 2 passes the items at once
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      _malformed("an ordered dictionary is made from something else than pairs")
    _set_item(result, *pair)
  return result


def _make_size(*arguments: Any) -> tuple[int, ...]:
  if len(arguments) != 1:
    _malformed("torch.Size takes one value")
  return _integers(arguments[0], "size")


def _make_tensor(*arguments: Any) -> Tensor:
  # (storage, offset, size, stride) and, from torch 0.4 on, requires_grad, hooks and metadata.
  if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage):
    _malformed("a tensor does not name its storage, offset, size and stride")
  storage, offset = arguments[:2]
  shape, strides = _integers(arguments[2], "size"), _integers(arguments[3], "stride")
  if not _is_count(offset) or len(shape) != len(strides) or len(shape) > _MAX_RANK:
    _malformed(
      f"a tensor has size {shape[:9]}, stride {strides[:9]} and a malformed offset or rank"
    )
  count = math.prod(shape)
  if not count and math.prod(max(n, 1) for n in shape) > _MAX_EMPTY:
    _malformed(f"an empty tensor has the size {shape}")
  last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
  # A stride of zero repeats numbers: without the second bound a small file could ask for terabytes.
  if count and (last >= storage.count or count > storage.count):
    _malformed(
      f"a tensor of size {shape}, stride {strides} and offset {offset} does not fit into its "
      f"storage of {storage.count} numbers"
    )
  return Tensor(storage, offset, shape, strides)


def _make_parameter(*arguments: Any) -> Tensor:
  if not arguments or not isinstance(arguments[0], Tensor):
    _malformed("a parameter does not hold a tensor")
  return arguments[0]


_CALLABLES: dict[str, Callable[..., Any]] = {
  "collections.OrderedDict": _make_dict,
  "torch.Size": _make_size,
  "torch._utils._rebuild_tensor": _make_tensor,
  "torch._utils._rebuild_tensor_v2": _make_tensor,
  "torch._utils._rebuild_parameter": _make_parameter,
}
_GLOBALS = {*_CALLABLES, *(f"torch.{kind}" for kind in STORAGE_TYPES)}


class _Machine:
  """Interprets one pickle; strings of Python 2 are read as Latin-1."""

  def __init__(self) -> None:
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}

  def run(self, file: BinaryIO) -> Any:
    """Returns the object; leaves the file right behind the pickle."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(_Reader(file))):
      if count > _MAX_OPCODES:
        _malformed(f"the pickle has more than {_MAX_OPCODES} opcodes")
      if opcode.name == "STOP":
        break
      if opcode.name in _LITERALS:
        self.stack.append(argument)
      elif opcode.name in _STEPS:
        _STEPS[opcode.name](self, argument)
      else:
        _malformed(f"the pickle has the opcode {opcode.name}, which torch.save does not write")
    if len(self.stack) != 1 or self.stack[0] is _MARK:
      _malformed("the pickle does not leave exactly one object")
    return self.stack[0]

  def pop(self, kind: type | tuple[type, ...] = object) -> Any:
    if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
      _malformed("an opcode finds something else on the stack than it needs")
    return self.stack.pop()

  def pop_to_mark(self) -> list[Any]:
    items = []
    while self.stack and self.stack[-1] is not _MARK:
      items.append(self.stack.pop())
    if not self.stack:
      _malformed("a mark is missing on the stack")
    self.stack.pop()
    return items[::-1]

  def top(self, kind: type) -> Any:
    if not self.stack or not isinstance(self.stack[-1], kind):
      _malformed("an opcode finds something else on the stack than it needs")
    return self.stack[-1]

  def push_global(self, name: str) -> None:
    """Takes the text "module name"."""
    name = name.replace(" ", ".", 1)
    if name not in _GLOBALS:
      _malformed(
        f"the file asks for {printable(name)}, which no plain checkpoint needs; nothing was run. "
        "Do not load it with other tools unless you trust its author"
      )
    self.stack.append(_Global(name))

  def stack_global(self, _: Any) -> None:
    name, module = self.pop(str), self.pop(str)
    self.push_global(f"{module} {name}")

  def instantiate(self, name: str) -> None:
    self.push_global(name)
    _malformed(f"the file instantiates {printable(name)}, as torch.save never does")

  def reduce(self, _: Any) -> None:
    arguments = self.pop(tuple)
    function = self.pop(_Global).name
    if function not in _CALLABLES:
      _malformed(f"the file calls {function}, which is a type of storage; nothing was run")
    self.stack.append(_CALLABLES[function](*arguments))

  def build(self, _: Any) -> None:
    # torch hangs a `_metadata` dictionary on its state dictionaries; the weights do not need it.
    state = self.pop()
    self.top(dict)
    if not isinstance(state, dict):
      _malformed("an object other than a state dictionary has attributes")

  def set_items(self, items: list[Any]) -> None:
    target = self.top(dict)
    if len(items) % 2:
      _malformed("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
      _set_item(target, key, value)

  def set_item(self, _: Any) -> None:
    value, key = self.pop(), self.pop()
    self.set_items([key, value])

  def append(self, _: Any) -> None:
    value = self.pop()
    self.top(list).append(value)

  def extend(self, _: Any) -> None:
    items = self.pop_to_mark()
    self.top(list).extend(items)

  def put(self, index: int) -> None:
    if not self.stack or self.stack[-1] is _MARK:
      _malformed("the pickle remembers nothing")
    self.memo[index] = self.stack[-1]

  def get(self, index: int) -> None:
    if index not in self.memo:
      _malformed(f"the pickle refers to object {index} before it made it")
    self.stack.append(self.memo[index])

  def tuple_of(self, length: int) -> None:
    self.stack.append(tuple(reversed([self.pop() for _ in range(length)])))

  def persistent(self, _: Any) -> None:
    self.stack.append(_make_storage(self.pop(tuple)))


_LITERALS = {
  *("BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT"),
  *("SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
  "PROTO": lambda machine, version: None,
  "FRAME": lambda machine, length: None,
  "MARK": lambda machine, _: machine.stack.append(_MARK),
  "NONE": lambda machine, _: machine.stack.append(None),
  "NEWTRUE": lambda machine, _: machine.stack.append(True),
  "NEWFALSE": lambda machine, _: machine.stack.append(False),
  "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
  "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
  "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
  "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
  "TUPLE1": lambda machine, _: machine.tuple_of(1),
  "TUPLE2": lambda machine, _: machine.tuple_of(2),
  "TUPLE3": lambda machine, _: machine.tuple_of(3),
  "SETITEM": _Machine.set_item,
  "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
  "APPEND": _Machine.append,
  "APPENDS": _Machine.extend,
  "BINPUT": _Machine.put,
  "LONG_BINPUT": _Machine.put,
  "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
  "BINGET": _Machine.get,
  "LONG_BINGET": _Machine.get,
  "GLOBAL": _Machine.push_global,
  "STACK_GLOBAL": _Machine.stack_global,
  "INST": _Machine.instantiate,
  "REDUCE": _Machine.reduce,
  "BUILD": _Machine.build,
  "BINPERSID": _Machine.persistent,
}


def _make_storage(identity: tuple[Any, ...]) -> Storage:
  # ("storage", type, key, device, count) and, in the older layout, None or (key, start, count) of
  # the part that is meant.
  well_formed = (
    5 <= len(identity) <= 6
    and identity[0] == "storage"
    and isinstance(identity[1], _Global)
    and identity[1].name not in _CALLABLES
    and isinstance(identity[2], str)
    and _is_count(identity[4])
  )
  if not well_formed:
    _malformed("a storage is not named by its type, key, device and length")
  kind, key, count = identity[1].name.removeprefix("torch."), identity[2], identity[4]
  view = identity[5] if len(identity) == 6 else None
  if view is None:
    return Storage(kind, key, count, 0, count)
  if not isinstance(view, tuple) or len(view) != 3 or not all(_is_count(n) for n in view[1:]):
    _malformed("a view of a storage is not named by its key, start and length")
  if view[1] + view[2] > count:
    _malformed(f"a view reaches number {view[1] + view[2]} of a storage of {count}")
  return Storage(kind, key, count, view[1], view[2])


def _set_item(target: dict[Any, Any], key: Any, value: Any) -> None:
  if not isinstance(key, str | int):
    _malformed("a dictionary has a key that is neither a string nor an integer")
  if key in target:
    _malformed(f"a dictionary has the key {printable(key)} twice")
  target[key] = value


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _integers(values: Any, what: str) -> tuple[int, ...]:
  if not isinstance(values, tuple | list) or not all(_is_count(value) for value in values):
    _malformed(f"the {what} of a tensor is not a tuple of non-negative integers")
  return tuple(values)


def _malformed(fault: str) -> NoReturn:
  raise CheckpointError(f"{fault}.")


def printable(name: str | int) -> str:
  """Returns a name from a file for an error message: short, and without control characters."""
  text = str(name) if isinstance(name, str) or abs(name) < 1 << 64 else "a huge integer"
  text = text if len(text) <= 100 else text[:97] + "..."
  return text.encode("unicode_escape").decode("ascii")


def run_pickle(file: BinaryIO) -> Any:
  """Interprets one pickle.

  Args:
    file: open at the pickle's first byte; left right behind its last one.

  Returns:
    Dictionaries, lists, tuples, strings, numbers, `None`, `Storage`s and `Tensor`s; containers may
    be shared and may hold themselves.

  Raises:
    CheckpointError: the pickle is cut off or asks for anything else. Nothing was run.
  """
  try:
    return _Machine().run(file)
  except CheckpointError:
    raise
  except (ValueError, EOFError, struct.error, OverflowError) as error:
    # pickletools reports a cut-off or malformed argument of an opcode with one of these.
    raise CheckpointError(f"the pickle is cut off or damaged ({error}).") from error
