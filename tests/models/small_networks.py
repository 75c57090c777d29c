"""One narrow network a family, with random batch-norm statistics; shared by the model tests."""

import numpy as np
from oracles.torchvision_models import numpy_state_dict

from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.densenet import DenseNetConfig
from rpfgsm_jax.models.efficientnet import EfficientNetConfig
from rpfgsm_jax.models.parameters import expected_shapes
from rpfgsm_jax.models.resnet import ResNetConfig

SIZE = (44, 36)  # (height, width): lopsided
CONFIGS = {
  "basic": ResNetConfig(stage_sizes=(1, 1), width=4, num_classes=5, image_size=SIZE),
  "bottleneck": ResNetConfig(
    stage_sizes=(1, 1), bottleneck=True, width=4, num_classes=5, image_size=SIZE
  ),
  "alexnet": AlexNetConfig(
    widths=(4, 5, 6, 5, 4),
    hidden=8,
    pool_size=2,
    batch_norm=True,
    num_classes=5,
    image_size=(72, 68),
  ),
  "densenet": DenseNetConfig(
    stage_sizes=(2, 1), growth=4, stem_width=6, bottleneck=2, num_classes=5, image_size=SIZE
  ),
  "efficientnet": EfficientNetConfig(
    widths=(3, 4, 5),
    depths=(1, 2, 1),
    kernels=(3, 5, 3),
    strides=(1, 2, 2),
    stem_width=4,
    head_width=8,
    num_classes=5,
    image_size=(43, 36),
  ),
}
CLASS_NAMES = ("attic", "beach", "church", "desert", "elevator")


def parameters(name: str, seed: int = 5) -> dict[str, np.ndarray]:
  """Returns parameters by dotted name; no statistic, scale or bias is at its neutral value."""
  return draw(expected_shapes(CONFIGS[name]), seed)


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
  """Draws arrays for our names by the rules of the oracle for torchvision's."""
  leaves = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
  theirs = {}
  for name, shape in shapes.items():
    stem, leaf = name.rsplit(".", 1)
    turned = (shape[-1], *shape[-2:-1], *shape[:-2]) if leaf == "kernel" else shape
    theirs[name] = (f"{stem}.{leaves.get(leaf, leaf)}", turned)
  drawn = numpy_state_dict(dict(theirs.values()), seed)
  return {
    name: np.ascontiguousarray(
      np.moveaxis(drawn[other], (0, 1), (-1, -2)) if len(shape) > 1 else drawn[other]
    )
    for name, (other, shape) in theirs.items()
  }
