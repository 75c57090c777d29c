"""Places365's validation images in a folder, in a tar archive and as TFDS writes them itself."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image
from places365_files import LABELS, SOURCES, Sources, jpeg, write_folder, write_labels, write_tar

from rpfgsm_jax.data import (
  image_id,
  iterate_images,
  labels_for,
  list_images,
  list_places365_folder,
  list_places365_tar,
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

pytestmark = pytest.mark.usefixtures("offline")

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
def test_a_complete_data_set_is_taken(tmp_path, encoded_photos, source, monkeypatch):
  monkeypatch.setattr(places365, "VALIDATION_IMAGES", 5)
  labels = {places365.validation_name(number): number for number in (4, 1, 5, 2, 3)}
  made = Sources(tmp_path, dict.fromkeys(labels, encoded_photos[0]), labels)
  assert [record.label_name for record in made.list(source)] == list(places365_class_names()[1:6])


def test_all_official_names_are_counted(tmp_path):
  names = [places365.validation_name(number) for number in range(1, 36501)]
  labels = write_labels(tmp_path / "places365_val.txt", dict.fromkeys(names, 7))
  archive = write_tar(tmp_path / "val_256.tar", dict.fromkeys(names, b""))
  records = list_places365_tar(archive, labels)
  # Were two ids equal, they would depend on which images are there.
  assert len({record.image_id for record in records}) == 36500


@pytest.fixture(scope="module")
def mepp18_sources(tmp_path_factory):
  names = [*mepp18_test_names(), *LABELS]  # one of LABELS is a test image
  classes = [places365_class_names().index(name) for name in mepp18_private_classes()]
  labels = {name: classes[place % 60] for place, name in enumerate(dict.fromkeys(names))}
  small = jpeg(sample_photos((64, 64), ("whole",))[0][1])
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
  monkeypatch.setattr(sources, "labels", write_labels(tmp_path / "places365_val.txt", short))
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
  archive = write_tar(tmp_path / "val_256.tar", contents)
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
    write_folder(tmp_path / folder, sources.contents)
  with pytest.raises(ValueError, match=r"once, got .*a/val_256.* and .*b/val_256"):
    list_places365_folder(tmp_path, sources.labels, complete=False)
