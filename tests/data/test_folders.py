"""Listing folders, and the ids and labels of their images."""

import hashlib
import os
import pathlib

import numpy as np
import pytest

from rpfgsm_jax.data import (
  ImageRecord,
  folders,
  image_id,
  labels_for,
  list_images,
  load_folder,
  places365_class_names,
  scenes25_class_names,
)

# Found among photo-0.jpg … photo-80000.jpg.
COLLISION = ("photo-72615.jpg", "photo-78615.jpg")


def _fill(root, *relatives):
  """Makes empty files: listing opens none of them."""
  for relative in relatives:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return root


def _relatives(records):
  return [record.relative for record in records]


# Listing


def test_files_are_listed_sorted_and_recursively(tmp_path):
  _fill(tmp_path, "b/2.png", "b/10.JPG", "a/deep/er/1.webp", "top.jpeg")
  assert _relatives(list_images(tmp_path)) == [
    "a/deep/er/1.webp",
    "b/10.JPG",
    "b/2.png",
    "top.jpeg",
  ]


def test_the_order_is_that_of_the_relative_path(tmp_path):
  _fill(tmp_path, "a/1.png", "a-b/1.png", "a.png")
  assert _relatives(list_images(tmp_path)) == sorted(["a/1.png", "a-b/1.png", "a.png"])


def test_a_record_names_its_file(tmp_path):
  (record,) = list_images(_fill(tmp_path, "a/1.png"))
  assert record.path == tmp_path / "a" / "1.png"
  with pytest.raises(AttributeError):
    record.relative = "b"


def test_other_and_hidden_files_are_left_out(tmp_path):
  _fill(tmp_path, "1.png", "notes.txt", ".2.png", ".cache/3.png", "._1.png", "png", "4.png.bak")
  _fill(tmp_path, "@eaDir/1.png/T.png", "lost+found/5.png")
  assert _relatives(list_images(tmp_path)) == ["1.png"]


def test_heic_photos_are_listed_so_that_they_are_reported(tmp_path):
  _fill(tmp_path, "phone.HEIC").joinpath("phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
  batch = load_folder(list_images(tmp_path), (8, 8))
  assert len(batch.images) == 0
  ((record, message),) = batch.failures
  assert record.relative == "phone.HEIC"
  assert "phone.HEIC must be a complete picture" in message


def test_photos_that_cannot_be_read_are_listed_when_asked_for(tmp_path):
  _fill(tmp_path, "1.png", "2.NEF", "3.dng", "4.hif", "5.txt")
  assert _relatives(list_images(tmp_path, suffixes=folders.PHOTO_SUFFIXES)) == [
    "1.png",
    "2.NEF",
    "3.dng",
    "4.hif",
  ]
  assert _relatives(list_images(tmp_path)) == ["1.png"]


def test_links_are_followed_and_loops_are_not(tmp_path):
  _fill(tmp_path / "outside", "x.png")
  root = _fill(tmp_path / "root", "a/1.png")
  (root / "a" / "up").symlink_to("..", target_is_directory=True)
  (root / "self").symlink_to(".", target_is_directory=True)
  (root / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
  (root / "one.png").symlink_to(tmp_path / "outside" / "x.png")
  assert _relatives(list_images(root)) == ["a/1.png", "linked/x.png", "one.png"]


def test_a_walk_skips_folders_and_goes_on_behind_unreadable_ones(tmp_path, monkeypatch):
  _fill(tmp_path, "b/2.png", "a/1.png", "results/3.png", "secret/4.png", "top")
  real = pathlib.Path.iterdir

  def refuse(folder):
    if folder.name == "secret":
      raise PermissionError(13, "Permission denied")
    return real(folder)

  monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
  errors = []
  found = folders.walk(
    tmp_path,
    skip=lambda folder: folder.name == "results",
    on_error=lambda folder, error: errors.append((folder, error.strerror)),
  )
  assert [path.name for path in found] == ["1.png", "2.png", "top"]
  assert errors == [(tmp_path / "secret", "Permission denied")]
  with pytest.raises(PermissionError):
    list(folders.walk(tmp_path))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda path: path.mkdir(), "must contain image files .* got an empty folder"),
    (lambda path: _fill(path, "a.txt", "b.mov"), r"got 2 other files, such as a\.txt"),
    (lambda path: path.touch(), "got a file: .*; name the folder it is in"),
    (lambda path: None, "got nothing of that name: .*; check the path"),
  ],
  ids=["empty", "no-images", "file", "missing"],
)
def test_a_folder_without_images_is_an_error(tmp_path, make, message):
  make(tmp_path / "photos")
  with pytest.raises(ValueError, match=message) as caught:
    list_images(tmp_path / "photos")
  assert "photos" in str(caught.value)


# Ids


def test_the_id_is_the_first_31_bits_of_sha256():
  # printf kitchen/1.jpg | sha256sum: the first eight hexadecimal digits, halved.
  assert image_id("kitchen/1.jpg") == 0xB104B53D // 2
  for relative in ("a.png", "kitchen/1.jpg", "küche/ä.png"):
    bits = bin(int(hashlib.sha256(relative.encode()).hexdigest(), 16))[2:].zfill(256)
    assert image_id(relative) == int(bits[:31], 2)
    assert image_id(relative.encode()) == image_id(relative) <= np.iinfo(np.int32).max


