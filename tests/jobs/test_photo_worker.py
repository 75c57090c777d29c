"""The worker for photos at their own size: what is under way at once, what a failure costs."""

import errno
import hashlib
import os
import pathlib
import threading
import time

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector, expected
from PIL import Image

from rpfgsm_jax import atomic
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.data import images, list_images
from rpfgsm_jax.data.photo_files import Encoding
from rpfgsm_jax.jobs import photo_records, photo_worker, plan, results
from rpfgsm_jax.jobs.errors import JobError
from rpfgsm_jax.jobs.order import Order
from rpfgsm_jax.jobs.photo_worker import PhotoWorker
from rpfgsm_jax.photos.protect import PhotoConfig

COUNT = 8


@pytest.fixture
def photos(tmp_path):
  """Photos of 36 x 34 pixels and their tasks."""
  generator = np.random.default_rng(0)
  for index, pixels in enumerate(generator.integers(0, 256, (COUNT, 36, 34, 3), np.uint8)):
    path = tmp_path / "in" / f"day {index % 2}" / f"photo {index}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
  return plan.plan(list_images(tmp_path / "in"), tmp_path / "out")


def make(photos, monkeypatch, devices=1, **changes):
  out = photos[0].output.parents[1]
  values = {"networks": (), "config": RPFGSMConfig(), "how": "paper", "seed": 3, "batch_size": 1}
  values |= {"devices": None, "out": out, "photo": PhotoConfig(), "settings": "these"}
  order = Order(**values | {"max_pixels": 10**6} | changes)
  log = {"flying": 0, "most": 0, "devices": []}
  monkeypatch.setattr(FakePhotoProtector, "log", log)
  protectors = [
    FakePhotoProtector([toys.linear(1)], order.photo, held_out=[], seed=3, device=device)
    for device in range(devices)
  ]
  return PhotoWorker(protectors, order), log


def check(tasks):
  for task in tasks:
    original = images.read_image(task.record.path)[None]
    wanted = expected(original, np.array([task.record.image_id]), seed=3)[0]
    np.testing.assert_array_equal(images.read_image(task.output), wanted)


def whole(photos):
  """Checks that all that is there is whole and recorded; returns what there is."""
  there = [task for task in photos if task.output.exists()]
  out = photos[0].output.parents[1]
  check(there)
  for task in there:
    assert photo_records.stand(task, out, "these", overwrite=False).facts is not None
  assert sorted(out.rglob("*.png")) == sorted(task.output for task in there)
  assert not list(out.rglob("*.partial.*"))
  return there


def test_every_photo_becomes_its_file(photos, monkeypatch):
  subject, log = make(photos, monkeypatch)
  outcomes = list(subject.run(photos))
  assert sorted(each.relative for each in outcomes) == [each.record.relative for each in photos]
  assert {each.failure for each in outcomes} == {None}
  assert len(whole(photos)) == COUNT
  assert log["most"] == 1


def test_each_device_has_one_photo_at_a_time(photos, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.02)
  subject, log = make(photos, monkeypatch, devices=3)
  list(subject.run(photos))
  assert log["most"] == 3
  assert set(log["devices"]) == {0, 1, 2}
  assert len(whole(photos)) == COUNT


def test_the_device_does_not_wait_for_what_comes_after_it(photos, monkeypatch):
  judging, both = threading.Semaphore(0), []
  real_attack, real_judge = FakePhotoProtector.attack, FakePhotoProtector.judge

  def attack(self, photo, image_id):
    # The second attack lets the first photo be judged to its end.
    both.append(image_id)
    if len(both) == 2:
      judging.release(COUNT)
    return real_attack(self, photo, image_id)

  def judge(self, photo, content):
    assert judging.acquire(timeout=10)
    return real_judge(self, photo, content)

  monkeypatch.setattr(FakePhotoProtector, "attack", attack)
  monkeypatch.setattr(FakePhotoProtector, "judge", judge)
  subject, _ = make(photos, monkeypatch)
  assert len(list(subject.run(photos))) == COUNT


@pytest.mark.parametrize(
  ("most", "at_once"), [(1, 1), (2500, 2), (10**6, 4)], ids=["alone", "two", "all threads"]
)
def test_photos_under_way_are_bounded_by_their_pixels(photos, monkeypatch, most, at_once):
  # Nothing is ever judged to its end: what is read until then is what memory must hold.
  opened, gate = [], threading.Event()
  real = photo_worker.read_photo
  monkeypatch.setattr(
    photo_worker, "read_photo", lambda path, **sizes: (opened.append(path), real(path, **sizes))[1]
  )
  real_judge = FakePhotoProtector.judge
  monkeypatch.setattr(
    FakePhotoProtector, "judge", lambda *args: (gate.wait(), real_judge(*args))[1]
  )
  monkeypatch.setattr(photo_worker, "MOST_PIXELS", most)
  subject, _ = make(photos, monkeypatch)
  outcomes = []
  thread = threading.Thread(target=lambda: outcomes.extend(subject.run(photos)))
  thread.start()
  thread.join(0.3)
  seen = len(opened)
  gate.set()
  thread.join()
  assert seen == at_once
  assert len(outcomes) == len(opened) == COUNT


