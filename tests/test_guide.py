"""docs/GUIDE.md runs as printed, in order, in one session, in a folder with two photos."""

import pathlib
import re

import numpy as np
import pytest
from oracles import legacy_torch_file
from PIL import Image

pytestmark = pytest.mark.long

GUIDE = (pathlib.Path(__file__).parents[1] / "docs" / "GUIDE.md").read_text()


def write_checkpoint(path: pathlib.Path) -> dict[str, np.ndarray]:
  """A file of PyTorch's older layout with the weights that the guide reads."""
  generator = np.random.default_rng(0)
  shapes = {
    "stem.weight": (8, 3, 5, 5),
    "stem.bias": (8,),
    "head.weight": (3, 8),
    "head.bias": (3,),
  }
  arrays = {name: generator.normal(size=size).astype(np.float32) for name, size in shapes.items()}
  path.write_bytes(legacy_torch_file.legacy_bytes(*legacy_torch_file.as_views(arrays)))
  return arrays


def test_examples_run_as_printed(tmp_path, monkeypatch, photo, capsys):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("holiday").mkdir()
  for number in range(2):
    small = Image.fromarray(photo[20 * number :][:96, :128])
    small.save(f"holiday/{number}.jpg", quality=95)
  weights = write_checkpoint(tmp_path / "small.pth")
  session = {}
  blocks = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
  for number, block in enumerate(blocks):
    exec(compile(block, f"docs/GUIDE.md, example {number + 1}", "exec"), session)
  assert capsys.readouterr().out.count(" -> ") == 2  # one line a photo
  for number in range(2):
    with Image.open(tmp_path / "protected" / f"{number}.png") as written:
      assert written.size == (128, 96)
  originals = np.stack(session["photos"]).astype(int)
  assert np.abs(np.asarray(session["protected"]) - originals).max() == 8
  assert np.abs(np.asarray(session["blurred"]) - originals).max() == 16
  assert (np.asarray(session["similarity"]) < 0.98).all()
  inside, pair = session["inside"], session["images"]
  approached = inside.similarity(session["disguised"], pair[::-1])
  assert (np.asarray(approached) > np.asarray(inside.similarity(pair, pair[::-1]))).all()
  assert session["losses"][-1] < session["losses"][0] / 2
  assert session["trained"].class_names == session["mine"].class_names
  check_port(session["ported"], weights, session["photos"][0])


def check_port(ported, weights: dict[str, np.ndarray], photo: np.ndarray) -> None:
  """The port against the same layers in NumPy, as PyTorch defines them."""
  mean, deviation = np.asarray(ported.mean), np.asarray(ported.deviation)
  normalized = ((photo / 255 - mean) / deviation).transpose(2, 0, 1)
  padded = np.pad(normalized, ((0, 0), (2, 2), (2, 2)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))[:, ::4, ::4]
  stem = np.einsum("cijkl,fckl->fij", windows, weights["stem.weight"])
  features = np.maximum(stem + weights["stem.bias"][:, None, None], 0).mean(axis=(1, 2))
  expected = weights["head.weight"] @ features + weights["head.bias"]
  # float32 sums of 75 products, then means over 1024 places.
  np.testing.assert_allclose(np.asarray(ported(photo)), expected, rtol=1e-4, atol=1e-4)
