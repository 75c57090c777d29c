"""Places365's validation images in a folder, in a tar archive and as TFDS writes them itself.

The small data sets are photographs of scikit-image under official names.
"""

import gzip
import io
import pathlib
import re
import shutil
import socket
import tarfile

import numpy as np
import pytest
from PIL import ExifTags, Image

from rpfgsm_jax.data import (
  image_id,
  iterate_images,
  labels_for,
  list_images,
  list_places365_folder,
  list_places365_tar,
  list_places365_tfds,
  load_folder,
  mepp18_private_classes,
  mepp18_test_names,
  places365,
  places365_archives,
  places365_class_names,
  preprocess,
  read_image,
  read_places365_labels,
  sample_photos,
  select_mepp18,
)

# Not in a row, so that position and number differ; the classes are first, last and nested ones.
LABELS = {
  places365.validation_name(number): label
  for number, label in ((3, 364), (17, 0), (14191, 90), (20000, 91), (36499, 203), (2, 141))
}
SOURCES = ("folder", "tar", "tfds")


def _jpeg(pixels, **options):
  content = io.BytesIO()
  Image.fromarray(pixels).save(content, "JPEG", quality=90, **options)
  return content.getvalue()


def _write_labels(path, labels):
  path.write_text("".join(f"{name} {label}\n" for name, label in labels.items()))
  return path


def _write_folder(folder, contents):
  for name, content in contents.items():
    path = folder / "val_256" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_tar(path, contents, extras=()):
  with tarfile.open(path, "w") as archive:
    for name, content in contents.items():
      _add(archive, f"val_256/{name}", content)
    for name, changes in extras:
      _add(archive, name, b"", **changes)
  return path


def _add(archive, name, content, **changes):
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
    self.labels = _write_labels(root / "places365_val.txt", labels)
    _write_folder(root / "folder", contents)
    _write_tar(root / "val_256.tar", contents)
    _write_tfds(root / "tfds", contents, self.labels)

  def list(self, source, **options):
    if source == "folder":
      return list_places365_folder(self.root / "folder", self.labels, **options)
    if source == "tar":
      return list_places365_tar(self.root / "val_256.tar", self.labels, **options)
    return list_places365_tfds(self.root / "tfds", **options)


@pytest.fixture(scope="module")
def offline():
  def refuse(*arguments, **options):
    raise AssertionError("a data set asked for the network")

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(socket, "socket", refuse)
    yield


@pytest.fixture(scope="module")
def photos():
  """Encoded photographs of 256 x 256; one lies on its side, the last is 256 high and 341 wide."""
  views = [pixels for _, pixels in sample_photos((256, 256), ("whole",))[:5]]
  _, wide = sample_photos((256, 341), ("center",))[2]
  turned = Image.Exif()
  turned[ExifTags.Base.Orientation] = 6
  return [_jpeg(views[0], exif=turned), *map(_jpeg, [*views[1:], wide])]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, photos, offline):
  contents = dict(zip(LABELS, photos, strict=True))
  return Sources(tmp_path_factory.mktemp("places365"), contents, LABELS)


# All sources


@pytest.mark.parametrize("source", SOURCES)
def test_records_have_official_names_ids_and_labels(sources, source):
  records = sources.list(source, complete=False)
  names = [record.relative for record in records]
  assert names == sorted(LABELS)
  assert [record.image_id for record in records] == [image_id(name) for name in names]
  assert all(str(record.path).endswith(f"val_256/{record.relative}") for record in records)
  labels = labels_for(records, places365_class_names())
  np.testing.assert_array_equal(labels, [LABELS[name] for name in names])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("how", ["paper", "places365"])
@pytest.mark.parametrize("size", [(224, 224), (96, 160)], ids=["square", "lopsided"])
def test_pixels_are_those_of_the_file(sources, source, how, size):
  read = load_folder(sources.list(source, complete=False), size, how)
  assert read.failures == []
  for record, image in zip(read.records, read.images, strict=True):
    file = sources.root / "folder" / "val_256" / record.relative
    np.testing.assert_array_equal(image, preprocess(read_image(file), size, how))


@pytest.mark.parametrize("source", SOURCES)
def test_paper_and_places365_preprocessing_by_pillow(sources, source):
  """Of a photograph 256 high and 341 wide: squeezed to 224 x 224, or its central 224 x 224."""
  record = sources.list(source, complete=False)[0]
  whole = Image.open(io.BytesIO(sources.contents[record.relative]))
  squeezed = whole.resize((224, 224), Image.Resampling.BILINEAR)
  central = whole.crop((58, 16, 282, 240))  # (341 - 224) / 2 = 58.5, rounded to even
  for how, expected in (("paper", squeezed), ("places365", central)):
    (image,) = load_folder([record], (224, 224), how).images
    np.testing.assert_array_equal(image, np.asarray(expected))


