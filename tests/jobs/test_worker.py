"""The worker: what is under way at once, how photos are grouped, what a failure costs."""

import dataclasses
import errno
import hashlib
import os
import threading
import time

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector, expected
from PIL import Image

from rpfgsm_jax import atomic
from rpfgsm_jax.data import images, list_images
from rpfgsm_jax.data.photo_files import Encoding, open_photo
from rpfgsm_jax.devices import DeviceClock
from rpfgsm_jax.jobs import ledger, photo_records, worker
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.spec import Job, JobError
from rpfgsm_jax.jobs.worker import Worker
from rpfgsm_jax.photos.config import PhotoConfig, photo_attack
from rpfgsm_jax.photos.protector import PhotoProtector

COUNT = 8


@pytest.fixture(autouse=True)
def log(monkeypatch):
  """What the devices have done."""
  fresh = {"flying": 0, "most": 0, "devices": [], "sizes": []}
  monkeypatch.setattr(FakePhotoProtector, "log", fresh)
  return fresh


def save(folder, pixels):
  for index, each in enumerate(pixels):
    path = folder / "in" / f"day {index % 2}" / f"photo {index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(each).save(path)
  records = list_images(folder / "in")
  return [
    Task(each.path, each.relative, each.image_id, folder / "out" / each.relative)
    for each in records
  ]


@pytest.fixture
def photos(tmp_path):
  """Photos of 36 x 34 pixels and their tasks."""
  return save(tmp_path, np.random.default_rng(0).integers(0, 256, (COUNT, 36, 34, 3), np.uint8))


def make(photos, *, devices=1, batch_size=1, config=None, **changes):
  out = photos[0].output.parents[1]
  job = Job(sources=(), out=out, networks=(), photos=config or PhotoConfig(), seed=3)
  job = dataclasses.replace(job, settings="these", max_pixels=10**6, **changes)
  protectors = [
    FakePhotoProtector([toys.linear(1)], job.photos, held_out=[], seed=3, device=device)
    for device in range(devices)
  ]
  return Worker(protectors, job, batch_size)


def micro_batch(count, **changes):
  return PhotoConfig(attack=dataclasses.replace(photo_attack(), micro_batch=count), **changes)


def check(tasks, size=None):
  for task in tasks:
    original = images.read_image(task.path, size)[None]
    wanted = expected(original, np.array([task.image_id]), seed=3)[0]
    np.testing.assert_array_equal(images.read_image(task.output), wanted)


def whole(photos, size=None):
  """Checks that all that is there is whole and recorded; returns what there is."""
  there = [task for task in photos if task.output.exists()]
  out = photos[0].output.parents[1]
  check(there, size)
  job = Job(sources=(), out=out, networks=(), settings="these")
  for task in there:
    assert photo_records.output_state(job, task).facts is not None
  assert sorted(out.rglob("*.png")) == sorted(task.output for task in there)
  assert not list(out.rglob("*.partial.*"))
  return there


NETWORK = micro_batch(2, size="network")


@pytest.mark.parametrize("size", [1, 2, 3, 8, 20])
@pytest.mark.parametrize(
  ("config", "shape"), [(micro_batch(1), None), (NETWORK, toys.SIZE)], ids=["own size", "network"]
)
def test_every_photo_becomes_its_file(photos, config, shape, size, log):
  outcomes = list(make(photos, config=config, batch_size=size).run(photos))
  assert sorted(each.relative for each in outcomes) == [each.relative for each in photos]
  assert {each.failure for each in outcomes} == {None}
  assert {each.facts["verdict"] is None for each in outcomes} == {shape is not None}
  assert len(whole(photos, shape)) == COUNT
  assert log["most"] == 1
  assert sum(log["sizes"]) == COUNT
  assert max(log["sizes"]) == min(size, COUNT)  # whole batches, as far as photos go


def test_photos_of_other_shapes_are_attacked_apart_and_none_is_forgotten(tmp_path, log):
  generator = np.random.default_rng(1)
  sizes = [(36 + index % 5, 34) for index in range(60)]
  photos = save(tmp_path, [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes])
  assert len(list(make(photos, batch_size=8, devices=2).run(photos))) == 60
  assert len(whole(photos)) == 60
  assert max(log["sizes"]) == 8


