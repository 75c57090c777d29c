"""The restricted reader: values from both layouts, and refusals that run and leak nothing.

Files are assembled byte by byte by `oracles.legacy_torch_file`; the oracle tests add files that
torch itself wrote, and let torch read ours.
"""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from oracles.legacy_torch_file import (
  Ordered,
  Pickler,
  Raw,
  View,
  archive_bytes,
  archive_records,
  as_views,
  legacy_bytes,
)

from rpfgsm_jax.models.checkpoint import Checkpoint, CheckpointError, read_checkpoint

LAYOUTS = ("legacy", "archive")


def to_bytes(layout, storages, root):
  if layout == "legacy":
    return legacy_bytes(storages, root)
  return archive_bytes(archive_records(storages, root))


def read(tmp_path, content: bytes) -> Checkpoint:
  path = tmp_path / "file.pth.tar"
  path.write_bytes(content)
  return read_checkpoint(path)


def refusal(tmp_path, content: bytes) -> str:
  with pytest.raises(CheckpointError) as caught:
    read(tmp_path, content)
  assert str(caught.value).startswith(str(tmp_path / "file.pth.tar"))
  return str(caught.value)


def small_file(layout="legacy") -> bytes:
  numbers = np.arange(6, dtype=np.float32)
  views = {"a": View("11", 0, (2, 3), (3, 1)), "b": View("12", 0, (), ())}
  storages = {"11": numbers, "12": np.float32([7])}
  return to_bytes(layout, storages, {"state_dict": Ordered(views), "arch": "toy", "epoch": 3})


# ---- values ----


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_every_element_type_and_rank(tmp_path, layout):
  rng = np.random.default_rng(0)
  kinds = ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "i1", "u1", "?")
  tensors = {f"t{kind}": (rng.uniform(-9, 9, (2, 3, 1)) * 9).astype(kind) for kind in kinds}
  tensors["scalar"] = np.float32(2.5).reshape(())
  storages, views = as_views(tensors)
  got = read(tmp_path, to_bytes(layout, storages, {"state_dict": Ordered(views)}))
  assert list(got.tensors) == list(tensors)
  for name, tensor in tensors.items():
    np.testing.assert_array_equal(got.tensors[name], tensor)
    assert got.tensors[name].dtype == tensor.dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_honors_strides_offsets_and_shared_storages(tmp_path, layout):
  numbers = np.arange(30, dtype=np.float32)
  views = {
    "transposed": View("s", 0, (5, 6), (1, 5)),
    "window": View("s", 7, (2, 3), (10, 2)),
    "column": View("s", 4, (6, 1), (5, 1 << 60)),  # the stride of a side of one means nothing
    "empty": View("s", 0, (0, 3), (3, 1)),
  }
  got = read(tmp_path, to_bytes(layout, {"s": numbers}, Ordered(views))).tensors
  np.testing.assert_array_equal(got["transposed"], numbers.reshape(6, 5).T)
  np.testing.assert_array_equal(got["window"], [[7, 9, 11], [17, 19, 21]])
  np.testing.assert_array_equal(got["column"], numbers[4::5, None])
  assert got["empty"].shape == (0, 3)
  got["window"][:] = 0  # a copy: neighbors in the storage stay
  assert got["transposed"][2, 1] == 7


def test_reads_bfloat16_bits(tmp_path):
  bits = np.array([0x3FC0, 0xC000, 0x7F80], "<u2").view("<i2")
  views = {"b": View("s", 0, (3,), (1,), kind="BFloat16Storage")}
  got = read(tmp_path, legacy_bytes({"s": bits}, Ordered(views)))
  np.testing.assert_array_equal(got.tensors["b"], np.float32([1.5, -2.0, np.inf]))


def test_reads_a_view_of_a_storage(tmp_path):
  views = {"v": View("s", 1, (2,), (1,), part=("v", 3, 4))}
  got = read(tmp_path, legacy_bytes({"s": np.arange(9.0)}, Ordered(views)))
  np.testing.assert_array_equal(got.tensors["v"], [4.0, 5.0])


