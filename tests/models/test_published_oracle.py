"""Modern networks against live transformers, timm and torchvision; and the golden files."""

import jax
import numpy as np
import pytest
from models import published_parity as ours
from oracles import published_models as theirs

from rpfgsm_jax.models.name_map import map_tensors
from rpfgsm_jax.models.parameters import unflatten

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _forget_executables():
  yield
  jax.clear_caches()


@pytest.mark.parametrize("name", theirs.FULL_SIZE)
def test_full_size(name, tmp_path):
  # A DINOv2 of 37 x 37 positions at 224 pixels, as its preprocessor asks.
  size = (224, 224)
  model = theirs.build(name)
  theirs.save(model, tmp_path, size)
  expected = theirs.run(model, name, theirs.pictures(*size), double=False)
  found = ours.run_folder(tmp_path, theirs.pictures(*size))
  assert len(expected) > 5
  ours.check(found, expected)


@pytest.mark.parametrize("name", [*theirs.SIZES, *theirs.STATE_DICTS])
def test_golden_files_are_what_the_libraries_say(name, tmp_path):
  import torch

  model = theirs.build(name)
  with np.load(theirs.GOLDEN / name / "golden.npz") as file:
    stored = dict(file)
  size = stored["gradient"].shape[1:3]
  fresh = theirs.run(model, name, theirs.pictures(*size), double=True)
  assert set(stored) == set(fresh)
  for key, value in stored.items():
    np.testing.assert_allclose(value, fresh[key], rtol=1e-4, atol=1e-6, err_msg=key)
  if name in theirs.STATE_DICTS:
    file = torch.load(theirs.GOLDEN / name / "state_dict.pth", weights_only=True)
    for key, value in model.state_dict().items():
      np.testing.assert_allclose(file[key].numpy(), value.numpy(), atol=1e-6, err_msg=key)


@pytest.mark.parametrize(("name", "size"), [("dinov2", (25, 40)), ("dinov2_registers", (28, 12))])
def test_positions_at_other_sizes(name, size, tmp_path):
  # Longer one way and shorter the other.
  model = theirs.build(name)
  theirs.save(model, tmp_path, size)
  expected = theirs.run(model, name, theirs.pictures(*size), double=False)
  ours.check(ours.run_folder(tmp_path, theirs.pictures(*size)), expected)


@pytest.mark.parametrize("arch", ["convnext_tiny", "vit_base_patch16"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_full_size_state_dicts_fit_their_presets(arch, library):
  from rpfgsm_jax.models.architectures import PRESETS

  models = theirs.import_torchvision().models
  if library == "timm":
    import timm

    name = {"vit_base_patch16": "vit_base_patch16_224"}.get(arch, arch)
    model = timm.create_model(name, num_classes=365)
  else:
    name = {"vit_base_patch16": "vit_b_16"}.get(arch, arch)
    model = getattr(models, name)(num_classes=365)
  model = theirs.randomize(model.eval())
  tensors = {name: value.numpy() for name, value in model.state_dict().items()}
  parameters = map_tensors(tensors, PRESETS[arch])
  images = theirs.pictures(224, 224)
  expected = theirs.run(model, "timm_vit", images, double=False)
  ours.check(ours.run_module(unflatten(PRESETS[arch], parameters), images), expected)
