"""Listing folders, ids, labels, and reading many files of which some are broken."""

import hashlib
import os
import pathlib
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data import (
  ImageRecord,
  folders,
  image_id,
  images,
  iterate_images,
  labels_for,
  list_images,
  load_folder,
  places365_class_names,
  preprocess,
  read_image,
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


@pytest.fixture
def pictures(tmp_path):
  """Seven pictures of different sizes, in order; two broken ones go between them and at the end."""
  generator = np.random.default_rng(3)
  for index in range(7):
    shape = (20 + index, 33 - 2 * index, 3)
    pixels = generator.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{index}.png")
  return tmp_path


@pytest.fixture
def pictures_with_bad_ones(pictures):
  (pictures / "2-letter.jpg").write_text("not a picture")
  content = (pictures / "4.png").read_bytes()
  (pictures / "6-half.png").write_bytes(content[: len(content) // 2])
  return pictures


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


def test_a_dead_link_is_listed_and_reported(pictures):
  (pictures / "dead.png").symlink_to("nowhere.png")
  batch = load_folder(list_images(pictures), (8, 8))
  assert len(batch.records) == 7
  assert [record.relative for record, _ in batch.failures] == ["dead.png"]


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


# Reading


def test_the_good_ones_are_done_and_the_bad_ones_reported(pictures_with_bad_ones):
  records = list_images(pictures_with_bad_ones)
  read, kept, failures = load_folder(records, (12, 10))
  assert _relatives(kept) == [f"{index}.png" for index in range(7)]
  assert read.dtype == np.uint8
  for image, record in zip(read, kept, strict=True):
    np.testing.assert_array_equal(image, read_image(record.path, (12, 10)))
  assert [record.relative for record, _ in failures] == ["2-letter.jpg", "6-half.png"]
  assert all(str(record.path) in message for record, message in failures)


def test_the_preprocessing_is_passed_on(pictures):
  records = list_images(pictures)
  read = load_folder(records, (12, 10), "places365").images
  expected = [preprocess(read_image(record.path), (12, 10), "places365") for record in records]
  np.testing.assert_array_equal(read, np.stack(expected))


@pytest.mark.parametrize(
  ("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (50, [7])]
)
def test_batches_are_full_and_in_order(pictures_with_bad_ones, batch_size, sizes):
  records = list_images(pictures_with_bad_ones)
  whole = load_folder(records, (12, 10))
  read = list(iterate_images(records, (12, 10), batch_size=batch_size))
  assert [len(batch.images) for batch in read] == sizes
  np.testing.assert_array_equal(np.concatenate([batch.images for batch in read]), whole.images)
  assert [record for batch in read for record in batch.records] == whole.records
  assert [failure for batch in read for failure in batch.failures] == whole.failures


def test_many_more_files_than_are_decoded_ahead_stay_in_order(tmp_path):
  for level in range(90):
    Image.new("RGB", (3 + level % 7, 4), (level, 2 * level, 255 - level)).save(
      tmp_path / f"{level:03}.png"
    )
  read = load_folder(list_images(tmp_path), (2, 2)).images
  np.testing.assert_array_equal(read[:, 0, 0, 0], np.arange(90))


def test_only_bad_ones_give_a_batch_without_images(tmp_path):
  (tmp_path / "a.png").write_text("no")
  (tmp_path / "b.png").touch()
  (batch,) = iterate_images(list_images(tmp_path), (5, 6), batch_size=1)
  assert batch.images.shape == (0, 5, 6, 3)
  assert len(batch.failures) == 2


def test_no_records_give_no_batch():
  assert list(iterate_images([], (5, 6))) == []
  assert load_folder([], (5, 6)).images.shape == (0, 5, 6, 3)


def test_notes_are_collected(pictures):
  Image.new("RGBA", (4, 4), (1, 2, 3, 128)).save(pictures / "glass.png")
  notes = []
  load_folder(list_images(pictures), (8, 8), notes=notes)
  assert len(notes) == 1
  assert "glass.png" in notes[0]


def test_only_a_few_pictures_are_opened_ahead(pictures, monkeypatch):
  opened = []
  real = images.open_image
  monkeypatch.setattr(images, "open_image", lambda path: (opened.append(path), real(path))[1])
  records = list_images(pictures) * 20
  read = iterate_images(records, (8, 8), batch_size=2)
  next(read)
  assert len(opened) <= 2 + 1 + folders._AHEAD
  read.close()


def test_stopping_early_ends_the_threads(pictures):
  before = threading.active_count()
  read = iterate_images(list_images(pictures) * 20, (8, 8), batch_size=1)
  next(read)
  assert threading.active_count() > before
  read.close()
  deadline = time.monotonic() + 5
  while threading.active_count() > before and time.monotonic() < deadline:
    time.sleep(0.01)
  assert threading.active_count() == before


def test_warning_filters_are_as_before_while_batches_are_read(pictures):
  filters, show = list(warnings.filters), warnings.showwarning
  for _ in iterate_images(list_images(pictures) * 5, (8, 8), batch_size=2):
    assert list(warnings.filters) == filters
    assert warnings.showwarning is show


def test_a_fault_of_ours_is_not_taken_for_a_bad_file(pictures, monkeypatch):
  def fail(image, image_size, how):
    raise ZeroDivisionError("a bug")

  monkeypatch.setattr(images, "preprocess", fail)
  with pytest.raises(ZeroDivisionError):
    load_folder(list_images(pictures), (8, 8))


@pytest.mark.parametrize(
  ("arguments", "options", "message"),
  [
    (((0, 8),), {}, r"image_size must be \(height, width\)"),
    (((8, 8), "squash"), {}, "how must be one of"),
    (((8, 8),), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
  ],
  ids=["size", "how", "batch"],
)
def test_wrong_arguments_are_refused_at_once(pictures, arguments, options, message):
  with pytest.raises(ValueError, match=message):
    iterate_images(list_images(pictures), *arguments, **options)
