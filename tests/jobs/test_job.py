"""Whole jobs in this process: what is done, what is left alone, what is known again, shards.

The attack is a stand-in; once, at the networks' size, it is a real one on toy networks.
"""

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

from rpfgsm_jax import protect
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.data import images, list_images
from rpfgsm_jax.data.folders import image_id
from rpfgsm_jax.data.photo_files import Encoding
from rpfgsm_jax.defenses.bank import no_defenses
from rpfgsm_jax.jobs import engines, ledger, run, spec
from rpfgsm_jax.jobs.run import open_job, preview
from rpfgsm_jax.jobs.spec import Job, JobError, NetworkIdentity, SettingsError, Shard
from rpfgsm_jax.photos.config import PhotoConfig, photo_attack
from rpfgsm_jax.photos.protector import PhotoProtector
from rpfgsm_jax.photos.verdict import Verdict
from rpfgsm_jax.result_folder import FolderError

NETWORKS = {f"toys/{index}": toys.linear(index, name=f"toys/{index}") for index in range(3)}
SIZES = {"a.png": (36, 34), "b.jpg": (50, 33), "sub/c.png": (32, 81), "sub/c.bmp": (34, 35)}
SMALL = PhotoConfig(
  size="network",
  attack=RPFGSMConfig(epsilon=4.0, num_steps=2, defenses=no_defenses(), micro_batch=2),
)


@pytest.fixture(autouse=True)
def no_attack(monkeypatch):
  def identify(name, option):
    return NetworkIdentity(name, f"digest of {name}")

  monkeypatch.setattr(engines, "PhotoProtector", FakePhotoProtector)
  monkeypatch.setattr(engines, "load_classifier", NETWORKS.__getitem__)
  monkeypatch.setattr(spec, "_identify", identify)


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
  values = {"networks": ["toys/0", "toys/1"], "held_out": ["toys/2"], "photos": PhotoConfig()}
  return Job(**{"sources": [album], "out": album.parent / name, "devices": 2} | values | changes)


def work(asked):
  with open_job(asked) as running:
    outcomes = list(running)
  return running, {each.relative: each for each in outcomes}


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


def test_of_a_folder_some_photos_are_done_as_if_all_were(album):
  summary, outcomes = work(order(album, seed=3, only=frozenset(["a.png", "sub/c.png"])))
  assert (summary.total, set(outcomes)) == (2, {"a.png", "sub/c.png"})
  some = files(album.parent / "out")
  assert sorted(some) == ["a.png", "sub/c.png.png"]
  summary, outcomes = work(order(album, seed=3))
  assert (summary.skipped, len(outcomes)) == (2, 2)
  whole = files(album.parent / "out")
  work(order(album, "undisturbed", seed=3))
  assert whole == files(album.parent / "undisturbed")
  assert some.items() <= whole.items()
  (listed,) = preview(order(album, only=frozenset(["b.jpg"])))
  assert (listed.relative, listed.standing) == ("b.jpg", "done")


