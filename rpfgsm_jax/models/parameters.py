"""What a network on disk is: its config, and its parameters by the dotted names of its modules.

Strict both ways: a missing, unknown, mis-shaped or non-finite tensor is an error, and all faults
are reported at once.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from rpfgsm_jax.models import architectures


class WeightsError(ValueError):
  """A network on disk that cannot be used; the message says which file and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
  """What one folder holds.

  Attributes:
    config: the architecture's shape.
    parameters: dotted name -> float32 array; batch statistics included.
    class_names: in the order of the logits.
    mean: of images / 255, a channel.
    deviation: of images / 255, a channel.
    card: facts for people (source, command, accuracy); anything JSON can hold.
  """

  config: architectures.Config
  parameters: dict[str, np.ndarray]
  class_names: tuple[str, ...]
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
  card: dict[str, Any] = dataclasses.field(default_factory=dict)


def flatten(module: nnx.Module) -> dict[str, np.ndarray]:
  """Returns a module's parameters and batch statistics by dotted name, as NumPy arrays."""
  state = nnx.to_flat_state(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
  return {_dotted(path): np.asarray(variable[...]) for path, variable in state}


def expected_shapes(config: architectures.Config) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every tensor of an architecture by dotted name; computes nothing."""
  state = nnx.state(_outline(config), nnx.Any(nnx.Param, nnx.BatchStat))
  return {_dotted(path): tuple(leaf.shape) for path, leaf in nnx.to_flat_state(state)}


def unflatten(config: architectures.Config, parameters: dict[str, np.ndarray]) -> nnx.Module:
  """Returns the network of `config` with these parameters; the inverse of `flatten`."""
  check_parameters(config, parameters)
  graph, state = nnx.split(_outline(config))
  leaves = {
    path: variable.replace(jax.device_put(np.asarray(parameters[_dotted(path)], np.float32)))
    for path, variable in nnx.to_flat_state(state)
  }
  return nnx.merge(graph, nnx.from_flat_state(leaves))


class _ConstantKeys:
  """Stands in for `nnx.Rngs` when nothing is drawn; its counters make tracing quadratic."""

  def params(self) -> jax.Array:
    return jax.random.key(0)


@functools.lru_cache(maxsize=32)
def _outline(config: architectures.Config) -> nnx.Module:
  # A network without numbers; tracing a deep one takes seconds, and loading needs it twice.
  return nnx.eval_shape(lambda: architectures.build(config, rngs=_ConstantKeys()))


def check_parameters(config: architectures.Config, parameters: dict[str, np.ndarray]) -> None:
  """Checks names, shapes and finiteness of a network's tensors, all at once."""
  expected = expected_shapes(config)
  faults = [
    f"missing: {name} {shape}" for name, shape in expected.items() if name not in parameters
  ]
  for name, value in parameters.items():
    if name not in expected:
      faults.append(f"unknown: {name} {value.shape}")
    elif tuple(value.shape) != expected[name]:
      faults.append(f"shape: {name} is {value.shape}, must be {expected[name]}")
    elif not np.all(np.isfinite(np.asarray(value, np.float32))):
      faults.append(f"not finite: {name}")
  if faults:
    raise WeightsError(
      f"parameters do not fit a {architectures.family(config)} of this config, "
      f"{len(faults)} faults:\n  " + "\n  ".join(faults)
    )


def _dotted(path: tuple) -> str:
  return ".".join(str(part) for part in path)
