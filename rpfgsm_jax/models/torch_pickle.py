"""Interprets the pickles that `torch.save` writes, over plain data, without running anything.

A pickle is a program: loading one with `pickle` runs whatever its author wrote. Here the opcodes
that torch needs (of protocol 2, and 4 on request) are interpreted; a global is only ever compared
with a closed list and never imported, and the few "calls" on that list (`torch_objects`) build
dictionaries, numbers and descriptions of tensors and of what no weights need.
"""

import io
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from rpfgsm_jax.models.torch_names import DESCRIBED, TYPES
from rpfgsm_jax.models.torch_objects import (
  CALLABLES,
  CheckpointError,
  Described,
  Global,
  escaped,
  make_storage,
  malformed,
  set_item,
)

_MAX_OPCODES = 5_000_000  # DenseNet161 needs about 40,000
_MAX_READ = 1 << 26  # bytes of one argument; a name is the longest that is needed
_NAMES = {*CALLABLES, *DESCRIBED, *TYPES}
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


class _Machine:
  """Interprets one pickle; strings of Python 2 are read as Latin-1."""

  def __init__(self) -> None:
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}

  def run(self, file: BinaryIO) -> Any:
    """Returns the object; leaves the file right behind the pickle."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(_Reader(file))):
      if count > _MAX_OPCODES:
        malformed(f"the pickle has more than {_MAX_OPCODES} opcodes")
      if opcode.name == "STOP":
        break
      if opcode.name in _LITERALS:
        self.stack.append(argument)
      elif opcode.name in _STEPS:
        _STEPS[opcode.name](self, argument)
      else:
        malformed(f"the pickle has the opcode {opcode.name}, which torch.save does not write")
    if len(self.stack) != 1 or self.stack[0] is _MARK:
      malformed("the pickle does not leave exactly one object")
    return self.stack[0]

  def pop(self, kind: type | tuple[type, ...] = object) -> Any:
    if not self.stack or self.stack[-1] is _MARK or not isinstance(self.stack[-1], kind):
      malformed("an opcode finds something else on the stack than it needs")
    return self.stack.pop()

  def pop_to_mark(self) -> list[Any]:
    items = []
    while self.stack and self.stack[-1] is not _MARK:
      items.append(self.stack.pop())
    if not self.stack:
      malformed("a mark is missing on the stack")
    self.stack.pop()
    return items[::-1]

  def top(self, kind: type) -> Any:
    if not self.stack or not isinstance(self.stack[-1], kind):
      malformed("an opcode finds something else on the stack than it needs")
    return self.stack[-1]

  def push_global(self, name: str) -> None:
    """Takes the text "module name"."""
    name = name.replace(" ", ".", 1)
    known = re.sub(r"^__builtin__\.", "builtins.", name)  # as Python 2 called it
    if known not in _NAMES:
      malformed(
        f"the file asks for {escaped(name)}, which no plain checkpoint needs; nothing was run. "
        "Do not load it with other tools unless you trust its author; if you do, load it where it "
        "was made and save the state_dict alone: torch.save(model.state_dict(), FILE)"
      )
    self.stack.append(Global(known))

  def stack_global(self, _: Any) -> None:
    name, module = self.pop(str), self.pop(str)
    self.push_global(f"{module} {name}")

  def instantiate(self, name: str) -> None:
    self.push_global(name)
    malformed(f"the file instantiates {escaped(name)}, as torch.save never does")

  def reduce(self, _: Any) -> None:
    arguments = self.pop(tuple)
    function = self.pop(Global).name
    if function in CALLABLES:
      self.stack.append(CALLABLES[function](*arguments))
    elif function in DESCRIBED:
      self.stack.append(Described(function, list(arguments)))
    else:
      malformed(f"the file calls {function}, which is a type of storage or number; nothing was run")

  def build(self, _: Any) -> None:
    # torch hangs a `_metadata` dictionary on its state dictionaries; the weights do not need it.
    state = self.pop()
    if self.stack and isinstance(self.stack[-1], Described):
      return self.stack[-1].parts.append(state)
    self.top(dict)
    if not isinstance(state, dict):
      malformed("an object other than a state dictionary has attributes")

  def set_items(self, items: list[Any]) -> None:
    target = self.top(dict)
    if len(items) % 2:
      malformed("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
      set_item(target, key, value)

  def set_item(self, _: Any) -> None:
    value, key = self.pop(), self.pop()
    self.set_items([key, value])

  def append(self, _: Any) -> None:
    value = self.pop()
    self.top(list).append(value)

  def extend(self, _: Any) -> None:
    items = self.pop_to_mark()
    self.top(list).extend(items)

  def add(self, _: Any) -> None:
    items = self.pop_to_mark()
    self.top(Described).parts.extend(items)

  def put(self, index: int) -> None:
    if not self.stack or self.stack[-1] is _MARK:
      malformed("the pickle remembers nothing")
    self.memo[index] = self.stack[-1]

  def get(self, index: int) -> None:
    if index not in self.memo:
      malformed(f"the pickle refers to object {index} before it made it")
    self.stack.append(self.memo[index])

  def tuple_of(self, length: int) -> None:
    self.stack.append(tuple(reversed([self.pop() for _ in range(length)])))

  def persistent(self, _: Any) -> None:
    self.stack.append(make_storage(self.pop(tuple)))


_LITERALS = {
  *("BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT"),
  *("SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
  *("SHORT_BINBYTES", "BINBYTES"),
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
  "EMPTY_SET": lambda machine, _: machine.stack.append(Described("builtins.set", [])),
  "ADDITEMS": _Machine.add,
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
  "NEWOBJ": _Machine.reduce,
  "BUILD": _Machine.build,
  "BINPERSID": _Machine.persistent,
}


def run_pickle(file: BinaryIO) -> Any:
  """Interprets one pickle; the file is left right behind it.

  Returns dictionaries, lists, tuples, strings, bytes, numbers, None, `Storage`s, `Tensor`s and what
  is `Described`; containers may be shared and may hold themselves.
  """
  try:
    return _Machine().run(file)
  except CheckpointError:
    raise
  except (ValueError, EOFError, struct.error, OverflowError) as error:
    # pickletools reports a cut-off or malformed argument of an opcode with one of these.
    raise CheckpointError(f"the pickle is cut off or damaged ({error}).") from error