@pytest.mark.parametrize("source", SOURCES)
def test_a_short_data_set_is_refused_before_it_is_read(sources, source, monkeypatch):
  monkeypatch.setattr(places365_archives, "open_bytes", None)
  with pytest.raises(ValueError, match=r"must have all 36,500 .* 36,494 are missing") as caught:
    sources.list(source)
  message = str(caught.value)
  assert "missing: Places365_val_00000001.jpg, Places365_val_00000004.jpg, " in message
  assert "and 36,491 more; get val_256.tar (525 MB) from http://data.csail.mit.edu" in message


@pytest.mark.parametrize("source", SOURCES)
def test_a_complete_data_set_is_taken(tmp_path, photos, source, monkeypatch, offline):
  monkeypatch.setattr(places365, "VALIDATION_IMAGES", 5)
  labels = {places365.validation_name(number): number for number in (4, 1, 5, 2, 3)}
  made = Sources(tmp_path, dict.fromkeys(labels, photos[0]), labels)
  assert [record.label_name for record in made.list(source)] == list(places365_class_names()[1:6])


def test_all_official_names_are_counted(tmp_path):
  names = [places365.validation_name(number) for number in range(1, 36501)]
  labels = _write_labels(tmp_path / "places365_val.txt", dict.fromkeys(names, 7))
  archive = _write_tar(tmp_path / "val_256.tar", dict.fromkeys(names, b""))
  records = list_places365_tar(archive, labels)
  # Were two ids equal, they would depend on which images are there.
  assert len({record.image_id for record in records}) == 36500


@pytest.fixture(scope="module")
def mepp18_sources(tmp_path_factory, photos, offline):
  names = [*mepp18_test_names(), *LABELS]  # one of LABELS is a test image
  classes = [places365_class_names().index(name) for name in mepp18_private_classes()]
  labels = {name: classes[place % 60] for place, name in enumerate(dict.fromkeys(names))}
  small = _jpeg(sample_photos((64, 64), ("whole",))[0][1])
  return Sources(tmp_path_factory.mktemp("mepp18"), dict.fromkeys(labels, small), labels)


@pytest.mark.parametrize("source", [*SOURCES, "plain-folder"])
def test_the_mepp18_list_applies_to_every_source(mepp18_sources, source):
  if source == "plain-folder":
    records = list_images(mepp18_sources.root / "folder")
  else:
    records = mepp18_sources.list(source, complete=False)
  assert len(records) == 3005
  selected = select_mepp18(records)
  assert [pathlib.PurePath(r.relative).name for r in selected] == list(mepp18_test_names())
  batch = next(iterate_images(selected, (32, 32), batch_size=4))
  assert (batch.records, batch.failures) == (selected[:4], [])


@pytest.mark.parametrize("source", SOURCES)
def test_the_mepp18_list_needs_all_its_images(sources, source):
  with pytest.raises(ValueError, match=r"2,999 are missing: Places365_val_00014410\.jpg, "):
    select_mepp18(sources.list(source, complete=False))


# The list of labels


def test_the_order_of_the_list_does_not_matter(sources, tmp_path):
  lines = sources.labels.read_text().splitlines()
  (tmp_path / "list.txt").write_text(
    "\ufeff" + "\r\n".join(sorted(lines, reverse=True)) + "\r\n\r\n"
  )
  assert read_places365_labels(tmp_path / "list.txt") == LABELS


def test_lines_with_class_folders_are_read(tmp_path):
  (tmp_path / "val.txt").write_text(
    "val/field-cultivated/Places365_val_00032701.jpg\nzen_garden/Places365_val_00000001.jpg\n"
  )
  assert read_places365_labels(tmp_path / "val.txt") == {
    "Places365_val_00032701.jpg": places365_class_names().index("field/cultivated"),
    "Places365_val_00000001.jpg": 364,
  }


