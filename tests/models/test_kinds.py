"""What kind of network a judge is: by its size and its family."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.small_networks import CLASS_NAMES, CONFIGS, parameters

import rpfgsm_jax as rp
from rpfgsm_jax.models import weights
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.kinds import MODERN_FAMILIES, SMALL, count_parameters, network_kind
from rpfgsm_jax.photos.views import view_at


def network(count: int, family: str = "") -> Classifier:
  """A network of so many parameters, none of which exists."""
  params = {"a": jax.ShapeDtypeStruct((2, count // 2), jnp.float32)}
  return Classifier.from_function(
    lambda params, images: jnp.zeros((len(images), 2)),
    params,
    class_names=2,
    image_size=(4, 4),
    family=family,
  )


@pytest.mark.parametrize(
  ("count", "family", "kind"),
  [
    (SMALL - 2, "vit", "small"),
    (SMALL, "vit", "modern"),
    (SMALL, "convnext", "modern"),
    (SMALL, "resnet", "other"),
    (SMALL, "", "other"),
    (SMALL - 2, "", "small"),
  ],
)
def test_size_comes_first_then_the_family(count, family, kind):
  assert network_kind(network(count, family)) == kind


def test_the_bundled_networks_are_small_and_know_their_family():
  net = rp.load_classifier("scenes25/densenet161")
  assert (net.family, network_kind(net)) == ("densenet", "small")
  assert net.family not in MODERN_FAMILIES


@pytest.mark.parametrize("name", CONFIGS)
def test_a_kernel_that_lies_there_twice_counts_once(name, tmp_path):
  network = weights.Network(
    config=CONFIGS[name], parameters=parameters(name), class_names=CLASS_NAMES
  )
  weights.save_network(tmp_path, network)
  kernels = [value.size for key, value in network.parameters.items() if key.endswith(".kernel")]
  net = rp.load_classifier(tmp_path)
  turned = [np.size(leaf) for key, leaf in net.params.items() if key.endswith(".turned")]
  everything = sum(np.size(leaf) for leaf in net.params.values())
  assert count_parameters(net) == everything - sum(turned)
  assert sum(kernels) < count_parameters(net) < everything


def test_what_is_made_of_a_network_is_of_its_family():
  net = network(SMALL, "vit")
  assert dataclasses.replace(net, name="another").family == "vit"
  assert count_parameters(view_at(net, (8, 8))) == SMALL