def test_each_photo_keeps_its_size_and_has_a_record_of_the_file_that_was_written(album):
  summary, outcomes = work(order(album, seed=2**40 + 3))
  assert (summary.done, summary.failures, summary.left) == (4, [], 0)
  assert summary.verdicts == {"protected": 4}
  out = album.parent / "out"
  names = ["a.png", "b.png", "sub/c.bmp.png", "sub/c.png.png"]
  assert sorted(files(out)) == names
  records = [json.loads(path.read_text()) for path in (out / ".rpfgsm/photos").iterdir()]
  for facts in records:
    original = images.read_image(album / facts["relative"])
    written = images.read_image(out / facts["output"])
    ids = [np.uint32(image_id(facts["relative"]))]
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
  assert (summary.done, summary.skipped, summary.failures) == (0, 4, [])


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
  work(order(album, seed=3))
  out = album.parent / "out"
  before, gentle = files(out), PhotoConfig()
  gentle = dataclasses.replace(gentle, attack=dataclasses.replace(gentle.attack, epsilon=4.0))
  with pytest.raises(FolderError, match=r"attack.epsilon = 16.0, got 4.0; .* --overwrite to do"):
    work(order(album, photos=gentle))
  assert files(out) == before
  # One photo is done with the new settings; then the run ends, long before the others are done.
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.5)
  with open_job(order(album, photos=gentle, overwrite=True, devices=1)) as running:
    outcomes = iter(running)
    first = next(outcomes).relative
    outcomes.close()
  done = running.done
  assert done >= 1
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.0)
  assert json.loads((out / ".rpfgsm/job.json").read_text())["seed"] == 3
  # Without the option nothing more is replaced, and the others say why.
  summary, outcomes = work(order(album, photos=gentle))
  assert (summary.skipped, len(summary.failures)) == (done, 4 - done)
  assert first not in outcomes
  assert {"was protected with other settings" in reason for _, reason in summary.failures} == {True}
  summary, _ = work(order(album, photos=gentle, overwrite=True))
  assert (summary.skipped, summary.done) == (done, 4 - done)


def test_another_scene_is_other_settings_and_an_unknown_one_makes_nothing(album, monkeypatch):
  monkeypatch.setattr(spec.weights, "class_names_of", lambda name: NETWORKS[name].class_names)

  def named(scene):
    return order(album, photos=PhotoConfig(scene=scene))

  for begin in (work, preview):
    with pytest.raises(SettingsError, match="--scene must be a class of toys/0, got 'scene 9'; it"):
      begin(named("scene 9"))
  assert not (album.parent / "out").exists()
  work(named("scene 3"))
  assert work(named("Scene_3"))[0].skipped == 4
  for scene in (None, "scene 4"):
    with pytest.raises(FolderError, match=r"photo\.scene = scene 3, got"):
      work(named(scene))


def test_another_seed_is_other_settings(album):
  work(order(album, seed=3))
  with pytest.raises(FolderError, match="--overwrite to do all again with these"):
    work(order(album, seed=4))
  assert work(order(album, seed=4, overwrite=True))[0].done == 4


def test_results_at_the_networks_size_are_another_job(album):
  work(order(album))
  with pytest.raises(FolderError, match="was begun with size = photo, got network"):
    work(small(album))


def test_the_working_size_of_the_first_run_stays_unless_another_is_named(album, monkeypatch):
  first = dataclasses.replace(PhotoConfig(), working_pixels=5000)
  work(order(album, photos=first))
  monkeypatch.setattr(run, "default_working_pixels", lambda platform: 7000)
  assert work(order(album, by_device={"working_pixels"}))[0].skipped == 4
  with pytest.raises(FolderError, match=r"photo.working_pixels = 5000, got None"):
    work(order(album, photos=dataclasses.replace(first, working_pixels=None)))
  work(order(album, "new", by_device={"working_pixels"}))
  record = json.loads((album.parent / "new/.rpfgsm/job.json").read_text())
  assert record["settings"]["photo"]["working_pixels"] == 7000


def test_what_a_job_was_begun_with_asks_no_device(album, monkeypatch):
  work(order(album))
  monkeypatch.setattr(engines.LocalEngine, "platform", None)
  asked = order(album, by_device={"working_pixels", "micro_batch"})
  assert {each.standing for each in preview(asked)} == {"done"}


def test_the_micro_batch_of_the_first_run_stays_unless_another_is_named(album, monkeypatch):
  first = PhotoConfig(attack=dataclasses.replace(photo_attack(), micro_batch=5))
  work(order(album, photos=first))
  monkeypatch.setattr(engines.LocalEngine, "platform", lambda engine: "gpu")
  assert work(order(album, by_device={"micro_batch"}))[0].skipped == 4
  with pytest.raises(FolderError, match=r"attack.micro_batch = 5, got 1"):
    work(order(album))
  for config, expected_size in ((PhotoConfig(), 16), (SMALL, 256)):
    asked = order(album, config.size, photos=config, held_out=(), by_device={"micro_batch"})
    work(asked)
    record = json.loads((asked.out / ".rpfgsm/job.json").read_text())
    assert record["settings"]["attack"]["micro_batch"] == expected_size