@pytest.mark.parametrize("source", ["folder", "tar"])
def test_a_short_list_is_refused(sources, source, tmp_path, monkeypatch):
  short = dict(list(LABELS.items())[:4])
  monkeypatch.setattr(sources, "labels", _write_labels(tmp_path / "places365_val.txt", short))
  with pytest.raises(
    ValueError, match=r"got 4 images without Places365_val_00000002\.jpg, Pl"
  ) as caught:
    sources.list(source, complete=False)
  assert "get places365_val.txt out of http" in str(caught.value)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, r"must be the text file places365_val\.txt, got .*No such file"),
    (b"\xff\xd8\xff\xe0", r"must be the text file places365_val\.txt"),
    (b"\n", "must list images, got an empty file"),
    (b"Places365_val_00000001.jpg 3\nkitchen.jpg 4\n", r"got 'kitchen\.jpg 4' in line 2"),
    (b"Places365_val_00000001.jpg 365\n", "with a class of 0..364, got"),
    (b"Places365_val_00000001.jpg\n", "with a class of 0..364, got"),
    (b"val/nowhere/Places365_val_00000001.jpg\n", "with a class of 0..364, got"),
    (b"Places365_val_00000001.jpg 3\nPlaces365_val_00000001.jpg 4\n", "one class, got 3 and 4"),
  ],
  ids=["missing", "binary", "empty", "name", "class", "no-class", "folder", "two-classes"],
)
def test_a_wrong_list_is_refused(tmp_path, content, message):
  path = tmp_path / "places365_val.txt"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=message) as caught:
    read_places365_labels(path)
  assert "get places365_val.txt out of http" in str(caught.value)


def test_real_photographs_get_the_label_of_their_folder(shared_data, tmp_path):
  labels = shared_data / "mepp18" / "places365_standard_val.txt"
  known = read_places365_labels(labels)
  official = [places365.validation_name(number) for number in range(1, 36501)]
  assert sorted(known) == official
  folder = shared_data / "scenes25" / "val"
  contents = {path.name: path.read_bytes() for path in folder.glob("*/Places365_val_*.jpg")}
  archive = _write_tar(tmp_path / "val_256.tar", contents)
  inside = list_places365_tar(archive, labels, complete=False)
  beside = list_places365_folder(folder, labels, complete=False)
  assert len(inside) == 413
  assert [record.relative for record in inside] == [record.relative for record in beside]
  assert [r.label_name for r in inside] == [record.path.parent.name for record in beside]
  read, again = (load_folder(records[:9], (64, 48)) for records in (inside, beside))
  np.testing.assert_array_equal(read.images, again.images)


# Folders


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "others"])
def test_a_missing_folder_says_how_to_get_it(sources, tmp_path, kind):
  folder = tmp_path / "photos"
  if kind == "file":
    folder.touch()
  elif kind != "missing":
    folder.mkdir()
  if kind == "others":
    (folder / "kitchen.jpg").touch()
  with pytest.raises(ValueError, match=r"photos.* get val_256\.tar .525 MB. from http"):
    list_places365_folder(folder, sources.labels)


def test_an_image_in_two_folders_is_refused(sources, tmp_path):
  for folder in ("a", "b"):
    _write_folder(tmp_path / folder, sources.contents)
  with pytest.raises(ValueError, match=r"once, got .*a/val_256.* and .*b/val_256"):
    list_places365_folder(tmp_path, sources.labels, complete=False)


# Archives


