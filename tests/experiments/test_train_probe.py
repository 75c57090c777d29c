"""Linear heads on frozen features: the closed form, the folder it makes, its options."""

import json
import shutil

import numpy as np
import pytest
from models.published_parity import call, change_json
from models.test_heads import scores_in_numpy
from oracles import published_models as theirs
from PIL import Image

import rpfgsm_jax as rp
from experiments import train_zoo
from experiments.training import probe
from rpfgsm_jax.data.images import read_image
from rpfgsm_jax.models.heads import read_head

COLORS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 40, 50)}
FEATURES = ("--layers", "0,1", "--norm", "plain", "--pooling", "class+mean")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Three classes of noisy one-colored photographs, lopsided in number and in shape."""
  root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
  for split, counts in (("train", (6, 9, 20)), ("val", (3, 2, 4))):
    for (name, color), count in zip(COLORS.items(), counts, strict=True):
      (root / split / name).mkdir(parents=True)
      for index in range(count):
        noisy = np.clip(rng.normal(color, 25.0, (24, 30, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / split / name / f"{index:02}.png")
  return root


@pytest.fixture
def backbone(tmp_path):
  """A DINOv2's folder at the size of its positions."""
  directory = shutil.copytree(theirs.GOLDEN / "dinov2", tmp_path / "dinov2")
  change_json(directory / "preprocessor_config.json", crop_size=20)
  return directory


def _fit(photos, backbone, out, *more):
  arguments = ["--probe", str(backbone), "--data", str(photos), "--out", str(out), *more]
  return train_zoo.main(arguments)


def _least_squares(features, labels, penalty):
  """Ridge as a least-squares problem: rows of sqrt(penalty) pull weights, not the bias, to 0."""
  count, width = features.shape
  rows = np.hstack([features, np.ones((count, 1))])
  pull = np.hstack([np.sqrt(penalty) * np.eye(width), np.zeros((width, 1))])
  targets = (labels[:, None] == np.arange(labels.max() + 1)).astype(float)
  targets = np.vstack([targets, np.zeros((width, targets.shape[1]))])
  return np.linalg.lstsq(np.vstack([rows, pull]), targets, rcond=None)[0]


@pytest.mark.parametrize(
  ("count", "width"), [(40, 7), (12, 30)], ids=["many", "fewer than features"]
)
def test_the_closed_form_is_the_least_squares_solution(count, width):
  rng = np.random.default_rng(1)
  features = rng.normal(5.0, 3.0, (count, width)) * np.linspace(0.1, 4.0, width)
  labels = np.arange(count) ** 2 % 7 % 3
  centered = features - features.mean(0)
  mean_eigenvalue = np.trace(centered.T @ centered) / width
  strengths = (1e-2, 3.0)
  for strength, (weight, bias, mean) in zip(
    strengths, probe.fit_ridge(features, labels, strengths), strict=True
  ):
    expected = _least_squares(features, labels, strength * mean_eigenvalue)
    np.testing.assert_allclose(weight.T, expected[:-1], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias - weight @ mean, expected[-1], rtol=1e-8, atol=1e-10)


def test_the_strength_is_the_best_on_held_out_photographs():
  rng = np.random.default_rng(2)
  labels = np.repeat(np.arange(2), 40)
  # One telling feature among many noisy ones: little pull learns the noise, much pull does not.
  features = rng.normal(size=(80, 60))
  features[:, 0] += np.where(labels == 1, 2.0, -2.0)
  kept, held = np.arange(0, 80, 2), np.arange(1, 80, 2)
  strength, found, _ = probe.choose_strength(features, labels, kept, held)
  rates = []
  for weight, bias, mean in probe.fit_ridge(features[kept], labels[kept], probe.STRENGTHS):
    named = ((features[held] - mean) @ weight.T + bias).argmax(1)
    rates.append(np.mean(named == labels[held]))
  assert rates[probe.STRENGTHS.index(strength)] == max(rates) > min(rates)
  assert found["top1"] == max(rates)


def test_scores_become_logits():
  """Labels are drawn from the softmax of known logits, whose scores are a thirtieth of them."""
  rng = np.random.default_rng(5)
  logits = rng.normal(size=(20000, 4)) * 2
  noise = rng.gumbel(size=logits.shape)  # the largest of logits + Gumbel noise is a softmax draw
  factor = probe.logit_factor(logits / 30, (logits + noise).argmax(1))
  assert factor == pytest.approx(30, rel=0.05)  # 20,000 draws: about 1 %
  assert probe.logit_factor(-logits, (logits + noise).argmax(1)) == pytest.approx(1, rel=1e-3)


