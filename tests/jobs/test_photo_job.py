"""Jobs at the photos' own size: what is done, what is left alone, what is known again."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector, expected
from PIL import Image

from rpfgsm_jax.data import images
from rpfgsm_jax.data.photo_files import Encoding
from rpfgsm_jax.jobs import Job, JobError, SettingsError, Shard, engines, open_job, preview, survey
from rpfgsm_jax.jobs import results as known
from rpfgsm_jax.jobs import settings as told
from rpfgsm_jax.jobs.settings import Network
from rpfgsm_jax.photos.protect import PhotoConfig
from rpfgsm_jax.photos.verdict import Verdict

NETWORKS = {f"toys/{index}": toys.linear(index, name=f"toys/{index}") for index in range(3)}
SIZES = {"a.png": (36, 34), "b.jpg": (50, 33), "sub/c.png": (32, 81), "sub/c.bmp": (34, 35)}


@pytest.fixture(autouse=True)
def no_attack(monkeypatch):
  def identify(names, option="--network"):
    return tuple(Network(name, f"digest of {name}") for name in names)

  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", NETWORKS.__getitem__)
  monkeypatch.setattr(engines, "identify_networks", identify)
  monkeypatch.setattr(survey, "identify_networks", identify)


def save(path, seed=0, size=(36, 34)):
  pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


@pytest.fixture
def album(tmp_path):
  for seed, (name, size) in enumerate(SIZES.items()):
    save(tmp_path / "in" / name, seed, size)
  return tmp_path / "in"


def order(album, name="out", **changes):
  values = {"networks": ["toys/0", "toys/1"], "held_out": ["toys/2"], "photo": PhotoConfig()}
  return Job(**{"sources": [album], "out": album.parent / name, "devices": 2} | values | changes)


def work(asked):
  with open_job(asked) as running:
    outcomes = list(running)
  return running.summary(), {each.relative: each for each in outcomes}


def files(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file() and ".rpfgsm" not in path.parts
  }


def only_failure(asked):
  summary, _ = work(asked)
  ((_, reason),) = summary.failures
  return reason


def test_each_photo_keeps_its_size_and_has_a_record_of_the_file_that_was_written(album):
  summary, outcomes = work(order(album, seed=2**40 + 3))
  assert (summary.done, summary.failures, summary.left) == (4, (), 0)
  assert summary.verdicts == {"protected": 4}
  out = album.parent / "out"
  names = ["a.png", "b.png", "sub/c.bmp.png", "sub/c.png.png"]
  assert sorted(files(out)) == names
  records = [json.loads(path.read_text()) for path in (out / ".rpfgsm/photos").iterdir()]
  for facts in records:
    original = images.read_image(album / facts["relative"])
    written = images.read_image(out / facts["output"])
    ids = [np.uint32(survey.sources.image_id(facts["relative"]))]
    np.testing.assert_array_equal(written, expected(original[None], ids, 2**40 + 3)[0])
    assert facts["size"] == [written.shape[1], written.shape[0]]
    assert facts["photo"] == str(album / facts["relative"])
    content = (out / facts["output"]).read_bytes()
    assert facts["output_sha256"] == hashlib.sha256(content).hexdigest()
    source = (album / facts["relative"]).read_bytes()
    assert facts["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert (facts["epsilon"], facts["encoding"]["format"]) == (PhotoConfig().attack.epsilon, "png")
    assert Verdict.from_json(facts["verdict"]).networks[2].held_out
    assert facts == outcomes[facts["relative"]].facts
  assert sorted(facts["output"] for facts in records) == names


def test_one_folder_of_results_serves_many_sources(album, tmp_path):
  work(order(album))
  before = files(tmp_path / "out")
  save(tmp_path / "elsewhere" / "new.png", 9)
  summary, _ = work(order(tmp_path / "elsewhere" / "new.png", out=tmp_path / "out"))
  assert (summary.done, summary.skipped) == (1, 0)
  summary, outcomes = work(order(album))
  assert (summary.done, summary.skipped, outcomes) == (0, 4, {})
  after = files(tmp_path / "out")
  assert after.pop("new.png")
  assert after == before


def test_what_is_missing_is_done_again_and_no_other(album):
  work(order(album))
  out = album.parent / "out"
  before = files(out)
  (out / "a.png").unlink()
  leftover = out / "sub" / ".c.0123456789abcdef.partial.png"
  leftover.write_bytes(b"half")
  summary, outcomes = work(order(album))
  assert (summary.done, summary.skipped, list(outcomes)) == (1, 3, ["a.png"])
  assert files(out) == before


def test_a_photo_that_moved_is_known_by_its_content(album):
  work(order(album))
  album.rename(album.parent / "moved")
  summary, _ = work(order(album.parent / "moved"))
  assert (summary.done, summary.skipped, summary.failures) == (0, 4, ())


def test_a_photo_that_was_only_touched_is_done(album):
  work(order(album))
  os.utime(album / "a.png", (1, 1))
  assert work(order(album))[0].skipped == 4


def test_unchanged_files_are_not_read_again(album, monkeypatch):
  work(order(album))
  monkeypatch.setattr(hashlib, "file_digest", None)
  assert work(order(album))[0].skipped == 4


def changed(album):
  save(album / "a.png", 77, (45, 36))


def changed_at_equal_size(album):
  content = (album / "a.png").read_bytes()
  (album / "a.png").write_bytes(content[:-1] + b"\0")
  os.utime(album / "a.png", (1, 1))


def other_file(album):
  shutil.rmtree(album.parent / "out" / ".rpfgsm" / "photos")


def edited(album):
  with open(album.parent / "out" / "a.png", "ab") as file:
    file.write(b"edited")


def other_photo(album):
  save(album.parent / "aside" / "a.png", 5, (39, 39))
  (album / "a.png").unlink()
  shutil.copy(album.parent / "aside" / "a.png", album / "a.png")
  record = next(
    path
    for path in (album.parent / "out/.rpfgsm/photos").iterdir()
    if json.loads(path.read_text())["relative"] == "a.png"
  )
  facts = json.loads(record.read_text())
  record.write_text(json.dumps(facts | {"photo": "/another/a.png"}))


STALE = {
  "changed": (changed, "a.png has changed since it was protected; --overwrite does it again"),
  "changed, not in size": (changed_at_equal_size, "a.png has changed since it was protected"),
  "not ours": (other_file, "is there and not known as a result; move it away, or --overwrite"),
  "edited": (edited, "a.png has changed since it was judged; --overwrite does it again"),
  "another's": (other_photo, "a.png is that of another photo, /another/a.png; name another --out"),
}


@pytest.mark.parametrize("name", STALE)
def test_what_is_there_is_never_replaced_unless_asked(album, name):
  work(order(album))
  out = album.parent / "out"
  for other in ("b.jpg", "sub/c.png", "sub/c.bmp"):
    (album / other).unlink()
  change, message = STALE[name]
  change(album)
  before = files(out)
  assert message in only_failure(order(album))
  assert files(out) == before
  if name == "changed, not in size":
    return  # its picture is damaged
  summary, _ = work(order(album, overwrite=True))
  assert (summary.done, summary.skipped) == (1, 0)
  # Asked again, nothing is left to replace.
  assert work(order(album, overwrite=True))[0].skipped == 1
  assert work(order(album))[0].skipped == 1


def test_other_settings_are_refused_or_do_all_again(album, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.02)
  work(order(album, seed=3))
  out = album.parent / "out"
  before, gentle = files(out), PhotoConfig()
  gentle = dataclasses.replace(gentle, attack=dataclasses.replace(gentle.attack, epsilon=4.0))
  with pytest.raises(SettingsError, match=r"attack.epsilon = 8.0, got 4.0; .* --overwrite to do"):
    work(order(album, photo=gentle))
  assert files(out) == before
  # One photo is done with the new settings; then the run ends.
  with open_job(order(album, photo=gentle, overwrite=True, devices=1)) as running:
    outcomes = iter(running)
    first = next(outcomes).relative
    outcomes.close()
  done = running.summary().done
  assert done >= 1
  assert json.loads((out / ".rpfgsm/job.json").read_text())["seed"] == 3
  # Without the option nothing more is replaced, and the others say why.
  summary, outcomes = work(order(album, photo=gentle))
  assert (summary.skipped, len(summary.failures)) == (done, 4 - done)
  assert first not in outcomes
  assert {"was protected with other settings" in reason for _, reason in summary.failures} == {True}
  summary, _ = work(order(album, photo=gentle, overwrite=True))
  assert (summary.skipped, summary.done) == (done, 4 - done)


def test_another_seed_is_other_settings(album):
  work(order(album, seed=3))
  with pytest.raises(SettingsError, match="--overwrite to do all again with these"):
    work(order(album, seed=4))
  assert work(order(album, seed=4, overwrite=True))[0].done == 4


def test_results_at_the_networks_size_are_another_job(album):
  work(order(album))
  with pytest.raises(SettingsError, match="was begun with size = photo, got network"):
    work(order(album, photo=None))


def test_the_working_size_of_the_first_run_stays_unless_another_is_named(album, monkeypatch):
  first = dataclasses.replace(PhotoConfig(), working_pixels=5000)
  work(order(album, photo=first))
  monkeypatch.setattr(survey, "default_working_pixels", lambda platform: 7000)
  assert work(order(album, fit_working_size=True))[0].skipped == 4
  with pytest.raises(SettingsError, match=r"photo.working_pixels = 5000, got None"):
    work(order(album, photo=dataclasses.replace(first, working_pixels=None)))
  work(order(album, "new", fit_working_size=True))
  record = json.loads((album.parent / "new/.rpfgsm/job.json").read_text())
  assert record["settings"]["photo"]["working_pixels"] == 7000


@pytest.mark.parametrize("encoding", [Encoding(format="webp"), Encoding(format="jpeg", quality=95)])
def test_formats_have_their_suffix_and_decode(album, encoding):
  summary, _ = work(order(album, photo=PhotoConfig(encoding=encoding)))
  assert summary.done == 4
  out = album.parent / "out"
  suffix = encoding.suffix
  assert sorted(files(out)) == [
    f"a{suffix}",
    f"b{suffix}",
    f"sub/c.bmp{suffix}",
    f"sub/c.png{suffix}",
  ]
  for name in files(out):
    with Image.open(out / name) as picture:
      assert picture.format.lower() == encoding.format


def test_a_protected_photo_is_known_wherever_it_is(album, tmp_path):
  work(order(album))
  copies = tmp_path / "copies"
  copies.mkdir()
  shutil.copy(tmp_path / "out" / "a.png", copies / "x.png")
  # Other bytes, the same picture.
  Image.open(tmp_path / "out" / "b.png").save(copies / "y.webp", lossless=True)
  save(copies / "z.png", 50)
  for out in ("out", "another"):
    summary, _ = work(order(copies, out))
    assert summary.done + summary.skipped == 1
    assert sorted(name for name, _ in summary.failures) == ["x.png", "y.webp"]
    assert {"is itself a protected photo" in reason for _, reason in summary.failures} == {True}


def test_results_are_known_to_their_folder_without_a_file_of_the_users(
  album, tmp_path, monkeypatch
):
  (tmp_path / "blocked").touch()
  monkeypatch.setenv("RPFGSM_STATE", str(tmp_path / "blocked"))
  with open_job(order(album)) as running:
    list(running)
  assert ["will be recognized in this folder only" in note for note in running.notes] == [True]
  copies = tmp_path / "copies"
  copies.mkdir()
  shutil.copy(tmp_path / "out" / "a.png", copies / "x.png")
  assert "is itself a protected photo" in only_failure(order(copies))
  assert work(order(copies, "another"))[0].done == 1


def test_an_original_that_did_not_change_is_no_protected_photo(album, tmp_path, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "attack", lambda self, photo, image_id: photo.seen())
  work(order(album))
  assert work(order(album, "another"))[0].done == 4


def test_the_users_file_says_nothing_and_is_his_alone(album, tmp_path):
  work(order(album))
  lines = known.file().read_text().splitlines()
  assert known.file() == tmp_path / "state" / "results"
  assert known.file().stat().st_mode & 0o077 == 0
  pixels = images.read_image(tmp_path / "out" / "a.png")
  assert known.digest(pixels)[:16] in lines
  assert {len(line) for line in lines} == {16}
  # Whatever else is in it is passed over.
  known.file().write_bytes(b"\xff\xfe half a li\n" + known.file().read_bytes())
  assert work(order(album, "another"))[0].done == 4


def test_shards_are_one_run_byte_by_byte(album):
  work(order(album, seed=5))
  done = [work(order(album, "parts", seed=5, shard=Shard(index, 2)))[0].done for index in range(2)]
  assert sum(done) == 4
  assert files(album.parent / "parts") == files(album.parent / "out")


def test_links_lead_no_result_to_an_original(album):
  out = album.parent / "out"
  out.mkdir()
  (out / "sub").symlink_to(album / "sub")
  before = files(album)
  with pytest.raises(
    SettingsError, match=r"must lie apart, got .*out/sub for results, which leads"
  ):
    work(order(album, overwrite=True))
  (out / "sub").unlink()
  (out / "a.png").symlink_to(album / "a.png")
  summary, _ = work(order(album, overwrite=True))
  assert summary.done == 3
  assert "must be new or a file, got a folder or a link" in summary.failures[0][1]
  assert files(album) == before


def test_a_judge_must_not_be_of_the_attack(album):
  with pytest.raises(
    SettingsError, match="--held-out must be a network that the attack never asks"
  ):
    work(order(album, held_out=["toys/1"]))
  assert not (album.parent / "out").exists()
  # Not under another name either.
  same = [Network("toys/0", "equal"), Network("elsewhere", "equal")]
  with pytest.raises(SettingsError, match="got elsewhere, which is --network toys/0; leave one"):
    told.check_held_out(same[:1], same[1:])


def test_the_state_is_private_and_old_temporary_files_go(album):
  work(order(album))
  state = album.parent / "out" / ".rpfgsm"
  assert state.stat().st_mode & 0o077 == 0
  half = state / "photos" / ".x.0123456789abcdef.partial.json"
  half.touch()
  work(order(album))
  assert not half.exists()


def standings(asked):
  return {each.relative: each.standing for each in preview(asked)}


def test_a_preview_tells_what_will_be_and_makes_nothing(album):
  (album / "bad.jpg").write_bytes(b"no picture")
  everything = sorted(album.parent.rglob("*"))
  todo = {name: "to do" for name in SIZES}
  assert standings(order(album)) == todo | {"bad.jpg": "refused"}
  assert sorted(album.parent.rglob("*")) == everything
  work(order(album))
  changed(album)
  everything = sorted(pathlib.Path(album.parent).rglob("*"))
  done = {name: "done" for name in SIZES}
  assert standings(order(album)) == done | {"bad.jpg": "refused", "a.png": "refused"}
  assert standings(order(album, overwrite=True)) == done | {"bad.jpg": "refused", "a.png": "to do"}
  again = standings(order(album, seed=2**50, overwrite=True))
  assert again == todo | {"bad.jpg": "refused"}
  with pytest.raises(SettingsError, match="another seed"):
    preview(order(album, seed=2**50))
  assert sorted(album.parent.rglob("*")) == everything
  large = {each.relative: each.reason for each in preview(order(album, "new", max_pixels=2000))}
  assert "at most 2000 pixels" in large["sub/c.png"]
  assert large["sub/c.bmp"] == ""


def test_two_runs_into_one_folder_do_not_meet(album):
  with open_job(order(album)), pytest.raises(JobError, match=f"by process {os.getpid()} on"):
    work(order(album))
