"""Adversaries who know: purifiers, a trained denoiser, networks trained on protected photos."""

import itertools

import jax
import numpy as np
import pytest
import scipy.ndimage
import toy_classifiers as toys
from flax import nnx
from PIL import Image

import rpfgsm_jax as rp
from experiments import adaptive, purifiers, rows
from experiments.options import AdaptiveConfig
from experiments.training import denoiser, fine_tune, loop, presets
from rpfgsm_jax import data
from rpfgsm_jax.models.architectures import build
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.resnet import ResNetConfig
from rpfgsm_jax.models.weights import Network, load_classifier, save_network
from rpfgsm_jax.photos.verdict import AS_WRITTEN
from rpfgsm_jax.process import CompileCache
from rpfgsm_jax.quality import psnr

TINY = ResNetConfig(stage_sizes=(1,), width=4, image_size=(12, 12), num_classes=7)
RECIPE = presets.Recipe(
  config=TINY,
  optimizer="sgd",
  learning_rate=0.1,
  weight_decay=0.0,
  epochs=1,
  epoch_images=128,
  batch_size=16,
  phases=(presets.Phase(until=1.0, size=12, min_crop=0.6),),
  jitter=0.1,
  average_decay=0.9,
  stored_size=16,
)


def noisy(photo, epsilon=8.0, seed=0):
  """A photo whose values are epsilon up or down."""
  signs = np.random.default_rng(seed).choice((-1, 1), photo.shape)
  return np.clip(photo + epsilon * signs, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def smooth():
  """A smooth picture of odd sides."""
  y, x = np.mgrid[:41, :57]
  planes = [110 + 60 * np.sin(x / 9 + c) + 40 * np.cos(y / 7 - c) for c in range(3)]
  return np.stack(planes, -1).astype(np.uint8)


# Purifiers


@pytest.mark.parametrize("name", sorted(set(purifiers.PURIFIERS) - {AS_WRITTEN}))
def test_a_purifier_takes_noise_out_of_a_smooth_picture(name, smooth):
  purify, changed = purifiers.PURIFIERS[name], noisy(smooth)
  found = purify(changed)
  assert (found.shape, found.dtype) == (smooth.shape, np.uint8)
  gained = 0.3 if name == "JPEG 90" else 2.0  # which keeps what it is given
  assert psnr(found, smooth) > psnr(changed, smooth) + gained
  flat = np.full((16, 20, 3), 77, np.uint8)
  np.testing.assert_allclose(purify(flat).astype(int), flat, atol=1)


def test_as_written_changes_nothing(smooth):
  np.testing.assert_array_equal(purifiers.PURIFIERS[AS_WRITTEN](smooth), smooth)


def test_the_bilateral_filter_of_any_color_is_a_gaussian_one(photo):
  found = purifiers._bilateral(1e3)(photo[:50, :70])
  expected = scipy.ndimage.gaussian_filter(
    photo[:50, :70].astype(float), (1.5, 1.5, 0), truncate=2.0, mode="nearest"
  )
  np.testing.assert_allclose(found, expected, atol=0.51)


def test_the_bilateral_filter_keeps_edges():
  edge = np.repeat(np.uint8([[[40], [200]]]), 3, -1).repeat(10, 0).repeat(8, 1)
  np.testing.assert_array_equal(purifiers._bilateral(0.1)(edge), edge)


# The denoiser


def test_the_denoiser_begins_as_the_identity(smooth):
  params = denoiser.initial(jax.random.key(0))
  np.testing.assert_array_equal(denoiser.clean(params, smooth), smooth)


@pytest.fixture
def quick(monkeypatch):
  """A small denoiser with frequent checkpoints."""
  for name, value in (("_WIDTH", 8), ("_DEPTH", 3), ("_PATCH", 16), ("_SAVE_EVERY", 3)):
    monkeypatch.setattr(denoiser, name, value)


def test_a_trained_denoiser_takes_out_what_it_was_shown(smooth, tmp_path, quick, monkeypatch):
  monkeypatch.setattr(denoiser, "_LEARNING_RATE", 1e-2)
  shown, other = smooth[:, :40], smooth[:, 30:]
  params = denoiser.train([(noisy(shown), shown)], tmp_path / "d.npz", seed=1, steps=150)
  changed = noisy(other, seed=5)
  assert psnr(denoiser.clean(params, changed), other) > psnr(changed, other) + 1


def test_a_denoiser_that_goes_on_equals_the_unbroken_one(smooth, tmp_path, quick, monkeypatch):
  pairs = [(noisy(smooth), smooth), (smooth, smooth)]
  whole = denoiser.train(pairs, tmp_path / "whole.npz", seed=1, steps=7)
  make, calls = denoiser._batch, itertools.count()

  def fail(*given):
    if next(calls) == 5:
      raise KeyboardInterrupt
    return make(*given)

  monkeypatch.setattr(denoiser, "_batch", fail)
  with pytest.raises(KeyboardInterrupt):
    denoiser.train(pairs, tmp_path / "broken.npz", seed=1, steps=7)
  broken = denoiser.train(pairs, tmp_path / "broken.npz", seed=1, steps=7)
  assert next(calls) == 6 + 4  # five steps, the sixth failed; three were kept
  for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(broken), strict=True):
    np.testing.assert_array_equal(one, other)


