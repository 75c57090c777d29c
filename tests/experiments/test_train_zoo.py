"""The zoo's training script on a tiny generated data set."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from experiments import train_zoo
from experiments.training import augment, checkpoints, data, fast_cpu, loop, presets, zoo
from rpfgsm_jax.models import layers
from rpfgsm_jax.models.architectures import build
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.resnet import ResNetConfig
from rpfgsm_jax.models.weights import (
  Network,
  load_classifier,
  load_network,
  save_network,
)

RANDOM_VIEWS = jax.jit(augment.random_views, static_argnames="size")

COLORS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 40, 50)}

TINY = presets.Recipe(
  config=ResNetConfig(stage_sizes=(1,), width=4, image_size=(16, 16)),
  optimizer="sgd",
  learning_rate=0.1,
  weight_decay=5e-4,
  epochs=3,
  epoch_images=96,
  batch_size=16,
  phases=(
    presets.Phase(until=0.34, size=12, min_crop=0.6),
    presets.Phase(until=1.0, size=16, min_crop=0.6),
  ),
  jitter=0.1,
  average_decay=0.9,
  stored_size=20,
)


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
def test_a_trained_network_is_exported_and_resuming_equals_the_unbroken_run(
  photos, tmp_path, tiny_presets, capsys
):
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  assert train_zoo.main(_command(photos, whole)) == 0
  report = json.loads(capsys.readouterr().out.split("\n{", 1)[1].join(["{", ""]))
  assert train_zoo.main(_command(photos, broken, "--stop-epoch", "1")) == 0
  early = load_network(broken / "out" / "resnet18")
  assert early.card["val"] is None
  assert train_zoo.main(_command(photos, broken, "--resume")) == 0

  name = "checkpoints/small-resnet18-0.npz"
  one, other = _trees(whole / "cache" / name), _trees(broken / "cache" / name)
  assert set(one) == set(other)
  for key in one:
    np.testing.assert_array_equal(one[key], other[key], err_msg=key)

  network = load_network(whole / "out" / "resnet18")
  assert network.class_names == tuple(sorted(COLORS))
  assert network.card["val"]["balanced_top1"] == round(report["resnet18"]["balanced_top1"], 4)
  assert network.card["epochs"] == 3
  assert network.card["val"]["balanced_top1"] > 0.9  # three plain colors
  classifier = load_classifier(whole / "out" / "resnet18")
  for index, color in enumerate(COLORS.values()):
    image = np.broadcast_to(np.float32(color), (1, 16, 16, 3))
    assert int(classifier(image)[0].argmax()) == index
  text = (whole / "out" / "resnet18" / "README.md").read_text()
  assert "not measured" not in text
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


@pytest.mark.parametrize("option", ["--epochs", "--stop-epoch"])
def test_counts_must_be_positive(photos, tmp_path, capsys, option):
  with pytest.raises(SystemExit):
    train_zoo.main(_command(photos, tmp_path, option, "0"))
  assert "at least 1" in capsys.readouterr().err


def test_splits_with_different_classes_are_refused(tmp_path):
  for folder in ("train/a", "train/b", "val/a", "val/c"):
    (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / folder / "0.png")
  with pytest.raises(ValueError, match=r"only in train: \['b'\], only in val: \['c'\]"):
    data.list_splits(tmp_path)
  (tmp_path / "val" / "c" / "0.png").unlink()
  with pytest.raises(ValueError, match=r"without photographs: \['c'\]"):
    data.list_splits(tmp_path)


def test_held_out_photographs_are_a_share_of_every_class():
  labels = np.repeat(np.arange(4), [2, 10, 37, 100])
  kept, held = data.hold_out(labels, 0.1, seed=5)
  assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
  assert np.bincount(labels[held]).tolist() == [1, 1, 4, 10]
  assert np.array_equal(held, data.hold_out(labels, 0.1, seed=5)[1])
  assert not np.array_equal(held, data.hold_out(labels, 0.1, seed=6)[1])


def test_an_epoch_shows_classes_and_their_members_equally_often():
  labels = np.repeat(np.arange(3), [5, 40, 200])
  order = data.balanced_epoch(labels, 122, np.random.default_rng(1))
  assert sorted(np.bincount(labels[order])) == [40, 41, 41]
  shown = np.bincount(order, minlength=len(labels))
  for label in range(3):
    members = shown[labels == label]
    assert members.max() - members.min() <= 1
  assert len(set(labels[order[:12]])) > 1  # shuffled
  assert order.max() > 150  # members of the large class are drawn, not its first 41 taken


def test_decoding_is_kept_until_a_photograph_changes(tmp_path):
  path = tmp_path / "a.png"
  Image.new("RGB", (9, 5), (10, 20, 30)).save(path)
  one = data.Photos(paths=(path,), labels=np.zeros(1, np.int32), class_names=("a",))
  cache = tmp_path / "cache"
  assert np.all(data.decode_cached(one, 4, cache) == np.uint8([10, 20, 30]))
  data.decode_cached(one, 4, cache)
  assert len(list(cache.iterdir())) == 1
  Image.new("RGB", (9, 6), (200, 20, 30)).save(path)
  os.utime(path, ns=(1, 1))
  assert np.all(data.decode_cached(one, 4, cache) == np.uint8([200, 20, 30]))
  path.write_bytes(b"no photograph")
  with pytest.raises(ValueError, match=r"a\.png"):
    data.decode_cached(one, 4, cache)


def test_views_lie_inside_the_photograph_and_are_mirrored_half_the_time():
  # Red grows downward, green to the right: a view of a ramp is a ramp within the ramp's ends.
  rows, columns = np.meshgrid(np.arange(32) * 8, np.arange(32) * 8, indexing="ij")
  ramp = np.stack([rows, columns, np.full_like(rows, 77)], axis=-1).astype(np.uint8)
  zero = np.float32(0.0)
  views = RANDOM_VIEWS(
    jax.random.key(3), np.repeat(ramp[None], 64, axis=0), size=12, min_crop=np.float32(0.3),
    jitter=zero, gray=zero,
  )  # fmt: skip
  levels = (np.asarray(views) * np.float32(augment.STD) + np.float32(augment.MEAN)) * 255.0
  assert levels.min() > -0.01
  assert levels.max() < 248.01
  np.testing.assert_allclose(levels[..., 2], 77.0, atol=1e-3)
  assert np.all(levels[:, -1, 5, 0] > levels[:, 0, 5, 0])
  mirrored = levels[:, 5, 0, 1] > levels[:, 5, -1, 1]
  assert 16 < mirrored.sum() < 48
  height = (levels[:, -1, 5, 0] - levels[:, 0, 5, 0]) / 248.0
  width = np.abs(levels[:, 5, -1, 1] - levels[:, 5, 0, 1]) / 248.0
  assert (height * width).min() > 0.3 * 0.7  # the outermost pixel centers lie inside the view
  assert height.std() > 0.05
  assert np.abs(height / width).max() < 1.34


def test_gray_views_have_three_equal_channels():
  image = np.broadcast_to(np.uint8([200, 30, 90]), (64, 32, 32, 3))
  views = RANDOM_VIEWS(
    jax.random.key(0), image, size=12, min_crop=np.float32(0.5), jitter=np.float32(0.2),
    gray=np.float32(1.0),
  )  # fmt: skip
  levels = np.asarray(views) * np.float32(augment.STD) + np.float32(augment.MEAN)
  np.testing.assert_allclose(levels[..., 0], levels[..., 2], atol=1e-5)


def test_the_fast_batch_norm_equals_flax():
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(3.0, 2.0, (4, 5, 6, 7)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=features.shape), jnp.float32)
  slow, fast = (layers.batch_norm(7, rngs=nnx.Rngs(0)) for _ in range(2))
  for norm in (slow, fast):
    norm.scale[...] = jnp.linspace(0.5, 2.0, 7)
    norm.bias[...] = jnp.linspace(-1.0, 1.0, 7)
  fast_cpu.speed_up(fast)
  assert type(fast) is not type(slow)

  def loss(parameters, features, graph, rest):
    norm = nnx.merge(graph, parameters, rest, copy=True)
    outputs = norm(features, use_running_average=False)
    return jnp.sum(outputs * weights), (outputs, loop.split_model(norm)[2])

  results = []
  for norm in (slow, fast):
    graph, parameters, rest = loop.split_model(norm)
    found = jax.grad(loss, argnums=(0, 1), has_aux=True)(parameters, features, graph, rest)
    results.append(jax.tree.leaves(found))
  for one, other in zip(*results, strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
  np.testing.assert_array_equal(
    slow(features, use_running_average=True), fast(features, use_running_average=True)
  )


def test_batch_statistics_are_those_of_the_photographs():
  recipe = dataclasses.replace(
    TINY, config=dataclasses.replace(TINY.config, num_classes=3), stored_size=16
  )
  trainer = loop.Trainer(recipe, seed=0)
  images = np.random.default_rng(2).integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
  split = loop.Split(images=images, labels=np.arange(16, dtype=np.int32) % 3)
  state = trainer.initial_state()
  model = trainer.average_model(state, split)
  stem = model.stem_conv(augment.normalize(jnp.asarray(images)))
  # Balanced batches of 16 show some of these 16 photographs twice: close, not equal.
  np.testing.assert_allclose(model.stem_norm.mean[...], stem.mean((0, 1, 2)), atol=0.02)
  np.testing.assert_allclose(model.stem_norm.var[...], stem.var((0, 1, 2)), rtol=0.05)


def test_accuracy_counts_ties_as_misses():
  logits = np.float32([[3, 2, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 9]])
  found = loop.accuracy(logits, np.array([0, 1, 2]))
  assert found == pytest.approx(
    {"top1": 1 / 3, "top5": 2 / 3, "balanced_top1": 1 / 3, "balanced_top5": 2 / 3}
  )
  logits = np.float32([[1, 0], [1, 0], [1, 0], [0, 1]])
  found = loop.accuracy(logits, np.array([0, 0, 1, 1]))
  assert found["balanced_top1"] == 0.75
  assert loop.accuracy(logits, np.array([0, 0, 0, 0]))["balanced_top1"] == 0.75


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
@pytest.mark.parametrize("name", train_zoo.NAMES)
def test_every_recipe_ends_at_its_network_s_size(preset, name):
  recipe = presets.choose(preset, name)
  assert (recipe.phase(recipe.epochs - 1).size,) * 2 == recipe.config.image_size
  assert recipe.phase(0) == recipe.phases[0]
  assert recipe.stored_size >= recipe.config.image_size[0]
