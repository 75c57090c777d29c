"""Whole jobs in this process: resume, refusals, shards; once with a real attack on toy networks."""

import dataclasses
import json
import os

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakeProtector, expected
from PIL import Image

from rpfgsm_jax import protect
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.data import images, list_images
from rpfgsm_jax.defenses.bank import no_defenses
from rpfgsm_jax.jobs import Job, JobError, SettingsError, Shard, engines, job, open_job, survey
from rpfgsm_jax.jobs.settings import Network

NETWORKS = {"toys/linear": toys.linear(1), "toys/convolution": toys.convolution(2)}
CONFIG = RPFGSMConfig(epsilon=4.0, num_steps=2, defenses=no_defenses(), micro_batch=2)


@pytest.fixture(autouse=True)
def toy_networks(monkeypatch):
  def identify(names, option="--network"):
    return tuple(Network(name, f"digest of {name}") for name in names)

  monkeypatch.setattr(engines, "load_classifier", NETWORKS.__getitem__)
  monkeypatch.setattr(engines, "identify_networks", identify)
  monkeypatch.setattr(survey, "identify_networks", identify)


@pytest.fixture
def no_attack(monkeypatch):
  monkeypatch.setattr(engines, "Protector", FakeProtector)


@pytest.fixture
def source(tmp_path):
  """Seven photos, two of one stem, in two folders."""
  names = ("a.png", "b.png", "sub/c.png", "sub/c.jpg", "sub/d.png", "sub/e.png", "f.bmp")
  for name, pixels in zip(names, toys.images(len(names)), strict=True):
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
  return tmp_path / "in"


def order(source, name="out", **changes):
  values = {"networks": tuple(NETWORKS), "config": CONFIG, "batch_size": 3, "devices": 1}
  return Job(sources=[source], out=source.parent / name, **values | changes)


def work(asked):
  with open_job(asked) as running:
    outcomes = list(running)
  return running.summary(), outcomes


