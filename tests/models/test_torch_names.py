"""Every name that torch allows with `weights_only`, and what the reader does with it.

`PLAIN`, `DESCRIBED` and `REFUSED` are together torch's own list (of 2.13; `make test-oracles`
compares them with the installed one). A value that is only described may lie beside the weights and
is no weight: nothing that this package loads needs it, and making it would take code of torch's.
"""

import collections
import struct

import numpy as np
import pytest
from models.checkpoint_files import LAYOUTS, read, refusal, to_bytes
from oracles.legacy_torch_file import Ordered, Raw, View

from rpfgsm_jax.models.checkpoint import read_checkpoint

KINDS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
STORAGES = [f"{place}{kind}Storage" for place in ("", "cuda.") for kind in KINDS]
STORAGES += [
  f"{place}Complex{kind}Storage" for place in ("", "cuda.") for kind in ("Float", "Double")
]
STORAGES += [f"Q{kind}Storage" for kind in ("Int8", "Int32", "UInt8", "UInt4x2", "UInt2x4")]
TYPES = """float64 float32 float16 bfloat16 complex128 complex64 complex32 bool
  int1 int2 int3 int4 int5 int6 int7 int8 int16 int32 int64
  uint1 uint2 uint3 uint4 uint5 uint6 uint7 uint8 uint16 uint32 uint64
  qint8 qint32 quint8 quint4x2 quint2x4 bits8 bits16 bits1x8 bits2x4 bits4x2 float4_e2m1fn_x2
  float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
  per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric
  per_channel_affine_float_qparams"""  # of elements, and the rules of quantization
DTYPES = TYPES.split()
TENSOR_TYPES = [f"{place}{kind}Tensor" for place in ("", "cuda.") for kind in KINDS]
TENSOR_TYPES += [f"{place}sparse.{kind}Tensor" for place in ("", "cuda.") for kind in KINDS[:-1]]

PLAIN = {  # becomes what it is in torch: a tensor, a dictionary, a tuple, bytes
  *("collections.OrderedDict", "collections.Counter", "torch.Size", "_codecs.encode"),
  *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"),
  *("torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter"),
  *("torch._utils._rebuild_parameter_with_state", "torch.nn.parameter.Parameter"),
  *("torch._utils._rebuild_device_tensor_from_cpu_tensor", "torch._tensor._rebuild_from_type_v2"),
  *("torch.storage.UntypedStorage", *(f"torch.{kind}" for kind in STORAGES)),
}
DESCRIBED = {
  # Python's values of which no entry is kept
  *("builtins.set", "builtins.bytearray", "builtins.complex"),
  # a place, an order in memory, types: they stand for themselves
  *("torch.device", "torch.serialization._get_layout", *(f"torch.{kind}" for kind in DTYPES)),
  # how torch made tensors before 2017, and storages by themselves: `set_` on an empty one
  *("torch.Tensor", "torch.storage.TypedStorage", *(f"torch.{kind}" for kind in TENSOR_TYPES)),
  # tensors that are not a window into a storage; no weight of our networks is one
  *("torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor"),
  *("torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_wrapper_subclass"),
  *("torch._utils._rebuild_meta_tensor_no_storage",),
  # made of a NumPy array, of which torch itself does not allow the names
  *("torch._utils._rebuild_device_tensor_from_numpy",),
}
REFUSED = {  # torch allows them once it is imported: of nested tensors, and of parallel training
  *(f"torch.nested._internal.nested_tensor.{name}" for name in ("NestedTensor", "_rebuild_njt")),
  *(f"torch.distributed._mesh_layout.{name}" for name in ("_MeshLayout", "_FlatLayout")),
}
OURS = {  # torch refuses these; a record of the training may hold them
  *("collections.defaultdict", "builtins.list", "builtins.int", "numpy.ndarray", "numpy.dtype"),
  *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
  *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
}
WEIGHT = {"w": View("s", 0, (2,), (1,))}
NUMBERS = {"s": np.float32([1.5, -2])}


