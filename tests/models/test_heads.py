"""Features of frozen backbones, heads on them, and the files of both."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import scipy.special
from models.published_parity import call, change_json, golden
from oracles import published_models as theirs

import rpfgsm_jax as rp
from rpfgsm_jax.models.heads import Head, read_head, with_head, write_head
from rpfgsm_jax.models.identity import identify_network
from rpfgsm_jax.models.parameters import WeightsError
from rpfgsm_jax.models.weights import (
  as_classifier,
  class_names_of,
  load_embedder,
  load_network,
  save_network,
)


def scores_in_numpy(directory, images, head: Head) -> np.ndarray:
  """A plain DINOv2 in NumPy by transformers' names, at the size of its positions, and a head."""
  p = safetensors.numpy.load_file(directory / "model.safetensors")
  p = {name.removeprefix("dinov2."): value.astype(np.float64) for name, value in p.items()}
  x = (images / 255 - np.array(theirs.MEAN)) / np.array(theirs.DEVIATION)

  def standard(v):
    v = v - v.mean(-1, keepdims=True)
    return v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-6)

  batch, side, width = len(x), 5, 8
  cells = x.reshape(batch, 4, side, 4, side, 3).transpose(0, 1, 3, 5, 2, 4).reshape(batch, 16, -1)
  stem = "embeddings.patch_embeddings.projection"
  x = cells @ p[f"{stem}.weight"].reshape(width, -1).T + p[f"{stem}.bias"]
  token = np.broadcast_to(p["embeddings.cls_token"], (batch, 1, width))
  x = np.concatenate([token, x], 1) + p["embeddings.position_embeddings"]
  features = []
  for index in range(2):
    layer = f"encoder.layer.{index}."

    def dense(v, name, layer=layer):
      return v @ p[f"{layer}{name}.weight"].T + p[f"{layer}{name}.bias"]

    def norm(v, name, layer=layer):
      return standard(v) * p[f"{layer}{name}.weight"] + p[f"{layer}{name}.bias"]

    def heads(v):
      return v.reshape(batch, 17, 2, 4).transpose(0, 2, 1, 3)

    h = norm(x, "norm1")
    q, k, v = (heads(dense(h, f"attention.attention.{n}")) for n in ("query", "key", "value"))
    weights = np.exp(q @ k.transpose(0, 1, 3, 2) / 2)
    weights = weights / weights.sum(-1, keepdims=True)
    attended = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    x = x + p[f"{layer}layer_scale1.lambda1"] * dense(attended, "attention.output.dense")
    h = dense(norm(x, "norm2"), "mlp.fc1")
    h = dense(h * 0.5 * (1 + scipy.special.erf(h / np.sqrt(2))), "mlp.fc2")
    x = x + p[f"{layer}layer_scale2.lambda1"] * h
    if index in head.layers:
      t = standard(x)
      features += [t[:, 0], t[:, 1:].mean(1)]
  return (np.concatenate(features, -1) - head.mean) @ head.weight.T + head.bias


def random_head(**changes) -> Head:
  draw = np.random.default_rng(4).normal
  tensors = {
    "weight": draw(size=(3, 32)),
    "bias": draw(size=3),
    "mean": draw(size=32),
  }
  tensors = {name: value.astype(np.float32) for name, value in tensors.items()}
  fields = {"class_names": ("inn", "sea", "spa"), "layers": (0, 1), "card": {"rows": 9}}
  return Head(**tensors | fields | changes)


@pytest.fixture
def backbone(tmp_path):
  """A DINOv2's folder at the size of its positions."""
  directory = shutil.copytree(theirs.GOLDEN / "dinov2", tmp_path / "dinov2")
  change_json(directory / "preprocessor_config.json", crop_size=20)
  return directory


