"""Reading many files of a folder, of which some are broken: what comes, in which batches."""

import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data import (
  folders,
  images,
  iterate_images,
  list_images,
  load_folder,
  preprocess,
  read_image,
)


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


def test_a_dead_link_is_listed_and_reported(pictures):
  (pictures / "dead.png").symlink_to("nowhere.png")
  batch = load_folder(list_images(pictures), (8, 8))
  assert len(batch.records) == 7
  assert [record.relative for record, _ in batch.failures] == ["dead.png"]


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
