"""torchvision's four networks, and timm's EfficientNet-Lite, with weights that NumPy can reproduce.

Importing this file needs no torch: the names and shapes of their `state_dict` are written down here
(`state_dict_shapes`), and `numpy_state_dict` draws the numbers. `load` puts the same numbers into a
live model, so golden values made with torch can be checked without it.
"""

import functools
import math
import sys
import zlib
from typing import Any

import numpy as np

from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.architectures import PRESETS, Config
from rpfgsm_jax.models.efficientnet import EfficientNetConfig
from rpfgsm_jax.models.resnet import ResNetConfig

Shapes = dict[str, tuple[int, ...]]


def state_dict_shapes(config: Config) -> Shapes:
  """Returns the library's name -> shape in `state_dict` order, without `num_batches_tracked`.

  Written from their module trees, not from ours; an oracle test compares it with the live
  models. `config` only gives widths and depths, so narrow networks can be described as well.
  """
  if isinstance(config, AlexNetConfig):
    return _alexnet_shapes(config)
  if isinstance(config, EfficientNetConfig):
    return _efficientnet_shapes(config)
  return _resnet_shapes(config) if isinstance(config, ResNetConfig) else _densenet_shapes(config)


def numpy_state_dict(shapes: Shapes, seed: int) -> dict[str, np.ndarray]:
  """Draws float32 arrays for names and shapes as in `state_dict_shapes`; order does not matter.

  Convolutions are He-normal over their inputs, dense layers 1/sqrt(inputs) normal, norm scales
  U(0.5, 1.5), every bias N(0, 0.1), running means N(0, 0.1), running variances U(0.5, 2). The scale
  of the last norm of a ResNet's residual branch is divided by four, so that sixteen blocks do not
  blow the logits up to where the softmax saturates and its gradient vanishes.

  Args:
    shapes: name -> shape; a scalar `num_batches_tracked` becomes an int64 zero.
    seed: any non-negative integer; each array has its own stream, named by seed and array name.

  Returns:
    Name -> array, in the order of `shapes`.
  """
  return {name: _draw(name, shape, seed) for name, shape in shapes.items()}


def load(arch: str, seed: int, num_classes: int = 365) -> Any:
  """Returns torchvision's or timm's `arch` in eval mode, weights from `numpy_state_dict`.

  Args:
    arch: "resnet18", "resnet50", "alexnet", "densenet161" or "efficientnet_lite0" to "4".
    seed: see `numpy_state_dict`.
    num_classes: outputs of the last layer.
  """
  import torch

  models = import_torchvision().models
  if arch.startswith("efficientnet_lite"):
    import timm

    model = timm.create_model(f"tf_{arch}", num_classes=num_classes)
  else:
    model = getattr(models, arch)(weights=None, num_classes=num_classes)
  state = model.state_dict()
  drawn = numpy_state_dict({name: tuple(tensor.shape) for name, tensor in state.items()}, seed)
  model.load_state_dict({name: torch.from_numpy(array) for name, array in drawn.items()})
  return model.eval()


def shapes_of(arch: str) -> Shapes:
  """Returns `state_dict_shapes` of a network by name."""
  return state_dict_shapes(PRESETS[arch])


@functools.cache
def import_torchvision() -> Any:
  """Imports torchvision, also a build whose compiled operators do not fit the installed torch.

  The index has no CPU build of torchvision; the CUDA build's operators cannot load beside a CPU
  torch, and torchvision then trips over the two that it registers shapes for. Declaring them is
  enough, since no classifier uses them.
  """
  import torch

  try:
    import torchvision
  except RuntimeError as error:
    if "operator torchvision::" not in str(error):
      raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
      del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
      library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    # A library's declarations vanish with it.
    torchvision._declared_operators = library
  return torchvision


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
  if name.endswith("running_var"):
    return generator.uniform(0.5, 2.0, shape).astype(np.float32)
  if name.endswith((".bias", "running_mean")):
    return (0.1 * generator.standard_normal(shape)).astype(np.float32)
  if len(shape) == 1:
    damping = 0.25 if name.startswith("layer") and _ends_a_branch(name) else 1.0
    return (damping * generator.uniform(0.5, 1.5, shape)).astype(np.float32)
  gain = 2.0 if len(shape) == 4 else 1.0
  values = generator.standard_normal(shape, np.float32)
  return values * np.float32(math.sqrt(gain / math.prod(shape[1:])))


def _ends_a_branch(name: str) -> bool:
  # In a basic block bn2 ends the branch, in a bottleneck bn3; damping both bn2 and bn3 is harmless.
  return name.split(".")[-2] in ("bn2", "bn3")


