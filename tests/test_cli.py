"""The command line: what it prints, its exit codes, and that failures leave nothing behind.

Narrow networks stand in for the full-size ones; their files are assembled byte by byte.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from oracles.legacy_torch_file import Ordered, Raw, legacy_bytes, places365_style
from oracles.torchvision_models import numpy_state_dict, state_dict_shapes

from rpfgsm_jax import cli
from rpfgsm_jax.models import architectures, fetch, weights
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.name_map import map_tensors
from rpfgsm_jax.models.resnet import ResNetConfig

ROOT = pathlib.Path(__file__).resolve().parents[1]
NARROW = {
  "resnet18": ResNetConfig(width=4, stage_sizes=(1, 2), image_size=(32, 48)),
  "resnet50": ResNetConfig(width=4, stage_sizes=(2,), bottleneck=True, image_size=(32, 48)),
  "alexnet": AlexNetConfig(widths=(2, 3, 4, 3, 5), hidden=6, pool_size=2, image_size=(96, 128)),
  "densenet161": DenseNetConfig(stage_sizes=(2, 1), growth=3, stem_width=4, image_size=(32, 48)),
}


@pytest.fixture(autouse=True)
def narrow_networks(monkeypatch, tmp_path):
  for arch, config in NARROW.items():
    monkeypatch.setitem(architectures.PAPER, arch, config)
    monkeypatch.setitem(architectures.PRESETS, arch, config)
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rpfgsm():
  runner = CliRunner()

  def run(*arguments):
    return runner.invoke(cli.cli, [str(argument) for argument in arguments])

  return run


def state_of(arch: str) -> dict[str, np.ndarray]:
  return numpy_state_dict(state_dict_shapes(architectures.PAPER[arch]), seed=0)


def write(folder: pathlib.Path, content: bytes) -> pathlib.Path:
  path = folder / "file.pth.tar"
  path.write_bytes(content)
  return path


# ---- convert ----


@pytest.mark.parametrize("layout", ["legacy", "archive"])
@pytest.mark.parametrize("arch", NARROW)
def test_converts_a_places365_file(tmp_path, rpfgsm, arch, layout):
  state = state_of(arch)
  file = write(tmp_path, places365_style(state, arch, legacy=layout == "legacy"))
  out = tmp_path / "nets" / arch
  result = rpfgsm("convert", file, "--arch", arch, "--out", out)
  assert (result.exit_code, result.stderr) == (0, "")
  assert f"{arch}, 365 classes" in result.stdout
  network = weights.load_network(out)
  expected = map_tensors(state, NARROW[arch])
  assert network.parameters.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(network.parameters[name], value)
  assert network.class_names[:2] == ("airfield", "airplane_cabin")
  assert network.card["converted_from"]["arch"] == arch


def test_a_converted_network_classifies(tmp_path, rpfgsm):
  file = write(tmp_path, places365_style(state_of("resnet18"), "resnet18"))
  assert rpfgsm("convert", file, "--arch", "resnet18", "--out", tmp_path / "net").exit_code == 0
  classifier = weights.load_classifier(tmp_path / "net")
  images = np.full((1, 32, 48, 3), 100, np.uint8)
  logits = jax.jit(lambda classifier, images: classifier(images))(classifier, images)
  assert logits.shape == (1, 365)
  assert np.all(np.isfinite(logits))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_takes_other_class_names(tmp_path, rpfgsm, encoding):
  config = ResNetConfig(width=4, stage_sizes=(1, 2), num_classes=3, image_size=(32, 48))
  file = write(
    tmp_path, places365_style(numpy_state_dict(state_dict_shapes(config), seed=0), "resnet18")
  )
  (tmp_path / "classes.txt").write_text("attic\nice cave\n\ncañon\n", encoding)
  out = tmp_path / "net"
  result = rpfgsm(
    "convert", file, "--arch", "resnet18", "--out", out, "--classes", tmp_path / "classes.txt"
  )
  assert result.exit_code == 0, result.stderr
  assert weights.load_network(out).class_names == ("attic", "ice cave", "cañon")


def nan_file():
  state = state_of("resnet18")
  state["layer1.0.conv1.weight"][0, 0, 0, 0] = np.nan
  return places365_style(state, "resnet18")


def imagenet_file():
  state = state_of("resnet18")
  state["fc.weight"] = np.resize(state["fc.weight"], (1000, state["fc.weight"].shape[1]))
  state["fc.bias"] = np.zeros(1000, np.float32)
  return places365_style(state, "resnet18")


MALICIOUS = b"cos\nsystem\nU\x09touch RAN\x85R"
FAULTY = {
  "malicious": (
    lambda: legacy_bytes({}, {"state_dict": Ordered({"w": Raw(MALICIOUS)})}),
    "asks for os.system",
  ),
  "truncated": (lambda: places365_style(state_of("resnet18"), "resnet18")[:-1], "cut off"),
  "architecture": (lambda: places365_style(state_of("alexnet"), "alexnet"), "holds alexnet, not"),
  "imagenet": (imagenet_file, "last layer has 1000 classes, not 365"),
  "nan": (nan_file, "not finite: module.layer1.0.conv1.weight"),
  "html": (lambda: b"<html></html>", "web page"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_file_is_one_error_and_writes_nothing(tmp_path, rpfgsm, monkeypatch, kind):
  make, says = FAULTY[kind]
  file = write(tmp_path, make())
  monkeypatch.chdir(tmp_path)
  result = rpfgsm("convert", file, "--arch", "resnet18", "--out", tmp_path / "net")
  assert result.exit_code == 1
  assert says in result.stderr
  assert result.stderr.count("Error:") == 1
  assert result.stdout == ""
  assert isinstance(result.exception, SystemExit)
  assert [path.name for path in tmp_path.iterdir()] == ["file.pth.tar"]


def test_a_failed_conversion_keeps_the_network_that_was_there(tmp_path, rpfgsm):
  file, out = write(tmp_path, places365_style(state_of("resnet18"), "resnet18")), tmp_path / "net"
  assert rpfgsm("convert", file, "--arch", "resnet18", "--out", out).exit_code == 0
  before = {path.name: path.read_bytes() for path in out.iterdir()}
  write(tmp_path, nan_file())
  assert rpfgsm("convert", file, "--arch", "resnet18", "--out", out).exit_code == 1
  assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
  ("arguments", "says"),
  [
    (["FILE", "--arch", "vgg16", "--out", "net"], "vgg16"),
    (["absent.pth", "--arch", "resnet18", "--out", "net"], "does not exist"),
    (["FILE", "--out", "net"], "--arch"),
    (["FILE", "--arch", "resnet18"], "--out"),
    (["FILE", "--arch", "resnet18", "--out", "FILE"], "is a file"),
    (["FILE", "--arch", "resnet18", "--out", ""], "--out must not be empty"),
    (["FILE", "--arch", "resnet18", "--out", "net", "--classes", "TWICE"], "all different"),
    (["FILE", "--arch", "resnet18", "--out", "net", "--classes", "BINARY"], "not UTF-8"),
  ],
  ids=["arch", "file", "no-arch", "no-out", "out", "empty", "classes-twice", "classes-binary"],
)
def test_a_wrong_command_exits_with_2(tmp_path, rpfgsm, arguments, says):
  named = {
    "FILE": write(tmp_path, b"x"),
    "TWICE": tmp_path / "twice.txt",
    "BINARY": tmp_path / "binary.txt",
    "net": tmp_path / "net",
  }
  named["TWICE"].write_text("attic\nattic\n")
  named["BINARY"].write_bytes(b"\xff\xfe\x00")
  result = rpfgsm("convert", *(named.get(argument, argument) for argument in arguments))
  assert result.exit_code == 2
  assert says in result.stderr
  assert not (tmp_path / "net").exists()


def test_an_unwritable_folder_is_one_error(tmp_path, rpfgsm):
  file = write(tmp_path, places365_style(state_of("resnet18"), "resnet18"))
  result = rpfgsm("convert", file, "--arch", "resnet18", "--out", file / "below")
  assert result.exit_code in (1, 2)
  assert "Error" in result.stderr
  assert isinstance(result.exception, SystemExit)


# ---- weights ----


def test_lists_bundled_and_fetched_networks(tmp_path, rpfgsm, monkeypatch):
  monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
  nothing = rpfgsm("weights", "list")
  assert nothing.exit_code == 0
  assert "not fetched: places365/resnet18, places365/resnet50" in nothing.stdout
  for folder in ("bundled/toys/one", "cache/weights/places365/alexnet"):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / weights.CONFIG_FILE).write_text(json.dumps({}))
  lines = rpfgsm("weights", "list").stdout.splitlines()
  assert [line.split()[:2] for line in lines[:2]] == [
    ["toys/one", "bundled"],
    ["places365/alexnet", "fetched,"],
  ]
  assert lines[2] == "not fetched: places365/resnet18, places365/resnet50, places365/densenet161"


def test_fetch_reports_every_network_and_goes_on(rpfgsm, monkeypatch, tmp_path):
  def pretend(arch, class_names, *, progress):
    assert len(class_names) == 365
    progress(1, 2)
    if arch == "resnet50":
      raise fetch.DownloadError("cannot download it: the connection was refused.")
    return tmp_path / arch

  monkeypatch.setattr(fetch, "fetch_places365", pretend)
  result = rpfgsm("weights", "fetch", "places365")
  assert result.exit_code == 1
  assert result.stderr.splitlines()[-1] == (
    "Error: places365/resnet50: cannot download it: the connection was refused."
  )
  assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
    "places365/resnet18",
    "places365/alexnet",
    "places365/densenet161",
  ]
  chosen = rpfgsm("weights", "fetch", "places365", "--arch", "alexnet")
  assert (chosen.exit_code, chosen.stdout) == (0, f"places365/alexnet: {tmp_path / 'alexnet'}\n")


def test_fetch_knows_one_collection(rpfgsm):
  result = rpfgsm("weights", "fetch", "places205")
  assert result.exit_code == 2
  assert "places365" in result.stderr


# ---- the program ----


def test_architectures_are_those_of_the_package():
  assert list(cli.ARCHITECTURES) == list(architectures.PAPER)
  assert list(cli.PRESETS) == list(architectures.PRESETS)


def test_help_is_fast_and_failures_show_no_traceback(tmp_path):
  program = [sys.executable, "-c", "from rpfgsm_jax.cli import main; main()"]
  environment = os.environ | {"PYTHONPATH": str(ROOT)}  # works from an uninstalled checkout, too
  shown = subprocess.run(
    [*program, "--help"], capture_output=True, text=True, check=True, env=environment
  )
  assert "convert" in shown.stdout
  assert "weights" in shown.stdout
  file = write(tmp_path, b"hello")
  failed = subprocess.run(
    [*program, "convert", str(file), "--arch", "resnet18", "--out", str(tmp_path / "net")],
    capture_output=True,
    text=True,
    check=False,
    env=environment,
  )
  assert failed.returncode == 1
  assert failed.stderr.strip() == (
    f"Error: {file}: this is not a PyTorch checkpoint; expected a file written by torch.save; "
    "download it again."
  )
