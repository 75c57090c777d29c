"""An nnx module as a pure function of a flat dictionary of its parameters, made for inference."""

import dataclasses

import jax
from flax import nnx

from rpfgsm_jax.models.convolution import prepare_convolutions
from rpfgsm_jax.models.layers import fold_batch_norm
from rpfgsm_jax.typing import Array


@dataclasses.dataclass(frozen=True)
class ModuleApply:
  """Calls a module whose state is a flat dictionary: the static half of `from_module`."""

  graph: nnx.GraphDef
  structure: jax.tree_util.PyTreeDef
  names: tuple[str, ...]

  def module(self, params: dict[str, Array]) -> nnx.Module:
    """Returns the module with these parameters."""
    state = jax.tree.unflatten(self.structure, [params[name] for name in self.names])
    return nnx.merge(self.graph, state)

  def __call__(self, params: dict[str, Array], images: Array) -> Array:
    return self.module(params)(images)


def prepared(module: nnx.Module) -> tuple[ModuleApply, dict[str, Array]]:
  """Returns `apply` and its parameters of a module, left unchanged itself, for inference."""
  if not isinstance(module, nnx.Module):
    given = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
    raise ValueError(
      f"module must be a flax.nnx.Module, made of its class, got {given}; of a Linen module or "
      "another library's take Classifier.from_function(lambda variables, images: "
      "module.apply(variables, images), variables, …)."
    )
  module = prepare_convolutions(fold_batch_norm(module))
  module.eval()
  graph, state = nnx.split(module)
  leaves, structure = jax.tree.flatten(state)
  names = tuple(".".join(str(part) for part in path) for path, _ in nnx.to_flat_state(state))
  return ModuleApply(graph, structure, names), dict(zip(names, leaves, strict=True))
