"""Settings of an experiment's process: what a user has set stays as it is."""

import sys

import jax
import pytest

from experiments import runtime


@pytest.fixture
def fresh(monkeypatch):
  """A process without XLA_FLAGS that has not imported JAX."""
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  monkeypatch.delitem(sys.modules, "jax")
  monkeypatch.setattr(runtime.importlib.metadata, "version", lambda name: "0.10.9")
  return monkeypatch


def flags():
  return runtime.os.environ.get("XLA_FLAGS")


def test_the_flag_is_set_in_a_fresh_process(fresh):
  fresh.setenv("XLA_FLAGS", "restored afterwards")
  fresh.delenv("XLA_FLAGS")
  runtime.prefer_fast_cpu_convolutions()
  assert flags() == "--xla_cpu_experimental_ynn_fusion_type="


def test_a_users_own_flags_stay(fresh):
  fresh.setenv("XLA_FLAGS", "--xla_mine")
  runtime.prefer_fast_cpu_convolutions()
  assert flags() == "--xla_mine"


def test_another_jaxlib_is_left_alone_since_xla_ends_at_unknown_flags(fresh):
  fresh.setattr(runtime.importlib.metadata, "version", lambda name: "0.11.0")
  runtime.prefer_fast_cpu_convolutions()
  assert flags() is None


def test_after_jax_has_started_nothing_is_changed(fresh):
  fresh.setitem(sys.modules, "jax", jax)
  runtime.prefer_fast_cpu_convolutions()
  assert flags() is None


def test_compiled_programs_go_to_the_users_cache(monkeypatch, tmp_path):
  settings = {}
  monkeypatch.setattr(jax.config, "update", settings.__setitem__)
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path))
  cache = runtime.keep_compiled_programs()
  assert cache.directory.is_relative_to(tmp_path)
  assert settings["jax_compilation_cache_dir"] == str(cache.directory)
  assert "compiling (once; kept in" in cache.describe()
  (cache.directory / "program").touch()
  assert "using compiled programs kept in" in runtime.keep_compiled_programs().describe()


def test_a_users_own_cache_is_used_and_an_empty_name_means_none(monkeypatch, tmp_path):
  settings = {}
  monkeypatch.setattr(jax.config, "update", settings.__setitem__)
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
  assert runtime.keep_compiled_programs().directory == tmp_path / "mine"
  settings.clear()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
  assert "not kept" in runtime.keep_compiled_programs().describe()
  assert not settings


def test_a_place_that_cannot_be_made_is_no_reason_to_stop(monkeypatch, tmp_path):
  (tmp_path / "file").touch()
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "below"))
  assert runtime.keep_compiled_programs().directory is None