def test_reads_many_tensors_and_python2_entries(tmp_path):
  # Enough for a second batch of items, memo indices beyond one byte, and a long byte string.
  tensors = {f"module.layer{i}.{'x' * 250 if i == 5 else ''}": np.float32([i]) for i in range(1500)}
  storages, views = as_views(tensors)
  root = {
    "epoch": 90,
    "arch": "resnet18\xe9",
    "best_prec1": 54.65625,
    "state_dict": Ordered(views),
    "big": 1 << 40,
    "old": Raw(b"I4294967296\n"),  # how Python 2 writes an int of more than 31 bits
    "lists": [1, (2, [3]), {"a": None}],
  }
  got = read(tmp_path, legacy_bytes(storages, root))
  assert got.tensors.keys() == tensors.keys()
  assert all(got.tensors[name] == tensor for name, tensor in tensors.items())
  entries = {"epoch": 90, "arch": "resnet18\xe9", "best_prec1": 54.65625}
  assert got.entries == entries | {"big": 1 << 40, "old": 1 << 32}


def test_state_dictionary_may_be_the_whole_file_and_carry_attributes(tmp_path):
  tail = b"}X\x09\x00\x00\x00_metadata}sb"  # BUILD with a dictionary, as torch >= 0.4 does
  pickler = Pickler({"s": np.float32([1])}, python2=False)
  pickler.emit(Ordered({"w": View("s", 0, (1,), (1,))}))
  records = archive_records({"s": np.float32([1])}, None)
  records["data.pkl"] = bytes(pickler.out) + tail + b"."
  assert read(tmp_path, archive_bytes(records)).tensors["w"] == 1


# ---- code in the file ----


def call(module: str, name: str, argument: str) -> bytes:
  text = argument.encode()
  return f"c{module}\n{name}\n".encode() + b"U" + bytes([len(text)]) + text + b"\x85R"


