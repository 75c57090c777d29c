"""The networks that benchmarks run: the bundled ones, or the paper's sizes with random weights."""

import jax
from flax import nnx

import rpfgsm_jax as rp
from rpfgsm_jax.data import places365_class_names
from rpfgsm_jax.models import architectures

SEEN = ("resnet18", "resnet50", "alexnet")
NETWORKS = (*SEEN, "densenet161")


_SIZES = architectures.PRESETS | {"vit_s14": architectures.ViTConfig(num_classes=365)}


def bundled(name: str) -> rp.Classifier:
  """Returns a bundled network."""
  return rp.load_classifier(f"scenes25/{name}")


def full_size(name: str) -> rp.Classifier:
  """Returns a network of full size, 224 x 224 pixels and 365 classes, random weights."""
  with jax.default_device(jax.devices("cpu")[0]):
    seed = list(_SIZES).index(name)
    module = architectures.build(_SIZES[name], rngs=nnx.Rngs(seed))
  return rp.Classifier.from_module(
    module,
    class_names=places365_class_names(),
    image_size=(224, 224),
    name=f"{name} (random weights)",
    mean=(0.485, 0.456, 0.406),
    deviation=(0.229, 0.224, 0.225),
  )
