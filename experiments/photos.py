"""Where an experiment's photographs come from, in batches.

A folder, Places365's validation images in any of their three forms, or scikit-image's own. Their
order is such that the first N are a mixed part, and always the same one: the first of each class,
the second of each, and so on. More photographs are more of the same, never others.
"""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from rpfgsm_jax import data
from rpfgsm_jax.models.classifier import Classifier

TFDS = "tfds"
SAMPLE_VIEWS = ("whole", "center", "top-left", "bottom-right")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyPhoto:
  """One photograph of an experiment."""

  name: str  # relative path, or the sample's name
  image_id: int
  label: int  # true class; -1 when unknown
  group: str  # photographs of one group look alike: views of one picture
  png: str  # where its copies lie, relative to a folder of them
  scene: str | None = None  # name of its true class, as its folder or its label says


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
  """Some photographs at the networks' size, and the files that could not be read on the way."""

  images: np.ndarray  # (N, H, W, 3) uint8; N may be 0 when nothing could be read
  photos: list[StudyPhoto]
  failures: Sequence[tuple[str, str]] = ()  # name, and why
  notes: Sequence[str] = ()  # what was lost in reading: transparency, bits, further frames


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
  """Photographs in a fixed order; call `batches` to read them."""

  description: str
  photos: tuple[StudyPhoto, ...]
  image_size: tuple[int, int]
  preprocess: str = "paper"
  records: Sequence[data.ImageRecord] = ()  # where the photographs are read from
  loaded: np.ndarray | None = None  # or the images themselves

  def batches(self, size: int) -> Iterator[Batch]:
    """Yields all photographs, `size` at a time; of a folder only a few are in memory at once."""
    if self.loaded is not None:
      for start in range(0, len(self.photos), size):
        here = slice(start, start + size)
        yield Batch(images=self.loaded[here], photos=list(self.photos[here]))
      return
    by_name = {photo.name: photo for photo in self.photos}
    notes: list[str] = []
    for found in data.iterate_images(
      self.records, self.image_size, self.preprocess, batch_size=size, notes=notes
    ):
      yield Batch(
        images=found.images,
        photos=[by_name[record.relative] for record in found.records],
        failures=[(record.relative, reason) for record, reason in found.failures],
        notes=list(notes),
      )
      notes.clear()


def classes_by_name(names: Sequence[str], networks: Sequence[Classifier]) -> np.ndarray:
  """Returns `(networks, names)`: each network's class of a name; -1 where it has none."""
  records = [
    data.ImageRecord(path=pathlib.Path(), relative="", image_id=0, label_name=name)
    for name in names
  ]
  return np.stack([data.labels_for(records, network.class_names) for network in networks])


def open_source(
  place: str | pathlib.Path | None,
  networks: Sequence[Classifier],
  *,
  labels: pathlib.Path | None = None,
  mepp18: bool = False,
  preprocess: str = "paper",
  limit: int | None = None,
) -> Source:
  """Returns a place's photos at the networks' size, labeled where these know the class."""
  class_names, image_size = networks[0].class_names, networks[0].image_size
  if place is None:
    if labels is not None or mepp18:
      raise ValueError("labels and mepp18 speak of Places365's images; name them with --data.")
    return open_samples(image_size, limit)
  records, name = _list_records(str(place), labels, class_names, mepp18=mepp18)
  listed = len(records)
  records = _take_in_turn(records)
  pngs = _png_names([record.relative for record in records])[:limit]
  records = records[:limit]
  photos = [
    StudyPhoto(
      name=record.relative,
      image_id=record.image_id,
      label=int(label),
      group=record.relative,
      png=png,
      scene=record.label_name,
    )
    for record, label, png in zip(records, data.labels_for(records, class_names), pngs, strict=True)
  ]
  of = "all" if len(records) == listed else f"{len(records)} of {listed}"
  return Source(
    description=f"{of} images of {name}",
    photos=tuple(photos),
    image_size=image_size,
    preprocess=preprocess,
    records=records,
  )


def _list_records(
  place: str, labels: pathlib.Path | None, class_names: Sequence[str], *, mepp18: bool
) -> tuple[list[data.ImageRecord], str]:
  """Returns the images of a place, and what they are called."""
  name = f"the folder {place}"
  if place == TFDS or place.startswith(f"{TFDS}:"):
    if labels is not None:
      raise ValueError("labels must be left out with tfds, which has its own; leave it out.")
    records = data.list_places365_tfds(place[len(TFDS) + 1 :] or None, complete=not mepp18)
    name = f"Places365's validation images ({place})"
  elif place.endswith(".tar"):
    if labels is None:
      raise ValueError(
        f"labels must name places365_val.txt when data is an archive, got {place} alone; give "
        "--labels."
      )
    records = data.list_places365_tar(place, labels, complete=not mepp18)
    name = f"the archive {place}"
  elif labels is not None:
    records = data.list_places365_folder(place, labels, complete=False)
  else:
    records = data.list_images(place, class_names=class_names)
  if mepp18:
    return data.select_mepp18(records), f"the MEPP18 test list in {name}"
  return records, name


def open_samples(image_size: tuple[int, int], limit: int | None) -> Source:
  """Returns views of scikit-image's color photographs, of different pictures first."""
  by_view = sorted(
    data.sample_photos(image_size, SAMPLE_VIEWS),
    key=lambda pair: [view for view, v in enumerate(SAMPLE_VIEWS) if pair[0].endswith(v)],
  )[:limit]
  photos = [
    StudyPhoto(
      name=name,
      image_id=data.image_id(name),
      label=-1,
      group=re.sub(f"-({'|'.join(SAMPLE_VIEWS)})$", "", name),
      png=f"{name}.png",
    )
    for name, _ in by_view
  ]
  groups = len({photo.group for photo in photos})
  description = f"views of {groups} pictures that come with scikit-image"
  return Source(
    description=description,
    photos=tuple(photos),
    image_size=image_size,
    loaded=np.stack([image for _, image in by_view]),
  )


def _take_in_turn(records: Sequence[data.ImageRecord]) -> list[data.ImageRecord]:
  """The first of each class by its id, then the second of each, and so on."""
  folders = collections.defaultdict(list)
  for record in sorted(records, key=lambda record: record.image_id):
    folders[record.label_name or ""].append(record)
  turns = [
    (turn, name, record) for name, some in folders.items() for turn, record in enumerate(some)
  ]
  return [record for _, _, record in sorted(turns, key=lambda entry: entry[:2])]


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
