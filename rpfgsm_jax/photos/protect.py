"""`protect_photo`: a photo of any size, protected at that size; a verdict on what is written.

The attack is RP-FGSM on the photo's own pixels: defense, then the resize that each network wants,
then the network, all differentiable. Where that would take too long, it runs at a working size and
its change is lifted to the photo. What is written is decoded again, and judged.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import secrets
from collections.abc import Sequence

import jax
import numpy as np

from rpfgsm_jax import atomic, protector
from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig, rp_fgsm
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.data import images
from rpfgsm_jax.data.photo_files import (
  MIN_SIDE,
  Encoding,
  Photo,
  check_encodable,
  decode_photo,
  encode_photo,
  read_photo,
)
from rpfgsm_jax.defenses import encoded_bank, shrunk_bank
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.photos import judging
from rpfgsm_jax.photos.lift import lift, working_size
from rpfgsm_jax.photos.settings import WORKING_PIXELS
from rpfgsm_jax.photos.strength import STRENGTHS, allowed_change
from rpfgsm_jax.photos.verdict import Verdict
from rpfgsm_jax.photos.views import view_at


def photo_attack() -> RPFGSMConfig:
  """Returns RP-FGSM's settings for photos: the paper's defenses, the medium strength."""
  return RPFGSMConfig(epsilon=STRENGTHS["medium"], micro_batch=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoConfig:
  """How photos are protected and written; static.

  Attributes:
    attack: RP-FGSM's own settings; `epsilon` one number. `micro_batch` is how many photos of one
      size are computed together; more than one is for accelerators and `attack_together`.
    shrink: the attack's defenses, the identity aside, act on a thumbnail of so many times the
      networks' largest side, see `rpfgsm_jax.defenses.shrunk_bank`; None: on the photo itself.
    texture: allow smooth places only a smaller change, see `allowed_change`.
    working_pixels: photos of more pixels are attacked at a working size of about so many; None:
      every photo at its own size.
    encoding: how they are written. A JPEG encoder becomes part of the attack.
    keep_metadata: keep the EXIF fields that show no picture; else nothing is kept.
  """

  attack: RPFGSMConfig = dataclasses.field(default_factory=photo_attack)
  shrink: float | None = 1.25
  texture: bool = False
  working_pixels: int | None = WORKING_PIXELS
  encoding: Encoding = dataclasses.field(default_factory=Encoding)
  keep_metadata: bool = False

  def __post_init__(self) -> None:
    pixels = self.working_pixels
    if pixels is not None and (not isinstance(pixels, int) or pixels < 2**12):
      raise ValueError(
        f"working_pixels must be an integer of at least {2**12}, or None for each photo's own "
        f"size, got {pixels!r}."
      )
    if self.shrink is not None and not 0.1 <= self.shrink <= 100:
      raise ValueError(
        f"shrink must be in 0.1..100 times the networks' side, or None, got {self.shrink!r}."
      )
    if np.ndim(self.attack.epsilon):
      raise ValueError(
        f"attack.epsilon must be one number, got shape {np.shape(self.attack.epsilon)}; texture "
        "spreads it over the pixels."
      )
    if not 0 <= self.attack.epsilon < float("inf"):
      raise ValueError(
        f"attack.epsilon must be >= 0 gray levels and finite, got {self.attack.epsilon}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProtectedPhoto:
  """A protected photo and what is known of it.

  Attributes:
    pixels: `(H, W, 3)` uint8, decoded from `content`.
    content: the bytes of the file.
    verdict: on these bytes.
    working_size: (height, width) of the attack; None: the photo's own.
    notes: what was lost or changed when the photo was read; sentences.
  """

  pixels: np.ndarray
  content: bytes
  verdict: Verdict
  working_size: tuple[int, int] | None
  notes: tuple[str, ...] = ()


class PhotoProtector:
  """The three steps of protecting photos: `attack` on the device, `encode` and `judge` on the host.

  A photo's result depends on the seed, its id, its pixels, the networks and the config. Programs
  are compiled for each size that the attack runs at.

  Attributes:
    config: how photos are protected.
  """

  def __init__(
    self,
    classifiers: Sequence[Classifier],
    config: PhotoConfig | None = None,
    *,
    held_out: Sequence[Classifier] = (),
    seed: int = 0,
    device: jax.Device | None = None,
  ) -> None:
    """Keeps networks and settings; nothing is compiled before the first photo.

    Args:
      classifiers: the networks to mislead, of the same classes; each is shown photos at its own
        image size.
      config: how photos are protected; None: the defaults.
      held_out: networks that only judge.
      seed: 0..2^64-1. Who knows it can compute the draws.
      device: that computes; None: JAX's default.

    Raises:
      ValueError: an argument breaks its rule, or a network both attacks and is held out.
    """
    self.config = PhotoConfig() if config is None else config
    self._classifiers = inputs.check_classifiers(classifiers, same_size=False)
    self._held_out = (held_out,) if isinstance(held_out, Classifier) else tuple(held_out)
    named = {network.name for network in self._classifiers}
    for network in self._held_out:
      if network.name in named:
        raise ValueError(
          f"held_out must be networks that the attack never asks, got {network.name}, which is one "
          "of the classifiers; leave it out of one of them."
        )
    self._key = protector.root_key(seed)
    self._device = device
    attack = self.config.attack
    bank, encoding = attack.defenses, self.config.encoding
    if self.config.shrink is not None:
      largest = max(max(network.image_size) for network in self._classifiers)
      bank = shrunk_bank(bank, max(round(self.config.shrink * largest), 1))
    if encoding.format == "jpeg":
      bank = encoded_bank(bank, encoding.quality, encoding.subsampling)
    self._attack = dataclasses.replace(attack, defenses=bank, record_draws=False)

  def working_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
    """Returns the size at which the attack runs.

    Args:
      size: (height, width) of the photo, pixels.

    Returns:
      (height, width); None: the photo's own.
    """
    pixels = self.config.working_pixels
    return None if pixels is None else working_size(size, pixels)

  def attack(self, photo: Photo, image_id: int) -> np.ndarray:
    """Attacks a photo.

    Args:
      photo: the photo.
      image_id: its stable id, 0..2^32-1.

    Returns:
      `(H, W, 3)` uint8, what a classifier is to be shown.

    Raises:
      OutOfMemoryError: it does not fit into the device's memory at this working size.
    """
    return self.attack_together([photo], [image_id])[0]

  def attack_together(self, photos: Sequence[Photo], image_ids: Sequence[int]) -> list[np.ndarray]:
    """Attacks photos of one size in one call, for devices that a single one does not fill.

    Args:
      photos: at least one.
      image_ids: their stable ids, 0..2^32-1.

    Returns:
      For each `(H, W, 3)` uint8, what a classifier is to be shown.

    Raises:
      ValueError: there is none, or they have different sizes.
      OutOfMemoryError: they do not fit into the device's memory at this working size.
    """
    seen = [photo.seen() for photo in photos]
    if len({pixels.shape for pixels in seen}) != 1:
      sizes = sorted({pixels.shape[:2] for pixels in seen})
      raise ValueError(f"photos must be of one size, got {sizes}; attack others on their own.")
    size = self.working_size(seen[0].shape[:2])
    work = seen if size is None else [images.resize(pixels, size) for pixels in seen]
    attacked = self._run(np.stack(work), image_ids)
    if size is None:
      return list(attacked)
    return [lift(*each) for each in zip(seen, work, attacked, strict=True)]

  def _run(self, work: np.ndarray, image_ids: Sequence[int]) -> np.ndarray:
    config, epsilon = self._attack, float(self._attack.epsilon)
    if self.config.texture:
      steps = config.num_steps
      if steps is None:  # from epsilon itself, not from what the smoothest pixel is allowed
        rounds = len(self._classifiers) if config.classifier_choice == "random" else 1
        steps = rounds * iterations_for(epsilon)
      allowed = np.stack([allowed_change(pixels, epsilon) for pixels in work])
      config = dataclasses.replace(config, epsilon=allowed, num_steps=steps)
    views = [view_at(classifier, work.shape[1:3]) for classifier in self._classifiers]
    with (
      protector.watching_memory(functools.partial(_too_large, work)),
      jax.default_device(self._device),
    ):
      result = rp_fgsm(self._key, work, views, config, image_ids=list(image_ids))
      return np.asarray(result.adversarial).astype(np.uint8)

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

  def judge(self, photo: Photo, content: bytes) -> Verdict:
    """Returns the verdict on written bytes.

    Args:
      photo: the original.
      content: the file's content, read back.

    Returns:
      The verdict.

    Raises:
      ImageError: these bytes are no photo.
    """
    with jax.default_device(self._device):
      return judging.judge_photo(
        photo.seen(), decode_photo(content, photo.path), self._classifiers, self._held_out
      )


def protect_photo(
  photo: str | os.PathLike[str] | np.ndarray,
  classifiers: Sequence[Classifier],
  config: PhotoConfig | None = None,
  *,
  held_out: Sequence[Classifier] = (),
  seed: int | None = None,
  out: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
) -> ProtectedPhoto:
  """Protects one photo at its own size and says what networks make of the result.

  Sanchez-Matilla et al. (2020), at full size: the defenses are the paper's, on a thumbnail of the
  photo (see `PhotoConfig.shrink`), the change is at most `config.attack.epsilon` gray levels.

  Example:
    >>> done = rp.protect_photo("beach.jpg", nets, held_out=[unseen], out="beach.png")
    >>> done.verdict.status
    'protected'

  Args:
    photo: a file, or `(H, W, 3)` uint8 in sRGB; both sides at least 32 pixels.
    classifiers: the networks to mislead, of the same classes.
    config: settings; None: `PhotoConfig()`.
    held_out: networks that only judge.
    seed: of the random draws, 0..2^64-1; None: a new one. With one seed for several photos, two of
      the same pixels get the same change.
    out: file to write, ending in what `config.encoding` writes (".png"); None: `content` only.
    overwrite: replace `out` where it exists.

  Returns:
    The photo, its file's bytes, and the verdict on these bytes: read back from the disk where `out`
    is given, which takes its name only then.

  Raises:
    ImageError: the photo cannot be read, or is too long for the format.
    ValueError: an argument breaks its rule; `out` is the photo itself.
    FileExistsError: `out` exists.
    OutOfMemoryError: it does not fit into the device's memory at this working size.
    OSError: `out` could not be written; an older file is untouched.
  """
  config = PhotoConfig() if config is None else config
  target = None if out is None else _check_out(out, photo, config.encoding, overwrite)
  read = _photo_of(photo)
  check_encodable(read, config.encoding)  # before minutes of work
  digest = hashlib.sha256(read.seen().tobytes()).digest()
  protecting = PhotoProtector(
    classifiers,
    config,
    held_out=held_out,
    seed=secrets.randbits(64) if seed is None else seed,
  )
  pixels = protecting.attack(read, int.from_bytes(digest[:4], "big") >> 1)
  content = protecting.encode(read, pixels)
  if target is None:
    verdict = protecting.judge(read, content)
  else:
    with atomic.replacing(target) as temporary:
      temporary.write_bytes(content)
      content = temporary.read_bytes()
      verdict = protecting.judge(read, content)
      _check_free(target, overwrite)  # once more: attacks take their time
  return ProtectedPhoto(
    pixels=decode_photo(content, target),
    content=content,
    verdict=verdict,
    working_size=protecting.working_size(read.pixels.shape[:2]),
    notes=read.notes,
  )


def _photo_of(photo: str | os.PathLike[str] | np.ndarray) -> Photo:
  if isinstance(photo, str | os.PathLike):
    return read_photo(photo)
  images.check_pixels(photo, channels=(3,))
  height, width = photo.shape[:2]
  if min(height, width) < MIN_SIDE:
    raise ValueError(
      f"photo must have at least {MIN_SIDE} pixels on both sides, got {width}x{height}; so few "
      "show no scene that could be hidden."
    )
  return Photo(pixels=photo)


def _check_out(
  out: str | os.PathLike[str],
  photo: str | os.PathLike[str] | np.ndarray,
  encoding: Encoding,
  overwrite: bool,
) -> pathlib.Path:
  target = pathlib.Path(out)
  if target.suffix.lower() != encoding.suffix:
    raise ValueError(
      f"out must end in {encoding.suffix}, got {target}; or choose another config.encoding."
    )
  of_file = isinstance(photo, str | os.PathLike)
  if of_file and target.resolve() == pathlib.Path(photo).resolve():
    raise ValueError(f"out must not be the photo itself, got {target}; originals stay untouched.")
  _check_free(target, overwrite)
  return target


def _check_free(target: pathlib.Path, overwrite: bool) -> None:
  if target.exists() and not overwrite:
    raise FileExistsError(f"out exists: {target}; name another file, or pass overwrite=True.")


def _too_large(work: np.ndarray) -> str:
  count, height, width = work.shape[:3]
  together = f"of {count} photos together " if count > 1 else ""
  return (
    f"an attack {together}at {width}x{height} pixels does not fit into the device's memory; try "
    f"{'fewer at once, or ' if count > 1 else ''}"
    f"working_pixels={max(height * width // 4, 2**12)}."
  )
