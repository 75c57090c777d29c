"""Strict settings for the whole suite: promotion, key reuse, warnings as errors; eight devices."""

import importlib.metadata
import os
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_traceback_in_locations_limit", 0)  # stacks nobody reads, a tenth of the time

# Minutes long, and one process each: begun last, they would leave the other processor idle.
LONGEST = ("test_bundled.py", "test_rp_fgsm.py", "test_all_attacks.py")

# Toy networks compile for seconds and run for milliseconds. With `--compiler quick` XLA takes half
# the time and makes slow programs, which round otherwise. Where real networks run, and where a
# promise holds for the rounding of the programs that users have, tests have what users have.
QUICK_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
SHIPPED = (
  "/test_bundled.py",
  "/test_eot.py",
  "[alexnet]",
  "[eot]",
  "[scale]",
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED_DATA = pathlib.Path(os.environ.get("RPFGSM_SHARED_DATA", ROOT.parent / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
  """Adds the choice of a compiler."""
  parser.addoption(
    "--compiler",
    choices=("quick", "shipped"),
    help="run only the tests that go with this compiler; without it all, with the shipped one",
  )


def pytest_configure(config: pytest.Config) -> None:
  """Chooses how XLA compiles, before JAX asks for a device."""
  if config.getoption("--compiler") == "quick":
    jax.config.update("jax_disable_most_optimizations", True)
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA dies of an unknown flag
      os.environ["XLA_FLAGS"] = QUICK_FLAGS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
  """Leaves out what goes with the other compiler, and puts the longest files first."""
  chosen = config.getoption("--compiler")
  if chosen:
    wanted, other = [], []
    for item in items:
      shipped = any(part in item.nodeid for part in SHIPPED)
      (wanted if shipped == (chosen == "shipped") else other).append(item)
    items[:] = wanted
    config.hook.pytest_deselected(items=other)
  items.sort(key=lambda item: item.path.name not in LONGEST)


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
