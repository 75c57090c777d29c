"""Attacks on a device with too little memory: fewer photos, fewer at a time, a smaller size."""

import dataclasses
import math
import types

import jax
import numpy as np
import pytest
from photos.toy_protection import CONFIG, NETWORKS

import rpfgsm_jax as rp
from rpfgsm_jax.engine.protector import OutOfMemoryError
from rpfgsm_jax.photos import Photo, PhotoConfig, PhotoProtector
from rpfgsm_jax.photos.fitting import FittingAttack


@pytest.fixture
def device(monkeypatch):
  """Its memory, in images and in pixels computed at once; and what was tried on it."""
  memory = types.SimpleNamespace(images=math.inf, pixels=math.inf, tried=[])

  def attack(key, images, classifiers, config, **options):
    count, *shape = images.shape[:3]
    memory.tried.append((count, config.micro_batch, *shape))
    if count > memory.images or config.micro_batch * math.prod(shape) > memory.pixels:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    return rp.rp_fgsm(key, images, classifiers, config, **options)

  monkeypatch.setattr("rpfgsm_jax.photos.protector.rp_fgsm", attack)
  return memory


def protector(micro_batch=1, **changes):
  attack = dataclasses.replace(CONFIG.attack, micro_batch=micro_batch)
  return PhotoProtector(NETWORKS, dataclasses.replace(CONFIG, attack=attack, **changes), seed=7)


def pieces(photo, count):
  return [Photo(pixels=photo[9 * n : 9 * n + 40, 9 * n : 9 * n + 52]) for n in range(count)]


def large(photo):
  return Photo(path="large.png", pixels=np.tile(photo[:200, :320], (2, 1, 1))[:256])


def check(found, protector, photos):
  """Each photo became what the protector makes of it alone."""
  for number, (each, one) in enumerate(zip(found, photos, strict=True)):
    np.testing.assert_array_equal(each.pixels, protector.attack(one, number))


def test_a_halved_batch_gives_the_same_bits(photo, device):
  photos, device.images = pieces(photo, 5), 2
  fitting = FittingAttack(protector(), 4)
  found = fitting(photos, range(5))
  assert [count for count, *_ in device.tried] == [4, 2, 2, 2]
  assert {each[1:] for each in found} == {(None, ())}
  check(found, protector(), photos)
  device.tried.clear()
  fitting(photos, range(5))
  assert [count for count, *_ in device.tried] == [2, 2, 2]  # it is known what fits


def test_what_does_not_fit_as_one_micro_batch_is_computed_fewer_at_a_time(photo, device):
  photos, device.pixels = pieces(photo, 3), 2 * 40 * 52
  found = FittingAttack(protector(4), 8)(photos, range(3))
  assert [each[:2] for each in device.tried] == [(8, 4), (4, 4), (2, 2), (2, 2)]
  (told,) = {each[1:] for each in found}
  note = "None: computed 2 at a time, so that last bits may differ; 4 do not fit into the device's"
  assert told == (None, (f"{note} memory",))
  check(found, protector(2), photos)


def test_a_photo_that_does_not_fit_alone_is_attacked_at_a_smaller_size_and_says_so(photo, device):
  one, device.pixels = large(photo), 30_000
  fitting = FittingAttack(protector(2), 1)
  (found,) = fitting([one], [0])
  tried = [(1, 2, 256, 320), (1, 1, 256, 320), (1, 1, 128, 160)]
  assert device.tried == tried
  assert found.working_size == (128, 160)
  assert found.notes == (
    "large.png: attacked at 160x128 pixels; a larger working size does not fit into the device's "
    "memory",
  )
  check([found], protector(working_pixels=256 * 320 // 4), [one])
  # Photos of other working sizes have all that they had.
  photos = pieces(photo, 2)
  device.tried.clear()
  check(fitting(photos, range(2)), protector(2), photos)
  assert device.tried[:2] == [(1, 2, 40, 52)] * 2


@pytest.mark.parametrize("size", ["photo", "network"])
def test_where_not_even_one_fits_the_error_is_the_devices(photo, device, size):
  device.pixels = 0
  config = PhotoConfig(size=size, attack=dataclasses.replace(CONFIG.attack, micro_batch=2))
  own = PhotoProtector(NETWORKS, config, seed=7)
  remedy = "working_pixels=5120" if size == "photo" else "fewer or smaller networks"
  images = [own.prepare(large(photo)), own.prepare(large(photo))]
  with pytest.raises(OutOfMemoryError, match=f"memory; try {remedy}"):
    FittingAttack(own, 2)(images, range(2))
  shapes = list(dict.fromkeys(each[2:] for each in device.tried))
  assert shapes == ([(256, 320), (128, 160)] if size == "photo" else [(12, 10)])
  assert device.tried[-1][:2] == (1, 1)
