"""An experiment's process: when it began, its settings, the versions its results depend on."""

import importlib.metadata
import importlib.util
import platform
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from rpfgsm_jax.process import CompileCache

STARTED = time.perf_counter()
"""When this process began its work, for "first result after"; `run.py` imports this file first."""


def prepare() -> "CompileCache":
  """Makes the settings of `rpfgsm_jax.process`; called once, before anything is computed."""
  if importlib.util.find_spec("matplotlib") is None:
    raise SystemExit("experiments need Matplotlib: pip install -e '.[experiments]', or make demo.")
  from rpfgsm_jax import process  # here, because `run.py --help` must not wait for JAX

  return process.prepare()


def versions() -> dict[str, str]:
  """Returns what a result depends on besides the code: name -> version."""
  import rpfgsm_jax

  names = ("jax", "jaxlib", "flax", "numpy", "pillow", "scikit-image")
  found = {"python": platform.python_version(), "rpfgsm-jax": rpfgsm_jax.__version__}
  return found | {name: importlib.metadata.version(name) for name in names}
