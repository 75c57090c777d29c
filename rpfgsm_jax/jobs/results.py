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

_DIGITS = 16
_LINE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


def digest(pixels: np.ndarray) -> str:
  """Returns what a picture is known by, whatever the format of its file.

  Args:
    pixels: `(H, W, 3)` uint8, over white.

  Returns:
    64 hexadecimal digits.
  """
  content = hashlib.sha256(np.asarray(pixels.shape, "<u4").tobytes())
  content.update(np.ascontiguousarray(pixels))
  return content.hexdigest()


def file() -> pathlib.Path:
  """Returns this user's file: in `$RPFGSM_STATE`, or in the system's place for such things."""
  import platformdirs

  folder = os.environ.get("RPFGSM_STATE") or platformdirs.user_state_dir("rpfgsm-jax")
  return pathlib.Path(folder) / "results"


class Known:
  """The results that are known, where this process runs."""

  def __init__(self, out: pathlib.Path):
    """Reads what is known.

    Args:
      out: a folder of results whose own records are taken along.

    Returns:
      Nothing.
    """
    self._digests = {
      facts["pixels_sha256"][:_DIGITS]
      for facts in photo_records.read_all(out)
      if facts["verdict"]["largest_change"]  # else the original is no other picture
    }
    try:
      content = file().read_text("ascii", "replace")
    except OSError:
      return
    self._digests.update(line for line in content.splitlines() if _LINE.fullmatch(line))

  def __contains__(self, pixels_sha256: str) -> bool:
    return pixels_sha256[:_DIGITS] in self._digests


def remember(pixels_sha256: str | None = None) -> str | None:
  """Adds a result to this user's file.

  Args:
    pixels_sha256: what it is known by; None: only sees whether that would be possible.

  Returns:
    Why it could not be added; None where it was.
  """
  path = file()
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
