"""Networks small enough for tests: linear ones whose optimum is known, and a little convolution."""

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.models.classifier import Classifier

SIZE = (12, 10)  # lopsided on purpose
CLASS_NAMES = tuple(f"scene {index}" for index in range(7))


def _linear(params, images):
  flat = images.reshape(images.shape[0], -1)
  return flat @ params["kernel"] + params["bias"][None, :]


def _convolution(params, images):
  features = jax.lax.conv_general_dilated(
    images / 255.0 - 0.5,
    params["kernel"],
    (2, 2),
    "VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  features = jax.nn.relu(features)
  return features.reshape(images.shape[0], -1) @ params["head"]


def linear(seed: int, *, name: str = "linear", scale: float = 0.01) -> Classifier:
  """An affine network on 12 x 10 images, 7 classes."""
  generator = np.random.default_rng(seed)
  count = SIZE[0] * SIZE[1] * 3
  params = {
    "kernel": jnp.asarray(scale * generator.normal(size=(count, len(CLASS_NAMES))), jnp.float32),
    "bias": jnp.asarray(generator.normal(size=len(CLASS_NAMES)), jnp.float32),
  }
  return Classifier.from_function(
    _linear, params, class_names=CLASS_NAMES, image_size=SIZE, name=name
  )


def convolution(seed: int, *, name: str = "convolution") -> Classifier:
  """One strided convolution, ReLU and a dense layer, on 12 x 10 images, 7 classes."""
  generator = np.random.default_rng(seed)
  params = {
    "kernel": jnp.asarray(generator.normal(size=(3, 3, 3, 6)), jnp.float32),
    "head": jnp.asarray(generator.normal(size=(5 * 4 * 6, len(CLASS_NAMES))), jnp.float32),
  }
  return Classifier.from_function(
    _convolution, params, class_names=CLASS_NAMES, image_size=SIZE, name=name
  )


def three() -> list[Classifier]:
  """Three different networks with the same classes and size."""
  return [
    linear(1, name="linear 1"),
    convolution(2, name="convolution 2"),
    convolution(3, name="convolution 3"),
  ]


def images(count: int, seed: int = 0) -> np.ndarray:
  """Smooth-ish noise images with some saturated pixels, `(count, 12, 10, 3)` uint8."""
  generator = np.random.default_rng(seed)
  values = generator.normal(128, 90, size=(count, *SIZE, 3))
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)