def test_ids_do_not_depend_on_other_files_or_on_where_the_folder_is(tmp_path):
  few = list_images(_fill(tmp_path / "few", "b/2.png"))
  many = list_images(_fill(tmp_path / "many", "a.png", "b/1.png", "b/2.png", "c.png"))
  assert few[0].image_id == many[2].image_id == image_id("b/2.png")
  assert len({record.image_id for record in many}) == 4


def test_ids_of_names_that_are_not_text(tmp_path):
  name = os.fsencode(tmp_path) + b"/\xff.png"
  try:
    open(name, "wb").close()
  except OSError:
    pytest.skip("the file system takes only UTF-8 names")
  (record,) = list_images(tmp_path)
  assert record.image_id == int.from_bytes(hashlib.sha256(b"\xff.png").digest()[:4], "big") // 2


def test_two_paths_with_one_id_are_told_apart(tmp_path):
  first, second = COLLISION
  assert image_id(first) == image_id(second)
  alone = {
    record.relative: record.image_id for record in list_images(_fill(tmp_path, second, "x.png"))
  }
  assert alone[second] == image_id(second)
  both = {record.relative: record.image_id for record in list_images(_fill(tmp_path, first))}
  assert both == {first: image_id(first), second: image_id(f"{second}#1"), "x.png": alone["x.png"]}


def test_a_replacement_id_never_takes_another_images(monkeypatch):
  table = {"a": 5, "b": 5, "c": 6, "d": 5, "b#1": 6, "b#2": 7, "d#1": 7, "d#2": 5, "d#3": 9}
  monkeypatch.setattr(folders, "image_id", table.__getitem__)
  assert folders.unique_image_ids(["a", "b", "c", "d"]) == [5, 7, 6, 9]


# Labels


def test_the_label_is_the_first_folder(tmp_path):
  records = list_images(_fill(tmp_path, "kitchen/1.png", "kitchen/more/2.png", "3.png"))
  assert [record.label_name for record in records] == [None, "kitchen", "kitchen"]
  np.testing.assert_array_equal(labels_for(records, scenes25_class_names()), [-1, 14, 14])


@pytest.mark.parametrize("named", [False, True], ids=["listed-without-names", "listed-with-names"])
def test_nested_classes(tmp_path, named):
  files = ["church/indoor/1.png", "church/outdoor/a/b/1.png", "c/church/indoor/2.png"]
  files += ["a/airfield/1.png", "church/1.png", "library/indoor/1.png", "library/1.png"]
  names = places365_class_names()
  records = list_images(_fill(tmp_path, *files), class_names=names if named else None)
  found = dict(zip(_relatives(records), labels_for(records, names), strict=True))
  indoor, outdoor = names.index("church/indoor"), names.index("church/outdoor")
  assert [found[file] for file in files] == [
    indoor, outdoor, indoor, names.index("airfield"), -1, names.index("library/indoor"), -1
  ]  # fmt: skip
  if named:
    labels = {record.relative: record.label_name for record in records}
    assert labels["church/outdoor/a/b/1.png"] == "church/outdoor"
    assert labels["a/airfield/1.png"] == "airfield"
    assert labels["church/1.png"] == "church"


def test_the_longest_class_name_wins(tmp_path):
  records = list_images(_fill(tmp_path, "church/indoor/1.png", "church/old/1.png"))
  np.testing.assert_array_equal(labels_for(records, ["church", "church/indoor"]), [1, 0])


@pytest.mark.parametrize("folder", ["Living Room", "living-room", "LIVING_ROOM"])
def test_names_match_whatever_their_case_and_separator(tmp_path, folder):
  records = list_images(_fill(tmp_path, f"{folder}/1.png"))
  labels = labels_for(records, scenes25_class_names())
  assert labels.dtype == np.int32
  np.testing.assert_array_equal(labels, [scenes25_class_names().index("living_room")])


def test_records_made_by_hand_keep_their_label(tmp_path):
  record = ImageRecord(tmp_path / "1.png", "sky/1.png", 1, "Tennis Court")
  flat = ImageRecord(tmp_path / "1.png", "1.png", 1, "sky")
  np.testing.assert_array_equal(labels_for([record, flat], scenes25_class_names()), [22, 21])


def test_labels_of_nothing():
  assert labels_for([], scenes25_class_names()).shape == (0,)


def test_class_names_that_cannot_be_told_apart_are_refused(tmp_path):
  with pytest.raises(ValueError, match="got 'dining_room' and 'Dining Room'"):
    labels_for([], ["dining_room", "sky", "Dining Room"])


def test_real_folders_are_listed_and_labeled(shared_data):
  records = list_images(shared_data / "scenes25" / "val")
  assert len(records) == 975
  labels = labels_for(records, scenes25_class_names())
  assert np.bincount(labels, minlength=25).min() >= 24
  assert [scenes25_class_names()[label] for label in labels] == [r.label_name for r in records]
