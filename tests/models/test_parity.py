"""Our networks against torchvision's and timm's numbers, 365 classes, 224 x 224, without torch.

`tests/oracles/make_goldens.py` made the numbers, in float64. Weights and pictures are drawn again
here by the same seeded NumPy generator. Measured: stages and logits differ by 2e-7 to 6e-7.
"""

import jax
import numpy as np
import pytest
from oracles import parity


@pytest.fixture(scope="module", params=parity.ARCHITECTURES)
def case(request):
  """An architecture's name, its golden arrays and our unfolded network."""
  with np.load(parity.GOLDEN / f"{request.param}.npz") as file:
    golden = dict(file)
  yield request.param, golden, parity.our_network(request.param)
  jax.clear_caches()  # four full-size networks' executables would stay in memory


def test_stages_logits_and_gradient(case):
  arch, golden, network = case
  stages, gradient = parity.run_module(network, parity.pictures(arch))
  assert list(stages) == [*parity.TORCH_STAGES[arch], "logits"]
  for name, value in stages.items():
    assert value.shape == tuple(golden[f"shape/{name}"]), name
    sample = parity.sample(value, name, parity.STAGE_SAMPLES)
    assert parity.relative(sample, golden[f"sample/{name}"]) <= parity.STAGE_BAR, name
    assert abs(parity.norm(value) / golden[f"norm/{name}"] - 1) <= parity.STAGE_BAR, name
  assert parity.relative(stages["logits"], golden["logits"]) <= parity.LOGITS_BAR
  check_gradient(gradient, golden)


def test_folded_classifier(case):
  arch, golden, network = case
  classifier = parity.our_classifier(network)
  logits, gradient = parity.run_classifier(classifier, parity.pictures(arch))
  assert parity.relative(logits, golden["logits"]) <= parity.LOGITS_BAR
  check_gradient(gradient, golden)


def check_gradient(gradient, golden):
  assert gradient.shape == tuple(golden["shape/gradient"])
  sample = parity.sample(gradient, "gradient", parity.GRADIENT_SAMPLES)
  assert parity.relative(sample, golden["sample/gradient"]) <= parity.GRADIENT_BAR
  assert abs(parity.norm(gradient) / golden["norm/gradient"] - 1) <= parity.GRADIENT_BAR
