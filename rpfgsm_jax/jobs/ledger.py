"""What has been protected before, so that a protected photo is not protected once more.

A file of this user's own holds one line a result, the first 64 bits of its pixels' SHA-256: it says
nothing to anybody who has not the picture, and no salt is added, which would have to lie beside it.
Lines are short and written in one piece, so that many runs may add at once; others are passed over.
Where the file cannot be read or written, results are known to their own folder only.
"""

import hashlib
import os
import pathlib
import re

import numpy as np

from rpfgsm_jax.jobs import photo_records
from rpfgsm_jax.user_folders import user_folder

_DIGITS = 16
_LINE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


def picture_digest(pixels: np.ndarray) -> str:
  """Returns 64 hexadecimal digits by which a picture, `(H, W, 3)` uint8 over white, is known."""
  content = hashlib.sha256(np.asarray(pixels.shape, "<u4").tobytes())
  content.update(np.ascontiguousarray(pixels))
  return content.hexdigest()


def file() -> pathlib.Path | None:
  """Returns this user's file; None where there is no home to have it in."""
  folder = user_folder("state", "RPFGSM_STATE")
  return None if folder is None else folder / "results"


def read(out: pathlib.Path) -> frozenset[str]:
  """Returns the digests in this user's file and in the records of `out`, for `is_known`."""
  known = {
    facts["pixels_sha256"][:_DIGITS]
    for facts in photo_records.read_all(out)
    if photo_records.changes_pixels(facts)
  }
  path = file()
  try:
    content = "" if path is None else path.read_text("ascii", "replace")
  except OSError:
    return frozenset(known)
  return frozenset(known | set(filter(_LINE.fullmatch, content.splitlines())))


def is_known(pixels: np.ndarray, known: frozenset[str]) -> bool:
  """Says whether a picture is a result."""
  return picture_digest(pixels)[:_DIGITS] in known


def remember(pixels_sha256: str | None = None) -> str | None:
  """Adds a result to this user's file, or only sees whether that would be possible.

  Returns why it is not; None where it is.
  """
  path = file()
  if path is None:
    return "there is no home folder for a list of results (RPFGSM_STATE may name one)"
  line = "" if pixels_sha256 is None else f"{pixels_sha256[:_DIGITS]}\n"
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
      os.write(descriptor, line.encode())
    finally:
      os.close(descriptor)
  except OSError as error:
    return f"{path} cannot be written ({error.strerror or error})"
  return None
