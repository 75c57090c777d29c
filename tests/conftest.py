"""Strict settings for the whole suite: promotion, key reuse, warnings as errors; eight devices."""

import os
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_num_cpu_devices", 8)

# Minutes long, and one process each: begun last, they would leave the other processor idle.
LONGEST = ("test_bundled.py", "test_rp_fgsm.py", "test_all_attacks.py", "test_readme.py")

# Toy networks compile for seconds and run for milliseconds: these tests do without XLA's
# optimizations. Where equal bits are promised, or real networks run, they have what users have.
TOYS = ("attacks", "comparison", "experiments")
OPTIMIZED = (
  "test_train_zoo.py",
  "test_rp_fgsm.py",
  "test_rows.py",
  "test_attacks_on_photos.py",
  "test_attacks_oracle.py",
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = pathlib.Path(os.environ.get("RPFGSM_SHARED_DATA", ROOT.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Puts the longest files first."""
  items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
  """Leaves out XLA's optimizations where only toy networks run."""
  toys = request.path.parent.name in TOYS and request.path.name not in OPTIMIZED
  jax.config.update("jax_disable_most_optimizations", toys)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
  """The folder of real photographs beside the checkout; skips by name when it is absent."""
  if not SHARED_DATA.is_dir():
    pytest.skip(f"real photographs not found at {SHARED_DATA} (set RPFGSM_SHARED_DATA)")
  return SHARED_DATA


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
  """A real color photograph, `(219, 331, 3)` uint8: lopsided, and not a multiple of 8 or 16."""
  import skimage.data

  picture = Image.fromarray(skimage.data.coffee()).resize((331, 219), Image.Resampling.BICUBIC)
  return np.asarray(picture)
