"""The attacks on real photographs and a bundled network: their goals, in float and in 8 bits."""

import jax
import numpy as np
import pytest

import rpfgsm_jax as rp
from rpfgsm_jax.data import list_images, load_folder

pytestmark = [pytest.mark.shared_data, pytest.mark.long]
COUNT = 25


@pytest.fixture(scope="module")
def network():
  return rp.load_classifier("scenes25/resnet18")


@pytest.fixture(scope="module")
def photos(network, shared_data):
  """One photograph of each class, `(25, 128, 128, 3)` uint8."""
  records = list_images(shared_data / "scenes25" / "val", class_names=network.class_names)
  chosen = {record.label_name: record for record in records}
  images, _, failures = load_folder(list(chosen.values()), network.image_size)
  assert not failures
  assert len(images) == COUNT
  return images


def run(attack, photos, network, config):
  result = attack(jax.random.key(0), photos, [network], config)
  return jax.tree.map(np.asarray, result)


def test_deepfool_reaches_its_goal_and_loses_it_by_rounding(photos, network):
  """At least 95 % as found; of its written images few are left, and the result says so."""
  raw = run(rp.deepfool, photos, network, rp.DeepFoolConfig(quantize=False))
  assert raw.success.mean() >= 0.95
  written = run(rp.deepfool, photos, network, rp.DeepFoolConfig())
  predicted = np.asarray(network(written.adversarial)).argmax(axis=1)
  np.testing.assert_array_equal(
    written.success, predicted != np.asarray(network(photos)).argmax(axis=1)
  )
  assert written.success.mean() <= 0.5


def test_sparsefool_reaches_its_goal_by_few_values(photos, network):
  result = run(rp.sparsefool, photos, network, rp.SparseFoolConfig())
  assert result.success.mean() >= 0.95
  changed = (result.adversarial != photos).mean(axis=(1, 2, 3))
  assert np.median(changed) < 0.01


@pytest.mark.parametrize(
  ("attack", "least"), [(rp.u_fgsm, 0.95), (rp.l_fgsm, 0.9)], ids=["untargeted", "targeted"]
)
def test_twenty_signed_steps_reach_their_goal(photos, network, attack, least):
  result = run(attack, photos, network, rp.FGSMConfig())
  assert result.success.mean() >= least
  assert (result.gradient_evaluations == 20).all()
