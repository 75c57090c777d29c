"""Small checkpoints, read and refused; shared by the tests of the reader."""

import numpy as np
import pytest
from oracles.legacy_torch_file import (
  Ordered,
  View,
  archive_bytes,
  archive_records,
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
