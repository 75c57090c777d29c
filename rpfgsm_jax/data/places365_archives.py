"""The two archives of Places365's validation images, opened for reading one image at a time.

val_256.tar is read where it lies, by byte offset; TFDS's places365_small through its own reader,
with the pictures still encoded. Nothing is downloaded and nothing is unpacked.
"""

import functools
import pathlib
import re
import tarfile
from collections.abc import Callable, Sequence
from typing import Any

from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.data.classes import places365_class_names
from rpfgsm_jax.data.images import ImageError, OpenedImage, open_bytes

Opener = Callable[[], OpenedImage]
Found = dict[str, tuple[pathlib.Path, Opener]]
"""Where each image lies, and how it is opened, by its file name."""

ADDRESS = "http://data.csail.mit.edu/places/places365"
GET_IMAGES = f"get val_256.tar (525 MB) from {ADDRESS}/val_256.tar"
NAME_PATTERN = r"Places365_val_[0-9]{8}\.jpg"
_USE_TAR = f"{GET_IMAGES} and use list_places365_tar"
_MAX_IMAGE_BYTES = 2**26
_TAR_BLOCK = 512
_TFDS_NAME = "places365_small"


def name_some(names: Sequence[str]) -> str:
  """The first three of many names and how many more there are, for an error message."""
  more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
  return ", ".join(names[:3]) + more


def _open_member(archive: pathlib.Path, member: str, offset: int, size: int) -> OpenedImage:
  path = archive / member
  if size > _MAX_IMAGE_BYTES:
    raise ImageError(
      f"{path} must have at most {_MAX_IMAGE_BYTES} bytes, got {size}; get the archive again."
    )
  try:
    with archive.open("rb") as file:
      file.seek(offset)
      content = file.read(size)
  except OSError as error:
    raise ImageError(
      f"{path} must be readable, got {error.strerror or error}; check that the archive is still "
      "there."
    ) from error
  return open_bytes(path, content)


def _is_safe(name: str) -> bool:
  return not name.startswith("/") and "\\" not in name and ".." not in name.split("/")


def index_tar(path: pathlib.Path) -> Found:
  """The images of an archive by name; links, devices, absolute names and `..` are left out."""
  found: Found = {}
  with tarfile.open(path, "r:") as archive:
    for member in archive:
      name = member.name.rpartition("/")[2]
      stored = member.isreg() and not member.issparse() and _is_safe(member.name)
      if not stored or not re.fullmatch(NAME_PATTERN, name):
        continue
      # As in unpacking: of two members with one name the later one counts.
      opener = functools.partial(_open_member, path, member.name, member.offset_data, member.size)
      if found.setdefault(name, (path / member.name, opener))[0] != path / member.name:
        raise tarfile.ReadError(f"{name} is there twice, in two folders")
      found[name] = (path / member.name, opener)
    stopped = archive.offset
  # tarfile takes a damaged header for the end of the archive; the real end is a block of zeros.
  with path.open("rb") as file:
    file.seek(stopped)
    if file.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
      raise tarfile.ReadError(f"its table of contents breaks off at byte {stopped:,}")
  return found


def _open_example(source: Sequence[Any], position: int, path: pathlib.Path) -> OpenedImage:
  try:
    content = source[position]["image"]
  except Exception as error:  # whatever the reader raises, the data set is what is wrong
    raise ImageError(f"{path} must be readable, got {error}; prepare it again.") from error
  return open_bytes(path, content)


def damaged_tfds(where: PathLike | None, error: Exception) -> ValueError:
  """The error that says a data set's files are damaged and what to do."""
  return ValueError(
    f"data_dir must have a whole {_TFDS_NAME}, got damaged files in {where} "
    f"({type(error).__name__}: {error}); prepare it again, or {_USE_TAR}."
  )


def open_tfds(data_dir: PathLike | None) -> tuple[Sequence[Any], pathlib.Path]:
  """The validation split with its pictures still encoded, and the folder it lies in."""
  try:
    import tensorflow_datasets as tfds  # late: it takes seconds
  except ImportError as error:
    raise ValueError(
      f"{_TFDS_NAME} needs tensorflow-datasets, got none ({error}); run pip install "
      f"'rpfgsm-jax[experiments]', or {_USE_TAR}."
    ) from error
  try:
    builder = tfds.builder(_TFDS_NAME, data_dir=data_dir)
  except Exception as error:  # as in _open_example
    raise damaged_tfds(data_dir, error) from error
  where = pathlib.Path(builder.data_path)
  if "validation" not in builder.info.splits:
    raise ValueError(
      f"data_dir must have TFDS's {_TFDS_NAME} with its split validation, got none in {where}; "
      f'prepare it (with TensorFlow, 31 GB) by tfds.builder("{_TFDS_NAME}", data_dir=..., '
      f'file_format="array_record").download_and_prepare(), or {_USE_TAR}.'
    )
  names = tuple(builder.info.features["label"].names)
  if names != places365_class_names():
    raise ValueError(
      f"{_TFDS_NAME} must have the classes of places365_class_names in their order, got "
      f"{name_some(names)} in {where}; prepare it again with another release of TFDS."
    )
  try:
    encoded = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source("validation", decoders=encoded), where
  except NotImplementedError as error:
    raise ValueError(
      f"data_dir must have {_TFDS_NAME} as array_record, got {builder.info.file_format.value} in "
      f"{where}; add it (with TensorFlow) by `tfds convert_format --dataset_version_dir={where} "
      f"--out_file_format=array_record`, or {_USE_TAR}."
    ) from error


def index_tfds(source: Sequence[Any], where: pathlib.Path) -> tuple[Found, dict[str, int]]:
  """The images and their classes by name; every example is read once."""
  found: Found = {}
  labels: dict[str, int] = {}
  for position, example in enumerate(source):
    stored = example["filename"].decode()
    name = stored.rpartition("/")[2]
    if re.fullmatch(NAME_PATTERN, name):
      path = where / stored
      found[name] = (path, functools.partial(_open_example, source, position, path))
      if example["label"] >= 0:  # TFDS writes -1 for an image without a class
        labels[name] = int(example["label"])
  return found, labels