@pytest.mark.parametrize("form", ["ours", "scene_head"])
def test_head_beside_a_backbone(backbone, form, tmp_path):
  head = random_head()
  before = identify_network(str(backbone))
  if form == "ours":
    write_head(backbone, head)
  else:
    words = (
      "blocks 1, 2: each standardised per token (mean 0, variance 1, eps 1e-6, no scale or bias); "
      "class token, then mean of patch tokens; 3 x 32 numbers"
    )
    tensors = {name: getattr(head, name) for name in ("weight", "bias", "mean")}
    path = backbone / "scene_head.safetensors"
    safetensors.numpy.save_file(tensors, path, {"features": words})
    (backbone / "classes.json").write_text(json.dumps(head.class_names))
  images = theirs.pictures(20, 20)
  net = rp.load_classifier(backbone)
  assert net.class_names == class_names_of(str(backbone)) == head.class_names
  expected = scores_in_numpy(backbone, images, head)
  np.testing.assert_allclose(call(net, images), expected, rtol=1e-4, atol=1e-4)
  assert identify_network(str(backbone)) != before
  # In our own format backbone and head are one network.
  save_network(tmp_path / "saved", load_network(backbone))
  again = rp.load_classifier(tmp_path / "saved")
  np.testing.assert_array_equal(call(again, images), call(net, images))


def test_head_round_trip_and_faults(backbone):
  head = random_head()
  path = write_head(backbone, head)
  found = read_head(backbone)
  for name in ("weight", "bias", "mean"):
    np.testing.assert_array_equal(getattr(found, name), getattr(head, name))
  for name in ("class_names", "layers", "norm", "pooling", "projected", "card"):
    assert getattr(found, name) == getattr(head, name)
  network = load_network(theirs.GOLDEN / "dinov2")
  for changes, says in (
    ({"layers": (0, 2)}, r"layers must be different numbers in 0..1"),
    ({"pooling": "max"}, "pooling one of"),
    ({"projected": True}, "need a CLIP"),
    (
      {"bias": np.full(3, np.inf, np.float32), "mean": np.ones(31, np.float32)},
      r"mean is \(31,\), must be \(32,\); bias is not finite",
    ),
    ({"class_names": ("inn", "sea", "inn")}, "all different"),
  ):
    with pytest.raises(WeightsError, match=says):
      with_head(network, random_head(**changes))
  safetensors.numpy.save_file({"weight": head.weight}, path)
  with pytest.raises(WeightsError, match=r"must hold \['weight', 'bias', 'mean'\]"):
    rp.load_classifier(backbone)


def test_embedder_puts_out_features(backbone):
  images, head = theirs.pictures(20, 20), random_head()
  embedder = load_embedder(backbone, layers=(0, 1), norm="plain", pooling="class+mean")
  (features,) = map(np.asarray, embedder.features(images))
  scores = (features - head.mean) @ head.weight.T + head.bias
  expected = scores_in_numpy(backbone, images, head)
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
  fitted = as_classifier(with_head(load_network(backbone), head), "fitted")
  np.testing.assert_allclose(call(fitted, images), scores, rtol=1e-4, atol=1e-4)
  assert isinstance(embedder, rp.Embedder)


def test_embedder_of_other_families():
  clip = load_embedder(theirs.GOLDEN / "clip")
  (features,) = clip(theirs.pictures(20, 12))
  np.testing.assert_allclose(features, golden("clip")["logits"], rtol=1e-4, atol=1e-5)
  stages = load_embedder(theirs.GOLDEN / "convnext", layers=(1, 2), norm="plain", pooling="mean")
  assert stages.features(np.zeros((1, 40, 32, 3)))[0].shape == (1, 6 + 8)
  with pytest.raises(WeightsError, match="final norm of a ConvNeXt is for its last stage"):
    load_embedder(theirs.GOLDEN / "convnext", layers=(1,))
  with pytest.raises(WeightsError, match="features are put out by a ViT, CLIP or ConvNeXt"):
    load_embedder("scenes25/resnet18")
