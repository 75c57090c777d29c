"""A user without a home, or one that cannot be written to: caches are left out, work is done."""

import os
import pathlib

import platformdirs
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from jobs.fake_protector import FakePhotoProtector
from PIL import Image

from rpfgsm_jax import cli, cli_protect_options, process, quality
from rpfgsm_jax.jobs import engines, ledger
from rpfgsm_jax.models import fetch, identity, weights
from rpfgsm_jax.quality.fetch import fetch_brisque_model
from rpfgsm_jax.user_folders import user_folder

pwd = pytest.importorskip("pwd", reason="homes of POSIX")
OURS = ("RPFGSM_CACHE", "RPFGSM_STATE", "RPFGSM_BRISQUE")
SYSTEMS = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "JAX_COMPILATION_CACHE_DIR")


def _unknown(user: int) -> None:
  raise KeyError(f"getpwuid(): uid not found: {user}")


@pytest.fixture(params=["no home", "a file", "relative"])
def optional(request, monkeypatch, tmp_path):
  """The folders that are only useful cannot be had; the fixture's value says why."""
  for name in (*OURS, *SYSTEMS):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.chdir(tmp_path)
  if request.param == "a file":
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
  else:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", _unknown)
  if request.param == "relative":  # which is to be passed over
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
  return request.param


def test_bundled_networks_are_there_and_nothing_is_kept(optional):
  bundled = {*cli.BUNDLED_NETWORKS, *cli_protect_options.DEFAULT_NETWORKS}
  assert set(weights.available_networks()) == bundled
  assert identity.identify_network("scenes25/alexnet").name == "scenes25/alexnet"
  assert "not kept" in process.keep_compiled_programs().describe()
  assert ledger.read(pathlib.Path("out")) == frozenset()
  assert "results" in ledger.remember("0" * 64)
  with pytest.raises(quality.ModelNotFoundError, match="RPFGSM_BRISQUE"):
    quality.load_brisque_model()
  assert os.listdir() in ([], ["home"])


def test_what_is_downloaded_needs_a_place(optional):
  if optional == "a file":
    return
  for download in (fetch_brisque_model, lambda: fetch.fetch_places365("alexnet", ())):
    with pytest.raises(fetch.DownloadError, match="set RPFGSM_CACHE to a folder"):
      download()


def test_commands_do_their_work_and_say_what_is_left_out(optional, monkeypatch):
  monkeypatch.setattr(process, "prefer_fast_cpu_kernels", lambda: None)
  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", lambda name: toys.linear(1))
  Image.fromarray(toys.images(1)[0]).save("photo.png")
  run = CliRunner().invoke
  listed = run(cli.cli, ["weights", "list"])
  assert (listed.exit_code, "scenes25/resnet18" in listed.stdout) == (0, True)
  done = run(cli.cli, ["protect", "photo.png", "--out", "out", "--size", "network"])
  assert done.exit_code == 0, done.output
  assert done.stdout.startswith("1 done, 0 failed")
  assert "not kept" in done.stderr
  assert "will be recognized in this folder only" in done.stderr


def test_a_named_folder_comes_before_the_systems(optional, monkeypatch, tmp_path):
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "mine"))
  assert user_folder("cache", "RPFGSM_CACHE") == tmp_path / "mine"


def test_a_home_that_was_not_found_is_no_folder_called_tilde(monkeypatch):
  monkeypatch.delenv("RPFGSM_STATE", raising=False)
  monkeypatch.setattr(platformdirs, "user_state_dir", lambda name: f"~/.local/state/{name}")
  assert user_folder("state", "RPFGSM_STATE") is None
