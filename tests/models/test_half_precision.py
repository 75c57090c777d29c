"""`Classifier.astype`: the same network in another floating dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.alexnet import AlexNetConfig
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import load_classifier


def _alexnet() -> Classifier:
  # Two by two cells of a 1 x 1 grid: the averaging weights have to take the network's dtype.
  config = AlexNetConfig(
    widths=(4, 4, 4, 4, 4), hidden=8, pool_size=2, num_classes=7, image_size=(64, 64)
  )
  return Classifier.from_module(
    architectures.build(config, rngs=nnx.Rngs(0)),
    class_names=tuple("abcdefg"),
    image_size=(64, 64),
    mean=(0.5, 0.4, 0.3),
    deviation=(0.2, 0.3, 0.25),
  )


NETWORKS = {
  "alexnet": _alexnet,
  "resnet": lambda: load_classifier("scenes25/resnet18"),
  "densenet": lambda: load_classifier("scenes25/densenet161"),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_logits_in_bfloat16_are_those_of_float32_to_its_precision(network):
  classifier = network()
  half = classifier.astype("bfloat16")
  shape = (3, *classifier.image_size, 3)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  run = jax.jit(lambda classifier, images: classifier(images))
  exact, rounded = run(classifier, images), run(half, images)
  assert rounded.dtype == jnp.float32
  assert {leaf.dtype.name for leaf in jax.tree.leaves(half.params)} == {"bfloat16"}
  # bfloat16 has 8 bits: 0.4 % an operation, and some ten layers in a row.
  np.testing.assert_allclose(rounded, exact, rtol=0, atol=0.05 * float(jnp.abs(exact).max()))
  assert not np.array_equal(rounded, exact)


def test_back_to_float32_computes_in_float32():
  classifier = load_classifier("scenes25/resnet18")
  assert classifier.astype("float32").dtype == "float32"
  again = classifier.astype("bfloat16").astype("float32")
  assert {leaf.dtype.name for leaf in jax.tree.leaves(again.params)} == {"float32"}


def test_another_dtype_is_refused():
  with pytest.raises(ValueError, match="dtype must be 'bfloat16', 'float16' or 'float32', got 'f'"):
    load_classifier("scenes25/resnet18").astype("f")
