"""Where an experiment's photographs come from: their order, labels, limits and refusals."""

import dataclasses
import tarfile

import numpy as np
import pytest
import toy_classifiers as toys
from PIL import Image

from experiments import photos
from rpfgsm_jax import data
from rpfgsm_jax.data import places365

NAMES = toys.CLASS_NAMES
# Class sub-folders of the networks' names, one of another name, and a photograph at the top.
FILES = (
  *(f"scene 0/{name}.png" for name in "abcd"),
  *(f"scene 3/{name}.png" for name in "ab"),
  *(f"elsewhere/{name}.png" for name in "abc"),
  "top.png",
)
# Official names and classes of Places365.
OFFICIAL = {
  places365.validation_name(number): label
  for number, label in ((3, 364), (17, 0), (2, 141), (29, 0), (31, 364), (14191, 90))
}
PLACES = data.places365_class_names()


def save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path, "PNG")  # lossless, whatever the name says


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp("photos")
  for name, image in zip(FILES, toys.images(len(FILES)), strict=True):
    save(place / name, image)
  return place


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """Places365 with six images: a folder, an archive and the list of classes."""
  place = tmp_path_factory.mktemp("places365")
  for name, image in zip(OFFICIAL, toys.images(len(OFFICIAL), seed=1), strict=True):
    save(place / "val_256" / name, image)
  with tarfile.open(place / "val_256.tar", "w") as archive:
    archive.add(place / "val_256", "val_256")
  lines = [f"{name} {label}\n" for name, label in OFFICIAL.items()]
  (place / "places365_val.txt").write_text("".join(lines))
  return place


def open_source(place, class_names=NAMES, **options):
  networks = [dataclasses.replace(toys.linear(1), class_names=tuple(class_names))]
  return photos.open_source(place, networks, **options)


def names_of(source):
  return [photo.name for photo in source.photos]


def class_of(name):
  """The folder of one of FILES; "" at the top."""
  return name.rpartition("/")[0]


# Order


def test_the_first_of_each_class_come_first_then_the_second_of_each(folder):
  found = names_of(open_source(folder))
  assert sorted(found) == sorted(FILES)
  classes = [class_of(name) for name in found]
  four = ["", "elsewhere", "scene 0", "scene 3"]
  assert classes == [*four, *four[1:], "elsewhere", "scene 0", "scene 0"]


def test_within_a_class_the_order_is_that_of_the_ids(folder):
  source = open_source(folder)
  for name in ("scene 0", "elsewhere"):
    ids = [photo.image_id for photo in source.photos if class_of(photo.name) == name]
    assert ids == sorted(ids)
  assert [photo.image_id for photo in source.photos] == [
    data.image_id(photo.name) for photo in source.photos
  ]


@pytest.mark.parametrize("limit", [1, 4, 7, len(FILES), 100])
def test_fewer_photos_are_the_first_of_more(folder, limit):
  assert open_source(folder, limit=limit).photos == open_source(folder).photos[:limit]


@pytest.mark.parametrize("limit", [1, 5, 9])
def test_fewer_samples_are_the_first_of_more(limit):
  some, more = (photos.open_samples(toys.SIZE, count).photos for count in (limit, None))
  assert some == more[:limit]


def test_samples_are_different_pictures_first_and_have_no_class():
  source = open_source(None)
  groups = [photo.group for photo in source.photos]
  count = len(set(groups))
  assert len(set(groups[:count])) == count
  assert len(groups) == count * len(photos.SAMPLE_VIEWS)
  assert {photo.label for photo in source.photos} == {-1}


def test_the_description_counts_the_images(folder):
  assert open_source(folder).description == f"all images of the folder {folder}"
  assert open_source(folder, limit=3).description == f"3 of 10 images of the folder {folder}"


# Labels, copies, pixels


def test_labels_are_the_networks_classes_and_unknown_elsewhere(folder):
  labels = {photo.name: photo.label for photo in open_source(folder).photos}
  known = {"scene 0": 0, "scene 3": 3}
  assert labels == {name: known.get(class_of(name), -1) for name in FILES}


def test_copies_have_names_of_their_own_whatever_the_limit(tmp_path):
  for name in ("a.png", "a.bmp", "A.png", "b.png"):
    save(tmp_path / name, toys.images(1)[0])
  pngs = [photo.png for photo in open_source(tmp_path).photos]
  assert len({png.lower() for png in pngs}) == 4
  assert all(png.endswith(".png") for png in pngs)
  assert [photo.png for photo in open_source(tmp_path, limit=2).photos] == pngs[:2]


def test_batches_have_the_pixels_of_their_photos_in_order(folder):
  source = open_source(folder, limit=7)
  batches = list(source.batches(3))
  assert [len(batch.photos) for batch in batches] == [3, 3, 1]
  assert [photo for batch in batches for photo in batch.photos] == list(source.photos)
  pixels = dict(zip(FILES, toys.images(len(FILES)), strict=True))
  for batch in batches:
    np.testing.assert_array_equal(batch.images, [pixels[photo.name] for photo in batch.photos])


def test_a_broken_file_is_a_failure_of_its_batch(folder, tmp_path):
  save(tmp_path / "a.png", toys.images(1)[0])
  (tmp_path / "b.png").write_bytes(b"\x89PNG")
  (batch,) = open_source(tmp_path).batches(5)
  assert [photo.name for photo in batch.photos] == ["a.png"]
  assert [name for name, _ in batch.failures] == ["b.png"]