def test_partial_groups_do_not_block_what_cannot_be_read_yet(tmp_path, monkeypatch):
  # Each photo has a shape of its own, and only two may be under way: no batch ever fills.
  photos = save(tmp_path, [np.full((36 + index, 34, 3), 9, np.uint8) for index in range(12)])
  monkeypatch.setattr(worker, "MOST_PIXELS", 3000)
  assert len(list(make(photos, batch_size=4).run(photos))) == 12


def test_each_device_has_one_batch_at_a_time(photos, monkeypatch, log):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.02)
  list(make(photos, devices=3).run(photos))
  assert log["most"] == 3
  assert set(log["devices"]) == {0, 1, 2}
  assert len(whole(photos)) == COUNT


def test_the_device_does_not_wait_for_what_comes_after_it(photos, monkeypatch):
  judging, both = threading.Semaphore(0), []
  real_attack, real_judge = FakePhotoProtector.attack_together, FakePhotoProtector.judge

  def attack(self, *arguments, **options):
    # The second attack lets the first photo be judged to its end.
    both.append(arguments)
    if len(both) == 2:
      judging.release(COUNT)
    return real_attack(self, *arguments, **options)

  def judge(self, photo, content):
    assert judging.acquire(timeout=10)
    return real_judge(self, photo, content)

  monkeypatch.setattr(FakePhotoProtector, "attack_together", attack)
  monkeypatch.setattr(FakePhotoProtector, "judge", judge)
  assert len(list(make(photos).run(photos))) == COUNT


@pytest.mark.parametrize(
  ("most", "batch_size", "at_once"),
  [(1, 1, 1), (2500, 1, 2), (10**6, 1, 4), (10**6, 2, 8), (5000, 2, 4)],
  ids=["alone", "two", "four batches", "four batches of two", "four photos"],
)
def test_photos_under_way_are_bounded(photos, monkeypatch, most, batch_size, at_once):
  # Nothing is ever judged to its end: what is decoded until then is what memory must hold.
  decoded, gate = [], threading.Event()
  real, real_judge = worker.OpenedPhoto.decode, FakePhotoProtector.judge
  monkeypatch.setattr(
    worker.OpenedPhoto, "decode", lambda opened: (decoded.append(opened), real(opened))[1]
  )
  monkeypatch.setattr(
    FakePhotoProtector, "judge", lambda *args: (gate.wait(), real_judge(*args))[1]
  )
  monkeypatch.setattr(worker, "MOST_PIXELS", most)
  monkeypatch.setattr(worker, "_HOST_THREADS", (16, 16))  # those that wait keep none from decoding
  subject, outcomes = make(photos, batch_size=batch_size), []
  thread = threading.Thread(target=lambda: outcomes.extend(subject.run(photos)))
  thread.start()
  deadline = time.monotonic() + 30
  while len(decoded) < at_once and time.monotonic() < deadline:
    time.sleep(0.01)
  thread.join(0.4)  # as long again as one too many would need
  seen = len(decoded)
  gate.set()
  thread.join()
  assert seen == at_once
  assert len(outcomes) == len(decoded) == COUNT


def test_a_bad_photo_is_named_and_the_rest_goes_on(photos):
  photos[3].path.write_bytes(b"no picture")
  photos[4].path.unlink()
  Image.new("RGB", (31, 33)).save(photos[5].path)
  photos[6].path.write_bytes(photos[6].path.read_bytes()[:-900])
  Image.new("RGBA", (33, 34), (200, 10, 10, 100)).save(photos[7].path, "ICO")
  failures = {each.relative: each.failure for each in make(photos).run(photos) if each.failure}
  messages = ("must be a", "none", "at least 32 pixels", "damaged", "must be a")
  for index, message in enumerate(messages, start=3):
    reason = failures[photos[index].relative]
    assert message in reason
    assert str(photos[index].path) in reason
  assert len(failures) == 5
  assert len(whole(photos)) == COUNT - 5


def test_what_was_lost_in_reading_is_told_with_its_photo(photos):
  Image.new("I;16", (40, 36)).save(photos[5].path)
  notes = {each.relative: each.notes for each in make(photos, batch_size=8).run(photos)}
  (note,) = notes.pop(photos[5].relative)
  assert note.startswith(f"{photos[5].path}: ")
  assert set(notes.values()) == {()}


