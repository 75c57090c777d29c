"""Places365-Standard's validation images: a folder, val_256.tar, or TFDS's places365_small.

All three give the same records. `relative` is an image's own name, Places365_val_00000001.jpg,
wherever it lies, so its id and its random draws are the same from every source; `label_name` is its
class out of `places365_class_names`. Nothing is downloaded and nothing is unpacked.
"""

import functools
import pathlib
import re
import tarfile
from collections.abc import Mapping

from rpfgsm_jax import atomic
from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.data import folders
from rpfgsm_jax.data import places365_archives as archives
from rpfgsm_jax.data.classes import places365_class_names
from rpfgsm_jax.data.places365_archives import GET_IMAGES, NAME_PATTERN, Opener, name_some

VALIDATION_IMAGES = 36_500
_GET_LABELS = f"get places365_val.txt out of {archives.ADDRESS}/filelist_places365-standard.tar"


def validation_name(number: int) -> str:
  """The file name of a validation image, Places365_val_00000001.jpg for 1."""
  return f"Places365_val_{number:08}.jpg"


@functools.cache
def _class_folders() -> dict[str, int]:
  return {name.replace("/", "-"): index for index, name in enumerate(places365_class_names())}


def _parse_label(line: str) -> tuple[str | None, int]:
  official = re.fullmatch(rf"({NAME_PATTERN})\s+([0-9]+)", line)
  if official:
    return official[1], int(official[2])
  in_folder = re.fullmatch(rf"(?:val/)?([\w-]+)/({NAME_PATTERN})", line)
  return (in_folder[2], _class_folders().get(in_folder[1], -1)) if in_folder else (None, -1)


def read_places365_labels(path: PathLike) -> dict[str, int]:
  """Reads the list of the validation images' classes.

  Args:
    path: places365_val.txt, a line `Places365_val_00000001.jpg 165` an image, in any order. Lines
      `val/field-cultivated/Places365_val_00000001.jpg`, as in the archives with class folders, are
      read too.

  Returns:
    Indices into `places365_class_names`, 0..364, by file name.

  Raises:
    ValueError: the file is missing, has no line or another line, or gives one image two classes.
  """
  path = pathlib.Path(path)
  try:
    lines = atomic.read_text(path).splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f"labels must be the text file places365_val.txt, got {path} ({error}); {_GET_LABELS}."
    ) from error
  labels: dict[str, int] = {}
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    name, label = _parse_label(line.strip())
    if name is None or not 0 <= label <= 364:
      raise ValueError(
        f"labels must have lines such as '{validation_name(1)} 165' with a class of 0..364, got "
        f"{line[:80]!r} in line {number} of {path}; {_GET_LABELS}."
      )
    if labels.setdefault(name, label) != label:
      raise ValueError(
        f"labels must give an image one class, got {labels[name]} and {label} for {name} in "
        f"{path}; {_GET_LABELS}."
      )
  if not labels:
    raise ValueError(f"labels must list images, got an empty file: {path}; {_GET_LABELS}.")
  return labels


def _make_records(
  found: Mapping[str, tuple[pathlib.Path, Opener | None]],
  labels: Mapping[str, int],
  source: str,
  complete: bool,
) -> list[folders.ImageRecord]:
  """Records in the order of their names, after checking that none is missing or without a class."""
  if not found:
    raise ValueError(
      f"{source} must have images named like {validation_name(1)}, got none; {GET_IMAGES}."
    )
  unlabeled = sorted(found.keys() - labels.keys())
  if unlabeled:
    raise ValueError(
      f"labels must list every image of {source}, got {len(labels):,} images without "
      f"{name_some(unlabeled)}; {_GET_LABELS}."
    )
  official = map(validation_name, range(1, VALIDATION_IMAGES + 1))
  missing = [name for name in official if name not in found] if complete else []
  if missing:
    raise ValueError(
      f"{source} must have all {VALIDATION_IMAGES:,} validation images, {len(missing):,} are "
      f"missing: {name_some(missing)}; {GET_IMAGES}, or pass complete=False to use a part."
    )
  classes = places365_class_names()
  # No two of the official names share an id, so it does not depend on which of them are here.
  return [
    folders.ImageRecord(path, name, folders.image_id(name), classes[labels[name]], opener)
    for name, (path, opener) in sorted(found.items())
  ]


def list_places365_folder(
  folder: PathLike, labels: PathLike, *, complete: bool = True
) -> list[folders.ImageRecord]:
  """Lists the validation images in a folder and its sub-folders; other files are left out.

  Args:
    folder: with images named Places365_val_00000001.jpg; their folders do not matter.
    labels: see `read_places365_labels`.
    complete: all 36,500 images must be there; False takes what is there.

  Returns:
    Records in the order of their names.

  Raises:
    ValueError: the folder or the list is missing, short or not what it should be; an image is
      there twice.
  """
  known = read_places365_labels(labels)
  try:
    listed = folders.list_images(folder)
  except ValueError as error:
    raise ValueError(f"{error} For Places365, {GET_IMAGES} and unpack it.") from error
  found: dict[str, tuple[pathlib.Path, None]] = {}
  for record in listed:
    path = record.path
    if (
      re.fullmatch(NAME_PATTERN, path.name) and found.setdefault(path.name, (path, None))[0] != path
    ):
      raise ValueError(
        f"folder must have each image once, got {found[path.name][0]} and {path}; remove one or "
        "name the folder of one."
      )
  return _make_records(found, known, f"the folder {folder}", complete)


def list_places365_tar(
  path: PathLike, labels: PathLike, *, complete: bool = True
) -> list[folders.ImageRecord]:
  """Lists the validation images inside val_256.tar, which is read where it lies, not unpacked.

  Links, absolute names and names with `..` are left out. The archive must stay in its place until
  the images have been read; one image at a time is in memory.

  Args:
    path: an archive that is not compressed, with images named Places365_val_00000001.jpg.
    labels: see `read_places365_labels`.
    complete: see `list_places365_folder`.

  Returns:
    Records in the order of their names.

  Raises:
    ValueError: the archive or the list is missing, short, damaged or not what it should be.
  """
  path = pathlib.Path(path)
  known = read_places365_labels(labels)
  try:
    found = archives.index_tar(path)
  except (tarfile.TarError, OSError, ValueError) as error:
    raise ValueError(
      f"path must be the whole archive val_256.tar, not compressed, got {path} ({error}); "
      f"{GET_IMAGES}."
    ) from error
  return _make_records(found, known, f"the archive {path}", complete)


def list_places365_tfds(
  data_dir: PathLike | None = None, *, complete: bool = True
) -> list[folders.ImageRecord]:
  """Lists the validation images of TFDS's places365_small, which must have been prepared.

  Every example is read once for its name, about 4 seconds for all of them.

  Args:
    data_dir: TFDS's data folder, which has places365_small in it; None: TFDS's own choice.
    complete: see `list_places365_folder`.

  Returns:
    Records in the order of their names.

  Raises:
    ValueError: the data set is missing, short, damaged, in a format without random access, or has
      other classes.
  """
  source, where = archives.open_tfds(data_dir)
  try:
    found, labels = archives.index_tfds(source, where)
  except Exception as error:  # whatever the reader raises
    raise archives.damaged_tfds(where, error) from error
  return _make_records(found, labels, f"the data set {where}", complete)