# Networks trained further


@pytest.fixture
def tiny(tmp_path, monkeypatch):
  """The folder of a network with random weights, of a family with a recipe."""
  monkeypatch.setitem(presets.PRESETS, "tune", {"resnet18": RECIPE})
  folder = tmp_path / "resnet18"
  parameters = flatten(build(TINY, rngs=nnx.Rngs(7)))
  save_network(
    folder, Network(config=TINY, parameters=parameters, class_names=toys.CLASS_NAMES, card={})
  )
  return folder


def test_a_network_learns_the_photos_it_is_tuned_on_and_goes_on(tiny, tmp_path):
  colors = np.eye(3, dtype=np.uint8)[np.arange(12) % 3] * 200
  images = np.broadcast_to(colors[:, None, None], (12, 16, 16, 3)).copy()
  photos = loop.Split(images=images, labels=(2 + np.arange(12) % 3).astype(np.int32))
  shown = images[:, :12, :12].astype(np.float32)

  def tune(file, epochs):
    return fine_tune.fine_tune(str(tiny), "tuned", photos, file, seed=0, epochs=epochs)

  tuned = tune(tmp_path / "whole.npz", 4)
  assert tuned.name == "tuned"
  hits = [np.mean(np.argmax(each(shown), -1) == photos.labels) for each in (load(tiny), tuned)]
  assert hits[0] < 0.7
  assert hits[1] == 1.0
  again = tune(tmp_path / "whole.npz", 4)  # nothing is left to do
  np.testing.assert_array_equal(again(shown), tuned(shown))


def load(folder):
  return load_classifier(str(folder))


# Everything together


@pytest.fixture
def place(tmp_path, monkeypatch, photo, quick, tiny):
  """Folders of small photos to judge and to learn from; toy networks under bundled names."""
  networks = dict(zip(("a", "b"), toys.three(), strict=False)) | {str(tiny): load(tiny)}
  monkeypatch.setattr(rp, "load_classifier", lambda name: networks[name])
  monkeypatch.setattr(denoiser, "_BATCH", 2)
  for number, folder in itertools.product(range(4), ("in", "train")):
    file = tmp_path / folder / toys.CLASS_NAMES[1 + number % 2] / f"{number}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    top, left = 20 * number, 30 * number + 60 * (folder == "train")
    Image.fromarray(photo[top : top + 40, left : left + 48]).save(file)
  (tmp_path / "judge.py").write_text(
    "import toy_classifiers as toys\nclassifier = lambda name: toys.linear(9, name=name)\n"
  )
  return tmp_path