def test_a_bad_photo_is_named_and_the_rest_goes_on(photos, monkeypatch):
  photos[3].record.path.write_bytes(b"no picture")
  photos[4].record.path.unlink()
  Image.new("RGB", (33, 33)).save(photos[5].record.path)
  subject, _ = make(photos, monkeypatch)
  failures = {each.relative: each.failure for each in subject.run(photos) if each.failure}
  named = [failures[photos[index].record.relative] for index in (3, 4, 5)]
  for reason, index, message in zip(
    named, (3, 4, 5), ("must be a", "none", "at least"), strict=True
  ):
    assert message in reason
    assert str(photos[index].record.path) in reason
  assert len(failures) == 3
  assert len(whole(photos)) == COUNT - 3


def test_what_is_judged_is_what_the_disk_gives_back(photos, monkeypatch):
  # A disk that gives back the original, three levels off: the verdict must be about that file.
  real, original = photo_worker._through_the_disk, images.read_image(photos[0].record.path)

  def damage(path, content):
    real(path, content)
    Image.fromarray(original ^ 3).save(path)
    return path.read_bytes()

  monkeypatch.setattr(photo_worker, "_through_the_disk", damage)
  subject, _ = make(photos, monkeypatch)
  (outcome,) = subject.run(photos[:1])
  assert outcome.facts["verdict"]["largest_change"] == 3
  content = photos[0].output.read_bytes()
  assert outcome.facts["output_sha256"] == hashlib.sha256(content).hexdigest()
  assert outcome.facts["pixels_sha256"] == results.digest(original ^ 3)


def test_what_the_format_cannot_hold_is_refused_before_it_is_attacked(photos, monkeypatch):
  Image.new("L", (33, 16400)).save(photos[0].record.path)
  config = PhotoConfig(encoding=Encoding(format="webp"))
  subject, log = make(photos, monkeypatch, photo=config)
  (outcome,) = subject.run(photos[:1])
  assert "sides of at most 16383 pixels to be written as webp" in outcome.failure
  assert log["devices"] == []


def test_bytes_are_read_back_from_the_file(photos, monkeypatch, tmp_path):
  assert photo_worker._through_the_disk(tmp_path / "x", b"abc") == b"abc"
  assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_device_without_enough_memory_ends_the_job_with_a_remedy(photos, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "fits", 1000)
  subject, _ = make(photos, monkeypatch)
  with pytest.raises(JobError, match=r"does not fit .*; --working-megapixels 1 attacks at a small"):
    list(subject.run(photos))
  assert whole(photos) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_ends_the_job_and_leaves_nothing_half_written(photos, monkeypatch, number):
  real, synced = os.fsync, []

  def fill(descriptor):
    synced.append(descriptor)
    if len(synced) > 20:
      raise OSError(number, os.strerror(number))
    real(descriptor)

  monkeypatch.setattr(os, "fsync", fill)
  subject, _ = make(photos, monkeypatch)
  with pytest.raises(JobError, match=f"{os.strerror(number)}. Make room .* then goes on"):
    list(subject.run(photos))
  monkeypatch.setattr(os, "fsync", real)
  assert 0 < len(whole(photos)) < COUNT


def test_a_disk_that_is_full_for_the_record_keeps_the_photo_from_its_name(photos, monkeypatch):
  def refuse(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(atomic, "write_text", refuse)
  subject, _ = make(photos, monkeypatch)
  with pytest.raises(JobError, match="Make room"):
    list(subject.run(photos))
  monkeypatch.undo()
  assert not list(photos[0].output.parents[1].rglob("*.png"))


def test_a_file_that_appears_meanwhile_is_not_replaced(photos, monkeypatch):
  real, foreign = FakePhotoProtector.judge, photos[0].output

  def judge(self, photo, content):
    if photo.path == photos[0].record.path:
      foreign.write_bytes(b"mine")
    return real(self, photo, content)

  monkeypatch.setattr(FakePhotoProtector, "judge", judge)
  subject, _ = make(photos, monkeypatch)
  failures = [each for each in subject.run(photos) if each.failure]
  assert [each.relative for each in failures] == [photos[0].record.relative]
  assert "another program has made a file of that name" in failures[0].failure
  assert foreign.read_bytes() == b"mine"


def test_closing_drops_what_is_on_the_device_and_leaves_whole_files(photos, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.05)
  subject, log = make(photos, monkeypatch)
  outcomes = subject.run(photos)
  first = next(outcomes)
  outcomes.close()
  begun = len(log["devices"])
  there = whole(photos)
  assert first.relative in {task.record.relative for task in there}
  assert len(there) <= 3
  time.sleep(0.15)  # longer than an attack: what was on the device comes to nothing
  assert len(whole(photos)) == len(there)
  assert len(log["devices"]) == begun


def test_the_idle_share_is_the_devices_mean(photos, monkeypatch):
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.1)
  subject, _ = make(photos, monkeypatch, devices=2)
  assert subject.clock.idle_share is None
  list(subject.run(photos[:1]))
  assert subject.clock.idle_share == pytest.approx(0.5, abs=0.01)
  subject, _ = make(photos, monkeypatch, devices=2, out=pathlib.Path(photos[0].output.parents[1]))
  list(subject.run(photos[1:7]))
  assert subject.clock.idle_share < 0.4
