"""`protect_photo`: a photo of any size, protected at that size; a verdict on what is written."""

import contextlib
import dataclasses
import os
import pathlib
import secrets
from collections.abc import Sequence

import numpy as np

from rpfgsm_jax import atomic
from rpfgsm_jax.attacks.goals import Network
from rpfgsm_jax.data import images
from rpfgsm_jax.data.folders import image_id
from rpfgsm_jax.data.photo_files import (
  Encoding,
  Photo,
  check_encodable,
  check_sides,
  decode_photo,
  open_photo,
)
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.photos.config import PhotoConfig
from rpfgsm_jax.photos.protector import PhotoProtector
from rpfgsm_jax.photos.verdict import Verdict


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


def protect_photo(
  photo: str | os.PathLike[str] | np.ndarray,
  classifiers: Sequence[Network],
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
  seed = secrets.randbits(64) if seed is None else seed
  protecting = PhotoProtector(classifiers, config, held_out=held_out, seed=seed)
  read = protecting.prepare(_photo_of(photo, config))
  check_encodable(read, config.encoding)  # before minutes of work
  content = protecting.encode(read, protecting.attack(read, image_id(read.seen().tobytes())))
  with contextlib.nullcontext() if target is None else atomic.replacing(target) as temporary:
    if temporary is not None:
      content = atomic.through_the_disk(temporary, content)
    pixels = decode_photo(content, target)
    verdict = protecting.judge(read, pixels)
    if target is not None:
      _check_free(target, overwrite)  # once more: attacks take their time
  size = protecting.working_size(read.size)
  return ProtectedPhoto(
    pixels=pixels, content=content, verdict=verdict, working_size=size, notes=read.notes
  )


def _photo_of(photo: str | os.PathLike[str] | np.ndarray, config: PhotoConfig) -> Photo:
  if isinstance(photo, str | os.PathLike):
    return open_photo(photo, min_side=config.min_side).decode()
  images.check_pixels(photo, channels=(3,))
  check_sides("photo", photo.shape[:2], config.min_side)
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
