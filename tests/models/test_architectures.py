"""The four presets, their published sizes, and configs as dictionaries."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from flax import nnx
from models.small_networks import CONFIGS as SMALL
from oracles import parity

from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.architectures import (
  PAPER,
  PRESETS,
  build,
  config_from_dict,
  config_to_dict,
  family,
)
from rpfgsm_jax.models.parameters import expected_shapes

# https://docs.pytorch.org/vision/stable/models.html, "Params" of the 1000-class networks.
PUBLISHED = {
  "resnet18": (11_689_512, 512),
  "resnet50": (25_557_032, 2048),
  "alexnet": (61_100_840, 4096),
  "densenet161": (28_681_000, 2208),
}
# https://github.com/tensorflow/tpu, models/official/efficientnet/lite: millions, of 1000 classes.
LITE = (4.7, 5.4, 6.1, 8.2, 13.0)


@pytest.mark.parametrize("arch", PAPER)
def test_learnable_parameters_are_as_many_as_published(arch):
  shapes = expected_shapes(PAPER[arch])
  statistics = (".mean", ".var")  # the only tensors that are not learned
  count = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(statistics))
  published, features = PUBLISHED[arch]
  assert count == published - (1000 - 365) * (features + 1)
  with np.load(parity.GOLDEN / f"{arch}.npz") as file:
    assert count == file["learnable"]


@pytest.mark.parametrize(("number", "millions"), list(enumerate(LITE)))
def test_efficientnet_lite_is_as_large_as_published(number, millions):
  config = dataclasses.replace(PRESETS[f"efficientnet_lite{number}"], num_classes=1000)
  shapes = expected_shapes(config).items()
  count = sum(math.prod(shape) for name, shape in shapes if not name.endswith((".mean", ".var")))
  assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("config", [*PAPER.values(), *SMALL.values()], ids=[*PAPER, *SMALL])
def test_config_survives_json(config):
  restored = config_from_dict(json.loads(json.dumps(config_to_dict(config))))
  assert restored == config
  assert hash(restored) == hash(config)


def test_family_names():
  assert [family(config) for config in PAPER.values()] == [
    *("resnet", "resnet", "alexnet", "densenet")
  ]
  with pytest.raises(ValueError, match=r"config must be one of .*got dict"):
    family({})


@pytest.mark.parametrize(
  ("change", "says"),
  [
    ({"family": "vgg"}, r"family must be one of \['alexnet', 'clip_text', .*'vit'\], got 'vgg'"),
    ({"depth": 3}, r"missing \[\], unknown \['depth'\]"),
    ({"width": None}, r"missing \['width'\], unknown \[\]"),
  ],
)
def test_refuses_fields_that_do_not_fit(change, says):
  fields = config_to_dict(PAPER["resnet18"]) | change
  fields = {name: value for name, value in fields.items() if value is not None}
  with pytest.raises(ValueError, match=says):
    config_from_dict(fields)


@pytest.mark.parametrize("name", SMALL)
def test_stages_end_in_the_logits(name):
  config = SMALL[name]
  module = nnx.eval_shape(lambda: build(config, rngs=nnx.Rngs(0)))
  graph, state = nnx.split(module)
  images = jax.ShapeDtypeStruct((3, *config.image_size, 3), np.float32)
  names = []

  def outputs(state, images):
    module = nnx.merge(graph, state)
    stages = list(module.stages(images))
    names.extend(name for name, _ in stages)
    return stages[-1][1], module(images)

  logits, called = jax.eval_shape(outputs, state, images)
  assert names[-1] == "logits"
  assert len(set(names)) == len(names)
  assert logits.shape == called.shape == (3, 5)


def test_every_config_is_frozen():
  for config in SMALL.values():
    with pytest.raises(dataclasses.FrozenInstanceError):
      config.num_classes = 3
  assert set(architectures.PAPER) == set(PUBLISHED)
