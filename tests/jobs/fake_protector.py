"""A stand-in for the attack that computes nothing: for tests of what happens around it."""

import copy
import dataclasses
import threading
import time
from typing import ClassVar

import numpy as np

from rpfgsm_jax.data.images import preprocess
from rpfgsm_jax.data.photo_files import decode_photo, encode_photo
from rpfgsm_jax.engine.protector import OutOfMemoryError
from rpfgsm_jax.photos.verdict import NetworkVerdict, Verdict, judge

FEWEST = 110  # pixels of a photo


def expected(images: np.ndarray, ids: np.ndarray, seed: int) -> np.ndarray:
  """What the stand-in makes of images: negatives, moved by what decides a real result too."""
  moved = np.asarray(ids, np.uint64) % 7 + seed % 5
  return np.clip(255 - images.astype(int) - moved.astype(int)[:, None, None, None], 0, 255)


class FakePhotoProtector:
  """Has the face of `PhotoProtector`; its photos are negatives, and its networks judge those."""

  delay = 0.0  # seconds a batch
  fits = 10**9  # pixels that are computed at once; more are out of memory
  log: ClassVar = {"flying": 0, "most": 0, "devices": [], "sizes": []}
  _lock = threading.Lock()

  def __init__(self, classifiers, config, *, held_out, seed, device):
    self.config, self.seed, self.device = config, seed, device
    self.image_size = classifiers[0].image_size
    self.names = [(network.name, False) for network in classifiers]
    self.names += [(network.name, True) for network in held_out]

  def prepare(self, photo):
    if self.config.size == "photo":
      return photo
    pixels = preprocess(photo.seen(), self.image_size, self.config.preprocess)
    return dataclasses.replace(photo, pixels=pixels, alpha=None)

  def working_size(self, size):
    most = self.config.working_pixels
    if most is None or size[0] * size[1] <= most or self.config.size == "network":
      return None
    while size[0] * size[1] > most:
      size = (size[0] // 2, size[1] // 2)
    return size

  def shape_of(self, photo):
    size = photo.pixels.shape[:2]
    return self.working_size(size) or size

  def micro_batch(self, shape):
    return self.config.attack.micro_batch

  def limited(self, micro_batch, working_pixels):
    smaller = copy.copy(self)
    attack = dataclasses.replace(self.config.attack, micro_batch=micro_batch)
    smaller.config = dataclasses.replace(self.config, attack=attack, working_pixels=working_pixels)
    return smaller

  def attack_together(self, photos, image_ids, *, batch_size=None):
    (shape,) = {self.shape_of(photo) for photo in photos}
    if min(photo.seen().size // 3 for photo in photos) < FEWEST:
      raise ValueError(f"a photo must have at least {FEWEST} pixels.")
    at_once = max(batch_size or len(photos), self.micro_batch(shape))
    assert len(photos) <= at_once
    if at_once * shape[0] * shape[1] > self.fits:
      raise OutOfMemoryError("an attack does not fit.")
    log = self.log  # the same at the end, though the next test may have put in its own
    with self._lock:
      log["flying"] += 1
      log["most"] = max(log["most"], log["flying"])
      log["devices"] += [self.device] * len(photos)
      log["sizes"].append(len(photos))
    time.sleep(self.delay)
    with self._lock:
      log["flying"] -= 1
    return [
      expected(photo.seen()[None], np.array([image_id]), self.seed)[0].astype(np.uint8)
      for photo, image_id in zip(photos, image_ids, strict=True)
    ]

  def encode(self, photo, pixels):
    return encode_photo(photo, pixels, self.config.encoding)

  def judge(self, photo, written):
    if isinstance(written, bytes):
      written = decode_photo(written, photo.path)
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
