"""The MEPP18 lists against the task's own files, and how they are applied to records."""

import collections
import csv
import dataclasses
import hashlib
import pathlib

import pytest

from rpfgsm_jax.data import (
  ImageRecord,
  image_id,
  mepp18_private_classes,
  mepp18_test_names,
  places365_class_names,
  select_mepp18,
)


def _record(name, label_name=None, folder=""):
  return ImageRecord(pathlib.Path(folder, name), f"{folder}{name}", image_id(name), label_name)


@pytest.fixture
def records():
  """All test images, one more before and one behind them, in no order."""
  names = [*mepp18_test_names(), "Places365_val_00000001.jpg", "Places365_val_00036500.jpg"]
  return [_record(name, "bathroom") for name in sorted(names, key=image_id)]


# The lists


def test_the_private_classes_are_60_of_places365_in_network_order():
  names = mepp18_private_classes()
  places = [places365_class_names().index(name) for name in names]
  assert len(names) == 60
  assert places == sorted(set(places))
  assert {"bathroom", "church/indoor", "temple/asia", "slum"} < set(names)
  assert "kitchen" not in names


def test_the_private_classes_are_the_official_ones(shared_data):
  text = (shared_data / "mepp18" / "MEPP18senscats.txt").read_text(encoding="utf-8-sig")
  official = [line.split() for line in text.splitlines()]
  assert list(mepp18_private_classes()) == [path[3:] for path, _ in official]  # without "/a/"
  for name, (_, index) in zip(mepp18_private_classes(), official, strict=True):
    assert places365_class_names()[int(index)] == name


def test_the_test_names_are_3000_different_ones():
  names = mepp18_test_names()
  assert len(set(names)) == len(names) == 3000
  assert list(names) == sorted(names)
  assert (names[0], names[-1]) == ("Places365_val_00014191.jpg", "Places365_val_00036498.jpg")
  # sha256sum of the official MEPP18test.csv without its quotes and carriage returns.
  digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
  assert digest == "6d721eb23800665899e0ddb4d2a13f28689997197c0ce8c032f07dc691680bd2"


def test_the_test_names_are_the_official_ones(shared_data):
  with (shared_data / "mepp18" / "MEPP18test.csv").open(newline="") as file:
    assert list(mepp18_test_names()) == [name for (name,) in csv.reader(file)]


def test_there_are_50_images_of_each_private_class(shared_data):
  lines = (shared_data / "mepp18" / "places365_standard_val.txt").read_text().splitlines()
  folders = {line.split("/")[2]: line.split("/")[1] for line in lines}
  counts = collections.Counter(folders[name] for name in mepp18_test_names())
  assert counts == {name.replace("/", "-"): 50 for name in mepp18_private_classes()}


# Selecting


def test_the_test_images_come_in_the_lists_order_unchanged(records):
  selected = select_mepp18(records)
  assert [record.relative for record in selected] == list(mepp18_test_names())
  assert {id(record) for record in selected} < {id(record) for record in records}
  assert select_mepp18(records[::-1]) == selected


@pytest.mark.parametrize("folder", ["val_256/", "val/church-indoor/"])
def test_folders_and_unknown_labels_do_not_matter(folder):
  records = [_record(name, folder.split("/")[0], folder) for name in mepp18_test_names()]
  assert select_mepp18(records) == records


def test_missing_images_are_counted_and_the_first_named(records):
  gone = set(mepp18_test_names()[5:3000:7])
  kept = [record for record in records if record.relative not in gone]
  with pytest.raises(ValueError, match=rf"all 3,000 .* {len(gone)} are missing: ") as caught:
    select_mepp18(kept)
  assert f"{', '.join(sorted(gone)[:3])} and {len(gone) - 3} more; get val_256" in str(caught.value)


def test_one_missing_image_is_named_alone(records):
  gone = mepp18_test_names()[-1]
  kept = [record for record in records if record.relative != gone]
  with pytest.raises(ValueError, match=f"1 are missing: {gone}; get val_256.tar"):
    select_mepp18(kept)


def test_no_records_lack_everything():
  with pytest.raises(ValueError, match="3,000 are missing"):
    select_mepp18([])


def test_an_image_that_is_there_twice_is_refused(records):
  name = mepp18_test_names()[40]
  with pytest.raises(ValueError, match=f"once, got {name} and copy/{name}; list one folder"):
    select_mepp18([*records, _record(name, "bathroom", "copy/")])


def test_other_images_may_be_there_twice_and_have_any_label(records):
  other = _record("Places365_val_00000001.jpg", "kitchen", "copy/")
  assert select_mepp18([*records, other]) == select_mepp18(records)


def test_a_label_that_is_not_private_is_refused(records):
  name = mepp18_test_names()[7]
  changed = [
    dataclasses.replace(record, label_name="kitchen") if record.relative == name else record
    for record in records
  ]
  with pytest.raises(ValueError, match=f"got 1 others, such as kitchen for {name}; check the list"):
    select_mepp18(changed)
