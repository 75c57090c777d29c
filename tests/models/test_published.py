"""Folders as transformers writes them, files of timm and torchvision: numbers, strictness, heads.

The files and numbers in `tests/golden/published` are the libraries' own; see
`tests/oracles/published_models.py`. Measured: everything agrees within 2e-6.
"""

import importlib.util
import json
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from models import published_parity as ours
from models.published_parity import call, change_json, change_tensors, golden
from oracles import published_models as theirs

import rpfgsm_jax as rp
from rpfgsm_jax.models import convert, name_map, published_config
from rpfgsm_jax.models.checkpoint import read_checkpoint
from rpfgsm_jax.models.clip import CLIPTextConfig
from rpfgsm_jax.models.convnext import ConvNeXtConfig
from rpfgsm_jax.models.identity import identify_network
from rpfgsm_jax.models.parameters import WeightsError
from rpfgsm_jax.models.vit import ViTConfig
from rpfgsm_jax.models.weights import class_names_of, load_network


@pytest.fixture
def folder(tmp_path):
  """Returns a function that copies a golden folder, to be damaged."""

  def copy(name: str):
    return shutil.copytree(theirs.GOLDEN / name, tmp_path / name)

  return copy


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
  ours.check(ours.run_network(network, theirs.pictures(*config.image_size)), golden(name))
  assert load_network(tmp_path).config == config


def test_safetensors_convert_with_another_normalization(tmp_path):
  name, file = "timm_convnext", tmp_path / "model.safetensors"
  tensors = read_checkpoint(theirs.GOLDEN / name / "state_dict.pth").tensors
  safetensors.numpy.save_file(dict(tensors), file)
  network = convert.convert_checkpoint(
    file,
    tmp_path / "net",
    ours.STATE_DICT_CONFIGS[name],
    class_names=tuple("abcde"),
    normalization=published_config.HALF,
  )
  ours.check(ours.run_network(network, theirs.pictures(40, 32)), golden(name))
  assert (network.mean, network.deviation) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_text_ends_at_the_highest_token_in_old_configs(folder):
  directory = folder("clip")
  text = json.loads((directory / "config.json").read_bytes())["text_config"]
  change_json(directory / "config.json", text_config=text | {"eos_token_id": 2})
  found = ours.run_folder(directory, theirs.pictures(*theirs.SIZES["clip"]))
  ours.check(found, golden("clip"))


@pytest.mark.parametrize("name", ["dinov2", "convnext"])
def test_half_precision(name):
  net = rp.load_classifier(theirs.GOLDEN / name)
  images = theirs.pictures(*net.image_size)
  half, exact = call(net.astype("bfloat16"), images), golden(name)["logits"]
  assert half.dtype == np.float32
  assert 1e-5 < np.linalg.norm(half - exact) / np.linalg.norm(exact) < 0.1


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

# Names of files that the goldens have no example of: older ones, and a bare model's.
MORE_NAMES = (
  "encoder.layers.encoder_layer_0.mlp.linear_1.weight",
  "encoder.layers.encoder_layer_0.mlp.linear_1.bias",
  "encoder.layers.encoder_layer_0.mlp.linear_2.weight",
  "encoder.layers.encoder_layer_0.mlp.linear_2.bias",
  "blocks.0.ls1.gamma",
  "blocks.0.ls2.gamma",
  "mask_token",
  "pooler.dense.weight",
  "pooler.dense.bias",
  "vision_model.embeddings.position_ids",
  "text_model.embeddings.position_ids",
)


def names_in(name: str) -> list[str]:
  directory = theirs.GOLDEN / name
  if name in theirs.STATE_DICTS:
    return list(name_map._unpack(read_checkpoint(directory / "state_dict.pth").tensors))
  return list(name_map._unpack(safetensors.numpy.load_file(directory / "model.safetensors")))


@pytest.mark.parametrize(
  ("config", "files"),
  [
    (ViTConfig(), [n for n in (*theirs.SIZES, *theirs.STATE_DICTS) if "convnext" not in n]),
    (CLIPTextConfig(), ["clip"]),
    (ConvNeXtConfig(), [n for n in (*theirs.SIZES, *theirs.STATE_DICTS) if "convnext" in n]),
  ],
  ids=["vit", "clip_text", "convnext"],
)
def test_every_rule_is_used_and_no_two_overlap(config, files):
  rules = name_map.rules(config)
  used = set()
  for name in [*(name for file in files for name in names_in(file)), *MORE_NAMES]:
    matching = [i for i, (pattern, _) in enumerate(rules) if re.fullmatch(pattern, name)]
    assert len(matching) <= 1, name
    used.update(matching)
  assert {rules[index][0] for index in set(range(len(rules))) - used} == set()


@pytest.mark.parametrize(
  "name",
  [
    "vit.classifier.weight",
    "xembeddings.cls_token",
    "encoder.layer.00.norm1.weight",
    "encoder.layer.0.norm3.weight",
    "blocks.0.attn.qkv.weight",  # splits, unless its rows are no multiple of three
    "blocks.0.norm1.running_mean",
    "layernorm.weight\n",
  ],
  ids=ascii,
)
def test_patterns_are_anchored_and_closed(name):
  with pytest.raises(KeyError):
    name_map.slot_name(name, ViTConfig())


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
  assert rp.load_classifier(directory).class_names == class_names_of(str(directory)) == names


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