def test_transparency_that_the_networks_size_has_no_place_for_is_told(photos):
  Image.new("RGBA", (40, 36), (200, 10, 10, 100)).save(photos[5].path)
  protector = PhotoProtector([toys.linear(1)], NETWORK)
  prepared = protector.prepare(open_photo(photos[5].path).decode())
  assert prepared.notes == (f"{photos[5].path}: transparent pixels laid over white",)
  assert prepared.pixels.shape == (*toys.SIZE, 3)


def test_a_photo_that_the_attack_has_no_use_for_fails_alone(tmp_path, monkeypatch):
  monkeypatch.setattr("jobs.fake_protector.FEWEST", 33 * 34)
  pixels = np.random.default_rng(0).integers(0, 256, (4, 36, 34, 3), np.uint8)
  photos = save(tmp_path, [*pixels[:2], pixels[2, :32], pixels[3]])
  failures = [each for each in make(photos, batch_size=2).run(photos) if each.failure]
  assert len(failures) == 1
  assert failures[0].failure.endswith("photo 2.png: a photo must have at least 1122 pixels.")
  assert len(whole(photos)) == 3


def test_what_is_judged_is_what_the_disk_gives_back(photos, monkeypatch):
  # A disk that gives back the original, three levels off: the verdict must be about that file.
  real, original = atomic.through_the_disk, images.read_image(photos[0].path)

  def damage(path, content):
    real(path, content)
    Image.fromarray(original ^ 3).save(path)
    return path.read_bytes()

  monkeypatch.setattr(atomic, "through_the_disk", damage)
  (outcome,) = make(photos).run(photos[:1])
  assert outcome.facts["verdict"]["largest_change"] == 3
  content = photos[0].output.read_bytes()
  assert outcome.facts["output_sha256"] == hashlib.sha256(content).hexdigest()
  assert outcome.facts["pixels_sha256"] == ledger.picture_digest(original ^ 3)


def test_bytes_are_read_back_from_the_file(tmp_path):
  assert atomic.through_the_disk(tmp_path / "x", b"abc") == b"abc"
  assert (tmp_path / "x").read_bytes() == b"abc"


def test_what_the_format_cannot_hold_is_refused_before_it_is_attacked(photos, log):
  Image.new("L", (33, 16400)).save(photos[0].path)
  (outcome,) = make(photos, config=PhotoConfig(encoding=Encoding(format="webp"))).run(photos[:1])
  assert "sides of at most 16383 pixels to be written as webp" in outcome.failure
  assert log["devices"] == []


@pytest.mark.parametrize("devices", [1, 2])
def test_batches_that_do_not_fit_are_halved_and_every_photo_is_done_once(
  photos, monkeypatch, log, devices
):
  monkeypatch.setattr(FakePhotoProtector, "fits", 2 * 36 * 34)
  outcomes = list(make(photos, batch_size=8, devices=devices).run(photos))
  assert [each.facts["notes"] for each in outcomes] == [[]] * COUNT
  assert len(whole(photos)) == COUNT
  assert max(log["sizes"]) == 2


def test_a_photo_that_does_not_fit_is_tried_smaller_or_left_out_and_the_rest_goes_on(
  tmp_path, monkeypatch
):
  pixels = [np.full((side, side, 3), 7, np.uint8) for side in (40, 260, 40, 900, 40)]
  photos = save(tmp_path, pixels)
  # The second fits at half its sides; the fourth does not fit at the smallest that are tried.
  monkeypatch.setattr(FakePhotoProtector, "fits", 2**14 + 1000)
  outcomes = {each.relative: each for each in make(photos, batch_size=1).run(photos)}
  by_size = [outcomes[f"day {index % 2}/photo {index}.png"] for index in range(5)]
  assert by_size[1].facts["working_size"] == [130, 130]
  (note,) = by_size[1].notes
  assert "photo 1.png: attacked at 130x130 pixels; a larger working size does not fit" in note
  assert by_size[1].facts["notes"] == [note]
  assert [by_size[index].facts["working_size"] for index in (0, 2, 4)] == [None] * 3
  assert "photo 3.png does not fit into the device's memory; it is left out" in by_size[3].failure
  assert "--max-megapixels" in by_size[3].failure
  assert len(whole(photos)) == 4