def named(name: str) -> bytes:
  module, _, name = name.rpartition(".")
  return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
  return b"U" + bytes([len(value)]) + value.encode("latin-1")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_beside_the_weights_are_read_past(tmp_path, layout):
  for name in sorted(PLAIN | DESCRIBED | OURS):
    content = to_bytes(layout, NUMBERS, {"x": [Raw(named(name))], "state_dict": Ordered(WEIGHT)})
    got = read(tmp_path, content)
    np.testing.assert_array_equal(got.tensors["w"], NUMBERS["s"], name)
    assert got.entries == {}
  for name in sorted(REFUSED):
    content = to_bytes(layout, NUMBERS, {"x": [Raw(named(name))], "state_dict": Ordered(WEIGHT)})
    assert f"asks for {name}" in refusal(tmp_path, content)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
  "made", [b"R", b"\x81", b"R}b", b"R)b"], ids=["call", "new", "dict", "state"]
)
def test_described_values_lie_beside_the_weights_and_are_none(tmp_path, layout, made):
  types = {f"torch.{kind}" for kind in DTYPES}
  for name in sorted(DESCRIBED - types):
    value = Raw(named(name) + b"(K\x01(K\x02]tt" + made)
    root = {"x": [value], "state_dict": Ordered(WEIGHT)}
    assert read(tmp_path, to_bytes(layout, NUMBERS, root)).tensors["w"].shape == (2,)
    assert f"got a {name} as w" in refusal(tmp_path, to_bytes(layout, {}, {"w": value}))
  for name in sorted(types):
    assert "type of storage or number" in refusal(
      tmp_path, to_bytes(layout, {}, {"w": Raw(named(name) + b")" + made)})
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_storage_is_read_wherever_it_lay(tmp_path, layout):
  content = np.random.default_rng(0).bytes(48)
  types = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2"}
  types |= {"Char": "i1", "Byte": "u1", "ComplexFloat": "c8", "ComplexDouble": "c16"}
  types |= {"QInt8": "i1", "QInt32": "i4", "QUInt8": "u1", "QUInt4x2": "u1", "QUInt2x4": "u1"}
  for kind in STORAGES:
    name = kind.removeprefix("cuda.").removesuffix("Storage")
    dtype = types.get(name, {"BFloat16": "u2", "Bool": "u1"}.get(name))
    numbers = np.frombuffer(content, dtype)
    view = View("s", 1, (numbers.size - 1,), (1,), kind)
    got = read(tmp_path, to_bytes(layout, {"s": numbers}, Ordered({"w": view}))).tensors["w"]
    if name == "BFloat16":
      expected = np.frombuffer(b"".join(b"\0\0" + pair.tobytes() for pair in numbers), "f4")
    else:
      expected = numbers.astype(bool) if name == "Bool" else numbers
    assert got.tobytes() == expected[1:].tobytes(), kind
    assert got.dtype == expected.dtype


# ---- values of a record ----


V2 = named("torch._utils._rebuild_tensor_v2")
STORAGE = b"(" + text("storage") + named("torch.cuda.FloatStorage") + text("s") + text("cuda:0")
ARGUMENTS = (
  b"(" + STORAGE + b"K\x02#tQK\x00K\x02\x85K\x01\x85\x89" + named("collections.OrderedDict")
)
TENSOR = V2 + ARGUMENTS + b")RtR"
PARAMETER = named("torch.nn.parameter.Parameter")
FORMS = {
  "tensor": TENSOR,
  "parameter": named("torch._utils._rebuild_parameter") + TENSOR + b"\x88}\x87R",
  "state": named("torch._utils._rebuild_parameter_with_state") + b"(" + TENSOR + b"\x88}}tR",
  "call": PARAMETER + TENSOR + b"\x88\x86R",
  "new": PARAMETER + TENSOR + b"\x88\x86\x81",
  "attributes": named("torch._tensor._rebuild_from_type_v2")
  + b"(" + V2 + PARAMETER + ARGUMENTS + b")Rt}tR",
}  # fmt: skip


def form_of(form: str, layout: str) -> Raw:
  """Returns the opcodes; only the older layout says whether a storage is a view of another."""
  return Raw(FORMS[form].replace(b"#", b"N" if layout == "legacy" else b""))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_parameter(tmp_path, layout, form):
  got = read(tmp_path, to_bytes(layout, NUMBERS, {"w": form_of(form, layout)}))
  np.testing.assert_array_equal(got.tensors["w"], NUMBERS["s"])


def untyped(offset: int, dtype: str) -> Raw:
  """Returns two numbers of a storage of eight bytes."""
  storage = b"(" + text("storage") + named("torch.storage.UntypedStorage") + text("s") + text("cpu")
  arguments = b"K\x08tQK" + bytes([offset]) + b"K\x02\x85K\x01\x85\x89}" + named(dtype)
  return Raw(named("torch._utils._rebuild_tensor_v3") + b"(" + storage + arguments + b"tR")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_of_untyped_storages(tmp_path, layout):
  numbers = {"s": np.uint16([7, 8, 50000, 9]).view(np.uint8)}
  read_one = {"w": untyped(1, "torch.uint16"), "v": untyped(0, "torch.float32")}
  got = read(tmp_path, to_bytes(layout, numbers, read_one)).tensors
  np.testing.assert_array_equal(got["w"], np.uint16([8, 50000]))
  np.testing.assert_array_equal(got["v"], numbers["s"].view(np.float32))
  for value, says in (
    (untyped(3, "torch.uint16"), "storage of 4 numbers"),
    (untyped(0, "torch.float64"), "storage of 1 numbers"),
    (untyped(0, "torch.float8_e5m2"), "a tensor of the type float8_e5m2 as w"),
  ):
    assert says in refusal(tmp_path, to_bytes(layout, numbers, {"w": value}))


def test_a_tensor_to_be_negated_is_no_weight(tmp_path):
  negated = V2 + ARGUMENTS.replace(b"#", b"N") + b")R}" + text("neg") + b"\x88stR"
  assert "negated as w" in refusal(tmp_path, to_bytes("legacy", NUMBERS, {"w": Raw(negated)}))


def numpy_scalar(code: str, content: bytes, order: str = "<", module: str = "core") -> bytes:
  dtype = named("numpy.dtype") + text(code) + b"K\x00K\x01\x87R"
  dtype += b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
  return named(f"numpy.{module}.multiarray.scalar") + dtype + content + b"\x86R"


ENCODED = b"X\x03\x00\x00\x00\x00\xc3\xbf"  # the bytes 00 FF as Python 3 writes them for Python 2


@pytest.mark.parametrize(
  ("opcodes", "value"),
  [
    (numpy_scalar("f8", text(struct.pack("<d", 54.5).decode("latin-1"))), 54.5),  # of Python 2
    (numpy_scalar("f4", b"C\x04" + struct.pack("<f", 0.5), module="_core"), 0.5),
    (numpy_scalar("i8", b"C\x08" + struct.pack(">q", 90), ">"), 90),
    (numpy_scalar("b1", b"C\x01\x01", "|"), True),
    (numpy_scalar("i2", named("_codecs.encode") + ENCODED + text("latin1") + b"\x86R"), -256),
    (numpy_scalar("f8", b"C\x02\x00\x00"), None),
    (numpy_scalar("O8", b"C\x08" + bytes(8)), None),
    (numpy_scalar("f8", text("\u00ff")), None),
  ],
  ids=["python2", "bytes", "big-endian", "bool", "encoded", "short", "object", "cut"],
)
def test_numpy_scalars_of_a_record(tmp_path, opcodes, value):
  for layout in LAYOUTS:
    root = {"best_prec1": Raw(opcodes), "state_dict": Ordered(WEIGHT)}
    assert read(tmp_path, to_bytes(layout, NUMBERS, root)).entries.get("best_prec1") == value


# ---- torch itself ----


@pytest.mark.oracle
def test_the_lists_are_those_of_torch():
  pytest.importorskip("torch")
  from torch import _weights_only_unpickler as reader

  assert set(reader._get_allowed_globals()) == PLAIN | DESCRIBED
  assert set(reader._get_user_allowed_globals()) >= REFUSED
  assert not OURS & set(reader._get_allowed_globals())


@pytest.mark.oracle
@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_reads_these_files_alike(tmp_path, layout):
  torch = pytest.importorskip("torch")
  numbers = np.frombuffer(np.random.default_rng(0).bytes(48), np.uint8)
  roots = {form: {"w": form_of(form, layout)} for form in FORMS}
  for kind in (f"cuda.{each}Storage" for each in KINDS):
    roots[kind] = Ordered({"w": View("s", 0, (2,), (1,), kind)})
  for name, root in roots.items():
    kind = name.removeprefix("cuda.").removesuffix("Storage") if "cuda" in name else "Float"
    size = getattr(torch, f"{kind}Tensor").dtype.itemsize
    (tmp_path / "file.pth").write_bytes(
      to_bytes(layout, {"s": np.frombuffer(numbers[: 2 * size], f"V{size}")}, root)
    )
    expected = torch.load(tmp_path / "file.pth", map_location="cpu", weights_only=True)["w"]
    got = read_checkpoint(tmp_path / "file.pth").tensors["w"]
    np.testing.assert_array_equal(got, expected.detach().double().numpy(), name)


@pytest.mark.oracle
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_a_full_record_of_torch(tmp_path, layout, protocol):
  torch = pytest.importorskip("torch")
  network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
  network[0].weight.note = "an attribute"
  optimizer = torch.optim.Adam(network.parameters())
  network(torch.ones(4, 2)).square().sum().backward()
  optimizer.step()
  weights = network.state_dict(keep_vars=True) | {
    "words": torch.tensor([1, 60000]).to(torch.uint16)
  }
  record = {
    "model_state_dict": weights,
    "optimizer": optimizer.state_dict(),
    "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]).state_dict(),
    "best_prec1": np.float64(54.5),
    "epoch": np.int64(90),
    "losses": [np.float32(1.5), np.arange(3.0)],
    "best_acc1": torch.tensor(54.5),
    "odd": [torch.device("cuda:0"), torch.float16, torch.Size([2, 3]), {1, 2}, 1j, b"\xff", None],
    "more": [bytearray(b"x"), collections.defaultdict(list, a=[1]), torch.zeros(2, 2).to_sparse()],
    "state": {(0, "a"): 1, 1.5: 2, None: 3},
    "rng": torch.get_rng_state(),
    "float8": torch.zeros(2).to(torch.float8_e5m2),
  }
  options = {"_use_new_zipfile_serialization": layout == "archive", "pickle_protocol": protocol}
  torch.save(record, tmp_path / "file.pth", **options)
  got = read_checkpoint(tmp_path / "file.pth")
  assert got.entries == {"best_prec1": 54.5, "epoch": 90}
  assert got.tensors.keys() == weights.keys()
  for name, tensor in weights.items():
    np.testing.assert_array_equal(got.tensors[name], tensor.detach().numpy())
