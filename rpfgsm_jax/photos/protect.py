"""`protect_photo`: a photo of any size, protected at that size; a verdict on what is written."""

import contextlib
import dataclasses
import os
import pathlib
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from rpfgsm_jax import atomic, result_folder
from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.data import images
from rpfgsm_jax.data.folders import image_id
from rpfgsm_jax.data.photo_files import (
  Encoding,
  Photo,
  Source,
  check_sides,
  decode_photo,
  file_of,
  open_photo,
)
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Network
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
  photo: Source | ArrayLike,
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
    photo: a file, by its name, opened (a `BytesIO` too) or as its bytes; a picture that Pillow has
      opened; or an array, NumPy's or JAX's, `(H, W, 3)` uint8 in sRGB. Both sides have at least 32
      pixels.
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
    ValueError: an argument breaks its rule, or a network is broken; `out` is the photo itself, or
      in a folder that cannot be made or written to.
    FileExistsError: `out` exists.
    OutOfMemoryError: it does not fit into the device's memory at this working size.
    OSError: `out` could not be written; an older file is untouched.
  """
  config = inputs.config_or_default(config, PhotoConfig)
  target = None if out is None else _check_out(out, photo, config.encoding, overwrite)
  seed = secrets.randbits(64) if seed is None else seed
  protecting = PhotoProtector(classifiers, config, held_out=held_out, seed=seed)
  read = protecting.prepare(_photo_of(photo, config))
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


def _photo_of(photo: Any, config: PhotoConfig) -> Photo:
  if isinstance(photo, str | os.PathLike | bytes | Image.Image) or hasattr(photo, "read"):
    return open_photo(photo, limits=config.limits).decode()
  if hasattr(photo, "__array__"):
    photo = np.asarray(photo)
  images.check_pixels(photo, channels=(3,))
  check_sides("photo", photo.shape[:2], config.limits)
  return Photo(pixels=photo)


def _check_out(
  out: str | os.PathLike[str],
  photo: Source | ArrayLike,
  encoding: Encoding,
  overwrite: bool,
) -> pathlib.Path:
  target = pathlib.Path(out)
  if target.suffix.lower() != encoding.suffix:
    raise ValueError(
      f"out must end in {encoding.suffix}, got {target}; or choose another config.encoding."
    )
  file = file_of(photo)
  if file is not None and target.resolve() == file.resolve():
    raise ValueError(f"out must not be the photo itself, got {target}; originals stay untouched.")
  _check_free(target, overwrite)
  result_folder.check_writable(target.absolute().parent, "out")
  return target


def _check_free(target: pathlib.Path, overwrite: bool) -> None:
  if target.exists() and not overwrite:
    raise FileExistsError(f"out exists: {target}; name another file, or pass overwrite=True.")
