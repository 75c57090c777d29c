"""The restricted reader: values from both layouts, and refusals that run and leak nothing.

Files are assembled byte by byte by `oracles.legacy_torch_file`; the oracle tests add files that
torch itself wrote, and let torch read ours.
"""

import pickle

import numpy as np
import pytest
from models.checkpoint_files import LAYOUTS, read, refusal, small_file, to_bytes
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

from rpfgsm_jax.models.checkpoint import read_checkpoint

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


W = Ordered({"w": View("s", 0, (1,), (1,))})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
  "root",
  [
    W,
    {"state_dict": W, "model": W, "epoch": 3},
    {"model_state_dict": W, "optimizer_state_dict": {"state": {0: W}, "param_groups": [{}]}},
    *({name: W, "epoch": 3, "hooks": {}} for name in ("model", "net", "network", "weights")),
  ],
  ids=["alone", "state_dict", "model_state_dict", "model", "net", "network", "weights"],
)
def test_finds_the_weights_where_they_lie(tmp_path, layout, root):
  content = to_bytes(layout, {"s": np.float32([7])}, root)
  assert read(tmp_path, content).tensors == {"w": np.float32([7])}


@pytest.mark.parametrize(
  ("root", "says"),
  [
    ({"model": W, "model_ema": W}, "several sets of weights: model, model_ema; save the one"),
    ({"model": {"net": W}}, "got a dict as model; save a state_dict of plain tensors"),
    (Raw(b"cbuiltins\nset\n]\x85R"), "got a builtins.set; save the state_dict alone"),
  ],
  ids=["two", "nested", "other"],
)
def test_says_how_to_save_weights_that_it_does_not_find(tmp_path, root, says):
  content = to_bytes("legacy", {"s": np.float32([7])}, root)
  assert says in refusal(tmp_path, content)


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
    (b"ctorch\nfloat32\n)R", "type of storage or number"),
    (b"cnumpy.core.multiarray\nscalar\n)R", "numpy.core.multiarray.scalar"),
    (b"ctorch.nn.modules.linear\nLinear\n)\x81", "torch.nn.modules.linear.Linear"),
    (b"c__main__\n\x1b[31mred\n", r"__main__.\x1b[31mred"),
    (b"\x82\x01", "EXT1"),
    (b"Pos.system\n", "PERSID"),
    (b"cbuiltins\nlist\n)\x81", "calls builtins.list"),
    (b"cargparse\nNamespace\n)\x81", "argparse.Namespace"),
    (b"cargparse\nNamespace\n)\x81", "torch.save(model.state_dict(), FILE)"),
    (b"ccollections\nOrderedDict\n)RK\x01b", "attributes"),
    (b"ctorch._utils\nglobals\n", "torch._utils.globals"),
    (b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n", "os.system"),
    (b"ccollections\ndefaultdict\n(cos\nsystem\n", "os.system"),
    (b"cbuiltins\nset\n]\x85R}(U\x01acbuiltins\neval\nub", "builtins.eval"),
    (b"ctorch\n_utils._rebuild_tensor.__globals__\n", "__globals__"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_what_it_refuses(tmp_path, opcodes, says):
  root = {"state_dict": Ordered({"w": Raw(opcodes)})}
  assert says in refusal(tmp_path, legacy_bytes({}, root))


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
