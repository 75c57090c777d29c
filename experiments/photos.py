"""Where an experiment's photographs come from: a folder or scikit-image's own, in batches."""

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from rpfgsm_jax import data

SAMPLE_VIEWS = ("whole", "center", "top-left", "bottom-right")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photo:
  """One photograph of an experiment."""

  name: str  # relative path, or the sample's name
  image_id: int
  label: int  # true class; -1 when unknown
  group: str  # photographs of one group look alike: views of one picture
  png: str  # where its copies lie, relative to a folder of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
  """Some photographs at the networks' size, and the files that could not be read on the way."""

  images: np.ndarray  # (N, H, W, 3) uint8; N may be 0 when nothing could be read
  photos: list[Photo]
  failures: list[tuple[str, str]]  # name, and why
  notes: list[str]  # what was lost in reading: transparency, bits, further frames


class Source:
  """Photographs in a fixed order; call `batches` to read them."""

  def __init__(
    self,
    description: str,
    photos: Sequence[Photo],
    image_size: tuple[int, int],
    records: Sequence[data.ImageRecord] | None,
    loaded: np.ndarray | None,
  ):
    self.description = description
    self.photos = tuple(photos)
    self._image_size = image_size
    self._records, self._loaded = records, loaded

  def batches(self, size: int) -> Iterator[Batch]:
    """Yields all photographs, `size` at a time; of a folder only a few are in memory at once."""
    if self._loaded is not None:
      for start in range(0, len(self.photos), size):
        here = slice(start, start + size)
        yield Batch(
          images=self._loaded[here], photos=list(self.photos[here]), failures=[], notes=[]
        )
      return
    by_name = {photo.name: photo for photo in self.photos}
    notes: list[str] = []
    for found in data.iterate_images(self._records, self._image_size, batch_size=size, notes=notes):
      yield Batch(
        images=found.images,
        photos=[by_name[record.relative] for record in found.records],
        failures=[(record.relative, reason) for record, reason in found.failures],
        notes=list(notes),
      )
      notes.clear()


def open_source(
  folder: pathlib.Path | None,
  class_names: Sequence[str],
  image_size: tuple[int, int],
  limit: int | None,
) -> Source:
  """Returns the images of a folder, or scikit-image's photographs when there is none.

  See `open_folder` and `open_samples` for the arguments.
  """
  if folder is None:
    return open_samples(image_size, limit)
  return open_folder(folder, class_names, image_size, limit)


def open_samples(image_size: tuple[int, int], limit: int | None) -> Source:
  """Returns several views of scikit-image's color photographs.

  Args:
    image_size: (height, width) of the networks.
    limit: how many at most; views of different pictures first.

  Returns:
    The source; nothing of it has a true class.
  """
  by_view = sorted(
    data.sample_photos(image_size, SAMPLE_VIEWS),
    key=lambda pair: [view for view, v in enumerate(SAMPLE_VIEWS) if pair[0].endswith(v)],
  )[:limit]
  photos = [
    Photo(
      name=name,
      image_id=data.image_id(name),
      label=-1,
      group=_without_view(name),
      png=f"{name}.png",
    )
    for name, _ in by_view
  ]
  groups = len({photo.group for photo in photos})
  description = f"views of {groups} pictures that come with scikit-image"
  return Source(description, photos, image_size, None, np.stack([image for _, image in by_view]))


def open_folder(
  folder: pathlib.Path,
  class_names: Sequence[str],
  image_size: tuple[int, int],
  limit: int | None,
) -> Source:
  """Returns the images of a folder; nothing is opened yet.

  Args:
    folder: with images in it or in sub-folders; a sub-folder named like a class labels its images.
    class_names: of the networks.
    image_size: (height, width) of the networks.
    limit: how many at most, taken in turn from each class folder, in the order of their ids, so
      that part of a folder is a mixed one and always the same.

  Returns:
    The source.

  Raises:
    ValueError: no such folder, or no images in it.
  """
  records = data.list_images(folder, class_names=class_names)
  listed = len(records)
  if limit is not None:
    records = _take_in_turn(records, limit)
  labels = data.labels_for(records, class_names)
  pngs = _png_names([record.relative for record in records])
  photos = [
    Photo(
      name=record.relative,
      image_id=record.image_id,
      label=int(label),
      group=record.relative,
      png=png,
    )
    for record, label, png in zip(records, labels, pngs, strict=True)
  ]
  of = "all" if len(records) == listed else f"{len(records)} of {listed}"
  description = f"{of} images of the folder {folder}"
  return Source(description, photos, image_size, records, None)


def _without_view(name: str) -> str:
  for view in SAMPLE_VIEWS:
    name = name.removesuffix(f"-{view}")
  return name


def _take_in_turn(records: Sequence[data.ImageRecord], limit: int) -> list[data.ImageRecord]:
  """The first of each class folder, then the second of each, and so on; in the order listed."""
  folders = collections.defaultdict(list)
  for record in sorted(records, key=lambda record: record.image_id):
    folders[record.label_name or ""].append(record)
  turns = [
    (turn, name, record) for name, some in folders.items() for turn, record in enumerate(some)
  ]
  chosen = sorted(turns, key=lambda entry: entry[:2])[:limit]
  return sorted((record for _, _, record in chosen), key=lambda record: record.relative)


def _png_names(names: Sequence[str]) -> list[str]:
  """A PNG name for each image, all different, also where upper and lower case are the same."""
  found = [str(pathlib.PurePosixPath(name).with_suffix(".png")) for name in names]
  counts = collections.Counter(name.lower() for name in found)
  found = [
    short if counts[short.lower()] == 1 else f"{name}.png"
    for short, name in zip(found, names, strict=True)
  ]
  taken: set[str] = set()
  for place, name in enumerate(found):
    attempt = name
    while attempt.lower() in taken:
      attempt = f"{attempt.removesuffix('.png')}~.png"
    taken.add(attempt.lower())
    found[place] = attempt
  return found
