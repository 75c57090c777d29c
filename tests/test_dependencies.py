"""What only the experiments need may be absent everywhere else, and is named where it is missed."""

import subprocess
import sys

import pytest
from models.small_networks import CLASS_NAMES, CONFIGS, parameters
from PIL import Image

from rpfgsm_jax.models.weights import Network, save_network

WITHOUT = """
import sys
sys.path.insert(0, {root!r})
for name in ("matplotlib", "tensorflow_datasets", "importlib_resources", "pywt"):
  sys.modules[name] = None  # importing it fails, as where it is not installed
"""


@pytest.fixture
def run_without(pytestconfig):
  """Runs code in a process that cannot import what the extra `experiments` installs."""

  def run(code, *arguments):
    command = [sys.executable, "-c", WITHOUT.format(root=str(pytestconfig.rootpath)) + code]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)

  return run


def test_a_photo_is_protected(run_without, photo, tmp_path):
  config = CONFIGS["basic"]
  network = Network(config=config, parameters=parameters("basic"), class_names=CLASS_NAMES)
  save_network(tmp_path / "small", network)
  Image.fromarray(photo[:48, :40]).save(tmp_path / "photo.png")
  done = run_without(
    "import rpfgsm_jax as rp\nrp.data.sample_photos, rp.quality.psnr, rp.evaluation.Rate\n"
    "from rpfgsm_jax.cli import main\nmain()",
    *("protect", tmp_path / "photo.png", "--out", tmp_path / "out"),
    *("--network", tmp_path / "small", "--steps", 2),
  )
  assert (done.returncode, done.stderr[-500:] if done.returncode else "") == (0, "")
  with Image.open(tmp_path / "out" / "photo.png") as written:
    assert written.size == (40, 48)


@pytest.mark.parametrize(
  ("code", "remedy"),
  [
    ("from rpfgsm_jax import data\ndata.list_places365_tfds('.')", "'rpfgsm-jax[experiments]'"),
    ("from experiments import runtime\nruntime.prepare()", "pip install -e '.[experiments]'"),
    (
      "from experiments import purifiers\npurifiers.needs_wavelets()",
      "pip install 'rpfgsm-jax[experiments]'",
    ),
  ],
  ids=["tfds", "plots", "wavelets"],
)
def test_who_needs_more_says_what_to_install(run_without, code, remedy):
  done = run_without(code)
  assert done.returncode == 1
  assert remedy in done.stderr.splitlines()[-1]
