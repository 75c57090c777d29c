"""torchvision's parameter names -> ours: one closed table a family, checked both ways.

Every rule is an anchored pattern. A tensor that no rule knows, a second tensor for a slot, a slot
that stays empty, a wrong shape and a number that is not finite are all faults, and all faults are
reported in one error. The only tensors that may be left over are `num_batches_tracked` counters,
which say nothing about the function computed. The names that wrappers of networks put before or
into others are dropped where that is unambiguous.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.torch_objects import CheckpointError, escaped
from rpfgsm_jax.models.weights import expected_shapes

_MAX_DEPTH = 5  # parts of a prefix under which a network is looked for
_NORM_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_COUNTER = "num_batches_tracked"
_WRAPPERS = {  # of DataParallel, torch.compile, Lightning, FSDP: no layer is called so
  *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
}

Rule = tuple[str, Callable[[re.Match[str]], str | None]]
"""A pattern for a whole name, and what makes our name of the match (`None`: a counter)."""


def slot_name(name: str, config: Config) -> str | None:
  """Returns our dotted name of a torchvision tensor; None for a counter, KeyError for no tensor.

  DenseNet's old `norm.1` is understood; parts such as `module`, of wrappers, say nothing.
  """
  name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
  matches = [
    (rule, match) for rule in _rules(config) if (match := re.fullmatch(rule[0], name, re.ASCII))
  ]
  if not matches:
    raise KeyError(name)
  if len(matches) > 1:
    raise CheckpointError(f"{name} matches {len(matches)} rules of the table; expected one.")
  (_, make), match = matches[0]
  return make(match)


def map_tensors(tensors: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
  """Returns a network's parameters under our names and in our layout.

  Convolutions turn from OIHW to HWIO, dense layers from (out, in) to (in, out); the rows of
  AlexNet's first dense layer are reordered as well, because our features are flattened with the
  channel last. All faults are named at once: unknown, doubled, missing, mis-shaped, non-finite.
  """
  expected = expected_shapes(config)
  prefix = _common_prefix(tensors, config)
  filled: dict[str, str] = {}
  parameters: dict[str, np.ndarray] = {}
  faults: list[str] = []
  for name, tensor in tensors.items():
    shown = escaped(name)
    try:
      slot = slot_name(name.removeprefix(prefix), config)
    except KeyError:
      slot = ""
    if slot is None:
      continue
    if slot not in expected:
      faults.append(f"unknown: {shown} {tensor.shape}")
    elif slot in filled:
      faults.append(f"twice: {shown} and {escaped(filled[slot])} are both {slot}")
    else:
      filled[slot] = name
      fault = _fault(tensor, _torch_shape(slot, expected[slot]))
      if fault:
        faults.append(f"{fault[0]}: {shown} {fault[1]}")
      else:
        parameters[slot] = _to_our_layout(slot, tensor, config)
  faults += [
    f"missing: {slot} {_torch_shape(slot, shape)}"
    for slot, shape in expected.items()
    if slot not in filled
  ]
  if faults:
    inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    raise CheckpointError(_report(inner, config, faults))
  return {slot: parameters[slot] for slot in expected}


def _common_prefix(names: Iterable[str], config: Config) -> str:
  """Returns what stands before all names, such as `model.`, if no name is known with it."""
  if any(_is_known(name, config) for name in names):
    return ""
  parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
  shared = [each[0] for each in itertools.takewhile(lambda each: len(set(each)) == 1, parts)]
  return "".join(f"{part}." for part in shared)


def _is_known(name: str, config: Config) -> bool:
  try:
    slot_name(name, config)
  except KeyError:
    return False
  return True


def _fault(tensor: np.ndarray, shape: tuple[int, ...]) -> tuple[str, str] | None:
  if not np.issubdtype(tensor.dtype, np.floating):
    return "type", f"is {tensor.dtype}, must be floating point"
  if tensor.shape != shape:
    return "shape", f"is {tensor.shape}, must be {shape}"
  if not np.all(np.abs(tensor) <= np.finfo(np.float32).max):
    count = int(np.sum(~(np.abs(tensor) <= np.finfo(np.float32).max)))
    return "not finite", f"has {count} numbers that are NaN, infinite or beyond float32"
  return None


def _torch_shape(slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  """Returns what our shape of a slot is in torch: OIHW, (out, in), (channels,)."""
  return (shape[-1], *shape[-2:-1], *shape[:-2]) if slot.endswith(".kernel") else shape


def _to_our_layout(slot: str, tensor: np.ndarray, config: Config) -> np.ndarray:
  tensor = tensor.astype(np.float32)
  if isinstance(config, AlexNetConfig) and slot == "dense1.kernel":
    channels, side = config.widths[-1], config.pool_size
    grid = tensor.reshape(config.hidden, channels, side, side)
    tensor = grid.transpose(0, 2, 3, 1).reshape(tensor.shape)
  if tensor.ndim == 4:
    tensor = tensor.transpose(2, 3, 1, 0)
  elif tensor.ndim == 2:
    tensor = tensor.T
  return np.ascontiguousarray(tensor)


# ---- the tables ----


def _norm(prefix: str, ours: Callable[[re.Match[str]], str]) -> list[Rule]:
  leaves = "|".join(_NORM_LEAVES)
  return [
    (rf"{prefix}\.(?P<leaf>{leaves})", lambda m: f"{ours(m)}.{_NORM_LEAVES[m['leaf']]}"),
    (rf"{prefix}\.{_COUNTER}", lambda m: None),
  ]


def _conv(prefix: str, ours: Callable[[re.Match[str]], str]) -> Rule:
  return rf"{prefix}\.weight", lambda m: f"{ours(m)}.kernel"


def _with_bias(prefix: str, ours: Callable[[re.Match[str]], str]) -> list[Rule]:
  return [_conv(prefix, ours), (rf"{prefix}\.bias", lambda m: f"{ours(m)}.bias")]


def _below(group: str, m: re.Match[str]) -> int:
  """Returns the number in a group, counted from zero where torchvision counts from one."""
  return int(m[group]) - 1


_NUMBER = "(?:0|[1-9][0-9]{0,2})"  # without leading zeros: one spelling a number
_ONE_UP = "[1-9][0-9]{0,2}"


def _resnet_rules() -> list[Rule]:
  block = rf"layer(?P<stage>{_ONE_UP})\.(?P<block>{_NUMBER})"

  def inside(suffix: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"layers.{_below('stage', m)}.{m['block']}.{m.expand(suffix)}"

  return [
    _conv("conv1", lambda m: "stem_conv"),
    *_norm("bn1", lambda m: "stem_norm"),
    _conv(rf"{block}\.conv(?P<index>[123])", inside(r"conv\g<index>")),
    *_norm(rf"{block}\.bn(?P<index>[123])", inside(r"norm\g<index>")),
    _conv(rf"{block}\.downsample\.0", inside("shortcut_conv")),
    *_norm(rf"{block}\.downsample\.1", inside("shortcut_norm")),
    *_with_bias("fc", lambda m: "head"),
  ]


def _densenet_rules(config: DenseNetConfig) -> list[Rule]:
  layer = rf"features\.denseblock(?P<stage>{_ONE_UP})\.denselayer(?P<layer>{_ONE_UP})"
  transition = rf"features\.transition(?P<stage>{_ONE_UP})"

  def inside(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"blocks.{_below('stage', m)}.{_below('layer', m)}.{kind}{m['index']}"

  def between(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda m: f"transitions.{_below('stage', m)}.{kind}"

  return [
    _conv(r"features\.conv0", lambda m: "stem_conv"),
    *_norm(r"features\.norm0", lambda m: "stem_norm"),
    # Until 2018 these were `norm.1`, `conv.2`.
    _conv(rf"{layer}\.conv\.?(?P<index>[12])", inside("conv")),
    *_norm(rf"{layer}\.norm\.?(?P<index>[12])", inside("norm")),
    _conv(rf"{transition}\.conv", between("conv")),
    *_norm(rf"{transition}\.norm", between("norm")),
    *_norm(rf"features\.norm{len(config.stage_sizes) + 1}", lambda m: "final_norm"),
    *_with_bias("classifier", lambda m: "head"),
  ]


_ALEXNET_CONVOLUTIONS = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5"}
_ALEXNET_DENSE = {"1": "dense1", "4": "dense2", "6": "head"}


def _alexnet_rules() -> list[Rule]:
  return [
    *_with_bias(
      rf"features\.(?P<place>{'|'.join(_ALEXNET_CONVOLUTIONS)})",
      lambda m: _ALEXNET_CONVOLUTIONS[m["place"]],
    ),
    *_with_bias(
      rf"classifier\.(?P<place>{'|'.join(_ALEXNET_DENSE)})",
      lambda m: _ALEXNET_DENSE[m["place"]],
    ),
  ]


@functools.cache
def _rules(config: Config) -> list[Rule]:
  if isinstance(config, AlexNetConfig):
    return _alexnet_rules()
  return _densenet_rules(config) if isinstance(config, DenseNetConfig) else _resnet_rules()


# ---- what to say when it does not fit ----


def _report(tensors: Mapping[str, np.ndarray], config: Config, faults: list[str]) -> str:
  papers = architectures.PAPER.items()
  wanted = next((name for name, paper in papers if paper == config), architectures.family(config))
  others = [name for name, paper in papers if name != wanted and _names_fit(tensors, paper)]
  if others and not _names_fit(tensors, config):
    return (
      f"the file holds {others[0]}, not {wanted} ({len(faults)} tensors differ); choose the "
      "architecture that it holds."
    )
  classes = _num_classes(tensors, config)
  hint = ""
  if classes not in (None, config.num_classes):
    network = "; it looks like a network trained on ImageNet" if classes == 1000 else ""
    hint = f" Its last layer has {classes} classes, not {config.num_classes}{network}."
  hint += _networks_inside(tensors, config)
  count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
  return f"the tensors do not fit {wanted}: {count}.{hint}\n  " + "\n  ".join(faults)


def _networks_inside(names: Iterable[str], config: Config) -> str:
  """Returns which networks lie under prefixes, such as `student.`, beside other tensors, if any."""
  below: dict[str, list[str]] = {}
  for name in names:
    parts = name.split(".")
    for depth in range(1, min(len(parts), _MAX_DEPTH)):
      below.setdefault("".join(f"{part}." for part in parts[:depth]), []).append(name)
  found: dict[tuple[str, ...], str] = {}  # of several prefixes of the same tensors the shortest
  for prefix, inner in below.items():
    if _names_fit([name.removeprefix(prefix) for name in inner], config):
      found.setdefault(tuple(inner), prefix)
  if not found:
    return ""
  prefixes = [escaped(prefix) for prefix in found.values()]
  weights = f'name.removeprefix("{prefixes[0]}"): w for name, w in weights.items()'
  return (
    f" A network lies under {' and one under '.join(prefixes)} beside other tensors; save the one "
    f'that you mean alone: torch.save({{{weights} if name.startswith("{prefixes[0]}")}}, FILE).'
  )


def _names_fit(names: Iterable[str], config: Config) -> bool:
  try:
    slots = {slot_name(name, config) for name in names} - {None}
  except KeyError:
    return False
  return bool(slots) and slots == set(expected_shapes(config))


def _num_classes(tensors: Mapping[str, np.ndarray], config: Config) -> int | None:
  for name, tensor in tensors.items():
    try:
      if slot_name(name, config) == "head.bias" and tensor.ndim == 1:
        return tensor.shape[0]
    except KeyError:
      continue
  return None
