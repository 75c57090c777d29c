"""Folders as transformers writes them, files of timm and torchvision: numbers, strictness, heads.

The files and numbers in `tests/golden/published` are the libraries' own; see
`tests/oracles/published_models.py`. Measured: everything agrees within 2e-6.
"""

import importlib.util
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import scipy.special
from models import published_parity as ours
from oracles import published_models as theirs

import rpfgsm_jax as rp
from rpfgsm_jax.models import convert
from rpfgsm_jax.models.heads import Head, read_head, with_head, write_head
from rpfgsm_jax.models.parameters import WeightsError, unflatten
from rpfgsm_jax.models.weights import (
  as_classifier,
  identify_network,
  load_embedder,
  load_network,
  save_network,
)


def golden(name: str) -> dict[str, np.ndarray]:
  with np.load(theirs.GOLDEN / name / "golden.npz") as file:
    return dict(file)


@pytest.fixture
def folder(tmp_path):
  """Returns a function that copies a golden folder, to be damaged."""

  def copy(name: str):
    return shutil.copytree(theirs.GOLDEN / name, tmp_path / name)

  return copy


def change_json(path, **changes):
  fields = json.loads(path.read_bytes()) | changes
  path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))


def change_tensors(path, change, stored=np.float32):
  tensors = dict(safetensors.numpy.load_file(path))
  change(tensors)
  safetensors.numpy.save_file({n: v.astype(stored) for n, v in tensors.items()}, path)


def call(net: rp.Classifier, images) -> np.ndarray:
  return np.asarray(jax.jit(net.__call__)(jnp.asarray(images, jnp.float32)))


# ---- numbers ----


@pytest.mark.parametrize("name", theirs.SIZES)
def test_folder_of_transformers(name):
  expected = golden(name)
  ours.check(ours.run_folder(theirs.GOLDEN / name, theirs.pictures(*theirs.SIZES[name])), expected)


@pytest.mark.parametrize("name", theirs.STATE_DICTS)
def test_state_dict_converts(name, tmp_path):
  config = ours.STATE_DICT_CONFIGS[name]
  file = theirs.GOLDEN / name / "state_dict.pth"
  network = convert.convert_checkpoint(file, tmp_path, config, class_names=tuple("abcde"))
  module = unflatten(config, network.parameters)
  ours.check(ours.run_module(module, theirs.pictures(*config.image_size)), golden(name))
  assert load_network(tmp_path).config == config


def test_classifier_of_a_folder():
  directory = theirs.GOLDEN / "dinov2"
  net = rp.load_classifier(directory)
  assert net.class_names == tuple(f"LABEL_{index}" for index in range(theirs.CLASSES))
  assert net.image_size == theirs.SIZES["dinov2"]
  assert (net.mean, net.deviation) == (theirs.MEAN, theirs.DEVIATION)
  logits = call(net, theirs.pictures(*net.image_size))
  np.testing.assert_allclose(logits, golden("dinov2")["logits"], rtol=1e-4, atol=1e-5)