def files(folder):
  """Every result's name and bytes."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file() and ".rpfgsm" not in path.parts
  }


def record(folder):
  return json.loads((folder / ".rpfgsm" / "job.json").read_text())


def test_a_job_is_protect_photo_by_photo(source):
  asked = order(source, seed=11)
  summary, _ = work(asked)
  assert (summary.done, summary.skipped, summary.left, summary.failures) == (7, 0, 0, ())
  assert summary.seconds > 0
  names = ["a", "b", "f", "sub/c.jpg", "sub/c.png", "sub/d", "sub/e"]
  assert sorted(files(asked.out)) == sorted(f"{name}.png" for name in names)
  records = list_images(source)
  wanted = protect(
    np.stack([images.read_image(each.path, toys.SIZE) for each in records]),
    list(NETWORKS.values()),
    CONFIG,
    seed=11,
    image_ids=[each.image_id for each in records],
    batch_size=7,
    devices=1,
  )
  for name, each in zip(names, wanted, strict=True):
    np.testing.assert_array_equal(images.read_image(asked.out / f"{name}.png"), each)


def test_shards_are_one_run_byte_by_byte(source):
  whole, parts = order(source, seed=5), order(source, "parts", seed=5)
  work(whole)
  done = [
    work(dataclasses.replace(parts, shard=Shard(index, 3), batch_size=2))[0].done
    for index in range(3)
  ]
  assert sum(done) == 7
  assert max(done) < 7
  assert files(parts.out) == files(whole.out)
  # What shards have done is done for the whole, too.
  assert work(parts)[0].skipped == 7


def test_the_same_order_again_does_what_is_missing(source, no_attack):
  asked = order(source)
  work(asked)
  before, seed = files(asked.out), record(asked.out)["seed"]
  (asked.out / "sub" / "d.png").unlink()
  (asked.out / "a.png").unlink()
  leftover = asked.out / "sub" / ".d.0123456789abcdef.partial.png"
  leftover.write_bytes(b"half")
  summary, outcomes = work(asked)
  assert (summary.done, summary.skipped) == (2, 5)
  assert sorted(each.relative for each in outcomes) == ["a.png", "sub/d.png"]
  assert files(asked.out) == before
  assert record(asked.out)["seed"] == seed


def test_when_all_is_done_no_network_is_loaded(source, no_attack, monkeypatch):
  asked = order(source)
  work(asked)
  monkeypatch.setattr(engines, "load_classifier", None)
  summary, outcomes = work(asked)
  assert (summary.skipped, summary.done, outcomes, summary.idle_share) == (7, 0, [], None)


def test_photos_added_later_change_no_other(source, no_attack):
  asked = order(source)
  work(asked)
  before = files(asked.out)
  Image.fromarray(toys.images(1, seed=9)[0]).save(source / "sub" / "new.png")
  assert work(asked)[0].done == 1
  after = files(asked.out)
  assert after.pop("sub/new.png")
  assert after == before


OTHER = {
  "epsilon": ({"config": dataclasses.replace(CONFIG, epsilon=8.0)}, "attack.epsilon = 4.0, got 8"),
  "targeted": (
    {"config": dataclasses.replace(CONFIG, targeted=True)},
    "attack.targeted = False, got True",
  ),
  "networks": ({"networks": ["toys/linear"]}, "networks.1.name = toys/convolution, got nothing"),
  "preprocessing": ({"how": "places365"}, "preprocessing = paper, got places365"),
  "seed": ({"seed": 2**64 - 1}, "another seed"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_order_for_the_same_folder_is_refused(source, no_attack, name):
  work(order(source))
  changes, message = OTHER[name]
  before = files(source.parent / "out")
  with pytest.raises(SettingsError, match=message):
    work(order(source, **changes))
  assert files(source.parent / "out") == before


def test_another_source_is_refused(source, no_attack, tmp_path):
  work(order(source))
  source.rename(tmp_path / "moved")
  with pytest.raises(SettingsError, match=r"source = .*/in, got .*/moved"):
    work(order(tmp_path / "moved"))


def test_what_changes_no_result_may_change(source, no_attack):
  work(order(source))
  (source.parent / "out" / "a.png").unlink()
  summary, _ = work(order(source, batch_size="auto", devices=None))
  assert (summary.done, summary.skipped) == (1, 6)


def test_somebodys_files_are_not_taken_for_results(source, no_attack):
  (source.parent / "out").mkdir()
  (source.parent / "out" / "b.png").write_bytes(b"mine")
  with pytest.raises(SettingsError, match=r"b\.png without .*job\.json.* name another folder"):
    work(order(source))
  assert files(source.parent / "out") == {"b.png": b"mine"}


@pytest.mark.parametrize("out", ["in", "in/below", ".", "in/sub/.."])
def test_photos_and_results_must_lie_apart(source, out):
  before = sorted(source.parent.rglob("*"))
  with pytest.raises(SettingsError, match="SOURCE and --out must lie apart"):
    work(order(source, out))
  assert sorted(source.parent.rglob("*")) == before


def test_a_link_to_the_photos_is_no_way_round(source):
  (source.parent / "link").symlink_to(source)
  with pytest.raises(SettingsError, match="must lie apart"):
    work(order(source, "link"))


def test_a_file_in_the_place_of_the_results_is_refused(source):
  (source.parent / "out").touch()
  with pytest.raises(SettingsError, match=r"--out must be a folder, got .*out, where a file"):
    work(order(source))


def test_a_folder_that_cannot_be_written_to_is_named(source, monkeypatch):
  def refuse(self, **options):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(job.pathlib.Path, "touch", refuse)
  with pytest.raises(JobError, match=r"--out cannot be written to, got .*Permission denied"):
    work(order(source))


def test_an_empty_source_is_refused_before_anything_is_made(tmp_path):
  (tmp_path / "in").mkdir()
  with pytest.raises(SettingsError, match="must contain image files"):
    work(order(tmp_path / "in"))
  assert not (tmp_path / "out").exists()


def test_two_runs_of_one_job_do_not_meet(source, no_attack):
  asked = order(source)
  with open_job(asked), pytest.raises(JobError, match=f"by process {os.getpid()} on"):
    work(asked)
  assert work(asked)[0].done == 7


def test_what_was_not_come_to_is_left(source, no_attack):
  with open_job(order(source, batch_size=1)) as running:
    outcomes = iter(running)
    next(outcomes)
    outcomes.close()
  summary = running.summary()
  written = len(files(source.parent / "out"))
  assert 1 <= summary.done == written < 7
  assert summary.left == summary.to_json()["left"] == 7 - written
  assert f"{7 - written} left" in summary.to_text()


def test_the_state_is_private(source, no_attack):
  work(order(source))
  state = source.parent / "out" / ".rpfgsm"
  assert state.stat().st_mode & 0o077 == 0
  assert (state / "job.json").stat().st_mode & 0o077 == 0
  assert [each.relative for each in list_images(source.parent / "out")][:1] == ["a.png"]


def test_networks_that_differ_on_a_worker_are_refused(source, monkeypatch):
  monkeypatch.setattr(
    engines, "identify_networks", lambda names: tuple(Network(name, "other") for name in names)
  )
  with pytest.raises(SettingsError, match="toys/linear must be one network wherever this job runs"):
    work(order(source))


def test_more_devices_than_there_are_are_refused(source):
  with pytest.raises(SettingsError, match=r"devices must be in 1\.\.8"):
    work(order(source, devices=9))


def test_the_stand_in_tells_seeds_and_ids_apart():
  pixels = toys.images(2)
  first, other = (expected(pixels, np.array([3, 4]), seed=seed) for seed in (0, 1))
  assert not np.array_equal(first, other)
