"""A stand-in for the attack that computes nothing: for tests of what happens around it."""

import threading
import time

import numpy as np

from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.protect import OutOfMemoryError


def expected(images: np.ndarray, ids: np.ndarray, seed: int) -> np.ndarray:
  """What the stand-in makes of images: negatives, moved by what decides a real result too."""
  moved = np.asarray(ids, np.uint64) % 7 + seed % 5
  return np.clip(255 - images.astype(int) - moved.astype(int)[:, None, None, None], 0, 255)


class FakeProtector:
  """Has the face of `Protector`; counts how many batches are on the device at once."""

  delay = 0.0  # seconds a batch
  fits = 10**6  # images a batch; more are out of memory, and only the result says so

  def __init__(self, classifiers, config, *, seed, batch_size, devices):
    self.seed, self.batch_size, self.devices = seed, batch_size, devices
    self.log = {"flying": 0, "most": 0, "sizes": []}
    self._device = threading.Lock()

  @property
  def capacity(self):
    return self.batch_size * len(self.devices)

  def start(self, images, image_ids):
    assert 1 <= len(images) <= self.capacity
    assert images.dtype == np.uint8
    self.log["flying"] += 1
    self.log["most"] = max(self.log["most"], self.log["flying"])
    self.log["sizes"].append(len(images))
    return FakePending(self, images, image_ids)

  def __call__(self, images, image_ids):
    return self.start(images, image_ids).result()

  def halved(self):
    other = type(self)(None, None, seed=self.seed, batch_size=self.batch_size // 2, devices=[0])
    other.log, other.delay, other.fits = self.log, self.delay, self.fits
    return other


class FakePending:
  def __init__(self, protector, images, image_ids):
    self.protector, self.images, self.image_ids = protector, images, image_ids

  def result(self):
    with self.protector._device:
      time.sleep(self.protector.delay)
    self.protector.log["flying"] -= 1
    if len(self.images) > self.protector.fits:
      raise OutOfMemoryError("batch_size does not fit.")
    adversarial = expected(self.images, self.image_ids, self.protector.seed).astype(np.float32)
    none = np.zeros(len(adversarial), np.int32)
    return AttackResult(
      adversarial=adversarial, target=none - 1, success=none > 0, gradient_evaluations=none
    )