def test_a_probe_s_folder_is_a_classifier(photos, backbone, tmp_path, capsys):
  out = tmp_path / "out"
  assert _fit(photos, backbone, out, *FEATURES, "--photos-per-class", "8") == 0
  card = json.loads(capsys.readouterr().out)
  head = read_head(out)
  assert head.card == card
  assert (head.layers, head.norm, head.pooling) == ((0, 1), "plain", "class+mean")
  assert card["photos"] == {"blue": 6, "green": 8, "red": 8}
  assert card["ridge_strength"] in probe.STRENGTHS
  assert " ".join([*FEATURES, "--photos-per-class 8"]) in card["command"]
  assert str(tmp_path) not in json.dumps(card)

  net = rp.load_classifier(out)
  assert net.class_names == tuple(COLORS)
  files = sorted((photos / "val").glob("*/*.png"))
  squeezed = [np.asarray(read_image(file, (20, 20)), np.float32) for file in files]
  expected = scores_in_numpy(backbone, np.stack(squeezed), head)
  np.testing.assert_allclose(call(net, np.stack(squeezed)), expected, rtol=1e-4, atol=1e-4)
  named = [net.class_names[place] for place in expected.argmax(1)]
  top1 = np.mean([name == file.parent.name for name, file in zip(named, files, strict=True)])
  assert card["val"]["top1"] == round(top1, 4) > 0.8
  # The head alone, beside its backbone, is the same classifier.
  shutil.copy(out / "head.safetensors", backbone)
  again = rp.load_classifier(backbone)
  np.testing.assert_array_equal(call(again, np.stack(squeezed)), call(net, np.stack(squeezed)))
  assert _fit(photos, backbone, out) == 0  # an earlier result is replaced
  assert read_head(out).layers == (0, 1)  # those of the head that lies beside the backbone


@pytest.mark.parametrize("family", ["clip", "convnext"])
def test_other_backbones_put_out_what_their_own_heads_read(photos, tmp_path, family):
  assert _fit(photos, theirs.GOLDEN / family, tmp_path / "out") == 0
  assert read_head(tmp_path / "out").projected == (family == "clip")
  assert rp.load_classifier(tmp_path / "out").class_names == tuple(COLORS)


def test_faults_are_told_before_and_after_the_features(photos, backbone, tmp_path, capsys):
  assert _fit(photos, backbone, backbone) == 2
  assert "--out must be new, empty, or an earlier result" in capsys.readouterr().err
  assert _fit(photos, backbone, tmp_path / "out", "--layers", "0,2") == 2
  assert "layers must be different numbers in 0..1" in capsys.readouterr().err
  data = shutil.copytree(photos, tmp_path / "data")
  for broken in ("train/red/03.png", "train/blue/00.png"):
    (data / broken).write_bytes(b"no photograph")
  assert _fit(data, backbone, tmp_path / "out") == 2
  message = capsys.readouterr().err
  assert "03.png" in message
  assert "00.png" in message
  assert not (tmp_path / "out").exists()
  with pytest.raises(ValueError, match="must differ between photographs"):
    probe.fit_ridge(np.ones((4, 3)), np.array([0, 1, 0, 1]), [1.0])


@pytest.mark.parametrize(
  ("options", "expected"),
  [
    pytest.param(
      ("--probe", "b", "--epochs", "3"), "--epochs does not go with --probe", id="mixed"
    ),
    pytest.param(("--photos-per-class", "4"), "--photos-per-class needs --probe", id="alone"),
    pytest.param(("--probe", "b", "--photos-per-class", "0"), "at least 1", id="none"),
    pytest.param(("--probe", "b", "--layers", "a"), "whole numbers as in 7,9,11", id="layers"),
    pytest.param(("--robust", "4", "--norm", "plain"), "linf or l2", id="norm"),
  ],
)
def test_options_that_do_not_fit_are_refused(capsys, options, expected):
  with pytest.raises(SystemExit):
    train_zoo.parse(["--data", "photos", "--out", "out", *options])
  assert expected in capsys.readouterr().err
