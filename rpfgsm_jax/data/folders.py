"""Folders of images: what lies in them, under which id and label, and their pixels in order."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.data import images as image_files
from rpfgsm_jax.data.batches import in_batches, read_ahead
from rpfgsm_jax.data.classes import plain_name
from rpfgsm_jax.data.system_folders import holds_copies

# HEIC is listed although Pillow alone cannot read it, and so are photos that nothing here can read:
# somebody who protects a folder must hear about those that were left out.
IMAGE_SUFFIXES = (
  ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp", ".ppm",
  ".pgm", ".heic", ".heif",
)  # fmt: skip
RAW_SUFFIXES = (
  ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".rw2", ".raw",
  ".orf", ".pef", ".ptx", ".srw", ".rwl", ".3fr", ".fff", ".iiq", ".eip", ".x3f", ".erf",
  ".kdc", ".dcr", ".dcs", ".k25", ".mrw", ".mef", ".mos", ".gpr", ".bay",
)  # fmt: skip
PHOTO_SUFFIXES = (
  *IMAGE_SUFFIXES, ".jpe", ".mpo", ".hif", ".heics", ".heifs", ".avifs", ".apng", ".dib", ".jxl",
  ".jp2", *RAW_SUFFIXES,
)  # fmt: skip
_AHEAD = 16  # pictures opened ahead of the one being yielded
_MAX_WORKERS = 8


@dataclasses.dataclass(frozen=True)
class ImageRecord:
  """One image file of a folder, or one image inside an archive."""

  path: pathlib.Path  # inside an archive: the archive's own path and the name in it
  relative: str  # to the folder, with forward slashes on every system; Places365: its file name
  image_id: int  # 0..2^31 - 1, from `relative` alone
  label_name: str | None = None  # its class sub-folder; None at the top of the folder
  # Opens an image inside an archive, in the thread that asks for it; None: `path` is a file.
  opener: Callable[[], image_files.OpenedImage] | None = dataclasses.field(
    default=None, compare=False, repr=False
  )


class ImageBatch(NamedTuple):
  """Images of one size and the records they belong to; the files that could not be read."""

  images: np.ndarray  # (N, H, W, 3) uint8
  records: list[ImageRecord]  # N
  failures: list[tuple[ImageRecord, str]]  # and why, a sentence naming the file


def image_id(relative: str | bytes) -> int:
  """The stable id of an image: the first 31 bits of the SHA-256 of its relative path.

  It fits a non-negative int32 and depends on nothing but the path, so adding files, sharding a
  folder or moving it elsewhere changes no image's random draws.

  Args:
    relative: path relative to the image folder, with forward slashes; or, of an image that has no
      name, the bytes of its pixels.

  Returns:
    An integer in 0..2^31 - 1.
  """
  content = relative.encode("utf-8", "surrogateescape") if isinstance(relative, str) else relative
  return int.from_bytes(hashlib.sha256(content).digest()[:4], "big") >> 1


def unique_image_ids(relatives: Sequence[str]) -> list[int]:
  """One id a path, all different.

  Of paths with the same 31 bits (among 36,500 images there is such a pair in one folder of four)
  the first keeps its id; each further one takes the id of `path#1`, `path#2`, … that no other
  image has. Images without a namesake are never affected.
  """
  ids = [image_id(relative) for relative in relatives]
  taken, seen = set(ids), set()
  for place, (relative, identity) in enumerate(zip(relatives, ids, strict=True)):
    attempt = 0
    while identity in seen:
      attempt += 1
      candidate = image_id(f"{relative}#{attempt}")
      if candidate not in taken:
        ids[place] = identity = candidate
        taken.add(candidate)
    seen.add(identity)
  return ids


def walk(
  folder: pathlib.Path,
  *,
  skip: Callable[[pathlib.Path], bool] = lambda inner: False,
  on_error: Callable[[pathlib.Path, OSError], None] | None = None,
) -> Iterator[pathlib.Path]:
  """All files below a folder that are not hidden; a link back to a folder above is not followed.

  `skip` says which inner folders are left out. A folder that cannot be read is given to `on_error`,
  without which its error is raised.
  """
  return _walk(folder, (), skip, on_error)


def _walk(
  folder: pathlib.Path,
  above: tuple[tuple[int, int], ...],
  skip: Callable[[pathlib.Path], bool],
  on_error: Callable[[pathlib.Path, OSError], None] | None,
) -> Iterator[pathlib.Path]:
  try:
    status = folder.stat()
    entries = sorted(folder.iterdir())
  except OSError as error:
    if on_error is None:
      raise
    on_error(folder, error)
    return
  identity = (status.st_dev, status.st_ino)
  if identity in above:
    return
  for entry in entries:
    if entry.name.startswith("."):
      continue
    if not os.path.isdir(entry):
      yield entry
    elif not skip(entry):
      yield from _walk(entry, (*above, identity), skip, on_error)


def list_images(
  folder: PathLike,
  *,
  class_names: Sequence[str] | None = None,
  suffixes: Sequence[str] = IMAGE_SUFFIXES,
) -> list[ImageRecord]:
  """Lists the image files of a folder and its sub-folders, sorted by relative path.

  Files are known by their suffix (any case); hidden files and folders are left out, and so are
  folders of thumbnails and deleted files (`@eaDir`, `#recycle`, ...); links are followed, loops
  excepted. Nothing is opened: a broken file is reported when it is read. Should two paths have the
  same `image_id`, the first in order keeps it and the others get another one, so ids are unique
  within a list.

  Args:
    folder: the folder.
    class_names: names a class sub-folder may have. With them a nested folder such as
      `church/indoor` (also `c/church/indoor`) is known as that class; without them, and for
      folders of another name, the label name is the first folder of the relative path.
    suffixes: of the files to list, in small letters; `PHOTO_SUFFIXES` has those of raw photos too.

  Returns:
    At least one record.

  Raises:
    ValueError: `folder` is missing, is a file, or has no image file.
  """
  root = pathlib.Path(folder)
  if not root.is_dir():
    came = "a file" if root.exists() else "nothing of that name"
    remedy = "name the folder it is in" if root.exists() else "check the path"
    raise ValueError(f"folder must be a folder of images, got {came}: {root}; {remedy}.")
  files = list(walk(root, skip=lambda inner: holds_copies(inner.name)))
  found = {
    path.relative_to(root).as_posix(): path for path in files if path.suffix.lower() in suffixes
  }
  if not found:
    others = f"{len(files)} other files, such as {min(files).name}" if files else "an empty folder"
    raise ValueError(
      f"folder must contain image files ({', '.join(suffixes)}), got {others}: {root}; "
      "name another folder or convert the files."
    )
  relatives = sorted(found)
  table = _class_table(class_names) if class_names is not None else {}
  records = []
  for relative, identity in zip(relatives, unique_image_ids(relatives), strict=True):
    folders = relative.split("/")[:-1]
    index = _match_folders(folders, table)
    name = (
      (folders[0] if folders else None)
      if index is None or class_names is None
      else class_names[index]
    )
    records.append(ImageRecord(found[relative], relative, identity, name))
  return records


def _class_table(class_names: Sequence[str]) -> dict[str, int]:
  table: dict[str, int] = {}
  for index, name in enumerate(class_names):
    first = table.setdefault(plain_name(name), index)
    if first != index:
      raise ValueError(
        f"class_names must differ in more than case, '-', ' ' and '_', got {class_names[first]!r} "
        f"and {name!r}; rename one."
      )
  return table


def _match_folders(folders: Sequence[str], table: dict[str, int]) -> int | None:
  """The class with the longest name that the folders start with, a letter folder aside."""
  # Places365's training set lies in letter folders: c/church/indoor.
  lettered = len(folders) > 1 and len(folders[0]) == 1 and folders[1].startswith(folders[0])
  for start in (0, 1) if lettered else (0,):
    for end in range(len(folders), start, -1):
      index = table.get(plain_name("/".join(folders[start:end])))
      if index is not None:
        return index
  return None


def labels_for(records: Sequence[ImageRecord], class_names: Sequence[str]) -> np.ndarray:
  """The true class of each image, from its label name or its folders.

  Names are compared without regard to case, and with `-` and ` ` read as `_`.

  Args:
    records: images, as listed by `list_images` or made by hand with a `label_name`.
    class_names: the classes, in network order.

  Returns:
    `(N,)` int32: indices into `class_names`, -1 where there is no label or no such class.

  Raises:
    ValueError: two class names are the same under that comparison.
  """
  table = _class_table(class_names)
  labels = np.full(len(records), -1, np.int32)
  for place, record in enumerate(records):
    if record.label_name is None:
      continue
    folders = record.relative.split("/")[:-1]
    # A label that is just the first folder may be the beginning of a nested class's name.
    derived = bool(folders) and folders[0] == record.label_name
    index = _match_folders(folders, table) if derived else table.get(plain_name(record.label_name))
    labels[place] = -1 if index is None else index
  return labels


def iterate_images(
  records: Sequence[ImageRecord],
  image_size: tuple[int, int],
  how: str = "paper",
  *,
  batch_size: int = 32,
  notes: list[str] | None = None,
) -> Iterator[ImageBatch]:
  """Reads images in order, in batches, decoding ahead in threads.

  At most one batch and the 16 pictures ahead of it are in memory. A file that cannot be read is
  reported in its batch's `failures` and its place is taken by the next image, so every batch but
  the last is full. Only when no image at all can be read is there a batch without images.

  Args:
    records: the images.
    image_size: (height, width) of the result.
    how: preprocessing, see `preprocess`.
    batch_size: images in a batch, at least 1.
    notes: a list that receives what was lost on the way, see `read_image`.

  Yields:
    `ImageBatch(images, records, failures)`.

  Raises:
    ValueError: `image_size`, `how` or `batch_size` is of the wrong kind.
  """
  image_files.check_size(image_size)
  image_files.check_how(how)
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size}; 32 is the default.")
  decode = functools.partial(_decode, image_size=image_size, how=how)
  read: Iterator[tuple[list, list]] = in_batches(
    read_ahead(records, _open, decode, ahead=_AHEAD, workers=_MAX_WORKERS), batch_size
  )
  return (_make_batch(good, failed, image_size, notes) for good, failed in read)


def _open(record: ImageRecord) -> list[image_files.OpenedImage]:
  return [record.opener() if record.opener else image_files.open_image(record.path)]


def _decode(
  record: ImageRecord,
  opened: Sequence[image_files.OpenedImage],
  image_size: tuple[int, int],
  how: str,
) -> tuple[np.ndarray, list[str]]:
  image, notes = image_files.decode_image(opened[0])
  return image_files.preprocess(image, image_size, how), notes


def _make_batch(
  good: Sequence[tuple[ImageRecord, tuple[np.ndarray, list[str]]]],
  failed: Sequence[tuple[ImageRecord, image_files.ImageError]],
  image_size: tuple[int, int],
  notes: list[str] | None,
) -> ImageBatch:
  images = np.empty((len(good), *image_size, 3), np.uint8)
  for place, (_, (image, found)) in enumerate(good):
    images[place] = image
    if notes is not None:
      notes.extend(found)
  failures = [(record, str(error)) for record, error in failed]
  return ImageBatch(images, [record for record, _ in good], failures)


def load_folder(
  records: Sequence[ImageRecord],
  image_size: tuple[int, int],
  how: str = "paper",
  *,
  notes: list[str] | None = None,
) -> ImageBatch:
  """Reads all images into one array; those that cannot be read are reported and left out.

  Args:
    records: the images.
    image_size: (height, width) of the result.
    how: preprocessing, see `preprocess`.
    notes: a list that receives what was lost on the way, see `read_image`.

  Returns:
    `ImageBatch(images, records, failures)`: `(N, H, W, 3)` uint8, the N records that could be read,
    in order, and `(record, message)` of each one that could not.

  Raises:
    ValueError: `image_size` or `how` is of the wrong kind.
  """
  image_files.check_size(image_size)
  images = np.empty((len(records), *image_size, 3), np.uint8)
  kept: list[ImageRecord] = []
  failures: list[tuple[ImageRecord, str]] = []
  for batch in iterate_images(records, image_size, how, notes=notes):
    images[len(kept) : len(kept) + len(batch.records)] = batch.images
    kept += batch.records
    failures += batch.failures
  return ImageBatch(images[: len(kept)], kept, failures)