def run(place, **changes):
  """Runs and returns the rows of photos, and the page's text."""
  given = {
    "data": place / "in", "train": place / "train", "out": place / "out", "at": ("4/3",),
    "judges": (f"{place}/judge.py:stranger",), "surrogates": ("a,b",), "steps": 3, "epochs": 1,
    "tuned": (str(place / "resnet18"),),
  }  # fmt: skip
  config = AdaptiveConfig(**given | changes)
  adaptive.run(config, cache=CompileCache(None, False), say=lambda line: None)
  adaptive.show(config.out)
  found = [row for row in rows.read_rows(config.out / "rows.jsonl") if row["kind"] == "photo"]
  return found, (config.out / "adaptive.md").read_text()


def test_all_judges_are_asked_behind_all_purifiers_and_nothing_is_done_twice(place, monkeypatch):
  first, _ = run(place, limit=1)
  learned = sorted((place / "out" / "learning").rglob("*.png"))
  assert len(learned) == 4
  for file in learned:
    original = data.read_image(place / "train" / file.relative_to(place / "out/learning/0"))
    change = np.abs(data.read_image(file).astype(int) - original)
    assert 0 < change.max() <= 4
  monkeypatch.setattr(adaptive.denoiser, "_batch", None)  # is not asked again
  monkeypatch.setattr(loop.Trainer, "run_epoch", None)
  found, text = run(place)
  assert found[: len(first)] == first
  settings = ["photo itself", "random noise, eps 4", "a,b, eps 4, 3 passes"]
  assert [row["setting"] for row in found[3:]] == [each for each in settings for _ in range(3)]
  base = str(place / "resnet18")
  for row in found:
    assert list(row["ranks"]) == ["stranger", base, base + adaptive.AFTER]
    for asked in (row["looks"], *row["ranks"].values()):
      assert set(asked) == {*purifiers.PURIFIERS, adaptive.TRAINED}
  before, after = (
    np.array([list(row["ranks"][judge].values()) for row in found])
    for judge in (base, base + adaptive.AFTER)
  )
  assert (before != after).any()
  judge = toys.linear(9)
  for row in found[:1] + [row for row in found[3:] if row["setting"] == settings[0]]:
    pixels = purifiers.PURIFIERS["JPEG 30"](data.read_image(place / "in" / row["photo"]))
    shown = data.resize(pixels, toys.SIZE)[None].astype(np.float32)
    order = list(np.argsort(-np.asarray(judge(shown))[0]))
    label = toys.CLASS_NAMES.index(row["photo"].split("/")[0])
    assert row["ranks"]["stranger"]["JPEG 30"] == order.index(label)
  table = text.split("## Behind purifiers: stranger", 1)[1].split("##", 1)[0]
  (line,) = (each for each in table.split("\n") if each.startswith("| JPEG 30 |"))
  hits = [r["ranks"]["stranger"]["JPEG 30"] == 0 for r in found if r["setting"] == settings[2]]
  assert line.split("|")[6].startswith(f" {100 * np.mean(hits):.0f} \\[")
  assert "protected, eps 4, 3 passes" in table


def test_who_learns_sees_every_strength_of_every_attack(tmp_path):
  config = AdaptiveConfig(
    data=tmp_path, train=tmp_path, at=("medium", "4/3"), surrogates=("a,b", "c")
  )
  found = [setting.name for setting in adaptive._attacks(config)]
  plain = [f"{name}, eps 4, 3 passes" for name in config.surrogates]
  assert found == ["a,b, medium", "c, medium", *plain]


def test_rows_of_other_adversaries_are_not_gone_on_with(place):
  run(place, limit=1)
  with pytest.raises(ValueError, match="steps"):
    run(place, limit=1, steps=4)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"judges": ()}, "--judge must name"),
    ({"tuned": ("squeezenet",)}, "'squeezenet'"),
    ({"train": "in"}, "--train and --data must lie apart"),
    ({"train": "out"}, "--out and --train must lie apart"),
  ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(place, changes, message):
  if "train" in changes:
    changes = {"train": place / changes["train"]}
  with pytest.raises((ValueError, OSError), match=message):
    run(place, **changes)
  assert not (place / "out").exists()
