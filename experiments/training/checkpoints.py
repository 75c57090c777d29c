"""Training checkpoints: one `.npz` that is either the old one or the whole new one.

A checkpoint holds every array of a `TrainState`, the best averaged weights so far and a small
record (epochs done, history, the run's description). No code is stored, so loading runs none.
"""

import io
import json
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from rpfgsm_jax import atomic


def save(path: pathlib.Path, trees: dict[str, Any], record: dict[str, Any]) -> None:
  """Writes a checkpoint in one step: named pytrees of arrays, and a record that JSON can hold."""
  arrays = {
    f"{name}/{index}": np.asarray(leaf)
    for name, tree in trees.items()
    for index, leaf in enumerate(jax.tree.leaves(tree))
  }
  buffer = io.BytesIO()
  np.savez(buffer, record=np.frombuffer(json.dumps(record).encode(), np.uint8), **arrays)
  atomic.write_bytes(path, buffer.getvalue())


def load(path: pathlib.Path, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads the trees, of the structure, shapes and types of `like`, and the record."""
  try:
    with path.open("rb") as content, np.load(content) as file:
      arrays = {name: file[name] for name in file.files}
    record = json.loads(arrays.pop("record").tobytes())
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path} is no whole checkpoint ({error}); remove it to start anew."
    ) from error
  trees = {}
  for name, tree in like.items():
    leaves, structure = jax.tree.flatten(tree)
    found = [arrays.pop(f"{name}/{index}", None) for index in range(len(leaves))]
    for index, (leaf, value) in enumerate(zip(leaves, found, strict=True)):
      if value is None or value.shape != leaf.shape or value.dtype != leaf.dtype:
        came = "nothing" if value is None else f"{value.dtype}{value.shape}"
        raise ValueError(
          f"{path} does not fit this network: {name}/{index} must be {leaf.dtype}{leaf.shape}, "
          f"got {came}; remove it to start anew."
        )
    trees[name] = jax.tree.unflatten(structure, [jax.numpy.asarray(value) for value in found])
  if arrays:
    raise ValueError(f"{path} holds arrays of another network: {sorted(arrays)[:3]}; remove it.")
  return trees, record
