"""The zoo's training script on a tiny generated data set."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from tiny_recipe import TINY

from experiments import train_zoo
from experiments.training import checkpoints, presets, zoo
from rpfgsm_jax.models.architectures import build
from rpfgsm_jax.models.efficientnet import EfficientNetConfig
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.published_config import LITE
from rpfgsm_jax.models.weights import (
  Network,
  load_classifier,
  load_network,
  save_network,
)

COLORS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 40, 50)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Three classes of noisy one-colored photographs, lopsided in number and in shape."""
  root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
  for split, counts in (("train", (6, 9, 14)), ("val", (3, 2, 4))):
    for (name, color), count in zip(COLORS.items(), counts, strict=True):
      folder = root / split / name
      folder.mkdir(parents=True)
      for index in range(count):
        noisy = np.clip(rng.normal(color, 25.0, (24, 30, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index:02}.jpg")
  return root


@pytest.fixture
def tiny_presets(monkeypatch):
  monkeypatch.setitem(presets.PRESETS, "small", {"resnet18": TINY})


def _command(photos, tmp_path, *more):
  return [
    "--data", str(photos), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"),
    "--networks", "resnet18", *more,
  ]  # fmt: skip


def _trees(path):
  with np.load(path) as file:
    return {name: file[name] for name in file.files if name != "record"}


@pytest.mark.long
@pytest.mark.parametrize(
  ("name", "more"),
  [
    pytest.param("resnet18", (), id="plain"),
    pytest.param("resnet18-robust6", ("--preset", "small", "--robust", "6"), id="robust"),
  ],
)
def test_a_trained_network_is_exported_and_resuming_equals_the_unbroken_run(
  photos, tmp_path, tiny_presets, capsys, name, more
):
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  assert train_zoo.main(_command(photos, whole, *more)) == 0
  report = json.loads(capsys.readouterr().out.split("\n{", 1)[1].join(["{", ""]))
  assert train_zoo.main(_command(photos, broken, "--stop-epoch", "1", *more)) == 0
  early = load_network(broken / "out" / name)
  assert early.card["val"] is None
  assert train_zoo.main(_command(photos, broken, "--resume", *more)) == 0

  checkpoint = f"checkpoints/small-{name}-0.npz"
  one, other = _trees(whole / "cache" / checkpoint), _trees(broken / "cache" / checkpoint)
  assert set(one) == set(other)
  for key in one:
    np.testing.assert_array_equal(one[key], other[key], err_msg=key)

  network = load_network(whole / "out" / name)
  assert network.class_names == tuple(sorted(COLORS))
  assert network.card["val"]["balanced_top1"] == round(report[name]["balanced_top1"], 4)
  assert network.card["epochs"] == 3
  assert network.card["val"]["balanced_top1"] > 0.9  # three plain colors
  classifier = load_classifier(whole / "out" / name)
  for index, color in enumerate(COLORS.values()):
    image = np.broadcast_to(np.float32(color), (1, 16, 16, 3))
    assert int(classifier(image)[0].argmax()) == index
  text = (whole / "out" / name / "README.md").read_text()
  assert "not measured" not in text
  assert ("by at most 6 gray levels" in text) == ("moved as in training" in text) == bool(more)
  assert str(tmp_path) not in text


def _save_start(folder, config):
  network = Network(
    config=config,
    parameters=flatten(build(config, rngs=nnx.Rngs(7))),
    class_names=tuple(sorted(COLORS)),
    card={"command": "the earlier command", "val": {"balanced_top1": 0.5, "balanced_top5": 1.0}},
  )
  save_network(folder / "resnet18", network)


def test_tuning_starts_from_the_given_network(photos, tmp_path, monkeypatch, capsys):
  config = dataclasses.replace(TINY.config, num_classes=3)
  still = dataclasses.replace(TINY, epochs=1, epoch_images=16, learning_rate=0.0)
  monkeypatch.setitem(presets.PRESETS, "tune", {"resnet18": still})
  start, command = tmp_path / "start", _command(photos, tmp_path, "--preset", "tune", "--init")
  _save_start(start, dataclasses.replace(config, width=8))
  assert train_zoo.main([*command, str(start)]) == 2
  assert "--init must be a network of the same shape" in capsys.readouterr().err
  _save_start(start, config)
  assert train_zoo.main([*command, str(start)]) == 0
  before, after = (load_network(folder / "resnet18") for folder in (start, tmp_path / "out"))
  for name, value in before.parameters.items():
    if name.endswith(".kernel"):
      stored = value.astype(np.float16).astype(np.float32)
      np.testing.assert_array_equal(after.parameters[name], stored, err_msg=name)
  assert after.card["started_from"] == "the earlier command"
  text = (tmp_path / "out" / "resnet18" / "README.md").read_text()
  assert "`the earlier command` made. Its class-balanced validation top-1 and top-5: 50.0 %" in text


def test_tuning_from_other_classes_keeps_all_but_the_head(photos, tmp_path, monkeypatch):
  config = EfficientNetConfig(
    widths=(3, 4), depths=(1, 1), kernels=(3, 5), strides=(1, 2), stem_width=4, head_width=8,
    num_classes=2, image_size=(20, 20),
  )  # fmt: skip
  settings = {"epochs": 1, "epoch_images": 16, "learning_rate": 0.0}
  mine = dataclasses.replace(config, num_classes=365, image_size=(16, 16))
  still = dataclasses.replace(TINY, config=mine, **settings)
  monkeypatch.setitem(presets.PRESETS, "tune", {"efficientnet_lite0": still})
  start = Network(
    config=config,
    parameters=flatten(build(config, rngs=nnx.Rngs(7))),
    class_names=("cat", "dog"),
    mean=LITE[0],
    deviation=LITE[1],
    card={"converted_from": {"file": "lite.pth"}},
  )
  save_network(tmp_path / "start", start)
  command = _command(photos, tmp_path, "--robust", "4")
  command[command.index("resnet18")] = "efficientnet_lite0"
  assert train_zoo.main([*command, "--init", str(tmp_path / "start")]) == 0
  after = load_network(tmp_path / "out" / "efficientnet_lite0-robust4")
  assert (after.class_names, after.mean, after.deviation) == (tuple(sorted(COLORS)), *LITE)
  for name, value in start.parameters.items():
    if name.startswith("head."):
      assert after.parameters[name].shape[-1] == 3
    elif name.endswith((".kernel", ".scale")):
      stored = value.astype(np.float16) if name.endswith(".kernel") else value
      np.testing.assert_array_equal(after.parameters[name], stored, err_msg=name)
  assert after.card["started_from_file"] == "lite.pth"
  assert after.card["started_from_val"] is None


def test_no_bundled_network_to_make_robust(photos, tmp_path, capsys):
  command = _command(photos, tmp_path, "--robust", "4")
  command[command.index("resnet18")] = "efficientnet_lite0"
  assert train_zoo.main(command) == 2
  assert "no efficientnet_lite0 is bundled; give the folder of one with --init" in (
    capsys.readouterr().err
  )


def test_robust_networks_start_from_the_bundled_ones_at_any_size(photos, tmp_path, monkeypatch):
  still = dataclasses.replace(TINY, epochs=1, epoch_images=16, learning_rate=0.0)
  monkeypatch.setitem(presets.PRESETS, "tune", {"resnet18": still})
  monkeypatch.setattr(zoo, "BUNDLED", tmp_path)
  _save_start(tmp_path / "scenes25", dataclasses.replace(TINY.config, num_classes=3))
  changes = ("--robust", "2.5", "--norm", "l2", "--size", "24")
  assert train_zoo.main(_command(photos, tmp_path, *changes)) == 0
  network = load_network(tmp_path / "out" / "resnet18-size24-robust2.5-norml2")
  before = load_network(tmp_path / "scenes25" / "resnet18").parameters["head.kernel"]
  after = network.parameters["head.kernel"]
  np.testing.assert_array_equal(after, before.astype(np.float16).astype(np.float32))
  assert network.config.image_size == (24, 24)
  assert network.card["robust"] == {"levels": 2.5, "norm": "l2"}
  command = "--networks resnet18 --preset tune --epochs 1 --seed 0 --size 24 --robust 2.5 --norm l2"
  assert command in network.card["command"]


def test_widths_are_for_resnets_alone():
  wide = presets.vary(presets.choose("small", "resnet50"), {"width": 24})
  assert wide.config.width == 24
  with pytest.raises(ValueError, match="--width is for"):
    presets.vary(presets.choose("small", "alexnet"), {"width": 24})


def test_a_teacher_must_have_the_students_shape(photos, tmp_path, tiny_presets, capsys):
  other = dataclasses.replace(TINY.config, width=5, num_classes=3)
  _save_start(tmp_path / "base", other)
  command = _command(photos, tmp_path, "--teacher", str(tmp_path / "base" / "resnet18"))
  assert train_zoo.main(command) == 2
  assert "--teacher must be a network of the same shape" in capsys.readouterr().err


def test_networks_are_compared_in_pairs():
  votes = {
    name: np.array(v) for name, v in (("a", [0, 1, 2, 2]), ("b", [0, 1, 0, 2]), ("c", [3] * 4))
  }
  assert zoo.disagreement(votes) == {"a / b": 0.25, "a / c": 1.0, "b / c": 1.0}


def test_a_checkpoint_is_neither_overwritten_nor_mixed_up(photos, tmp_path, tiny_presets, capsys):
  assert train_zoo.main(_command(photos, tmp_path, "--stop-epoch", "1")) == 0
  assert train_zoo.main(_command(photos, tmp_path)) == 2
  assert "--resume" in capsys.readouterr().err
  assert train_zoo.main(_command(photos, tmp_path, "--resume", "--epochs", "5")) == 2
  assert "number of epochs" in capsys.readouterr().err
  path = tmp_path / "cache" / "checkpoints" / "small-resnet18-0.npz"
  path.write_bytes(path.read_bytes()[:-2000])
  assert train_zoo.main(_command(photos, tmp_path, "--resume")) == 2
  assert "no whole checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    pytest.param({"--networks": "resnet19"}, "did you mean 'resnet18'", id="network"),
    pytest.param({"--networks": ","}, "at least one network", id="no-network"),
    pytest.param({"--preset": "smal"}, "did you mean 'small'", id="preset"),
    pytest.param({"--data": "/nowhere/at/all"}, "does not exist", id="data"),
  ],
)
def test_bad_options_are_refused(photos, tmp_path, capsys, change, expected):
  command = _command(photos, tmp_path, "--preset", "small")
  for option, value in change.items():
    command[command.index(option) + 1] = value
  assert train_zoo.main(command) == 2
  assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
  ("options", "expected"),
  [
    pytest.param(("--robust", "0"), "must be above 0", id="no-radius"),
    pytest.param(("--norm", "l2"), "give both", id="norm-alone"),
  ],
)
def test_bad_radii_are_refused(photos, tmp_path, capsys, options, expected):
  with pytest.raises(SystemExit):
    train_zoo.parse(_command(photos, tmp_path, *options))
  assert expected in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs", "--stop-epoch", "--width", "--size"])
