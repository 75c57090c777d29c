"""Who judges photos where no `--held-out` says so: bundled networks, and what was fetched."""

import json

import pytest
from click.testing import CliRunner
from models.small_networks import CLASS_NAMES, CONFIGS, parameters

from rpfgsm_jax import cli, process
from rpfgsm_jax.jobs import run, spec
from rpfgsm_jax.models import weights

BUNDLED = ("scenes25/resnet18", "scenes25/densenet161")


@pytest.fixture
def judges(tmp_path, monkeypatch):
  """Returns the networks that only judge, or what is said instead."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  found = []

  def stop(job, engine):
    found.append(job.held_out)
    raise spec.JobError("stopped here.")

  monkeypatch.setattr(run, "open_job", stop)

  def judges(*options):
    found.clear()
    result = CliRunner().invoke(cli.cli, ["protect", "x", "--out", "out", *map(str, options)])
    return found[0] if found else result.stderr

  return judges


@pytest.fixture
def fetch(tmp_path, monkeypatch):
  """Puts a network where fetched ones lie; the family of the first one counts as modern."""
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(weights, "MODERN_FAMILIES", ("alexnet",))

  def fetch(name, config="alexnet"):
    network = weights.Network(
      config=CONFIGS[config], parameters=parameters(config), class_names=CLASS_NAMES
    )
    weights.save_network(tmp_path / "cache" / "weights" / name, network)
    return tmp_path / "cache" / "weights" / name

  return fetch


def test_a_modern_network_that_was_fetched_judges_too(judges, fetch):
  fetch("other/resnet", "basic")
  assert judges() == BUNDLED
  fetch("hub/modern")
  assert judges() == (*BUNDLED, "hub/modern")
  assert judges("--held-out", "h") == ("h",)
  assert judges("--size", "network") == ()


def test_one_that_is_attacked_does_not(judges, fetch):
  folder = fetch("hub/modern")
  for name in ("hub/modern", folder):
    assert judges("--network", name) == ()
  assert judges("--network", "scenes25/resnet18") == (BUNDLED[1], "hub/modern")
  assert "--network must be a known network or a folder, got 'n'" in judges("--network", "n")


def test_one_that_cannot_be_used_does_not(judges, fetch):
  (fetch("hub/modern") / "config.json").write_text("{}")
  assert judges() == BUNDLED


def test_what_was_begun_goes_on_with_its_judges(judges, fetch, tmp_path):
  fetch("hub/modern")
  (tmp_path / "out" / ".rpfgsm").mkdir(parents=True)
  settings = {"held_out": [{"name": "mine", "sha256": "0"}]}
  record = {"format": 1, "seed": 1, "settings": settings, "environment": {}}
  (tmp_path / "out" / ".rpfgsm" / "job.json").write_text(json.dumps(record))
  assert judges() == ("mine",)
  assert judges("--overwrite") == (*BUNDLED, "hub/modern")
