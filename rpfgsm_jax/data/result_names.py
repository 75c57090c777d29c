"""What the results of photos are called: one rule for all that writes or looks for them."""

import collections
import pathlib
import unicodedata
from collections.abc import Sequence

from rpfgsm_jax.data.folders import RAW_SUFFIXES


def disk_key(name: str) -> str:
  """Returns what is equal for names that some disks take for one: but for case or accents' form."""
  return unicodedata.normalize("NFC", name).casefold()


def output_names(relatives: Sequence[str], suffix: str = ".png") -> list[str]:
  """Names the result of each photo: its own name with another suffix.

  Where two photos would get one name (also: equal but for case), or a photo that of a folder, each
  of them keeps its whole name and the suffix is added: `a.jpg` and `a.png` become `a.jpg.png` and
  `a.png.png`. A raw photo, of which there will be no result, takes no name from its finished
  picture.
  """
  names = [_short_name(relative, suffix) for relative in relatives]
  folders = {
    disk_key(str(parent))
    for relative in relatives
    for parent in pathlib.PurePosixPath(relative).parents
  }
  changed = True
  while changed:  # a whole name may be the short name of another photo
    counts = collections.Counter(map(disk_key, names))
    changed = False
    for place, relative in enumerate(relatives):
      key, whole = disk_key(names[place]), relative + suffix
      if names[place] != whole and (counts[key] > 1 or key in folders):
        names[place], changed = whole, True
  return names


def _short_name(relative: str, suffix: str) -> str:
  path = pathlib.PurePosixPath(relative)
  return relative + suffix if path.suffix.lower() in RAW_SUFFIXES else str(path.with_suffix(suffix))
