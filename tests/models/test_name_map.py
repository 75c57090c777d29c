"""The table of names: bijective for all networks, and every fault in one error."""

import collections
import re

import numpy as np
import pytest
from oracles.legacy_torch_file import places365_name
from oracles.torchvision_models import numpy_state_dict, shapes_of, state_dict_shapes

from rpfgsm_jax.models import name_map
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import PAPER, PRESETS
from rpfgsm_jax.models.checkpoint import CheckpointError
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.efficientnet import EfficientNetConfig
from rpfgsm_jax.models.name_map import map_tensors, slot_name
from rpfgsm_jax.models.parameters import expected_shapes
from rpfgsm_jax.models.resnet import ResNetConfig

NARROW = {
  "resnet18": ResNetConfig(width=4, stage_sizes=(1, 2), num_classes=7),
  "resnet50": ResNetConfig(width=4, stage_sizes=(2, 1), bottleneck=True, num_classes=7),
  "alexnet": AlexNetConfig(widths=(2, 3, 4, 3, 5), hidden=6, pool_size=3, num_classes=7),
  "densenet161": DenseNetConfig(stage_sizes=(2, 1), growth=3, stem_width=4, num_classes=7),
  "efficientnet_lite0": EfficientNetConfig(
    widths=(2, 3), depths=(1, 2), kernels=(3, 5), strides=(1, 2), head_width=6, num_classes=7
  ),
}
ARCHITECTURES = (*PAPER, "efficientnet_lite0")


def narrow_state(arch: str) -> dict[str, np.ndarray]:
  return numpy_state_dict(state_dict_shapes(NARROW[arch]), seed=1)


def report(tensors, config) -> str:
  with pytest.raises(CheckpointError) as caught:
    map_tensors(tensors, config)
  return str(caught.value)


# ---- the table ----


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_full_size_names_and_shapes_are_in_bijection(arch):
  config, torch_shapes = PRESETS[arch], shapes_of(arch)
  ours = expected_shapes(config)
  slots = {name: slot_name(name, config) for name in torch_shapes}
  assert collections.Counter(slots.values()) == collections.Counter(ours.keys())
  for name, shape in torch_shapes.items():
    turned = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[len(shape)]
    assert tuple(shape[axis] for axis in turned) == ours[slots[name]], name
  # As the files of 2017 call them: the same slots.
  assert {places365_name(name, arch): slot for name, slot in slots.items()} == {
    old: slot_name(old, config) for old in (places365_name(name, arch) for name in torch_shapes)
  }


