"""A recipe that trains in a second."""

from experiments.training import presets
from rpfgsm_jax.models.resnet import ResNetConfig

TINY = presets.Recipe(
  config=ResNetConfig(stage_sizes=(1,), width=4, image_size=(16, 16)),
  optimizer="sgd",
  learning_rate=0.1,
  weight_decay=5e-4,
  epochs=3,
  epoch_images=96,
  batch_size=16,
  phases=(
    presets.Phase(until=0.34, size=12, min_crop=0.6),
    presets.Phase(until=1.0, size=16, min_crop=0.6),
  ),
  jitter=0.1,
  average_decay=0.9,
  stored_size=20,
)
