"""The worker: two batches under way and no more, bounded queues, what a failure costs."""

import errno
import os
import pathlib
import threading

import numpy as np
import pytest
from jobs.fake_protector import FakeProtector, expected
from PIL import Image

from rpfgsm_jax.data import folders, images, list_images
from rpfgsm_jax.jobs import plan, worker
from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.worker import DeviceClock, Worker

SIZE = (12, 10)


@pytest.fixture
def photos(tmp_path):
  """Nine photos of the networks' size, lossless, and their tasks."""
  source = tmp_path / "in"
  generator = np.random.default_rng(0)
  for index in range(9):
    folder = source / f"day {index % 2}"
    folder.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"photo {index}.png")
  return plan.plan(list_images(source), tmp_path / "out")


def make(*, size=2, adaptive=False):
  protector = FakeProtector(None, None, seed=3, batch_size=size, devices=[0])
  return Worker(protector, SIZE, "paper", adaptive=adaptive), protector


def check(tasks):
  for task in tasks:
    original = images.read_image(task.record.path)[None]
    wanted = expected(original, np.array([task.record.image_id]), seed=3)[0]
    np.testing.assert_array_equal(images.read_image(task.output), wanted)


@pytest.mark.parametrize("size", [1, 2, 4, 9, 20])
def test_every_photo_becomes_its_file(photos, size):
  subject, protector = make(size=size)
  outcomes = list(subject.run(photos))
  assert sorted(each.relative for each in outcomes) == [each.record.relative for each in photos]
  assert {each.failure for each in outcomes} == {None}
  check(photos)
  assert sum(protector.log["sizes"]) == 9


def test_the_next_batch_is_started_before_the_last_is_fetched_and_never_a_third(photos):
  subject, protector = make(size=2)
  protector.delay = 0.01
  list(subject.run(photos))
  assert protector.log["most"] == 2


def test_no_more_is_read_or_waits_for_the_disk_than_a_few_batches(photos, monkeypatch):
  # A disk that stands still: the worker must stop reading, however many photos there are.
  opened, gate = [], threading.Event()
  real = folders.image_files.open_image
  monkeypatch.setattr(folders, "_AHEAD", 1)
  monkeypatch.setattr(
    folders.image_files, "open_image", lambda path: (opened.append(path), real(path))[1]
  )
  monkeypatch.setattr(worker.images, "write_png", lambda path, pixels: gate.wait())
  subject, _ = make(size=1)
  outcomes = subject.run(photos)
  reader = threading.Thread(target=lambda: list(outcomes))
  reader.start()
  reader.join(0.5)
  assert reader.is_alive()
  # One is written and one waits, two are on the device or fetched, the rest is read ahead.
  assert len(opened) <= 6
  gate.set()
  reader.join()
  assert len(opened) == 9


def test_a_bad_photo_is_named_and_the_rest_goes_on(photos):
  photos[3].record.path.write_bytes(b"no picture")
  photos[4].record.path.unlink()
  outcomes = {each.relative: each.failure for each in make()[0].run(photos)}
  assert len(outcomes) == 9
  failures = {name: reason for name, reason in outcomes.items() if reason}
  assert failures.keys() == {photos[3].record.relative, photos[4].record.relative}
  assert "must be a JPEG, PNG" in failures[photos[3].record.relative]
  assert "but there is none" in failures[photos[4].record.relative]
  check([*photos[:3], *photos[5:]])
  assert not photos[3].output.exists()


def test_what_was_lost_in_reading_is_told_with_its_photo(photos):
  transparent = Image.new("RGBA", (10, 12), (200, 10, 10, 100))
  transparent.save(photos[5].record.path)
  notes = {each.relative: each.notes for each in make()[0].run(photos)}
  (note,) = notes.pop(photos[5].record.relative)
  assert note.startswith(f"{photos[5].record.path}: ")
  assert set(notes.values()) == {()}


def test_batches_that_do_not_fit_are_halved_and_every_photo_is_done_once(photos):
  subject, protector = make(size=8, adaptive=True)
  protector.fits = 2
  outcomes = list(subject.run(photos))
  assert len(outcomes) == 9
  check(photos)
  assert max(protector.log["sizes"][-2:]) <= 2


def test_without_auto_a_batch_that_does_not_fit_ends_the_job(photos):
  subject, protector = make(size=8)
  protector.fits = 2
  with pytest.raises(JobError, match="batch_size does not fit"):
    list(subject.run(photos))


def test_settings_that_the_attack_refuses_are_the_users(photos, monkeypatch):
  def refuse(self, images, image_ids):
    raise ValueError("epsilon must be at least step_size.")

  monkeypatch.setattr(FakeProtector, "start", refuse)
  with pytest.raises(SettingsError, match="epsilon must be at least step_size"):
    list(make()[0].run(photos))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_ends_the_job_and_leaves_nothing_half_written(photos, monkeypatch, number):
  real, written = os.fsync, []

  def fill(descriptor):
    written.append(descriptor)
    if len(written) > 6:  # a file and its folder each
      raise OSError(number, os.strerror(number))
    real(descriptor)

  monkeypatch.setattr(os, "fsync", fill)
  with pytest.raises(JobError, match=f"{os.strerror(number)}. Make room .* then goes on"):
    list(make()[0].run(photos))
  monkeypatch.undo()
  there = [task for task in photos if task.output.exists()]
  assert 0 < len(there) < 9
  check(there)
  out = photos[0].output.parents[1]
  assert sorted(path for path in out.rglob("*.png")) == sorted(task.output for task in there)


def test_a_name_that_the_disk_refuses_is_that_photos_failure_alone(photos):
  long = plan.Task(photos[0].record, photos[0].output.with_name("n" * 300 + ".png"))
  outcomes = {each.relative: each.failure for each in make()[0].run([long, *photos[1:]])}
  assert "could not be written: File name too long" in outcomes.pop(long.record.relative)
  assert set(outcomes.values()) == {None}


def test_closing_drops_the_batches_under_way_and_leaves_whole_files(photos):
  subject, protector = make(size=1)
  protector.delay = 0.02
  outcomes = subject.run(photos)
  first = next(outcomes)
  outcomes.close()
  there = [task for task in photos if task.output.exists()]
  assert first.relative in {task.record.relative for task in there}
  assert len(there) <= 4
  check(there)
  assert not list(pathlib.Path(photos[0].output.parents[1]).rglob(".*"))


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


def test_the_idle_share_counts_real_pauses(photos, monkeypatch):
  subject, protector = make(size=3)
  protector.delay = 0.1
  list(subject.run(photos))
  assert subject.clock.idle_share < 0.4
  # Now reading takes longer than the device.
  real = worker.folders.iterate_images

  def slow(*arguments, **options):
    for batch in real(*arguments, **options):
      threading.Event().wait(0.2)
      yield batch

  monkeypatch.setattr(worker.folders, "iterate_images", slow)
  subject, protector = make(size=3)
  protector.delay = 0.05
  list(subject.run(photos))
  assert 0.5 < subject.clock.idle_share < 0.95