def test_a_photo_too_large_for_the_computer_fails_alone(photos, monkeypatch):
  real = worker.OpenedPhoto.decode

  def decode(opened):
    if opened.path == photos[2].path:
      raise MemoryError
    return real(opened)

  monkeypatch.setattr(worker.OpenedPhoto, "decode", decode)
  failures = [each.failure for each in make(photos).run(photos) if each.failure]
  assert len(failures) == 1
  assert f"{photos[2].path} does not fit into the computer's memory" in failures[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_ends_the_job_and_leaves_nothing_half_written(photos, monkeypatch, number):
  real, synced = os.fsync, []

  def fill(descriptor):
    synced.append(descriptor)
    if len(synced) > 20:
      raise OSError(number, os.strerror(number))
    real(descriptor)

  monkeypatch.setattr(os, "fsync", fill)
  with pytest.raises(JobError, match=f"{os.strerror(number)}. Make room .* then goes on"):
    list(make(photos).run(photos))
  monkeypatch.setattr(os, "fsync", real)
  assert 0 < len(whole(photos)) < COUNT


def test_a_disk_that_is_full_for_the_record_keeps_the_photo_from_its_name(photos, monkeypatch):
  def refuse(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(atomic, "write_text", refuse)
  with pytest.raises(JobError, match="Make room"):
    list(make(photos).run(photos))
  monkeypatch.undo()
  assert not list(photos[0].output.parents[1].rglob("*.png"))


def test_a_name_that_the_disk_refuses_is_that_photos_failure_alone(photos):
  long = photos[0]._replace(output=photos[0].output.with_name("n" * 300 + ".png"))
  outcomes = {each.relative: each.failure for each in make(photos).run([long, *photos[1:]])}
  assert "could not be written: File name too long" in outcomes.pop(long.relative)
  assert set(outcomes.values()) == {None}


def test_a_file_that_appears_meanwhile_is_not_replaced(photos, monkeypatch):
  real, foreign = FakePhotoProtector.judge, photos[0].output

  def judge(self, photo, content):
    if photo.path == photos[0].path:
      foreign.write_bytes(b"mine")
    return real(self, photo, content)

  monkeypatch.setattr(FakePhotoProtector, "judge", judge)
  failures = [each for each in make(photos).run(photos) if each.failure]
  assert [each.relative for each in failures] == [photos[0].relative]
  assert "another program has made a file of that name" in failures[0].failure
  assert foreign.read_bytes() == b"mine"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_closing_drops_what_is_on_the_device_and_leaves_whole_files(
  photos, monkeypatch, log, batch_size
):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.05)
  outcomes = make(photos, batch_size=batch_size).run(photos)
  first = next(outcomes)
  outcomes.close()
  begun = len(log["devices"])
  there = whole(photos)
  assert first.relative in {task.relative for task in there}
  assert len(there) <= 3 * batch_size
  time.sleep(0.15)  # longer than an attack: what was on the device comes to nothing
  assert len(whole(photos)) == len(there)
  assert len(log["devices"]) == begun


BATCHES = {
  "one after the other": ([(0, 1), (1, 3)], 0.0),
  "overlapping": ([(0, 2), (1, 3), (2, 4)], 0.0),
  "a gap of one in four": ([(0, 1), (2, 4)], 0.25),
  "the second was ready first": ([(0, 4), (1, 2), (6, 8)], 0.25),
  "from the first start on": ([(10, 11), (13, 14)], 0.5),
}


@pytest.mark.parametrize("name", BATCHES)
def test_the_idle_share_is_the_time_without_any_batch(name):
  batches, idle = BATCHES[name]
  clock = DeviceClock()
  assert clock.idle_share is None
  for started, ready in batches:
    clock.add(started, ready)
  assert clock.idle_share == pytest.approx(idle)


def test_the_idle_share_is_the_devices_mean(photos, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.1)
  subject = make(photos, devices=2)
  assert subject.clock.idle_share is None
  list(subject.run(photos[:1]))
  assert subject.clock.idle_share == pytest.approx(0.5, abs=0.01)
  subject = make(photos, devices=2)
  list(subject.run(photos[1:7]))
  assert subject.clock.idle_share < 0.4