def test_half_precision_and_shards(folder):
  # Two shards, one in float16, one in bfloat16, whose numbers are the upper halves of float32's.
  directory = folder("vit")
  whole = safetensors.numpy.load_file(directory / "model.safetensors")
  (directory / "model.safetensors").unlink()
  names = sorted(whole)
  half = {name: whole[name].astype(np.float16) for name in names[::2]}
  upper = {n: (whole[n].astype(np.float32).view(np.uint32) >> 16) for n in names[1::2]}
  safetensors.numpy.save_file(half, directory / "one.safetensors")
  header, data = {}, b""
  for name, value in upper.items():
    rows = value.astype("<u2").tobytes()
    place = [len(data), len(data) + len(rows)]
    header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": place}
    data += rows
  described = json.dumps(header).encode()
  (directory / "two.safetensors").write_bytes(
    len(described).to_bytes(8, "little") + described + data
  )
  index = {n: "one.safetensors" for n in half} | {n: "two.safetensors" for n in upper}
  (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
  found = load_network(directory).parameters
  exact = load_network(theirs.GOLDEN / "vit").parameters
  for name, value in exact.items():
    assert 0 < np.max(np.abs(found[name] - value)) <= 2**-7 * np.max(np.abs(value)), name
  assert identify_network(str(directory)) != identify_network(str(theirs.GOLDEN / "vit"))
  (directory / "two.safetensors").unlink()
  with pytest.raises(WeightsError, match=r"lacks \['two.safetensors'\]"):
    load_network(directory)


@pytest.mark.shared_data
def test_real_judge(shared_data):
  # A real ViT-S/14 in transformers' names and float16, its head on three blocks beside it, against
  # the transcription that lies beside the data.
  tools = shared_data.parent / "tools" / "real_judges.py"
  spec = importlib.util.spec_from_file_location("real_judges", tools)
  judges = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(judges)
  reference, net = judges.classifier("vit_s14"), rp.load_classifier(judges.DATA / "vit_s14")
  assert net.class_names == reference.class_names
  images = theirs.pictures(224, 224)
  with jax.numpy_rank_promotion("allow"):
    expected = call(reference, images)
  error = np.linalg.norm(call(net, images) - expected) / np.linalg.norm(expected)
  assert error <= 1e-4


# ---- strictness ----


def test_all_faults_of_a_folder_in_one_error(folder):
  directory = folder("dinov2")

  def damage(tensors):
    del tensors["classifier.bias"]
    tensors["dinov2.encoder.layer.2.norm1.weight"] = np.ones(8)
    tensors["dinov2.layernorm.weight"] = np.ones(7)
    tensors["dinov2.encoder.layer.0.attention.attention.query.weight"][0, 0] = np.nan

  change_tensors(directory / "model.safetensors", damage)
  with pytest.raises(WeightsError, match="4 faults") as caught:
    rp.load_classifier(directory)
  for part in ("missing: head.dense.bias", "layer.2.norm1", "must be (8,)", "not finite: dinov2"):
    assert part in str(caught.value)


@pytest.mark.parametrize(
  ("name", "changes", "says"),
  [
    ("vit", {"model_type": "swin"}, r"model_type must be one of \['clip'.*'vit'\], got 'swin'"),
    ("vit", {"hidden_act": "relu6"}, "hidden_act must be one of"),
    ("vit", {"num_channels": 1}, "num_channels must be 3, got 1"),
    ("vit", {"patch_size": [4, 2]}, "patch_size must be square"),
    ("vit", {"id2label": {"0": "a", "2": "b"}}, "id2label must name the classes"),
    ("vit", {"hidden_size": "wide"}, "mistakes a field of a vit: width must be"),
    ("vit", {"num_hidden_layers": 3}, "missing: blocks.2.norm1.scale"),
    ("dinov2", {"use_swiglu_ffn": True}, "missing: blocks.0.mlp.gate.kernel"),
    ("convnext", {"layer_scale_init_value": 0}, "unknown: convnext.encoder.stages.0.layers.0"),
    ("dinov2_swiglu", {}, "has no classes, only features"),
    ("clip", {}, "has no classes, only features: .* name classes in words if it is a CLIP"),
  ],
  ids=lambda value: str(value)[:30],
)
def test_refuses_other_networks(folder, name, changes, says):
  directory = folder(name)
  change_json(directory / "config.json", **changes)
  with pytest.raises(WeightsError, match=says):
    rp.load_classifier(directory)


def test_doubled_class_names_get_their_number(folder):
  directory = folder("vit")
  labels = dict(enumerate(("crane", "owl", "crane", "elk", "fox")))
  change_json(directory / "config.json", id2label=labels)
  names = ("crane (0)", "owl", "crane (2)", "elk", "fox")
  assert rp.load_classifier(directory).class_names == names


@pytest.mark.parametrize(
  ("processing", "size", "mean"),
  [
    ({"size": 30, "image_mean": None, "image_std": None}, (30, 30), (0.485, 0.456, 0.406)),
    ({"size": {"shortest_edge": 25}, "do_normalize": False}, (25, 25), (0.0, 0.0, 0.0)),
    ({"size": 30, "crop_size": 24, "do_center_crop": True}, (24, 24), theirs.MEAN),
  ],
)
def test_preprocessor(folder, processing, size, mean):
  directory = folder("dinov2")
  path = directory / "preprocessor_config.json"
  change_json(path, **{"crop_size": None, "do_center_crop": None} | processing)
  net = rp.load_classifier(directory)
  assert (net.image_size, net.mean) == (size, mean)
  change_json(path, rescale_factor=1.0)
  with pytest.raises(WeightsError, match=r"rescale_factor must be 1/255, got 1.0"):
    rp.load_classifier(directory)
  path.unlink()
  assert rp.load_classifier(directory).image_size == (20, 20)


def test_pickles_are_read_or_refused(folder):
  directory = folder("timm_vit")
  shutil.copy(theirs.GOLDEN / "vit" / "config.json", directory)
  (directory / "state_dict.pth").rename(directory / "pytorch_model.bin")
  change_json(directory / "config.json", intermediate_size=32, layer_norm_eps=1e-6)
  found = ours.run_folder(directory, theirs.pictures(16, 16))
  ours.check(found, golden("timm_vit"))
  (directory / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
  with pytest.raises(ValueError, match=r"os\.system"):
    rp.load_classifier(directory)
  (directory / "pytorch_model.bin").rename(directory / "tf_model.h5")
  with pytest.raises(WeightsError, match=r"must hold model.safetensors .*'tf_model.h5'"):
    rp.load_classifier(directory)


def test_damaged_safetensors(folder):
  directory = folder("vit")
  path = directory / "model.safetensors"
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(WeightsError, match="no whole safetensors file"):
    rp.load_classifier(directory)


# ---- features and heads ----


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
def backbone(folder):
  directory = folder("dinov2")
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
  assert net.class_names == head.class_names
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
  assert embedder.class_names == ()
  features = call(embedder, images)
  scores = (features - head.mean) @ head.weight.T + head.bias
  expected = scores_in_numpy(backbone, images, head)
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
  fitted = as_classifier(with_head(load_network(backbone), head), "fitted")
  np.testing.assert_allclose(call(fitted, images), scores, rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match=r"must have classes, got .*puts out features"):
    rp.u_fgsm(jax.random.key(0), images, [embedder])


def test_embedder_of_other_families():
  clip = load_embedder(theirs.GOLDEN / "clip")
  features = call(clip, theirs.pictures(20, 12))
  np.testing.assert_allclose(features, golden("clip")["logits"], rtol=1e-4, atol=1e-5)
  stages = load_embedder(theirs.GOLDEN / "convnext", layers=(1, 2), norm="plain", pooling="mean")
  assert call(stages, np.zeros((1, 40, 32, 3))).shape == (1, 6 + 8)
  with pytest.raises(WeightsError, match="final norm of a ConvNeXt is for its last stage"):
    load_embedder(theirs.GOLDEN / "convnext", layers=(1,))
  with pytest.raises(WeightsError, match="features are put out by a ViT, CLIP or ConvNeXt"):
    load_embedder("scenes25/resnet18")
