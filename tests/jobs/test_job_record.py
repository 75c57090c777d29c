"""The private record: made once and whole, read by every later run, refusing other settings."""

import concurrent.futures
import dataclasses
import errno
import hashlib
import json
import os
import stat

import pytest

from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.defenses.bank import no_defenses
from rpfgsm_jax.jobs import record
from rpfgsm_jax.jobs.spec import Job, SettingsError, describe_settings
from rpfgsm_jax.photos.config import PhotoConfig
from rpfgsm_jax.result_folder import FolderError

SETTINGS = {
  "size": "photo",
  "attack": {"epsilon": 16.0, "families": [{"n": 1}, {"n": 2}]},
  "how": "paper",
}
HERE = {"jaxlib": "0.10.2", "device": "cpu"}


def begin(folder, values=None, environment=None, *, seed=None, overwrite=False):
  return record.open_or_create(
    folder, values or SETTINGS, environment or HERE, seed=seed, overwrite=overwrite
  )


def attack(config):
  job = Job(sources=(), out=None, networks=(), photos=PhotoConfig(attack=config))
  return describe_settings(job)["attack"]


def content(folder):
  return json.loads((folder / "job.json").read_text())


def test_a_later_run_takes_the_recorded_seed(tmp_path):
  seed, notes = begin(tmp_path)
  assert 0 <= seed <= record.MAX_SEED
  assert notes == []
  assert begin(tmp_path) == (seed, [])
  assert begin(tmp_path, seed=seed) == (seed, [])
  assert content(tmp_path) == {
    "format": 1,
    "seed": seed,
    "settings": SETTINGS,
    "environment": HERE,
  }


def test_two_jobs_have_two_seeds(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "b").mkdir()
  assert begin(tmp_path / "a") != begin(tmp_path / "b")


def test_only_the_owner_can_read_it(tmp_path):
  old = os.umask(0)
  try:
    begin(tmp_path)
  finally:
    os.umask(old)
  assert stat.S_IMODE((tmp_path / "job.json").stat().st_mode) == 0o600
  assert sorted(path.name for path in tmp_path.iterdir()) == ["job.json", "job.lock"]


def test_of_many_at_once_one_makes_it(tmp_path):
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    seeds = {seed for seed, _ in pool.map(lambda _: begin(tmp_path), range(16))}
  assert len(seeds) == 1
  assert content(tmp_path)["seed"] in seeds
  assert not list(tmp_path.glob(".*"))