def test_counts_must_be_positive(photos, tmp_path, capsys, option):
  with pytest.raises(SystemExit):
    train_zoo.main(_command(photos, tmp_path, option, "0"))
  assert "at least 1" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
  path = tmp_path / "c.npz"
  checkpoints.save(path, {"state": [jnp.ones(3)]}, {"epochs_done": 1})
  with pytest.raises(ValueError, match=r"must be float32\(4,\)"):
    checkpoints.load(path, {"state": [jnp.ones(4)]})
  with pytest.raises(ValueError, match="another network"):
    checkpoints.load(path, {"state": []})
  trees, record = checkpoints.load(path, {"state": [jnp.zeros(3)]})
  assert record == {"epochs_done": 1}
  np.testing.assert_array_equal(trees["state"][0], np.ones(3))


@pytest.mark.parametrize("preset", list(presets.PRESETS))
@pytest.mark.parametrize("name", [*train_zoo.NAMES, *presets.LITES])
def test_every_recipe_ends_at_its_network_s_size(preset, name):
  recipe = presets.choose(preset, name)
  assert (recipe.phase(recipe.epochs - 1).size,) * 2 == recipe.config.image_size
  assert recipe.phase(0) == recipe.phases[0]
  assert recipe.stored_size >= recipe.config.image_size[0]
