"""Our side of the comparison with `oracles.published_models`; no torch here."""

import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from oracles import published_models as theirs

from rpfgsm_jax.models.architectures import Config
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.clip import word_head
from rpfgsm_jax.models.convnext import ConvNeXtConfig
from rpfgsm_jax.models.parameters import Network, unflatten
from rpfgsm_jax.models.vit import ViTConfig
from rpfgsm_jax.models.weights import load_clip_towers, load_network

_VIT = ViTConfig(
  patch_size=4,
  width=8,
  depth=2,
  layers=(1,),
  heads=2,
  mlp_width=32,
  layer_scale=False,
  grid=(4, 4),
  num_classes=theirs.CLASSES,
  image_size=(16, 16),
)
_CONVNEXT = ConvNeXtConfig(
  widths=(4, 6, 8, 8), depths=(1, 2, 1, 1), num_classes=theirs.CLASSES, image_size=(40, 32)
)
STATE_DICT_CONFIGS: dict[str, Config] = {
  name: _VIT if name.endswith("vit") else _CONVNEXT for name in theirs.STATE_DICTS
}


def run_module(module: nnx.Module, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns every stage's output, and the gradient in gray levels as the oracle defines it."""
  graph, state = nnx.split(module)
  names: list[str] = []

  def loss(images, state):
    mean, deviation = (
      jnp.asarray(each, jnp.float32).reshape(1, 1, 1, 3) for each in (theirs.MEAN, theirs.DEVIATION)
    )
    stages = list(nnx.merge(graph, state).stages((images / 255.0 - mean) / deviation))
    names[:] = [name for name, _ in stages]
    logits = stages[-1][1]
    weights = jnp.asarray(theirs.weighting(logits.shape[-1]))[None]
    return jnp.sum(logits * weights), [stage for _, stage in stages]

  options = {"xla_llvm_disable_expensive_passes": True}
  with jax.default_matmul_precision("highest"):
    (_, outputs), gradient = jax.jit(
      jax.value_and_grad(loss, has_aux=True), compiler_options=options
    )(jnp.asarray(images, jnp.float32), state)
  found = dict(zip(names, map(np.asarray, outputs), strict=True))
  return found | {"gradient": np.asarray(gradient)}


def run_network(network: Network, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns what `run_module` does, of a network in memory."""
  return run_module(unflatten(network.config, network.parameters), images)


def run_folder(directory, images: np.ndarray) -> dict[str, np.ndarray]:
  """Returns what the network of a folder makes of images; of CLIP also texts and scores."""
  network = load_network(directory)
  found = run_network(network, images)
  if network.config.projection == 0:
    return found
  clip = load_clip_towers(directory)
  text = unflatten(clip.text_config, clip.text_parameters)
  texts = np.asarray(text(jnp.asarray(theirs.TOKENS)))
  head = word_head(texts, clip.logit_scale)
  scores = found["logits"] @ head["head.dense.kernel"] + head["head.dense.bias"]
  return found | {"texts": texts, "scores": scores}


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
  """Checks every array: 1e-4 of its norm, of the gradient 1e-3; the latter are the issue's bars."""
  assert set(expected) <= set(found)
  for name, value in expected.items():
    assert found[name].shape == value.shape, name
    error = np.linalg.norm(found[name].astype(np.float64) - value) / np.linalg.norm(value)
    assert error <= (1e-3 if name == "gradient" else 1e-4), (name, error)


def golden(name: str) -> dict[str, np.ndarray]:
  """Returns a case's stored numbers."""
  with np.load(theirs.GOLDEN / name / "golden.npz") as file:
    return dict(file)


def change_json(path: pathlib.Path, **changes: object) -> None:
  """Changes fields of a file; None removes one."""
  fields = json.loads(path.read_bytes()) | changes
  path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))


def change_tensors(path: pathlib.Path, change: Callable[[dict], None]) -> None:
  """Lets a function change the tensors of a file."""
  tensors = dict(safetensors.numpy.load_file(path))
  change(tensors)
  safetensors.numpy.save_file({n: v.astype(np.float32) for n, v in tensors.items()}, path)


def call(net: Classifier, images: np.ndarray) -> np.ndarray:
  """Returns what a classifier puts out."""
  return np.asarray(jax.jit(net.__call__)(jnp.asarray(images, jnp.float32)))
