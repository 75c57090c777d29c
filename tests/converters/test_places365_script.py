"""The converter script, and the whole way from files of torch to torchvision's logits."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from oracles.legacy_torch_file import places365_name, places365_style
from oracles.torchvision_models import load, numpy_state_dict, shapes_of

from rpfgsm_jax.data.classes import places365_class_names
from rpfgsm_jax.models.architectures import PAPER
from rpfgsm_jax.models.convert import convert_checkpoint
from rpfgsm_jax.models.weights import load_network, unflatten

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "converters" / "places365.py"


def run_script(*arguments) -> subprocess.CompletedProcess:
  command = [sys.executable, SCRIPT, *map(str, arguments)]
  # Works from an uninstalled checkout, too, and where the terminal lacks a folder's name.
  environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
  return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_converts_a_full_size_file(tmp_path):
  state = numpy_state_dict(shapes_of("resnet18"), seed=2)
  file = tmp_path / "resnet18_places365.pth.tar"
  file.write_bytes(places365_style(state, "resnet18"))
  done = run_script(file, "--arch", "resnet18", "--out", tmp_path / "網")
  assert done.returncode == 0, done.stderr
  network = load_network(tmp_path / "網")
  assert network.config == PAPER["resnet18"]
  assert network.class_names == places365_class_names()
  assert network.card["source"] == (
    "http://places2.csail.mit.edu/models_places365/resnet18_places365.pth.tar"
  )
  np.testing.assert_array_equal(network.parameters["head.kernel"], state["fc.weight"].T)


def test_an_empty_out_is_not_the_current_folder(tmp_path):
  failed = run_script(tmp_path / "file", "--arch", "resnet18", "--out", "")
  assert failed.returncode == 2
  assert "--out must not be empty" in failed.stderr


def test_a_failure_is_one_line(tmp_path):
  (tmp_path / "file").write_bytes(b"hello")
  failed = run_script(tmp_path / "file", "--arch", "resnet18", "--out", tmp_path / "net")
  assert failed.returncode == 1
  assert failed.stderr.startswith("error: ")
  assert failed.stderr.count("\n") == 1
  assert not (tmp_path / "net").exists()


@pytest.mark.oracle
@pytest.mark.parametrize("arch", PAPER)
def test_logits_of_converted_files_match_torchvision(tmp_path, arch):
  """Three files of the same weights (two by torch, one by hand) give the same numbers and logits.

  Tolerance 1e-4 relative: float32 sums of up to 9216 terms in another order, up to 160 layers deep.
  """
  torch = pytest.importorskip("torch")
  model = load(arch, seed=3)
  state = model.state_dict()
  named = {places365_name(name, arch): tensor for name, tensor in state.items()}
  root = {"epoch": 90, "arch": arch, "state_dict": named, "best_prec1": 54.5}
  path, found = tmp_path / "file.pth.tar", {}
  for layout in ("legacy", "archive"):
    torch.save(root, path, _use_new_zipfile_serialization=layout == "archive")
    found[layout] = convert(path, arch)
  counted = [name for name in state if name.endswith("num_batches_tracked")]
  arrays = {name: tensor.numpy() for name, tensor in state.items() if name not in counted}
  path.write_bytes(places365_style(arrays, arch))
  convert(path, arch)
  found["by hand"] = load_network(tmp_path / "net").parameters
  for layout in ("legacy", "archive"):
    assert found[layout].keys() == found["by hand"].keys()
    for name, value in found[layout].items():
      np.testing.assert_array_equal(value, found["by hand"][name])

  images = np.random.default_rng(4).standard_normal((2, 224, 224, 3)).astype(np.float32)
  with torch.no_grad():
    expected = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
  with jax.default_matmul_precision("highest"):
    graph, parameters = nnx.split(unflatten(PAPER[arch], found["legacy"]))
    forward = jax.jit(lambda parameters, images: nnx.merge(graph, parameters)(images))
    logits = np.asarray(forward(parameters, images))
  assert expected.shape == (2, 365)
  assert np.linalg.norm(logits - expected) <= 1e-4 * np.linalg.norm(expected)
  # The two images' logits share most of their norm; what differs between them must agree as well.
  difference, wanted = logits[0] - logits[1], expected[0] - expected[1]
  assert np.linalg.norm(difference - wanted) <= 1e-3 * np.linalg.norm(wanted)


def convert(path: pathlib.Path, arch: str) -> dict[str, np.ndarray]:
  directory, names = path.parent / "net", places365_class_names()
  return convert_checkpoint(path, directory, PAPER[arch], class_names=names).parameters