def test_only_plain_members_with_plain_names_are_taken(sources, tmp_path):
  name = "Places365_val_00000003.jpg"
  extras = [
    (f"val_256/{name}", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
    (f"links/{name}", {"type": tarfile.LNKTYPE, "linkname": f"val_256/{name}"}),
    (f"pipes/{name}", {"type": tarfile.FIFOTYPE}),
    (f"{name}/", {"type": tarfile.DIRTYPE}),
    (f"/root/{name}", {}),
    (f"../{name}", {}),
    (f"a\\..\\{name}", {}),
    (f"val_256/._{name}", {}),
    ("readme.txt", {}),
  ]
  path = _write_tar(tmp_path / "val.tar", sources.contents, extras)
  records = list_places365_tar(path, sources.labels, complete=False)
  assert [record.path for record in records] == [path / "val_256" / name for name in sorted(LABELS)]
  assert load_folder(records, (32, 32)).failures == []


def test_the_archive_is_not_unpacked_or_kept_open(sources, tmp_path):
  path = _write_tar(tmp_path / "val.tar", sources.contents)
  records = list_places365_tar(path, sources.labels, complete=False)
  assert [file.name for file in tmp_path.iterdir()] == ["val.tar"]
  path.rename(tmp_path / "moved.tar")
  _, kept, failures = load_folder(records, (32, 32))
  assert (len(kept), len(failures)) == (0, 6)
  assert "val.tar/val_256/Places365_val_00000002.jpg must be readable" in failures[0][1]


def test_a_broken_or_huge_picture_in_an_archive_is_reported(sources, tmp_path, monkeypatch):
  names = sorted(LABELS)[:4]
  whole, large = sources.contents[names[1]], io.BytesIO()
  Image.new("1", (10000, 9000)).save(large, "PNG")
  changed = (b"not a picture", whole[: len(whole) // 2], whole + bytes(10**6), large.getvalue())
  path = _write_tar(tmp_path / "val.tar", sources.contents | dict(zip(names, changed, strict=True)))
  monkeypatch.setattr(places365_archives, "_MAX_IMAGE_BYTES", 10**6)
  _, kept, failures = load_folder(
    list_places365_tar(path, sources.labels, complete=False), (32, 32)
  )
  assert len(kept) == 2
  assert [record.relative for record, _ in failures] == names
  parts = ("b'not a pi'", "truncated or damaged", "at most 1000000 bytes", "decompression bomb")
  for (record, message), part in zip(failures, parts, strict=True):
    assert str(record.path) in message
    assert part in message


def _damage_header(content):
  """Damages the second member's header, which tarfile takes for the end of the archive."""
  start = content.index(b"val_256/", 512)
  return content[:start] + b"\xa5" * 512 + content[start + 512 :]


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (None, "No such file"),
    (lambda content: b"", "empty"),
    (lambda content: b"\x12\x34" * 4000, "not compressed, got"),
    (gzip.compress, "not compressed, got"),
    (lambda content: content[: len(content) // 2], "unexpected end of data"),
    (lambda content: content[: content.rindex(b"val_256/")], "breaks off at byte"),
    (lambda content: content[: content.rindex(b"val_256/") + 100], "breaks off at byte"),
    (_damage_header, "breaks off at byte"),
  ],
  ids=["missing", "empty", "other", "gzip", "half", "no-end", "half-header", "damaged-header"],
)
def test_a_missing_or_damaged_archive_is_refused(sources, tmp_path, damage, message):
  path = tmp_path / "val.tar"
  if damage:
    path.write_bytes(damage((sources.root / "val_256.tar").read_bytes()))
  with pytest.raises(ValueError, match=rf"must be the whole archive .*{message}") as caught:
    list_places365_tar(path, sources.labels, complete=False)
  assert f"{path}" in str(caught.value)
  assert "get val_256.tar (525 MB) from http" in str(caught.value)


def test_of_two_members_with_one_name_the_later_one_counts(sources, tmp_path):
  name = sorted(LABELS)[0]
  path = shutil.copy(sources.root / "val_256.tar", tmp_path / "val.tar")
  with tarfile.open(path, "a") as archive:
    _add(archive, f"val_256/{name}", sources.contents[sorted(LABELS)[1]])
  read = load_folder(list_places365_tar(path, sources.labels, complete=False), (32, 32)).images
  np.testing.assert_array_equal(read[0], read[1])
  with tarfile.open(path, "a") as archive:
    _add(archive, f"other/{name}", b"")
  with pytest.raises(ValueError, match="is there twice, in two folders"):
    list_places365_tar(path, sources.labels, complete=False)


# TFDS


def test_a_missing_tfds_data_set_says_how_to_get_it(tmp_path, offline):
  with pytest.raises(
    ValueError, match=r"got none in .*places365_small.2\.1\.0; prepare it"
  ) as caught:
    list_places365_tfds(tmp_path)
  assert 'file_format="array_record").download_and_prepare()' in str(caught.value)
  assert "val_256.tar (525 MB) from http" in str(caught.value)
  assert list(tmp_path.iterdir()) == []


def _change(path, old, new):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new))


def _shard(folder):
  (path,) = folder.glob("*-validation.*")
  return path


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda folder: _change(folder / "dataset_info.json", "array_record", "tfrecord"),
      r"as array_record, got tfrecord .*--out_file_format=array_record`, or get val_256\.tar",
    ),
    (
      lambda folder: _change(folder / "dataset_info.json", '"validation"', '"valid"'),
      "with its split validation, got none",
    ),
    (lambda folder: (folder / "dataset_info.json").write_text("{"), "got damaged files"),
    (lambda folder: _shard(folder).unlink(), "got damaged files"),
    (lambda folder: _shard(folder).write_bytes(_shard(folder).read_bytes()[:999]), "got damaged"),
    (lambda folder: _shard(folder).write_bytes(bytes(10**5)), "got damaged files"),
  ],
  ids=["tfrecord", "no-validation", "info", "no-shard", "short-shard", "zeros"],
)
def test_a_wrong_tfds_data_set_is_refused(sources, tmp_path, change, message):
  shutil.copytree(sources.root / "tfds", tmp_path / "tfds")
  change(tmp_path / "tfds" / "places365_small" / "2.1.0")
  with pytest.raises(ValueError, match=message):
    list_places365_tfds(tmp_path / "tfds", complete=False)


def test_other_classes_in_tfds_are_refused(sources, tmp_path, monkeypatch):
  names = ("zen_garden", *places365_class_names()[1:364], "airfield")
  monkeypatch.setattr(places365_archives, "places365_class_names", lambda: names)
  with pytest.raises(ValueError, match=re.escape("in their order, got airfield, airplane_cabin, ")):
    list_places365_tfds(sources.root / "tfds", complete=False)
