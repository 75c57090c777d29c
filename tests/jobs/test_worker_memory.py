"""The worker where memory ends, where one photo of a batch fails, and between two batches."""

import dataclasses
import threading

import numpy as np
import pytest
import toy_classifiers as toys
from jobs.fake_protector import FakePhotoProtector
from jobs.test_worker import COUNT, make, micro_batch, photos, save, whole  # noqa: F401

from rpfgsm_jax.engine.protector import OutOfMemoryError
from rpfgsm_jax.jobs import engines
from rpfgsm_jax.jobs.spec import Job, NetworkIdentity, SettingsError
from rpfgsm_jax.photos.config import PhotoConfig, photo_attack
from rpfgsm_jax.photos.fitting import FittingAttack
from rpfgsm_jax.photos.protector import PhotoProtector


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
@pytest.mark.parametrize("step", ["attack_together", "encode", "judge"])
def test_memory_that_ends_in_any_step_costs_that_photo_alone(photos, monkeypatch, step, error):  # noqa: F811
  real, bad = getattr(FakePhotoProtector, step), photos[2].path

  def fail(self, given, *arguments, **options):
    if bad in [each.path for each in (given if isinstance(given, list) else [given])]:
      raise error("no more")
    return real(self, given, *arguments, **options)

  monkeypatch.setattr(FakePhotoProtector, step, fail)
  failures = [each for each in make(photos, batch_size=4).run(photos) if each.failure]
  where = "the computer's memory" if error is MemoryError else "the device's memory"
  assert [each.failure.split(";")[0] for each in failures] == [f"{bad} does not fit into {where}"]
  assert len(whole(photos)) == COUNT - 1


def test_a_photo_that_fails_in_a_batch_costs_no_more_than_a_few(tmp_path, monkeypatch):
  pixels = np.random.default_rng(0).integers(0, 256, (64, 36, 34, 3), np.uint8)
  tasks, calls, real = save(tmp_path, pixels), [], FakePhotoProtector.attack_together

  def fail(self, photos, *arguments, **options):  # noqa: F811
    calls.append(len(photos))
    if tasks[9].path in [each.path for each in photos]:
      raise ValueError("no use for it.")
    return real(self, photos, *arguments, **options)

  monkeypatch.setattr(FakePhotoProtector, "attack_together", fail)
  (failed,) = [each for each in make(tasks, batch_size=64).run(tasks) if each.failure]
  assert failed.failure == f"{tasks[9].path}: no use for it."
  assert len(calls) == 13  # twice 6 halvings, and the first


def test_a_device_has_its_next_batch_before_the_caller_hears_of_the_last(photos, monkeypatch):  # noqa: F811
  begun, second, real = [], threading.Event(), FakePhotoProtector.attack_together

  def attack(self, *arguments, **options):
    begun.append(arguments)
    if len(begun) == 3:
      second.set()
    return real(self, *arguments, **options)

  monkeypatch.setattr(FakePhotoProtector, "attack_together", attack)
  monkeypatch.setattr(FakePhotoProtector, "delay", 0.1)
  outcomes = make(photos, batch_size=2).run(photos)
  next(outcomes)  # and the caller asks for no more
  assert second.wait(5)
  outcomes.close()


def test_batches_of_large_photos_have_fewer_of_them():
  config = PhotoConfig(
    attack=dataclasses.replace(photo_attack(), micro_batch=16), working_pixels=None
  )
  attack = FittingAttack(PhotoProtector([toys.linear(1)], config), 48)
  sizes = [(512, 512), (1024, 1024), (2048, 2048), (3000, 4000), (6000, 8000)]
  assert [attack.batch_size(size) for size in sizes] == [48, 48, 12, 3, 3]
  assert FittingAttack(PhotoProtector([toys.linear(1)], config), 8).batch_size(sizes[-1]) == 1


@pytest.mark.parametrize("size", ["photo", "network"])
def test_targets_from_too_few_classes_are_refused_before_any_photo(tmp_path, monkeypatch, size):
  networks = [toys.linear(index, name=str(index)) for index in range(len(toys.CLASS_NAMES))]
  monkeypatch.setattr(engines, "identify_networks", lambda job: job.identities)
  monkeypatch.setattr(engines, "load_classifier", lambda name: networks[int(name)])
  names = [each.name for each in networks]
  config = PhotoConfig(attack=dataclasses.replace(photo_attack(), targeted=True), size=size)
  job = Job(sources=(), out=tmp_path, networks=names, photos=config, seed=1)
  identities = [NetworkIdentity(name, "") for name in names]
  with pytest.raises(SettingsError, match="more classes than networks, got 7 classes and 7"):
    engines.make_worker(dataclasses.replace(job, identities=identities), 3)
