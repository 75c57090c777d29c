"""Checkpoints that are cut off, altered or of another kind: each is refused and named."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from models.checkpoint_files import LAYOUTS, read, refusal, small_file, to_bytes
from oracles.legacy_torch_file import (
  Ordered,
  Raw,
  View,
  archive_bytes,
  archive_records,
  legacy_bytes,
)

from rpfgsm_jax.models.checkpoint import CheckpointError, read_checkpoint


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
    (Ordered({"w": View("s", 0, (1,), (1,), "ComplexHalfStorage")}), "ComplexHalfStorage"),
    (Ordered({"w": View("s", 0, (1,), (1,), "ComplexFloatStorage")}), "cut off"),
    (Ordered({"w": 1.0}), "named tensor"),
    (Ordered({3: View("s", 0, (1,), (1,))}), "named tensor"),
    (Ordered({}), "no dictionary"),
    ({"state_dict": [1]}, "no dictionary"),
    ([1], "dictionary of weights"),
    (Ordered({"w": View("s", 0, (1,), (1,)), "v": Raw(b"h\xff")}), "refers to object 255"),
    (Raw(b"}(U\x01aK\x01U\x01aK\x02u"), "twice"),
    (Raw(b"}(U\x01au"), "without a value"),
    (Raw(b"}]]s"), "neither a string"),
    (Raw(b"}K\x01K\x02\x86\x85Ns"), "neither a string"),
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
