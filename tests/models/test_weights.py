"""Networks on disk: exact round trips, every fault by name, and a crash at any step of a save."""

import dataclasses
import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from models.small_networks import CLASS_NAMES, CONFIGS, parameters

from rpfgsm_jax.models import weights
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.weights import (
  CONFIG_FILE,
  WEIGHTS_FILE,
  Network,
  WeightsError,
  available_networks,
  check_parameters,
  load_classifier,
  load_network,
  save_network,
  unflatten,
)


def network(name: str = "basic", seed: int = 5, **changes) -> Network:
  fields = {
    "config": CONFIGS[name],
    "parameters": parameters(name, seed),
    "class_names": CLASS_NAMES,
    "mean": (0.5, 0.4, 0.3),
    "deviation": (0.2, 0.25, 0.3),
    "card": {"source": "a test", "top1": 0.25, "classes": ["é", None]},
  }
  return Network(**fields | changes)


def assert_same(one: Network, two: Network) -> None:
  for field in dataclasses.fields(Network):
    if field.name != "parameters":
      assert getattr(one, field.name) == getattr(two, field.name), field.name
  assert set(one.parameters) == set(two.parameters)
  for name, value in one.parameters.items():
    np.testing.assert_array_equal(value, two.parameters[name], err_msg=name)
    assert two.parameters[name].dtype == np.float32


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty user cache and nothing bundled."""
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
  return tmp_path / "cache" / "weights"


# ---- round trips ----


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_round_trip_is_exact(tmp_path, name):
  saved = network(name)
  save_network(tmp_path / "new" / "folder", saved)
  assert_same(saved, load_network(tmp_path / "new" / "folder"))


def test_float16_rounds_kernels_only(tmp_path):
  saved = network()
  save_network(tmp_path, saved, dtype="float16")
  rounded = {
    name: value.astype(np.float16).astype(np.float32) if name.endswith(".kernel") else value
    for name, value in saved.parameters.items()
  }
  assert_same(dataclasses.replace(saved, parameters=rounded), load_network(tmp_path))
  assert not np.array_equal(rounded["head.kernel"], saved.parameters["head.kernel"])


def test_flatten_inverts_unflatten():
  drawn = parameters("densenet")
  restored = flatten(unflatten(CONFIGS["densenet"], drawn))
  assert set(restored) == set(drawn)
  for name, value in drawn.items():
    np.testing.assert_array_equal(restored[name], value, err_msg=name)


def test_loaded_classifier(tmp_path):
  save_network(tmp_path, network())
  classifier = load_classifier(tmp_path)
  assert classifier.class_names == CLASS_NAMES
  assert classifier.image_size == CONFIGS["basic"].image_size
  assert (classifier.mean, classifier.deviation) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
  logits = classifier(jnp.zeros((2, *classifier.image_size, 3)))
  assert logits.shape == (2, 5)
  assert np.all(np.isfinite(logits))


# ---- strictness ----


def faulty_parameters() -> dict[str, np.ndarray]:
  tensors = parameters("basic")
  del tensors["head.bias"], tensors["stem_norm.var"]
  tensors["extra.kernel"] = np.zeros((2, 3), np.float32)
  tensors["stem_conv.kernel"] = tensors["stem_conv.kernel"][:5]
  tensors["stem_norm.mean"] = np.full_like(tensors["stem_norm.mean"], np.nan)
  tensors["head.kernel"] = np.full_like(tensors["head.kernel"], np.inf)
  return tensors


FAULTS = (
  "6 faults",
  "missing: head.bias (5,)",
  "missing: stem_norm.var (4,)",
  "unknown: extra.kernel (2, 3)",
  "shape: stem_conv.kernel is (5, 7, 3, 4), must be (7, 7, 3, 4)",
  "not finite: stem_norm.mean",
  "not finite: head.kernel",
)


def test_all_faults_are_reported_at_once():
  with pytest.raises(WeightsError) as caught:
    check_parameters(CONFIGS["basic"], faulty_parameters())
  for fault in FAULTS:
    assert fault in str(caught.value)


def test_nothing_is_written_for_faulty_parameters(tmp_path):
  with pytest.raises(WeightsError, match="6 faults"):
    save_network(tmp_path / "out", network(parameters=faulty_parameters()))
  assert not (tmp_path / "out").exists()


def test_a_file_with_faulty_parameters_is_refused(tmp_path):
  import safetensors.numpy

  save_network(tmp_path, network())
  payload = safetensors.numpy.save(faulty_parameters())
  (tmp_path / WEIGHTS_FILE).write_bytes(payload)
  describe(tmp_path, sha256=hashlib.sha256(payload).hexdigest())
  with pytest.raises(WeightsError, match="6 faults"):
    load_network(tmp_path)


def test_refuses_a_kernel_beyond_float16(tmp_path):
  tensors = parameters("basic")
  tensors["head.kernel"] = tensors["head.kernel"].copy()
  tensors["head.kernel"][0, 0] = 1e5
  with pytest.raises(ValueError, match=r"head.kernel leaves the range of float16; save with"):
    save_network(tmp_path / "out", network(parameters=tensors), dtype="float16")
  assert not (tmp_path / "out").exists()
  with pytest.raises(ValueError, match="dtype must be 'float32' or 'float16', got 'int8'"):
    save_network(tmp_path / "out", network(), dtype="int8")


# ---- damaged folders ----


def describe(folder, **changes) -> None:
  description = json.loads((folder / CONFIG_FILE).read_text())
  description |= changes
  kept = {name: value for name, value in description.items() if value is not None}
  (folder / CONFIG_FILE).write_text(json.dumps(kept))


def truncate(folder):
  payload = (folder / WEIGHTS_FILE).read_bytes()
  (folder / WEIGHTS_FILE).write_bytes(payload[:-100])


def flip_a_bit(folder):
  payload = bytearray((folder / WEIGHTS_FILE).read_bytes())
  payload[len(payload) // 2] ^= 1
  (folder / WEIGHTS_FILE).write_bytes(payload)


DAMAGES = {
  "truncated": (truncate, r"model\.safetensors does not have the SHA-256"),
  "bit": (flip_a_bit, r"model\.safetensors does not have the SHA-256"),
  "no-weights": (lambda folder: (folder / WEIGHTS_FILE).unlink(), r"lacks model\.safetensors"),
  "no-config": (lambda folder: (folder / CONFIG_FILE).unlink(), r"lacks config\.json"),
  "no-json": (lambda folder: (folder / CONFIG_FILE).write_text("{"), r"config\.json is not JSON"),
  "bytes": (lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\x00"), "is not JSON"),
  "list": (lambda folder: (folder / CONFIG_FILE).write_text("[]"), "must have format 1"),
  "format": (lambda folder: describe(folder, format=2), "must have format 1"),
  "fields": (lambda folder: describe(folder, mean=None, card=None), r"lacks \['card', 'mean'\]"),
  "family": (lambda folder: describe(folder, config={"family": "vgg"}), "got 'vgg'"),
  "outside": (lambda folder: describe(folder, weights="../model.safetensors"), "its own folder"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused(tmp_path, damage):
  save_network(tmp_path, network())
  harm, says = DAMAGES[damage]
  harm(tmp_path)
  with pytest.raises(WeightsError, match=says):
    load_network(tmp_path)


# ---- saving over an older network ----


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupted_save_leaves_the_old_network_usable(tmp_path, monkeypatch, step):
  old, new = network(seed=5), network(seed=6)
  save_network(tmp_path, old)
  writes = []
  write = weights.atomic.write_bytes

  def die(path, content):
    writes.append(path)
    if len(writes) == step:
      raise KeyboardInterrupt
    write(path, content)

  with monkeypatch.context() as patch:
    patch.setattr(weights.atomic, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
      save_network(tmp_path, new)
  assert len(writes) == step
  assert_same(old, load_network(tmp_path))
  save_network(tmp_path, new)
  assert_same(new, load_network(tmp_path))


def test_saving_again_and_again_leaves_two_files(tmp_path):
  (tmp_path / "model-card.safetensors").touch()  # somebody else's
  for seed in (5, 6, 6, 7, 5):
    save_network(tmp_path, network(seed=seed))
    assert_same(network(seed=seed), load_network(tmp_path))
  files = {file.name for file in tmp_path.iterdir()} - {"model-card.safetensors"}
  assert len(files) == 2
  assert CONFIG_FILE in files
  assert (tmp_path / "model-card.safetensors").exists()


def test_a_description_without_the_name_of_the_weights_means_the_usual_one(tmp_path):
  save_network(tmp_path, network())
  describe(tmp_path, weights=None)
  assert_same(network(), load_network(tmp_path))


# ---- names ----


def test_cache_directory_follows_the_environment(cache, monkeypatch):
  assert weights.cache_directory() == cache.parent
  monkeypatch.delenv("RPFGSM_CACHE")
  assert weights.cache_directory().name == "rpfgsm-jax"
  monkeypatch.setenv("RPFGSM_CACHE", "")
  assert weights.cache_directory().name == "rpfgsm-jax"


def test_fetched_networks_are_found_by_name_behind_bundled_ones(cache):
  assert available_networks() == {}
  bundled = weights.BUNDLED / "scenes25" / "resnet18"
  save_network(bundled, network())
  save_network(cache / "places365" / "resnet18", network(seed=6))
  save_network(cache / "scenes25" / "resnet18", network(seed=7))
  (cache / "places365" / "unfinished").mkdir()
  found = available_networks()
  assert found == {
    "scenes25/resnet18": bundled,
    "places365/resnet18": cache / "places365" / "resnet18",
  }
  assert next(iter(found)) == "scenes25/resnet18"
  classifier = load_classifier("places365/resnet18")
  assert classifier.name == "places365/resnet18"
  np.testing.assert_array_equal(
    classifier.params["head.kernel"], network(seed=6).parameters["head.kernel"]
  )


def test_an_unknown_name_suggests_the_nearest(cache):
  save_network(weights.BUNDLED / "scenes25" / "resnet18", network())
  with pytest.raises(
    WeightsError, match=r"got 'scenes25/resnet81'; did you mean scenes25/resnet18"
  ):
    load_classifier("scenes25/resnet81")
  with pytest.raises(WeightsError, match=r"got 'zzz'; known: \['scenes25/resnet18'\]"):
    load_classifier("zzz")
  with pytest.raises(WeightsError, match="fetched by `rpfgsm weights fetch places365`"):
    load_classifier("places365/resnet18")


def test_an_empty_folder_is_no_network(tmp_path, cache):
  with pytest.raises(WeightsError, match=r"lacks config\.json; it holds no network of ours"):
    load_classifier(tmp_path)