# Places365


@pytest.fixture(params=["folder", "tar"])
def official(request, places, monkeypatch):
  """Opens Places365 in one of its forms; whatever is there counts as all images."""
  monkeypatch.setattr(places365, "VALIDATION_IMAGES", 0)
  data_place = places / ("val_256" if request.param == "folder" else "val_256.tar")

  def run(class_names=PLACES, **options):
    labels = places / "places365_val.txt"
    return open_source(data_place, class_names, labels=labels, **options)

  return run


def test_places365_has_its_official_names_ids_and_labels(official):
  source = official()
  assert {photo.name: photo.label for photo in source.photos} == OFFICIAL
  assert all(photo.image_id == data.image_id(photo.name) for photo in source.photos)


def test_places365_comes_class_by_class_in_turn(official):
  names = [PLACES[OFFICIAL[name]] for name in names_of(official())]
  assert names == [*sorted({PLACES[label] for label in (0, 90, 141, 364)}), PLACES[0], PLACES[364]]


@pytest.mark.parametrize("limit", [2, 5])
def test_fewer_images_of_places365_are_the_first_of_more(official, limit):
  assert official(limit=limit).photos == official().photos[:limit]


def test_of_networks_with_other_classes_places365_has_known_ones_only(official):
  source = official(class_names=("coast", PLACES[90], PLACES[0]))
  found = {photo.name: photo.label for photo in source.photos}
  assert found == {name: {90: 1, 0: 2}.get(label, -1) for name, label in OFFICIAL.items()}


def test_places365_is_read_with_the_same_pixels_from_both_forms(official):
  pixels = dict(zip(OFFICIAL, toys.images(len(OFFICIAL), seed=1), strict=True))
  (batch,) = official().batches(6)
  np.testing.assert_array_equal(batch.images, [pixels[photo.name] for photo in batch.photos])


def test_the_papers_test_images_must_all_be_there(official):
  with pytest.raises(ValueError, match=r"must have all 3,000 MEPP18 test images, 2,999 are miss"):
    official(mepp18=True)


def test_a_plain_folder_serves_the_papers_test_images_only_if_all_are_there(places):
  with pytest.raises(ValueError, match=r"must have all 3,000 MEPP18 test images, 2,999 are miss"):
    open_source(places / "val_256", PLACES, mepp18=True)


def test_the_papers_test_images_are_picked_out(places, monkeypatch):
  wanted = places365.validation_name(14191)
  monkeypatch.setattr(data.mepp18, "mepp18_test_names", lambda: (wanted,))
  labels = places / "places365_val.txt"
  relabeled = labels.with_name("private.txt")
  private = PLACES.index(data.mepp18_private_classes()[0])
  relabeled.write_text(labels.read_text().replace(f"{wanted} 90", f"{wanted} {private}"))
  source = open_source(places / "val_256", PLACES, labels=relabeled, mepp18=True)
  assert names_of(source) == [wanted]
  assert source.description.startswith("all images of the MEPP18 test list in the folder ")


def test_a_part_of_the_archive_is_refused(places):
  with pytest.raises(ValueError, match="must have all 36,500 validation images, 36,494 are miss"):
    open_source(places / "val_256.tar", PLACES, labels=places / "places365_val.txt")


def test_a_part_of_the_images_in_a_folder_is_taken(places):
  source = open_source(places / "val_256", PLACES, labels=places / "places365_val.txt")
  assert sorted(names_of(source)) == sorted(OFFICIAL)


# Refusals


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"labels": "places365_val.txt"}, "labels and mepp18 speak of Places365's images; name them"),
    ({"mepp18": True}, "labels and mepp18 speak of Places365's images; name them"),
    ({"data": "tfds", "labels": "list.txt"}, "labels must be left out with tfds"),
    ({"data": "tfds:/data", "labels": "list.txt"}, "labels must be left out with tfds"),
    ({"data": "val_256.tar"}, "labels must name places365_val.txt when data is an archive"),
    ({"data": "val_256.tar", "mepp18": True}, "labels must name places365_val.txt when data is"),
    ({"data": "nowhere"}, "must be a folder of images, got nothing of that name"),
    ({"data": "nowhere", "labels": "absent.txt"}, "labels must be the text file places365_val"),
  ],
  ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_together_is_refused(options, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=message):
    open_source(options.pop("data", None), **options)


@pytest.mark.parametrize(
  ("place", "expected"), [("tfds", None), ("tfds:/some/where", "/some/where")]
)
def test_tfds_is_asked_for_its_folder_and_for_all_images(monkeypatch, folder, place, expected):
  asked = []

  def listed(data_dir, *, complete):
    asked.append((data_dir, complete))
    return data.list_images(folder)

  monkeypatch.setattr(data, "list_places365_tfds", listed)
  source = open_source(place, limit=2)
  assert asked == [(expected, True)]
  assert source.description == f"2 of 10 images of Places365's validation images ({place})"


def test_a_photo_is_frozen(folder):
  with pytest.raises(dataclasses.FrozenInstanceError):
    open_source(folder).photos[0].label = 3


def test_png_names_never_meet():
  names = ["a.jpg", "a.png", "A.gif", "b/c.jpg", "a.jpg.png", "d.png", "D.PNG"]
  found = [name.lower() for name in photos._png_names(names)]
  assert len(set(found)) == len(names)
  assert all(name.endswith(".png") for name in found)
  assert photos._png_names(["x/y.jpeg"]) == ["x/y.png"]