@pytest.mark.parametrize("encoding", [Encoding(format="webp"), Encoding(format="jpeg", quality=95)])
def test_formats_have_their_suffix_and_decode(album, encoding):
  summary, _ = work(order(album, photos=PhotoConfig(encoding=encoding)))
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
  monkeypatch.setattr(
    FakePhotoProtector,
    "attack_together",
    lambda self, photos, ids, **options: [each.seen() for each in photos],
  )
  work(order(album))
  assert work(order(album, "another"))[0].done == 4


def test_the_users_file_says_nothing_and_is_his_alone(album, tmp_path):
  work(order(album))
  lines = ledger.file().read_text().splitlines()
  assert ledger.file() == tmp_path / "state" / "results"
  assert ledger.file().stat().st_mode & 0o077 == 0
  pixels = images.read_image(tmp_path / "out" / "a.png")
  assert ledger.picture_digest(pixels)[:16] in lines
  assert {len(line) for line in lines} == {16}
  # Whatever else is in it is passed over.
  ledger.file().write_bytes(b"\xff\xfe half a li\n" + ledger.file().read_bytes())
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


def test_a_judge_must_not_be_of_the_attack(album, monkeypatch):
  with pytest.raises(
    SettingsError, match="--held-out must be a network that the attack does not use"
  ):
    work(order(album, held_out=["toys/1"]))
  assert not (album.parent / "out").exists()
  # Not under another name either.
  monkeypatch.setattr(spec, "_identify", lambda name, option: NetworkIdentity(name, "equal"))
  with pytest.raises(SettingsError, match="got toys/2, which is --network toys/0; leave one"):
    work(order(album))


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
  with pytest.raises(FolderError, match="another seed"):
    preview(order(album, seed=2**50))
  assert sorted(album.parent.rglob("*")) == everything
  large = {each.relative: each.reason for each in preview(order(album, "new", max_pixels=2000))}
  assert "at most 2000 pixels" in large["sub/c.png"]
  assert large["sub/c.bmp"] == ""


def test_two_runs_into_one_folder_do_not_meet(album):
  with open_job(order(album)), pytest.raises(JobError, match=f"by process {os.getpid()} on"):
    work(order(album))


# At the networks' size


def small(album, name="out", **changes):
  return order(album, name, **{"photos": SMALL, "held_out": (), "devices": 1} | changes)


@pytest.mark.parametrize("batch_size", ["auto", 1, 3])
def test_a_job_at_the_networks_size_is_protect_photo_by_photo(album, monkeypatch, batch_size):
  monkeypatch.setattr(engines, "PhotoProtector", PhotoProtector)
  asked = small(album, seed=11, batch_size=batch_size)
  summary, outcomes = work(asked)
  assert (summary.done, summary.skipped, summary.left, summary.failures) == (4, 0, 0, [])
  assert summary.rate > 0
  assert (summary.verdicts, outcomes["a.png"].facts["verdict"]) == ({}, None)
  names = ["a", "b", "sub/c.bmp", "sub/c.png"]
  assert sorted(files(asked.out)) == [f"{name}.png" for name in names]
  records = list_images(album)
  wanted = protect(
    np.stack([images.read_image(each.path, toys.SIZE) for each in records]),
    [NETWORKS["toys/0"], NETWORKS["toys/1"]],
    SMALL.attack,
    seed=11,
    image_ids=[each.image_id for each in records],
    batch_size=4,
    devices=1,
  )
  for name, each in zip(names, wanted, strict=True):
    np.testing.assert_array_equal(images.read_image(asked.out / f"{name}.png"), each)


