"""Two folders of real photos: the true scenes that real networks recognize, as another tool counts.

The networks and the tool lie beside the checkout; nothing of either is in this repository.
"""

import importlib.util
import shutil

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.comparison import compare_folders
from rpfgsm_jax.models.kinds import network_kind


@pytest.fixture(scope="module")
def judges(shared_data):
  """The tool's module."""
  path = shared_data.parent / "tools" / "real_judges.py"
  if not (path.is_file() and (shared_data / "judges").is_dir()):
    pytest.skip(f"no real networks to judge by at {path}")
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def folders(shared_data, tmp_path_factory):
  """The first photo of ten scenes, and the same behind heavy noise."""
  place = tmp_path_factory.mktemp("real")
  for scene in sorted((shared_data / "scenes25" / "val").iterdir())[::2][:10]:
    photo = min(scene.iterdir())
    (place / "original" / scene.name).mkdir(parents=True)
    shutil.copy(photo, place / "original" / scene.name)
    pixels = np.asarray(Image.open(photo).convert("RGB")).astype(float)
    noise = np.random.default_rng(len(scene.name)).normal(0, 60, pixels.shape)
    (place / "noisy" / scene.name).mkdir(parents=True)
    changed = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    changed.save(place / "noisy" / scene.name / f"{photo.stem}.png")
  return place / "original", place / "noisy"


@pytest.mark.long
@pytest.mark.shared_data
def test_the_same_photos_are_recognized_to_a_photo(judges, folders):
  networks = [judges.classifier(name) for name in judges.NAMES]
  # Functions of the user's own: by their size alone one is small, and nobody said what both are.
  assert [network_kind(network) for network in networks] == ["other", "small"]
  found = compare_folders(*folders, networks, batch_size=4)
  for network in found.networks:
    assert (network.labels >= 0).all()
    for version, folder in enumerate(folders):
      files = judges.photos(folder, None)
      expected = judges.recognized(network.name, files)
      misled = [network.rate(version, [0], top=top, true_class=True).value for top in (1, 5)]
      np.testing.assert_allclose([1 - rate for rate in misled], expected, atol=1e-9)
  top = [
    [network.rate(v, [0], true_class=True).value for v in (0, 1)] for network in found.networks
  ]
  assert all(before < after for before, after in top)  # the noise is heavy enough to tell
