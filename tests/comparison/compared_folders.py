"""Two folders of pictures, two linear networks, and what they answer, computed in float64."""

import io
import pathlib

import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from PIL import Image

from rpfgsm_jax import quality
from rpfgsm_jax.comparison import compare_folders
from rpfgsm_jax.models.classifier import Classifier

SIZE = (60, 52)  # of the files
BATCH = 3
FIRST_CLASSES = ("attic", "beach", "cave", "dam", "elevator", "farm", "garden")
SECOND_CLASSES = ("garden", "hall", "beach", "attic", "igloo")  # as few as make top-5 meaningless
NAMES = ("attic/a", "attic/b", "beach/c", "dam/d", "garden/e", "garden/f", "zoo/g")
MODEL = quality.BrisqueModel(
  support_vectors=np.linspace(-1, 1, 72).reshape(2, 36),
  coefficients=np.array([30.0, -12.0]),
  gamma=0.05,
  rho=-20.0,
  feature_min=np.full(36, -1.0),
  feature_max=np.linspace(1, 4, 36),
  low=-1.0,
  high=1.0,
)


def _apply(params, images):
  return images.reshape(images.shape[0], -1) @ params


def linear(seed: int, name: str, classes: tuple[str, ...], size: tuple[int, int]) -> Classifier:
  shape = (3 * size[0] * size[1], len(classes))
  params = jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 200, jnp.float32)
  return Classifier.from_function(_apply, params, class_names=classes, image_size=size, name=name)


NETWORKS = (
  linear(1, "first", FIRST_CLASSES, (12, 10)),
  linear(2, "second", SECOND_CLASSES, (16, 20)),
)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
  coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
  return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def write(path: pathlib.Path, image: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)


def changed(image: np.ndarray, seed: int) -> np.ndarray:
  """Blended with another picture, since noise alone is gone at the networks' sizes."""
  noise = np.random.default_rng(100 + seed).integers(-20, 21, image.shape)
  mixed = 0.5 * image + 0.5 * picture(900 + seed, image.shape[:2]) + noise
  return np.clip(mixed, 0, 255).astype(np.uint8)


def make(folder: pathlib.Path, names=NAMES) -> tuple[pathlib.Path, pathlib.Path]:
  for seed, name in enumerate(names):
    write(folder / "original" / f"{name}.bmp", picture(seed))
    write(folder / "protected" / f"{name}.png", changed(picture(seed), seed))
  return folder / "original", folder / "protected"


def compare(folders, **options):
  return compare_folders(*folders, NETWORKS, batch_size=BATCH, **options)


def jpeg(image, number):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format="JPEG", quality=number)
  return np.asarray(Image.open(buffer))


def defended(image: np.ndarray) -> list[np.ndarray]:
  """The image as it is, 1..7 bits, median 2, 3, 5, JPEG 25, 50, 75, 100."""
  levels = [2**bits - 1 for bits in range(1, 8)]
  return [
    image,
    *(np.rint(image / 255 * level) / level * 255 for level in levels),
    *(scipy.ndimage.median_filter(image, size=(k, k, 1)) for k in (2, 3, 5)),
    *(jpeg(image, number) for number in (25, 50, 75, 100)),
  ]


def logits(network: Classifier, image: np.ndarray) -> np.ndarray:
  """`(15, D)` float64."""
  height, width = network.image_size
  small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
  flat = np.stack([np.asarray(each, np.float64).ravel() for each in defended(small)])
  return flat @ np.asarray(network.params, np.float64)


def rank(values: np.ndarray, label: int) -> np.ndarray:
  return (values > values[:, [label]]).sum(axis=1)
