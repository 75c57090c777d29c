"""`PhotoProtector`: the steps that photos go through, from their pixels to the verdict.

The attack is RP-FGSM on the photo's own pixels: defense, then the resize that each network wants,
then the network, all differentiable. Where that would take too long, it runs at a working size and
its change is lifted to the photo. At the networks' size the photo is brought there first.
"""

import copy
import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import rp_fgsm
from rpfgsm_jax.data import images
from rpfgsm_jax.data.photo_files import Photo, decode_photo, encode_photo
from rpfgsm_jax.defenses import encoded_bank, shrunk_bank
from rpfgsm_jax.engine.protector import root_key, watching_memory
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Network
from rpfgsm_jax.photos import judging
from rpfgsm_jax.photos.config import PhotoConfig, Size
from rpfgsm_jax.photos.lift import lift, working_size
from rpfgsm_jax.photos.scene import scene_class
from rpfgsm_jax.photos.verdict import Verdict
from rpfgsm_jax.photos.views import view_at

_MICRO_BATCH_PIXELS = 2**24  # of the photos of a micro-batch, together


class PhotoProtector:
  """The steps of protecting photos: `attack` on the device, `encode` and `judge` on the host.

  A photo's result depends on the seed, its id, its pixels, the networks and the config. Programs
  are compiled for each size that the attack runs at.

  Attributes:
    config: how photos are protected.
  """

  def __init__(
    self,
    classifiers: Sequence[Network],
    config: PhotoConfig | None = None,
    *,
    held_out: Sequence[Classifier] = (),
    seed: int = 0,
    device: jax.Device | None = None,
  ) -> None:
    """Keeps networks and settings; nothing is compiled before the first photo.

    See `protect_photo` for the arguments; `device` computes, None: JAX's default. Each network is
    shown photos at its own image size; with `config.size` "network" that is one size.
    """
    self.config = inputs.config_or_default(config, PhotoConfig)
    own_size = self.config.size == "photo"
    self._classifiers = inputs.check_classifiers(classifiers, same_size=not own_size, mixed=True)
    self._held_out = (held_out,) if isinstance(held_out, Classifier) else tuple(held_out)
    named = {network.name for network in self._classifiers}
    for network in self._held_out:
      if network.name in named:
        raise ValueError(
          f"held_out must be networks that the attack does not use, got {network.name}, which is "
          "one of the classifiers; leave it out of one of them, or give two networks two names: "
          "dataclasses.replace(network, name=…)."
        )
    # Embedders are attacked, but have no scene to name.
    self._seen = tuple(each for each in self._classifiers if isinstance(each, Classifier))
    if not self._seen and not self._held_out:
      raise ValueError(
        "classifiers must have one with classes, to judge the photos, got embedders alone; add "
        "one, or give one as held_out."
      )
    scene, classes = self.config.scene, [(each.name, each.class_names) for each in self._seen]
    self._label = None if scene is None else scene_class(scene, classes)
    self._key = root_key(seed)
    self._device, self._judges_known = device, False
    attack = self.config.attack
    if attack.targeted:
      inputs.check_goal("rp_fgsm", True, None, None, 1, self._classifiers)
      inputs.check_enough_classes(self._classifiers)
    bank, encoding = attack.defenses, self.config.encoding
    if own_size and self.config.shrink is not None:
      largest = max(max(network.image_size) for network in self._classifiers)
      bank = shrunk_bank(bank, max(round(self.config.shrink * largest), 1))
    if encoding.format == "jpeg":
      bank = encoded_bank(bank, encoding.quality, encoding.subsampling)
    self._attack = dataclasses.replace(attack, defenses=bank, record_draws=False)

  def prepare(self, photo: Photo) -> Photo:
    """Returns the photo that is protected and written.

    Args:
      photo: as it was read.

    Returns:
      The photo itself; with `config.size` "network" what the networks would be shown of it, opaque.
    """
    if self.config.size == "photo":
      return photo
    pixels = images.preprocess(
      photo.seen(), self._classifiers[0].image_size, self.config.preprocess
    )
    notes = photo.notes
    if photo.alpha is not None:
      notes = (*notes, f"{photo.path}: {images.OVER_WHITE}")
    return dataclasses.replace(photo, pixels=pixels, alpha=None, exif=None, notes=notes)

  def working_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
    """Returns the size at which the attack runs.

    Args:
      size: (height, width) of the photo, pixels.

    Returns:
      (height, width); None: the photo's own.
    """
    pixels = self.config.working_pixels
    if pixels is None or self.config.size == "network":
      return None
    return working_size(size, pixels)

  def attack(self, photo: Photo, image_id: int) -> np.ndarray:
    """Attacks a photo.

    Args:
      photo: the photo, as `prepare` returns it.
      image_id: its stable id, 0..2^32-1.

    Returns:
      `(H, W, 3)` uint8, what a classifier is to be shown.

    Raises:
      ValueError: a network is broken, or has no finite answer to this photo.
      OutOfMemoryError: it does not fit into the device's memory at this working size.
    """
    return self.attack_together([photo], [image_id])[0]

  def attack_together(
    self, photos: Sequence[Photo], image_ids: Sequence[int], *, batch_size: int | None = None
  ) -> list[np.ndarray]:
    """Attacks photos of one working size in one call, for devices that one does not fill.

    Args:
      photos: at least one, as `prepare` returns them.
      image_ids: their stable ids, 0..2^32-1.
      batch_size: images that are computed, the last one repeated, so that calls with fewer photos
        compile nothing anew; None: as many as there are photos.

    Returns:
      For each `(H, W, 3)` uint8, what a classifier is to be shown.

    Raises:
      ValueError: there is none, they have different working sizes, or a network is broken or has
        no finite answer to one.
      OutOfMemoryError: they do not fit into the device's memory at this working size.
    """
    seen = [photo.seen() for photo in photos]
    shapes = {self.shape_of(photo) for photo in photos}
    if len(shapes) != 1:
      raise ValueError(
        f"photos must be attacked at one size, got {sorted(shapes)}; attack others on their own."
      )
    (shape,) = shapes
    work = [
      pixels if pixels.shape[:2] == shape else images.resize(pixels, shape) for pixels in seen
    ]
    attacked = self._run(np.stack(work), image_ids, batch_size or len(work))
    return [
      after if after.shape == pixels.shape else lift(pixels, before, after)
      for pixels, before, after in zip(seen, work, attacked, strict=True)
    ]

  def shape_of(self, photo: Photo) -> tuple[int, int]:
    """Returns the size at which a photo is attacked: its working size, or its own.

    Args:
      photo: the photo, as `prepare` returns it.

    Returns:
      (height, width), pixels.
    """
    size = photo.pixels.shape[:2]
    return self.working_size(size) or size

  def micro_batch(self, shape: tuple[int, int]) -> int:
    """Returns how many images of one size are computed together, see `PhotoConfig`.

    Args:
      shape: (height, width) of the attack, pixels.

    Returns:
      At least 1, at most `config.attack.micro_batch`.
    """
    fitting = max(_MICRO_BATCH_PIXELS // (shape[0] * shape[1]), 1)
    return min(self._attack.micro_batch, fitting)

  def limited(self, micro_batch: int, working_pixels: int | None) -> "PhotoProtector":
    """Returns the same for a device with less memory; the networks stay where they are.

    Args:
      micro_batch: photos that are computed together.
      working_pixels: see `PhotoConfig`.

    Returns:
      A new protector.
    """
    smaller = copy.copy(self)
    smaller.config = dataclasses.replace(self.config, working_pixels=working_pixels)
    smaller._attack = dataclasses.replace(self._attack, micro_batch=micro_batch)
    return smaller

  def _run(self, work: np.ndarray, image_ids: Sequence[int], batch_size: int) -> np.ndarray:
    count, shape = len(work), work.shape[1:3]
    rows = np.minimum(np.arange(max(batch_size, count)), count - 1)
    config = dataclasses.replace(self._attack, micro_batch=self.micro_batch(shape))
    views = [view_at(classifier, shape) for classifier in self._classifiers]
    ids = [int(image_ids[row]) for row in rows]
    with (
      watching_memory(functools.partial(_too_large, work, self.config.size)),
      jax.default_device(self._device),
    ):
      if not self._judges_known:  # the others are asked by the attack
        judging.check_judges(self._held_out)
        self._judges_known = True
      result = rp_fgsm(self._key, work[rows], views, config, image_ids=ids, label=self._label)
      return np.asarray(result.adversarial)[:count].astype(np.uint8)

  def encode(self, photo: Photo, pixels: np.ndarray) -> bytes:
    """Returns the bytes of the file.

    Args:
      photo: the original, whose transparency and, if wanted, metadata are kept.
      pixels: `(H, W, 3)` uint8, what a classifier is to be shown.

    Returns:
      The file's content.
    """
    config = self.config
    return encode_photo(photo, pixels, config.encoding, keep_metadata=config.keep_metadata)

  def judge(self, photo: Photo, written: bytes | np.ndarray) -> Verdict:
    """Returns the verdict on a written photo.

    Args:
      photo: the original.
      written: the file's content, read back; or its pixels as `decode_photo` gives them.

    Returns:
      The verdict.

    Raises:
      ImageError: these bytes are no photo.
      ValueError: a network is broken, or has no finite answer to the photo.
      OutOfMemoryError: the device has no memory left for the networks that judge.
    """
    if isinstance(written, bytes):
      written = decode_photo(written, photo.path)
    too_large = "judging it does not fit into the device's memory."
    with watching_memory(lambda: too_large), jax.default_device(self._device):
      scene = self.config.scene
      return judging.judge_photo(photo.seen(), written, self._seen, self._held_out, scene)


def _too_large(work: np.ndarray, size: Size) -> str:
  count, height, width = work.shape[:3]
  together = f"of {count} photos together " if count > 1 else ""
  remedies = ["fewer at once"] if count > 1 else []
  if size == "photo":
    remedies.append(f"working_pixels={max(height * width // 4, 2**12)}")
  else:
    remedies.append("fewer or smaller networks")
  return (
    f"an attack {together}at {width}x{height} pixels does not fit into the device's memory; try "
    f"{', or '.join(remedies)}."
  )
