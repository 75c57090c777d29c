"""Settings of an application's process: what a user has set stays as it is."""

import ast
import io
import os
import pathlib
import platform
import subprocess
import sys

import jax
import pytest

import rpfgsm_jax
from rpfgsm_jax import process

FLAG = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
APPLICATIONS = {
  "cli",
  "cli_app",
  "cli_doctor",
  "cli_protect",
  "jobs/ray_engine",
}  # the last: in processes it has started


@pytest.fixture
def no_flags(monkeypatch):
  """A process without XLA_FLAGS, whose jaxlib knows the flag; both are restored afterwards."""
  monkeypatch.setenv("XLA_FLAGS", "restored afterwards")
  monkeypatch.delenv("XLA_FLAGS")
  monkeypatch.setattr(process.importlib.metadata, "version", lambda name: "0.10.9")
  return monkeypatch


def test_the_flag_is_set_where_nobody_set_any(no_flags):
  process.prefer_fast_cpu_kernels()
  assert os.environ["XLA_FLAGS"] == FLAG


def test_a_users_own_flags_stay(no_flags):
  no_flags.setenv("XLA_FLAGS", "--xla_mine")
  process.prefer_fast_cpu_kernels()
  assert os.environ["XLA_FLAGS"] == "--xla_mine"


def test_another_jaxlib_is_left_alone_since_xla_ends_at_unknown_flags(no_flags):
  no_flags.setattr(process.importlib.metadata, "version", lambda name: "0.11.0")
  process.prefer_fast_cpu_kernels()
  assert "XLA_FLAGS" not in os.environ


def test_flags_that_are_set_after_the_import_are_still_read():
  # The package imports JAX before `prepare` can run; XLA ends the process at an unknown flag.
  code = "import os, rpfgsm_jax, jax; os.environ['XLA_FLAGS'] = '--xla_no_such_flag'; jax.devices()"
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  root = pathlib.Path(rpfgsm_jax.__file__).parents[1]
  found = subprocess.run(
    [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
  )
  assert found.returncode != 0
  assert "Unknown flag in XLA_FLAGS: --xla_no_such_flag" in found.stderr


_TOUCH_OFTEN = """
import resource, numpy as np
from rpfgsm_jax import process
process.keep_freed_memory()
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(8):
    np.ones(2**24, np.uint8)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
@pytest.mark.parametrize(
  ("settings", "keeps"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "0"}, False)]
)
def test_freed_memory_stays_with_the_process_unless_its_user_chose(settings, keeps):
  """Memory that went back to the system is mapped anew: a page fault for each 4 KiB of it."""
  inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
  root = pathlib.Path(rpfgsm_jax.__file__).parents[1]
  found = subprocess.run(
    [sys.executable, "-c", _TOUCH_OFTEN],
    cwd=root, env=inherited | settings, capture_output=True, text=True, check=True,
  )  # fmt: skip
  # 8 times 16 MiB; pages may be huge.
  assert (int(found.stdout) < 16) == keeps


def test_compiled_programs_go_to_the_users_cache(monkeypatch, tmp_path):
  settings = {}
  monkeypatch.setattr(jax.config, "update", settings.__setitem__)
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path))
  cache = process.keep_compiled_programs()
  assert cache.directory.is_relative_to(tmp_path)
  assert settings["jax_compilation_cache_dir"] == str(cache.directory)
  assert "compiling (once; kept in" in cache.describe()
  (cache.directory / "program").touch()
  assert "using compiled programs kept in" in process.keep_compiled_programs().describe()


def test_a_users_own_cache_is_used_and_an_empty_name_means_none(monkeypatch, tmp_path):
  settings = {}
  monkeypatch.setattr(jax.config, "update", settings.__setitem__)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
  assert process.keep_compiled_programs().directory == tmp_path / "mine"
  settings.clear()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
  assert "not kept" in process.keep_compiled_programs().describe()
  assert not settings


@pytest.mark.parametrize("address", ["gs://bucket/programs", "s3://bucket"])
def test_an_address_is_left_to_jax(monkeypatch, tmp_path, address):
  settings = {}
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(jax.config, "update", settings.__setitem__)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", address)
  assert address in process.keep_compiled_programs().describe()
  assert (settings, os.listdir()) == ({}, [])


def test_the_address_of_a_local_folder_is_that_folder(monkeypatch, tmp_path):
  monkeypatch.setattr(jax.config, "update", lambda name, value: None)
  folder = tmp_path / "with space"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", folder.as_uri())
  assert process.keep_compiled_programs().directory == folder


def test_a_place_that_cannot_be_made_is_no_reason_to_stop(monkeypatch, tmp_path):
  (tmp_path / "file").touch()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "below"))
  assert process.keep_compiled_programs().directory is None


@pytest.mark.parametrize("failure", [RuntimeError("no such (set JAX_)"), AssertionError()])
@pytest.mark.parametrize("name", ["JAX_PLATFORMS", "JAX_PLATFORM_NAME"])
def test_a_device_that_is_named_and_absent_is_said_with_the_remedy(monkeypatch, failure, name):
  def devices():
    raise failure

  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  monkeypatch.setattr(jax, "devices", devices)
  with pytest.raises(type(failure)) as found, process.absent_devices_named():
    raise failure
  assert found.value is failure  # nobody has named a device
  monkeypatch.setenv(name, "cuda")
  with (
    pytest.raises(process.NoDeviceError, match=f"^{name}=cuda .* or set {name}=cpu"),
    process.absent_devices_named(),
  ):
    jax.devices()
  with pytest.raises(NotImplementedError), process.absent_devices_named():
    raise NotImplementedError  # a RuntimeError, but none of JAX's


def test_other_failures_stay_what_they_are_where_devices_start(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  with pytest.raises(RuntimeError, match="another"), process.absent_devices_named():
    raise RuntimeError("another")


@pytest.mark.parametrize(("errors", "after"), [("strict", "backslashreplace"), ("replace",) * 2])
def test_only_an_output_that_would_fail_is_changed(monkeypatch, errors, after):
  stream = io.TextIOWrapper(io.BytesIO(), "cp1252", errors)
  monkeypatch.setattr(sys, "stdout", stream)
  monkeypatch.setattr(sys, "stderr", None)  # a service without one
  process.write_anything()
  assert stream.errors == after


def test_only_applications_change_the_process():
  root = pathlib.Path(rpfgsm_jax.__file__).parent
  users = {
    path.relative_to(root).with_suffix("").as_posix()
    for path in root.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ImportFrom)
    if node.module == "rpfgsm_jax.process"
    or (node.module == "rpfgsm_jax" and "process" in {alias.name for alias in node.names})
  }
  assert users == APPLICATIONS
