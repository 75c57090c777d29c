"""Attacks on photos with what fits into a device's memory, whatever was asked for.

What does not fit together is halved; what does not fit as one micro-batch is computed fewer at a
time; a photo that does not fit alone is attacked at a smaller working size. The first changes no
bits. The others are remembered for each working size apart, so that what a photo becomes does not
depend on the photos before it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rpfgsm_jax.data.photo_files import Photo
from rpfgsm_jax.engine.protector import OutOfMemoryError
from rpfgsm_jax.photos.protector import PhotoProtector

_FEWEST_PIXELS = 2**14  # of a working size that is taken because a larger one does not fit


class AttackedPhoto(NamedTuple):
  """What the attack made of a photo."""

  pixels: np.ndarray  # (H, W, 3) uint8, what a classifier is to be shown
  working_size: tuple[int, int] | None  # (height, width) of the attack; None: the photo's own
  notes: tuple[str, ...] = ()  # sentences: what memory did not allow


class FittingAttack:
  """The attack of one device."""

  def __init__(self, protector: PhotoProtector, batch_size: int) -> None:
    self._wanted, self._batch_size = protector, batch_size
    self._fitting: dict[tuple[int, int], tuple[PhotoProtector, int]] = {}

  def __call__(self, photos: Sequence[Photo], image_ids: Sequence[int]) -> list[AttackedPhoto]:
    """Attacks photos of one working size; raises OutOfMemoryError where not even one fits."""
    shape = self._wanted.shape_of(photos[0])
    while True:
      wanted = self._wanted, self.batch_size(shape)
      protector, size = self._fitting.get(shape, wanted)
      try:
        attacked = []
        for start in range(0, len(photos), size):
          part = slice(start, start + size)
          attacked += protector.attack_together(photos[part], image_ids[part], batch_size=size)
      except OutOfMemoryError:
        smaller = _smaller(protector, protector.shape_of(photos[0]), size)
        if smaller is None:
          raise
        self._fitting[shape] = smaller
      else:
        return [self._describe(protector, *each) for each in zip(photos, attacked, strict=True)]

  def batch_size(self, shape: tuple[int, int]) -> int:
    """Returns how many photos of a (height, width) go well together: fewer where they are large."""
    wanted, fitting = self._wanted.config.attack.micro_batch, self._wanted.micro_batch(shape)
    return max(self._batch_size * fitting // wanted, 1)

  def _describe(self, protector: PhotoProtector, photo: Photo, pixels: np.ndarray) -> AttackedPhoto:
    wanted, taken = (each.working_size(pixels.shape[:2]) for each in (self._wanted, protector))
    shape, memory = self._wanted.shape_of(photo), "not fit into the device's memory"
    together, fitting = (each.micro_batch(shape) for each in (self._wanted, protector))
    notes: tuple[str, ...] = ()
    if taken != wanted:
      done = f"attacked at {taken[1]}x{taken[0]} pixels"
      notes = (f"{photo.path}: {done}; a larger working size does {memory}",)
    elif fitting != together:
      done = f"computed {fitting} at a time, so that last bits may differ"
      notes = (f"{photo.path}: {done}; {together} do {memory}",)
    return AttackedPhoto(pixels, taken, notes)


def _smaller(
  protector: PhotoProtector, shape: tuple[int, int], batch_size: int
) -> tuple[PhotoProtector, int] | None:
  """Returns the next thing to try after photos of a working size did not fit; None: nothing is."""
  micro_batch, pixels = protector.micro_batch(shape), shape[0] * shape[1]
  if batch_size > micro_batch:
    return protector, max(batch_size // 2, micro_batch)
  if micro_batch > 1:
    working = protector.config.working_pixels
    return protector.limited(micro_batch // 2, working), min(batch_size, micro_batch // 2)
  if protector.config.size == "photo" and pixels // 4 >= _FEWEST_PIXELS:
    return protector.limited(1, pixels // 4), 1
  return None