def _norm_shapes(prefix: str, width: int) -> Shapes:
  return {
    f"{prefix}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")
  }


def _dense_shapes(prefix: str, inputs: int, outputs: int) -> Shapes:
  return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


def _alexnet_shapes(config: Any) -> Shapes:
  shapes: Shapes = {}
  inputs = 3
  kernels = (11, 5, 3, 3, 3)
  for place, kernel, width in zip((0, 3, 6, 8, 10), kernels, config.widths, strict=True):
    shapes[f"features.{place}.weight"] = (width, inputs, kernel, kernel)
    shapes[f"features.{place}.bias"] = (width,)
    inputs = width
  flat = inputs * config.pool_size**2
  shapes |= _dense_shapes("classifier.1", flat, config.hidden)
  shapes |= _dense_shapes("classifier.4", config.hidden, config.hidden)
  return shapes | _dense_shapes("classifier.6", config.hidden, config.num_classes)


def _resnet_shapes(config: Any) -> Shapes:
  shapes: Shapes = {"conv1.weight": (config.width, 3, 7, 7), **_norm_shapes("bn1", config.width)}
  inputs = config.width
  for stage, size in enumerate(config.stage_sizes):
    width = config.width * 2**stage
    outputs = width * (4 if config.bottleneck else 1)
    for block in range(size):
      prefix = f"layer{stage + 1}.{block}"
      plan = [(width, inputs, 3), (width, width, 3)]
      if config.bottleneck:
        plan = [(width, inputs, 1), (width, width, 3), (outputs, width, 1)]
      for index, (after, before, kernel) in enumerate(plan, start=1):
        shapes[f"{prefix}.conv{index}.weight"] = (after, before, kernel, kernel)
        shapes |= _norm_shapes(f"{prefix}.bn{index}", after)
      if block == 0 and (stage > 0 or inputs != outputs):
        shapes[f"{prefix}.downsample.0.weight"] = (outputs, inputs, 1, 1)
        shapes |= _norm_shapes(f"{prefix}.downsample.1", outputs)
      inputs = outputs
  return shapes | _dense_shapes("fc", inputs, config.num_classes)


def _efficientnet_shapes(config: Any) -> Shapes:
  inputs = config.stem_width
  shapes: Shapes = {"conv_stem.weight": (inputs, 3, 3, 3), **_norm_shapes("bn1", inputs)}
  plan = zip(config.widths, config.depths, config.kernels, strict=True)
  for stage, (width, depth, size) in enumerate(plan):
    for block in range(depth):
      prefix, hidden = f"blocks.{stage}.{block}", inputs * (6 if stage else 1)
      layers = [("conv_dw", (hidden, 1, size, size))]
      if stage:
        layers.insert(0, ("conv_pw", (hidden, inputs, 1, 1)))
      layers.append(("conv_pwl" if stage else "conv_pw", (width, hidden, 1, 1)))
      for index, (name, shape) in enumerate(layers, start=1):
        shapes[f"{prefix}.{name}.weight"] = shape
        shapes |= _norm_shapes(f"{prefix}.bn{index}", shape[0])
      inputs = width
  head = config.head_width
  shapes |= {"conv_head.weight": (head, inputs, 1, 1), **_norm_shapes("bn2", head)}
  return shapes | _dense_shapes("classifier", head, config.num_classes)


def _densenet_shapes(config: Any) -> Shapes:
  features = config.stem_width
  shapes: Shapes = {
    "features.conv0.weight": (features, 3, 7, 7),
    **_norm_shapes("features.norm0", features),
  }
  middle = config.bottleneck * config.growth
  for stage, size in enumerate(config.stage_sizes, start=1):
    for layer in range(1, size + 1):
      prefix = f"features.denseblock{stage}.denselayer{layer}"
      shapes |= _norm_shapes(f"{prefix}.norm1", features)
      shapes[f"{prefix}.conv1.weight"] = (middle, features, 1, 1)
      shapes |= _norm_shapes(f"{prefix}.norm2", middle)
      shapes[f"{prefix}.conv2.weight"] = (config.growth, middle, 3, 3)
      features += config.growth
    if stage < len(config.stage_sizes):
      shapes |= _norm_shapes(f"features.transition{stage}.norm", features)
      shapes[f"features.transition{stage}.conv.weight"] = (features // 2, features, 1, 1)
      features //= 2
  last = f"features.norm{len(config.stage_sizes) + 1}"
  return (
    shapes
    | _norm_shapes(last, features)
    | _dense_shapes("classifier", features, config.num_classes)
  )