def test_a_record_that_the_disk_has_no_room_for_leaves_nothing(tmp_path, monkeypatch):
  def refuse(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, "fsync", refuse)
  with pytest.raises(OSError, match="No space left"):
    begin(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["job.lock"]


DIFFERENT = {
  "a number": (
    SETTINGS | {"attack": {"epsilon": 8.0, "families": [{"n": 1}, {"n": 2}]}},
    r"attack\.epsilon = 16\.0, got 8\.0; give the options of the first run, --overwrite to do all "
    r"again with these, or another --out",
  ),
  "in a list": (
    SETTINGS | {"attack": {"epsilon": 16.0, "families": [{"n": 1}, {"n": 3}]}},
    r"attack\.families\.1\.n = 2, got 3",
  ),
  "fewer": (
    SETTINGS | {"attack": {"epsilon": 16.0, "families": [{"n": 1}]}},
    r"attack\.families\.1\.n = 2, got nothing",
  ),
  "more": (SETTINGS | {"new": True}, "new = nothing, got True"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_settings_are_refused_by_the_first_difference(tmp_path, name):
  begin(tmp_path)
  values, message = DIFFERENT[name]
  with pytest.raises(FolderError, match=message):
    begin(tmp_path, values)


def test_another_seed_is_refused_without_telling_the_recorded_one(tmp_path):
  begin(tmp_path, seed=123456789)
  with pytest.raises(FolderError, match="another seed than --seed 5; leave --seed out") as caught:
    begin(tmp_path, seed=5)
  assert "123456789" not in str(caught.value)


def test_other_versions_are_a_note(tmp_path):
  seed, _ = begin(tmp_path)
  found, notes = begin(tmp_path, environment=HERE | {"device": "NVIDIA H100"})
  assert found == seed
  (note,) = notes
  assert "device cpu -> NVIDIA H100" in note
  assert "last bits of results may differ" in note


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "seed": "x"}'])
def test_a_damaged_record_is_refused_and_kept(tmp_path, text):
  (tmp_path / "job.json").write_text(text)
  with pytest.raises(SettingsError, match="it is damaged; restore it, or name another --out"):
    begin(tmp_path)
  assert (tmp_path / "job.json").read_text() == text


def test_another_format_is_refused(tmp_path):
  begin(tmp_path)
  (tmp_path / "job.json").write_text(json.dumps(content(tmp_path) | {"format": 2}))
  with pytest.raises(SettingsError, match="must have format 1, got 2"):
    begin(tmp_path)


def test_the_attack_is_written_down_to_its_defenses():
  paper = attack(RPFGSMConfig())
  assert paper != attack(RPFGSMConfig(defenses=no_defenses()))
  names = [family["name"] for family in paper["defenses"]["families"]]
  assert names == ["identity", "requantize", "median", "jpeg"]
  assert paper["name"] == "rp_fgsm"
  assert json.loads(json.dumps(paper)) == paper


def test_jobs_of_older_versions_go_on(tmp_path):
  # What every version so far has written down of the paper's attack, and a seed of 32 bits.
  text = json.dumps(attack(RPFGSMConfig()), sort_keys=True)
  digest = "ffd0c96f2aedfa68044cb351e596089326771953232b33119e022156b07be739"
  assert hashlib.sha256(text.encode()).hexdigest() == digest
  assert "gray" in attack(RPFGSMConfig(gray=True))
  begin(tmp_path, seed=2**32 - 1)
  assert begin(tmp_path) == (2**32 - 1, [])


def test_a_scene_is_recorded_where_one_is_named():
  job = Job(sources=(), out=None, networks=(), photos=PhotoConfig(scene="bedroom"))
  unnamed = describe_settings(dataclasses.replace(job, photos=PhotoConfig()))["photo"]
  assert describe_settings(job)["photo"] == unnamed | {"scene": "bedroom"}
  assert "scene" not in unnamed  # as in records of before


def test_jobs_of_older_versions_without_records_of_photos_say_so(tmp_path):
  begin(tmp_path, seed=5)
  older = content(tmp_path) | {"settings": SETTINGS | {"source": "/in"}}
  (tmp_path / "job.json").write_text(json.dumps(older))
  with pytest.raises(FolderError, match="older version, which kept no record of each photo; go on"):
    begin(tmp_path)
  assert begin(tmp_path, overwrite=True)[0] == 5
  assert "source" not in content(tmp_path)["settings"]


def test_drawn_seeds_have_64_bits(tmp_path):
  drawn = []
  for index in range(8):
    (tmp_path / str(index)).mkdir()
    drawn.append(begin(tmp_path / str(index))[0])
  assert record.MAX_SEED == 2**64 - 1
  assert max(drawn) > 2**60  # of honest draws all eight are smaller once in 2^32
  assert min(drawn) >= 0


def test_new_settings_take_the_place_of_old_ones_only_where_that_was_asked(tmp_path):
  other = SETTINGS | {"how": "places365"}
  seed, _ = begin(tmp_path)
  with pytest.raises(FolderError, match="first run, --overwrite to do all again with these, or"):
    record.open_or_create(tmp_path, other, HERE, seed=None, overwrite=False)
  assert content(tmp_path)["settings"] == SETTINGS
  found, notes = record.open_or_create(tmp_path, other, HERE, seed=None, overwrite=True)
  assert (found, content(tmp_path)["settings"], content(tmp_path)["seed"]) == (seed, other, seed)
  assert "done again" in notes[0]
  assert stat.S_IMODE((tmp_path / "job.json").stat().st_mode) == 0o600
  assert record.open_or_create(tmp_path, other, HERE, seed=None, overwrite=True) == (seed, [])
  assert record.open_or_create(tmp_path, other, HERE, seed=9, overwrite=True)[0] == 9


def test_reading_finds_what_beginning_would_and_writes_nothing(tmp_path):
  assert record.read_seed(tmp_path, SETTINGS, seed=None, overwrite=False) is None
  assert record.read(tmp_path / "absent") is None
  assert not list(tmp_path.iterdir())
  seed, _ = begin(tmp_path)
  before = content(tmp_path)
  assert record.read_seed(tmp_path, SETTINGS, seed=None, overwrite=False) == seed
  assert record.read(tmp_path)["settings"] == SETTINGS
  other = SETTINGS | {"how": "places365"}
  with pytest.raises(FolderError, match="how = paper, got places365"):
    record.read_seed(tmp_path, other, seed=None, overwrite=False)
  assert record.read_seed(tmp_path, other, seed=3, overwrite=True) == 3
  assert content(tmp_path) == before
