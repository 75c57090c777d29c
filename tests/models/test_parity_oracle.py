"""Our networks against live torchvision and timm, every element; and the golden files."""

import jax
import numpy as np
import pytest
from oracles import parity

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", params=parity.ARCHITECTURES)
def case(request):
  from oracles import make_goldens

  images = parity.pictures(request.param)
  # At an edge of ReLU6 torch's float32 gradient depends on the number of its threads: 1e-6 or 8e-3.
  double = request.param.startswith("efficientnet")
  reference = make_goldens.run_torch(request.param, images, double=double)
  yield request.param, images, reference, parity.our_network(request.param)
  jax.clear_caches()


def test_unfolded_network(case):
  arch, images, (reference, reference_gradient), network = case
  stages, gradient = parity.run_module(network, images)
  assert list(stages) == list(reference) == [*parity.TORCH_STAGES[arch], "logits"]
  for name, value in stages.items():
    assert parity.relative(value, reference[name]) <= parity.STAGE_BAR, name
  assert parity.relative(gradient, reference_gradient) <= parity.GRADIENT_BAR


def test_folded_classifier(case):
  _, images, (reference, reference_gradient), network = case
  logits, gradient = parity.run_classifier(parity.our_classifier(network), images)
  assert parity.relative(logits, reference["logits"]) <= parity.LOGITS_BAR
  assert parity.relative(gradient, reference_gradient) <= parity.GRADIENT_BAR


@pytest.mark.parametrize("arch", parity.ARCHITECTURES)
def test_golden_files_are_what_the_libraries_say(arch):
  from oracles import make_goldens

  fresh = make_goldens.golden(arch)
  with np.load(parity.GOLDEN / f"{arch}.npz") as file:
    stored = dict(file)
  assert set(stored) == set(fresh)
  for name, value in stored.items():
    np.testing.assert_allclose(value, fresh[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("arch", ["alexnet", "resnet18", "efficientnet_lite0"])
def test_other_sizes(arch):
  # Not square, and no multiple of 32: paddings, strides and AlexNet's overlapping cells.
  from oracles import make_goldens

  images = parity.pictures(arch, 141, 107)
  reference, _ = make_goldens.run_torch(arch, images, double=False)
  stages, _ = parity.run_module(parity.our_network(arch), images)
  for name, value in stages.items():
    assert parity.relative(value, reference[name]) <= parity.STAGE_BAR, name