def test_photos_at_the_networks_size_have_records_too(album, tmp_path):
  assert work(small(album))[0].done == 4
  assert work(small(album, batch_size=2, devices=2))[0].skipped == 4
  save(tmp_path / "elsewhere" / "new.png", 9, (5, 7))
  assert work(small(tmp_path / "elsewhere", out=tmp_path / "out"))[0].done == 1
  (tmp_path / "out" / "b.png").write_bytes(b"mine")
  assert "b.png has changed since it was judged" in only_failure(small(album))
  assert work(small(album, overwrite=True))[0].done == 1
  cropped = dataclasses.replace(SMALL, preprocess="places365")
  with pytest.raises(FolderError, match=r"photo\.preprocess = paper, got places365"):
    work(small(album, photos=cropped))
  with pytest.raises(FolderError, match=r"was begun with size = network, got photo"):
    work(order(album))


# What holds for any size


def test_when_all_is_done_no_network_is_loaded(album, monkeypatch):
  work(order(album))
  monkeypatch.setattr(engines, "load_classifier", None)
  summary, outcomes = work(order(album))
  assert (summary.skipped, summary.done, outcomes, summary.to_json()["idle_share"]) == (
    4,
    0,
    {},
    None,
  )


def test_photos_added_later_change_no_other(album):
  work(order(album))
  before = files(album.parent / "out")
  save(album / "sub" / "new.png", 9)
  assert work(order(album))[0].done == 1
  after = files(album.parent / "out")
  assert after.pop("sub/new.png")
  assert after == before


@pytest.mark.parametrize("out", ["in", "in/below", ".", "in/sub/.."])
def test_photos_and_results_must_lie_apart(album, out):
  before = sorted(album.parent.rglob("*"))
  with pytest.raises(FolderError, match="SOURCE and --out must lie apart"):
    work(order(album, out))
  assert sorted(album.parent.rglob("*")) == before


def test_a_link_to_the_photos_is_no_way_round(album):
  (album.parent / "link").symlink_to(album)
  with pytest.raises(FolderError, match="must lie apart"):
    work(order(album, "link"))


def test_a_file_in_the_place_of_the_results_is_refused(album):
  (album.parent / "out").touch()
  with pytest.raises(SettingsError, match=r"--out must be a folder, got .*out, where a file"):
    work(order(album))


def test_a_folder_that_cannot_be_written_to_is_named(album, monkeypatch):
  def refuse(self, **options):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(run.pathlib.Path, "touch", refuse)
  with pytest.raises(JobError, match=r"--out cannot be written to, got .*Permission denied"):
    work(order(album))


def test_an_empty_source_is_refused_before_anything_is_made(tmp_path):
  (tmp_path / "in").mkdir()
  with pytest.raises(SettingsError, match="SOURCE must hold photos"):
    work(order(tmp_path / "in"))
  assert not (tmp_path / "out").exists()


def test_what_was_not_come_to_is_left(album, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.05)
  with open_job(order(album, batch_size=1, devices=1)) as running:
    outcomes = iter(running)
    next(outcomes)
    outcomes.close()
  written = len(files(album.parent / "out"))
  assert 1 <= running.done == written < 4
  assert running.left == running.to_json()["left"] == 4 - written
  assert f"{4 - written} left" in running.to_text()


def test_networks_that_differ_on_a_worker_are_refused(album, monkeypatch):
  monkeypatch.setattr(engines, "identify_networks", lambda job: [NetworkIdentity("x", "other")] * 3)
  with pytest.raises(SettingsError, match="toys/0 must be one network wherever this job runs"):
    work(order(album))


def test_more_devices_than_there_are_are_refused(album):
  with pytest.raises(SettingsError, match=r"devices must be in 1\.\.8"):
    work(order(album, devices=9))


def test_the_stand_in_tells_seeds_and_ids_apart():
  pixels = toys.images(2)
  first, other = (expected(pixels, np.array([3, 4]), seed=seed) for seed in (0, 1))
  assert not np.array_equal(first, other)