def lite_package_name(name: str, depths: tuple[int, ...]) -> str:
  """Returns how `efficientnet_lite_pytorch` calls a tensor of timm's EfficientNet-Lite."""
  part, *rest = name.split(".")
  if part != "blocks":
    return ".".join(
      [{"bn1": "_bn0", "bn2": "_bn1", "classifier": "_fc"}.get(part, f"_{part}"), *rest]
    )
  stage, block, layer, leaf = rest
  names = {"conv_pw": "_expand_conv", "conv_dw": "_depthwise_conv", "conv_pwl": "_project_conv"}
  names |= {"bn1": "_bn0", "bn2": "_bn1", "bn3": "_bn2"}
  if stage == "0":
    names |= {"conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
  return f"_blocks.{sum(depths[: int(stage)]) + int(block)}.{names[layer]}.{leaf}"


@pytest.mark.parametrize("number", range(5))
def test_both_names_of_efficientnet_lite_mean_the_same_tensors(number):
  config, shapes = PRESETS[f"efficientnet_lite{number}"], shapes_of(f"efficientnet_lite{number}")
  others = {name: lite_package_name(name, config.depths) for name in shapes}
  assert len(set(others.values())) == len(shapes)
  for name, other in others.items():
    assert slot_name(other, config) == slot_name(name, config)
  assert slot_name(f"_blocks.{sum(config.depths)}._bn0.bias", config) not in expected_shapes(config)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_rule_is_used_and_no_two_overlap(arch):
  config = PRESETS[arch]
  names = list(shapes_of(arch))
  if isinstance(config, EfficientNetConfig):
    names += [lite_package_name(name, config.depths) for name in names]
  names += [re.sub("running_var$", "num_batches_tracked", name) for name in names]
  used = collections.Counter()
  for name in dict.fromkeys(names):
    matching = [
      index
      for index, (pattern, _) in enumerate(name_map.rules(config))
      if re.fullmatch(pattern, name)
    ]
    assert len(matching) == 1, (name, matching)
    used.update(matching)
  assert set(used) == set(range(len(name_map.rules(config))))


@pytest.mark.parametrize(
  ("arch", "name"),
  [
    ("resnet18", "conv1.weight.extra"),
    ("resnet18", "xconv1.weight"),
    ("resnet18", "conv1.weight\n"),
    ("resnet18", "model.conv1.weight"),
    ("resnet18", "module.conv1.module"),
    ("resnet18", "layer0.0.conv1.weight"),
    ("resnet18", "layer01.0.conv1.weight"),
    ("resnet18", "layer1.00.conv1.weight"),
    ("resnet18", "layer1.٠.conv1.weight"),
    ("resnet18", "layer1.0.conv1.bias"),
    ("resnet18", f"layer{'9' * 5000}.0.conv1.weight"),
    ("alexnet", "features.1.weight"),
    ("alexnet", "classifier.modules.1.weight"),
    ("densenet161", "features.norm4.weight"),
    ("densenet161", "features.denseblock1.denselayer1.norm..1.weight"),
    ("densenet161", "features.denseblock0.denselayer1.norm1.weight"),
    ("efficientnet_lite0", "blocks.0.0.conv_pwl.weight"),
    ("efficientnet_lite0", "blocks.1.0.conv_dw.bias"),
    ("efficientnet_lite0", "_blocks.01._bn0.bias"),
  ],
  ids=lambda value: ascii(value)[:50],
)
def test_patterns_are_anchored_and_closed(arch, name):
  with pytest.raises(KeyError):
    slot_name(name, PRESETS[arch])


def test_two_matching_rules_are_an_error(monkeypatch):
  rules = name_map.rules(PAPER["resnet18"])
  monkeypatch.setattr(name_map, "rules", lambda config: [*rules, (".*", lambda m: "anything")])
  with pytest.raises(CheckpointError, match="matches 2 rules"):
    slot_name("fc.bias", PAPER["resnet18"])


# ---- values ----


@pytest.mark.parametrize("arch", NARROW)
@pytest.mark.parametrize("style", ["today", "2017"])
def test_values_reach_their_slots(arch, style):
  config, state = NARROW[arch], narrow_state(arch)
  given = state if style == "today" else {places365_name(n, arch): a for n, a in state.items()}
  parameters = map_tensors(given, config)
  assert {name: value.shape for name, value in parameters.items()} == expected_shapes(config)
  assert all(value.dtype == np.float32 for value in parameters.values())
  for name, tensor in state.items():
    slot = slot_name(name, config)
    if slot != "dense1.kernel":
      turned = tensor.transpose({4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[tensor.ndim])
      np.testing.assert_array_equal(parameters[slot], turned)


@pytest.mark.parametrize("arch", NARROW)
@pytest.mark.parametrize(
  "prefix",
  ["_orig_mod.", "model.", "backbone.", "module.module.", "_forward_module.model._orig_mod."],
)
def test_prefixes_of_all_names_are_dropped(arch, prefix):
  config, state = NARROW[arch], narrow_state(arch)
  counters = {"bn1.num_batches_tracked": np.int64(3)} if arch.startswith("resnet") else {}
  got = map_tensors({f"{prefix}{name}": each for name, each in (state | counters).items()}, config)
  for slot, expected in map_tensors(state, config).items():
    np.testing.assert_array_equal(got[slot], expected)


def test_wrappers_inside_of_names_are_dropped():
  state = narrow_state("resnet18")
  wrapped = {
    re.sub(r"(layer\d\.\d)\.", r"\1._checkpoint_wrapped_module._orig_mod.", name): each
    for name, each in state.items()
  }
  assert wrapped.keys() != state.keys()
  assert (
    map_tensors(wrapped, NARROW["resnet18"]).keys() == expected_shapes(NARROW["resnet18"]).keys()
  )


def test_first_dense_layer_of_alexnet_reads_channels_last():
  config, state = NARROW["alexnet"], narrow_state("alexnet")
  features = np.random.default_rng(0).standard_normal((5, 3, 3))  # CHW, as torch flattens them
  expected = state["classifier.1.weight"].astype(np.float64) @ features.reshape(-1)
  kernel = map_tensors(state, config)["dense1.kernel"].astype(np.float64)
  np.testing.assert_allclose(features.transpose(1, 2, 0).reshape(-1) @ kernel, expected, rtol=1e-12)


def test_other_floating_types_become_float32():
  state = narrow_state("alexnet")
  state["classifier.6.bias"] = state["classifier.6.bias"].astype(np.float64)
  state["classifier.4.bias"] = state["classifier.4.bias"].astype(np.float16)
  parameters = map_tensors(state, NARROW["alexnet"])
  assert {value.dtype for value in parameters.values()} == {np.dtype(np.float32)}


def test_counters_are_the_only_tensors_that_may_be_left_over():
  state = narrow_state("resnet18")
  counters = {
    "bn1.num_batches_tracked": np.int64(3),
    "layer1.0.bn1.num_batches_tracked": np.int64(3),
  }
  assert (
    map_tensors(state | counters, NARROW["resnet18"]).keys()
    == map_tensors(state, NARROW["resnet18"]).keys()
  )
  assert "unknown: fc.num_batches_tracked" in report(
    state | {"fc.num_batches_tracked": np.int64(3)}, NARROW["resnet18"]
  )


# ---- faults ----


def test_reports_all_faults_at_once():
  state = narrow_state("resnet18")
  del state["layer1.0.bn2.running_mean"], state["conv1.weight"]
  state["bn1.weight"] = state["bn1.weight"][:-1]
  state["bn1.bias"] = np.full_like(state["bn1.bias"], np.nan)
  state["bn1.running_mean"] = np.full(4, 1e39)
  state["bn1.running_var"] = np.ones(4, np.int64)
  state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][..., 0]
  state["layer9.0.conv1.weight"] = np.zeros(3, np.float32)
  state["extra\x1b[31m"] = np.zeros((), np.float32)
  state["module.fc.bias"] = state["fc.bias"]
  message = report(state, NARROW["resnet18"])
  for fault in (
    "10 faults",
    "missing: stem_conv.kernel (4, 3, 7, 7)",
    "missing: layers.0.0.norm2.mean (4,)",
    "shape: bn1.weight is (3,), must be (4,)",
    "not finite: bn1.bias has 4 numbers",
    "not finite: bn1.running_mean has 4 numbers",
    "type: bn1.running_var is int64",
    "shape: layer1.0.conv1.weight is (4, 4, 3), must be (4, 4, 3, 3)",
    "unknown: layer9.0.conv1.weight (3,)",
    r"unknown: extra\x1b[31m ()",
    "twice: module.fc.bias and fc.bias are both head.bias",
  ):
    assert fault in message, fault


@pytest.mark.parametrize(
  ("prefixes", "others", "says"),
  [
    (("student.", "teacher."), (), "A network lies under student. and one under teacher. beside"),
    (("", "ema_model.module."), (), "A network lies under ema_model. beside"),
    (("model.net.",), ("model.mean", "loss.weight"), "A network lies under model.net. beside"),
    (("net.",), ("n_averaged",), 'alone: torch.save({name.removeprefix("net."): w for'),
  ],
  ids=["two", "average", "deep", "counter"],
)
def test_says_how_to_save_one_of_several_networks(prefixes, others, says):
  state = narrow_state("resnet18")
  given = {f"{prefix}{name}": each for prefix in prefixes for name, each in state.items()}
  message = report(given | dict.fromkeys(others, np.float32([1])), NARROW["resnet18"])
  assert says in message
  assert all(f"unknown: {name}" in message for name in others)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_refuses_numbers_that_are_not_finite(number):
  state = narrow_state("densenet161")
  state["features.conv0.weight"][0, 0, 0, 0] = number
  message = report(state, NARROW["densenet161"])
  assert "1 fault." in message
  assert "not finite: features.conv0.weight has 1 numbers" in message


def test_names_the_architecture_that_came():
  state = {
    name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes_of("resnet50").items()
  }
  assert "holds resnet50, not resnet18" in report(state, PAPER["resnet18"])
  assert "holds resnet50, not alexnet" in report(state, PAPER["alexnet"])
  wrapped = {f"model.{name}": each for name, each in state.items()}
  assert "holds resnet50, not alexnet" in report(wrapped, PAPER["alexnet"])


@pytest.mark.parametrize("classes", [1000, 100])
def test_names_another_number_of_classes(classes):
  state = {
    name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes_of("resnet18").items()
  }
  for name in ("fc.weight", "fc.bias"):
    state[name] = np.zeros((classes, *state[name].shape[1:]), np.float32)
  message = report(state, PAPER["resnet18"])
  assert f"last layer has {classes} classes, not 365" in message
  assert ("ImageNet" in message) == (classes == 1000)
  assert f"shape: fc.weight is ({classes}, 512), must be (365, 512)" in message


def test_an_empty_file_misses_everything():
  message = report({}, NARROW["alexnet"])
  assert f"{len(expected_shapes(NARROW['alexnet']))} faults" in message


# ---- torchvision and timm themselves ----


@pytest.mark.oracle
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_written_shapes_are_those_of_the_libraries(arch):
  pytest.importorskip("torch")
  from oracles.torchvision_models import load

  state = load(arch, seed=0).state_dict()
  live = [
    (name, tuple(tensor.shape))
    for name, tensor in state.items()
    if not name.endswith("num_batches_tracked")
  ]
  assert live == list(shapes_of(arch).items())
