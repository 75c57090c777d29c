"""Settings of the process that an application runs in; to be made before JAX's first computation.

For applications only, which are the command line, the workers it starts elsewhere, and the
experiments: a library that changed its user's process would be a nuisance.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
import importlib.metadata
import io
import os
import pathlib
import platform
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator

from rpfgsm_jax.user_folders import user_folder

# XLA's CPU backend sends products to YNNPACK, convolutions to Eigen. The other way round each is
# slower: YNNPACK's convolutions by a third, Eigen's product with a transposed matrix tenfold.
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX, and what they are set to.
_MALLOC_OPTIONS = ((-3, 2**30), (-1, 2**31 - 1), (-8, 1))
_WORTH_KEEPING = 0.1  # seconds of compilation from which a program goes to the cache


@dataclasses.dataclass(frozen=True)
class CompileCache:
  """Where compiled programs are kept; `directory` is None when they are not."""

  directory: pathlib.Path | str | None  # a str: an address that only JAX can read
  filled: bool  # something was there before this run

  def describe(self) -> str:
    """Returns the sentence that a user reads while waiting."""
    if self.directory is None:
      return "compiling (not kept: no folder of yours can be written to; RPFGSM_CACHE names one)"
    if self.filled:
      return f"using compiled programs kept in {self.directory}"
    return f"compiling (once; kept in {self.directory})"


def prefer_fast_cpu_kernels() -> None:
  """Sets the XLA flag that picks the faster library for each kind of CPU operation.

  XLA reads its flags when JAX first asks for a device; later this changes nothing here. A user's
  own XLA_FLAGS are left alone, and so is any jaxlib that may not know the flag: XLA ends the
  process at an unknown one. The flag touches the CPU backend only.
  """
  known = importlib.metadata.version("jaxlib").startswith("0.10.")
  if known and "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = _CPU_FLAG


def keep_freed_memory() -> bool:
  """Lets glibc keep what is freed, instead of giving it back to the system and asking again.

  XLA's CPU backend takes its working memory anew for every program it runs; mapped and cleared page
  by page, that was a tenth of an AlexNet's input gradient. The peak stays the same. A user's own
  settings are left alone, and so are other C libraries.
  """
  chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
  if chosen or platform.libc_ver()[0] != "glibc":
    return False
  libc = ctypes.CDLL(None)
  return all(libc.mallopt(option, value) for option, value in _MALLOC_OPTIONS)


def keep_compiled_programs() -> CompileCache:
  """Lets JAX keep compiled programs in the user's cache folder, so that the next run starts fast.

  JAX_COMPILATION_CACHE_DIR, when set, names the folder instead, or an address such as gs://BUCKET,
  which is left to JAX; set and empty, nothing is kept.
  """
  import jax

  wanted = os.environ.get("JAX_COMPILATION_CACHE_DIR")
  if wanted == "":
    return CompileCache(None, False)
  if wanted is None:
    root = user_folder("cache", "RPFGSM_CACHE")
    if root is None:
      return CompileCache(None, False)
    wanted = root / "compiled" / _machine()
  elif wanted.startswith("file://"):  # which JAX takes for an address too, and fails
    wanted = urllib.request.url2pathname(urllib.parse.urlsplit(wanted).path)
  elif "://" in wanted:  # JAX reads the variable itself
    return CompileCache(wanted, False)
  directory = pathlib.Path(wanted)
  try:
    directory.mkdir(parents=True, exist_ok=True)
    filled = any(directory.iterdir())
  except OSError:
    return CompileCache(None, False)
  if not os.access(directory, os.W_OK):
    return CompileCache(None, False)
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
  return CompileCache(directory, filled)


class NoDeviceError(RuntimeError):
  """The user names a kind of device that is not there; the message says which, and the remedy."""


@contextlib.contextmanager
def absent_devices_named() -> Iterator[None]:
  """Explains what JAX raises, in whatever form, where a variable names a device that is absent."""
  try:
    yield
  except (RuntimeError, AssertionError) as error:
    if type(error) not in (RuntimeError, AssertionError):  # JAX's are these themselves
      raise
    import jax

    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
      wanted = os.environ.get(name)
      try:
        _ = wanted and jax.devices()
      except (RuntimeError, AssertionError) as reason:
        why, _, _ = str(reason).partition(" (set JAX")  # its own remedy
        raise NoDeviceError(
          f"{name}={wanted} names a device that JAX cannot start here{why and f' ({why})'}; unset "
          f"it to take what there is, or set {name}=cpu."
        ) from error
    raise


def write_anything() -> None:
  """Lets the output spell out what its encoding lacks, such as file names, instead of failing."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
      stream.reconfigure(errors="backslashreplace")


def prepare() -> CompileCache:
  """Makes all settings; called once, before anything is computed."""
  write_anything()
  prefer_fast_cpu_kernels()
  keep_freed_memory()
  return keep_compiled_programs()


def _machine() -> str:
  """Names this kind of processor: a home folder may be shared by machines that differ.

  Compiled CPU programs use the instructions of the processor they were made on.
  """
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = next((line for line in lines if line.startswith(("flags", "Features"))), "")
  except OSError:
    facts = platform.processor()
  digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
  return f"{platform.system()}-{platform.machine()}-{digest}".lower()
