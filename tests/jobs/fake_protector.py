"""Stand-ins for the attacks that compute nothing: for tests of what happens around them."""

import threading
import time
from typing import ClassVar

import numpy as np

from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.data.photo_files import decode_photo, encode_photo
from rpfgsm_jax.photos.verdict import NetworkVerdict, Verdict, judge
from rpfgsm_jax.protect import OutOfMemoryError

FEWEST = 1100  # pixels of a photo


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


class FakePhotoProtector:
  """Has the face of `PhotoProtector`; its photos are negatives, and its networks judge those."""

  delay = 0.0  # seconds a photo
  fits = 10**9  # pixels; more are out of memory
  log: ClassVar = {"flying": 0, "most": 0, "devices": []}

  def __init__(self, classifiers, config, *, held_out, seed, device):
    self.config, self.seed, self.device = config, seed, device
    self.names = [(network.name, False) for network in classifiers]
    self.names += [(network.name, True) for network in held_out]

  def working_size(self, size):
    most = self.config.working_pixels
    if most is None or size[0] * size[1] <= most:
      return None
    return (size[0] // 2, size[1] // 2)

  def attack(self, photo, image_id):
    seen = photo.seen()
    if seen.size // 3 < FEWEST:
      raise ValueError(f"a photo must have at least {FEWEST} pixels, got {seen.shape}.")
    if seen.size // 3 > self.fits:
      raise OutOfMemoryError("an attack at 9x9 pixels does not fit into the device's memory.")
    self.log["flying"] += 1
    self.log["most"] = max(self.log["most"], self.log["flying"])
    self.log["devices"].append(self.device)
    time.sleep(self.delay)
    self.log["flying"] -= 1
    return expected(seen[None], np.array([image_id]), self.seed)[0].astype(np.uint8)

  def encode(self, photo, pixels):
    return encode_photo(photo, pixels, self.config.encoding)

  def judge(self, photo, content):
    written = decode_photo(content, photo.path)
    change = np.abs(written.astype(int) - photo.seen()).max()
    # The held-out network is misled by colored photos only: so some are protected partly.
    colored = np.ptp(photo.seen().astype(int), axis=-1).max() > 0
    networks = tuple(
      NetworkVerdict(
        name=name,
        held_out=held_out,
        before=(("kitchen", 0.9), ("bar", 0.1)),
        after=(("bar", 0.8), ("kitchen", 0.2)),
        misled={"as written": bool(change and (colored or not held_out)), "JPEG 75": bool(change)},
      )
      for name, held_out in self.names
    )
    return Verdict(
      status=judge(networks), networks=networks, psnr=20.0, ssim=0.9, largest_change=int(change)
    )