ATTACKS = {
  "os.system": lambda command: call("os", "system", command),
  "posix.system": lambda command: call("posix", "system", command),
  "subprocess.getoutput": lambda command: call("subprocess", "getoutput", command),
  "builtins.eval": lambda command: call(
    "builtins", "eval", f"__import__('os').system({command!r})"
  ),
  "__builtin__.eval": lambda command: call(
    "__builtin__", "eval", f"__import__('os').system({command!r})"
  ),
  "INST": lambda command: b"(U" + bytes([len(command)]) + command.encode() + b"ios\nsystem\n",
  "OBJ": lambda command: b"(cos\nsystem\nU" + bytes([len(command)]) + command.encode() + b"o",
  "STACK_GLOBAL": lambda command: (
    b"\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R"
  ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_code_in_the_file_never_runs(tmp_path, layout, attack):
  marker = tmp_path / "ran"
  payload = ATTACKS[attack](f"touch {marker}")
  root = {"state_dict": Ordered({"w": Raw(payload)})}
  message = refusal(tmp_path, to_bytes(layout, {}, root))
  assert not marker.exists()
  # The payload is a real one: Python's own pickle runs it (in Python 2's names where it must).
  try:
    pickle.loads(b"\x80\x02" + payload + b".", encoding="latin-1")
  except TypeError:
    assert attack == "OBJ"  # Python 3 instantiates classes only; the opcode is refused all the same
  else:
    assert marker.exists()
  assert (attack if "." in attack else "os.system") in message


@pytest.mark.parametrize(
  ("opcodes", "says"),
  [
    (b"ctorch._utils\n_rebuild_tensor\n}b", "something else on the stack"),
    (b"ctorch\nFloatStorage\n)R", "type of storage"),
    (b"cnumpy.core.multiarray\nscalar\n)R", "numpy.core.multiarray.scalar"),
    (b"ctorch.nn.modules.linear\nLinear\n)\x81", "torch.nn.modules.linear.Linear"),
    (b"c__main__\n\x1b[31mred\n", r"__main__.\x1b[31mred"),
    (b"\x82\x01", "EXT1"),
    (b"Pos.system\n", "PERSID"),
    (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
    (b"ccollections\nOrderedDict\n)RK\x01b", "attributes"),
    (b"ctorch._utils\nglobals\n", "torch._utils.globals"),
    (b"ctorch\n_utils._rebuild_tensor.__globals__\n", "__globals__"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_what_it_refuses(tmp_path, opcodes, says):
  root = {"state_dict": Ordered({"w": Raw(opcodes)})}
  assert says in refusal(tmp_path, legacy_bytes({}, root))


# ---- damage ----


@pytest.mark.parametrize("layout", LAYOUTS)
def test_refuses_a_file_cut_off_anywhere(tmp_path, layout):
  content = small_file(layout)
  read(tmp_path, content)
  for stop in range(len(content)):
    assert refusal(tmp_path, content[:stop])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tail", [b"\x00", b"PK\x05\x06" + bytes(18), b"x" * 4000])
def test_refuses_trailing_bytes(tmp_path, layout, tail):
  assert refusal(tmp_path, small_file(layout) + tail)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_damaged_byte_gives_a_checkpoint_or_a_clear_error(tmp_path, layout):
  content = small_file(layout)
  path = tmp_path / "file.pth.tar"
  refused = 0
  for place in range(len(content)):
    for damage in (0x01, 0xFF):
      damaged = bytearray(content)
      damaged[place] ^= damage
      path.write_bytes(damaged)
      try:
        read_checkpoint(path)
      except CheckpointError:
        refused += 1
  assert (
    refused > len(content) / 2
  )  # some bytes, such as those of numbers and names, may be anything


@pytest.mark.parametrize(
  ("content", "says"),
  [
    (b"", "empty"),
    (b"<!DOCTYPE html><title>not found</title>", "web page"),
    (gzip.compress(b"x"), "gzip"),
    (b"hello, world", "not a PyTorch checkpoint"),
    (pickle.dumps({"a": 1}, 2), "magic"),
    (pickle.dumps([1, 2, 3], 4), "magic"),
  ],
  ids=["empty", "html", "gzip", "text", "pickle", "pickle4"],
)
def test_names_other_formats(tmp_path, content, says):
  assert says in refusal(tmp_path, content)


def test_names_a_real_tar_archive(tmp_path):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w") as archive:
    archive.addfile(tarfile.TarInfo("model.pth"))
  assert "tar" in refusal(tmp_path, buffer.getvalue())


ONE = {"s": np.arange(4, dtype=np.float32)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
  ("view", "says"),
  [
    (View("s", 0, (5,), (1,)), "does not fit"),
    (View("s", 1, (4,), (1,)), "does not fit"),
    (View("s", 0, (2, 2), (3, 1)), "does not fit"),
    (View("s", 0, (1 << 40,), (0,)), "does not fit"),
    (View("s", 0, (2,), (1 << 61,)), "does not fit"),
    (View("s", 0, (0, 1 << 60), (1, 1)), "empty tensor"),
    (View("s", -1, (1,), (1,)), "malformed offset"),
    (View("s", 0, (-1,), (1,)), "non-negative"),
    (View("s", 0, (1,), (-1,)), "non-negative"),
    (View("s", 0, (2, 2), (1,)), "malformed"),
    (View("s", 0, (1,) * 40, (1,) * 40), "malformed"),
  ],
  ids=lambda value: "" if isinstance(value, str) else f"{value.offset}-{value.shape[:2]}",
)
def test_bounds_every_tensor(tmp_path, layout, view, says):
  assert says in refusal(tmp_path, to_bytes(layout, ONE, Ordered({"w": view})))


@pytest.mark.parametrize(
  ("root", "says"),
  [
    (Ordered({"w": View("s", 0, (1,), (1,)), "v": View("s", 0, (1,), (1,), "LongStorage")}), "two"),
    (Ordered({"w": View("s", 0, (1,), (1,), part=("v", 3, 4))}), "view reaches"),
    (Ordered({"w": View("s", 0, (1,), (1,), "ComplexFloatStorage")}), "ComplexFloatStorage"),
    (Ordered({"w": 1.0}), "named tensor"),
    (Ordered({3: View("s", 0, (1,), (1,))}), "named tensor"),
    (Ordered({}), "no dictionary"),
    ({"state_dict": [1]}, "no dictionary"),
    ([1], "dictionary of weights"),
    (Ordered({"w": View("s", 0, (1,), (1,)), "v": Raw(b"h\xff")}), "refers to object 255"),
    (Raw(b"}(U\x01aK\x01U\x01aK\x02u"), "twice"),
    (Raw(b"}(U\x01au"), "without a value"),
    (Raw(b"}]]s"), "neither a string"),
    (Raw(b"]q\x00h\x00a"), "dictionary of weights"),  # a list that holds itself
    (Raw(b"K\x01K\x02"), "exactly one object"),
    (Raw(b"("), "exactly one object"),
    (Raw(b"e"), "mark"),
    (Raw(b"(((t"), "exactly one object"),
    (Raw(b"U\x01aQ"), "something else on the stack"),
    (Raw(b"(U\x07storageK\x01K\x01K\x01K\x01tQ"), "not named by"),
    (Raw(b"T\xff\xff\xff\x7fabc"), "cut off"),
    (Raw(b"\x8b\xff\xff\xff\x7f"), "cut off"),
    (Raw(b"I" + b"9" * 5000 + b"\n"), "cut off or damaged"),
  ],
  ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_refuses_a_malformed_object(tmp_path, root, says):
  assert says in refusal(tmp_path, legacy_bytes(ONE, root))


def test_a_sparse_memo_takes_no_memory(tmp_path):
  # CPython's own unpickler makes an array of the largest index; 2^31 would be 16 GB.
  root = {"x": Raw(b"Nr\xff\xff\xff\x7f"), "state_dict": Ordered({"w": View("s", 0, (4,), (1,))})}
  assert read(tmp_path, legacy_bytes(ONE, root)).tensors["w"].shape == (4,)


def test_nested_lists_that_double_are_not_unrolled(tmp_path):
  # x0 = [], x1 = [x0, x0], ... kept in one tuple: 2^60 leaves to whoever prints or copies them.
  first = 100
  doubling = b"(]q" + bytes([first])
  for index in range(first, first + 60):
    doubling += b"](" + 2 * (b"h" + bytes([index])) + b"eq" + bytes([index + 1])
  root = {"x": Raw(doubling + b"t"), "state_dict": Ordered({"w": View("s", 0, (4,), (1,))})}
  assert read(tmp_path, legacy_bytes(ONE, root)).entries == {}
  system = {"little_endian": Raw(doubling + b"t")}
  refusal(tmp_path, legacy_bytes(ONE, Ordered({}), system=system))


def test_storage_headers_must_agree_with_the_tensors(tmp_path):
  content = legacy_bytes(ONE, Ordered({"w": View("s", 0, (4,), (1,))}))
  start = len(content) - 24
  for count in (3, 5, -1, 1 << 62, -(1 << 63)):
    damaged = content[:start] + struct.pack("<q", count) + content[start + 8 :]
    assert "announces" in refusal(tmp_path, damaged)


def test_every_listed_storage_must_be_used(tmp_path):
  storages = {**ONE, "t": np.float32([1])}
  root = Ordered({"w": View("s", 0, (4,), (1,))})
  for layout in LAYOUTS:
    assert "must be the same" in refusal(tmp_path, to_bytes(layout, storages, root))


def test_refuses_a_big_endian_machine(tmp_path):
  root = Ordered({"w": View("s", 0, (4,), (1,))})
  content = legacy_bytes(ONE, root, system={"little_endian": False})
  assert "little-endian" in refusal(tmp_path, content)
  records = archive_records(ONE, root) | {"byteorder": b"big"}
  assert "little-endian" in refusal(tmp_path, archive_bytes(records))


def test_refuses_other_and_odd_archives(tmp_path):
  records = archive_records(ONE, Ordered({"w": View("s", 0, (4,), (1,))}))
  compressed = archive_bytes(records, compression=zipfile.ZIP_DEFLATED)
  assert "compressed" in refusal(tmp_path, compressed)
  assert "no data.pkl" in refusal(tmp_path, archive_bytes({"readme.txt": b"hello"}))
  shorter = records | {"data/s": bytes(12)}
  assert "must have 16 bytes, got 12" in refusal(tmp_path, archive_bytes(shorter))
  damaged = archive_bytes(records).replace(ONE["s"].tobytes(), bytes(16))
  assert "damaged" in refusal(tmp_path, damaged)


def test_refuses_an_archive_that_lost_its_comment(tmp_path):
  content = small_file("archive")
  assert "cut off" in refusal(tmp_path, content[:-2] + b"\x05\x00")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_refuses_a_record_twice(tmp_path):
  buffer = io.BytesIO(archive_bytes(archive_records(ONE, Ordered({}))))
  with zipfile.ZipFile(buffer, "a") as archive:
    archive.writestr("archive/data/s", bytes(16))
  assert "twice" in refusal(tmp_path, buffer.getvalue())


def test_a_missing_file_is_an_os_error(tmp_path):
  with pytest.raises(FileNotFoundError):
    read_checkpoint(tmp_path / "absent.pth")


# ---- torch itself ----


@pytest.mark.oracle
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_what_torch_writes(tmp_path, layout):
  torch = pytest.importorskip("torch")
  base = torch.arange(24.0).reshape(4, 6)
  kinds = (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.uint8)
  state = {
    "plain": base,
    "transposed": base.t(),
    "window": base[1:3, 2:],
    "parameter": torch.nn.Parameter(base[0]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "bool": base > 3,
    **{str(kind): base.to(kind) for kind in kinds},
  }
  path = tmp_path / "torch.pth"
  torch.save(
    {"state_dict": state, "epoch": 3, "best_prec1": 1.5},
    path,
    _use_new_zipfile_serialization=layout == "archive",
  )
  got = read_checkpoint(path)
  assert got.entries == {"epoch": 3, "best_prec1": 1.5}
  assert got.tensors.keys() == state.keys()
  for name, tensor in state.items():
    np.testing.assert_array_equal(got.tensors[name], tensor.detach().numpy())
    assert got.tensors[name].dtype == tensor.detach().numpy().dtype
  options = {"_use_new_zipfile_serialization": layout == "archive", "pickle_protocol": 4}
  torch.save({"b": base.bfloat16()}, path, **options)
  np.testing.assert_array_equal(read_checkpoint(path).tensors["b"], base.numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_reads_what_the_oracle_writes(tmp_path, layout):
  torch = pytest.importorskip("torch")
  path = tmp_path / "ours.pth"
  path.write_bytes(small_file(layout))
  loaded = torch.load(path, map_location="cpu", weights_only=True)
  assert (loaded["arch"], loaded["epoch"]) == ("toy", 3)
  np.testing.assert_array_equal(loaded["state_dict"]["a"].numpy(), np.arange(6.0).reshape(2, 3))


@pytest.mark.oracle
@pytest.mark.parametrize("layout", LAYOUTS)
def test_refuses_a_whole_model(tmp_path, layout):
  torch = pytest.importorskip("torch")
  path = tmp_path / "file.pth.tar"
  torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=layout == "archive")
  assert "torch.nn.modules.linear.Linear" in refusal(tmp_path, path.read_bytes())
