"""Other libraries' parameter names -> ours, by the closed tables of `name_tables`, both ways.

A tensor that no rule knows, a second tensor for a slot, a slot that stays empty, a wrong shape and
a number that is not finite are all faults, and all faults are reported in one error. Tensors may
only be left over where a rule says that they take no part in what is computed. The names that
wrappers of networks put before or into others are dropped where that is unambiguous.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.name_tables import rules
from rpfgsm_jax.models.parameters import expected_shapes
from rpfgsm_jax.models.torch_objects import CheckpointError, escaped
from rpfgsm_jax.models.transformer_names import PACKED

_MAX_DEPTH = 5  # parts of a prefix under which a network is looked for
_WRAPPERS = {  # of DataParallel, torch.compile, Lightning, FSDP: no layer is called so
  *("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
}


def slot_name(name: str, config: Config) -> str | None:
  """Returns our dotted name of a tensor; None if it takes no part, KeyError for no tensor of ours.

  DenseNet's old `norm.1` is understood; parts such as `module`, of wrappers, say nothing.
  """
  name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
  matches = [
    (rule, match) for rule in rules(config) if (match := re.fullmatch(rule[0], name, re.ASCII))
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
  tensors = _unpack(tensors)
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
      tensor = _without_batch(slot, tensor, expected[slot])
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


def _unpack(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the tensors, those split that hold several layers' rows behind one another."""
  unpacked = {}
  for name, tensor in tensors.items():
    parts = next((PACKED[end] for end in PACKED if name.endswith(end)), ())
    if parts and tensor.ndim and len(tensor) % len(parts) == 0:
      stem, _, leaf = name.replace("proj_", "proj.").rpartition(".")
      pieces = np.split(tensor, len(parts))
      unpacked |= {f"{stem}[{part}].{leaf}": one for part, one in zip(parts, pieces, strict=True)}
    else:
      unpacked[name] = tensor
  return unpacked


def _without_batch(slot: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns vectors and tables of tokens without the sides of length one that libraries add."""
  if slot.endswith(".kernel") or tensor.size != math.prod(shape):
    return tensor
  same = [side for side in tensor.shape if side > 1] == [side for side in shape if side > 1]
  return tensor.reshape(shape) if same else tensor


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
  if slot.endswith(".kernel"):
    tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
  return np.ascontiguousarray(tensor)


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
      if slot_name(name, config) in ("head.bias", "head.dense.bias") and tensor.ndim == 1:
        return tensor.shape[0]
    except KeyError:
      continue
  return None
