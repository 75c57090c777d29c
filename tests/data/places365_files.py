"""Small data sets as Places365's: photographs of scikit-image under official names."""

import contextlib
import io
import socket
import tarfile

import pytest
from PIL import Image

from rpfgsm_jax.data import (
  list_places365_folder,
  list_places365_tar,
  list_places365_tfds,
  places365,
)

# Not in a row, so that position and number differ; the classes are first, last and nested ones.
LABELS = {
  places365.validation_name(number): label
  for number, label in ((3, 364), (17, 0), (14191, 90), (20000, 91), (36499, 203), (2, 141))
}
SOURCES = ("folder", "tar", "tfds")


def jpeg(pixels, **options):
  content = io.BytesIO()
  Image.fromarray(pixels).save(content, "JPEG", quality=90, **options)
  return content.getvalue()


def write_labels(path, labels):
  path.write_text("".join(f"{name} {label}\n" for name, label in labels.items()))
  return path


def write_folder(folder, contents):
  for name, content in contents.items():
    path = folder / "val_256" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_tar(path, contents, extras=()):
  with tarfile.open(path, "w") as archive:
    for name, content in contents.items():
      add_member(archive, f"val_256/{name}", content)
    for name, changes in extras:
      add_member(archive, name, b"", **changes)
  return path


def add_member(archive, name, content, **changes):
  member = tarfile.TarInfo(name)
  member.size = len(content)
  for field, value in changes.items():
    setattr(member, field, value)
  archive.addfile(member, io.BytesIO(content))


def _write_tfds(data_dir, contents, labels_path):
  """TFDS's own places365_small, whose downloads are these images; the writer is TFDS's as well."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.datasets.places365_small import places365_small_dataset_builder as home

  folder = labels_path.parent
  (folder / "places365_train_standard.txt").write_text("/a/airfield/00000001.jpg 0\n")
  (folder / "places365_test.txt").write_text("Places365_test_00000001.jpg\n")
  some = next(iter(contents.values()))
  downloads = {
    "train": {"data_256/a/airfield/00000001.jpg": some},
    "test": {"test_256/Places365_test_00000001.jpg": some},
    "validation": {f"val_256/{name}": content for name, content in contents.items()},
  }
  manager = tfds.download.DownloadManager
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(manager, "download", lambda self, addresses: downloads)
    patch.setattr(manager, "download_and_extract", lambda self, address: str(folder))
    # The real one needs TensorFlow to open an archive.
    patch.setattr(
      manager,
      "iter_archive",
      lambda self, archive: ((name, io.BytesIO(content)) for name, content in archive.items()),
    )
    builder = home.Builder(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()


class Sources:
  """The same images three times, and how each is listed."""

  def __init__(self, root, contents, labels):
    self.root, self.contents = root, contents
    self.labels = write_labels(root / "places365_val.txt", labels)
    write_folder(root / "folder", contents)
    write_tar(root / "val_256.tar", contents)
    _write_tfds(root / "tfds", contents, self.labels)

  def list(self, source, **options):
    if source == "folder":
      return list_places365_folder(self.root / "folder", self.labels, **options)
    if source == "tar":
      return list_places365_tar(self.root / "val_256.tar", self.labels, **options)
    return list_places365_tfds(self.root / "tfds", **options)


@contextlib.contextmanager
def no_network():
  """Within it every connection is an error."""

  def refuse(*arguments, **options):
    raise AssertionError("a data set asked for the network")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(socket, "socket", refuse)
    yield
