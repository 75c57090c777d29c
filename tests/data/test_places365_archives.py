"""What a tar archive and a TFDS data set of Places365 must be, and what else is refused."""

import gzip
import io
import re
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from places365_files import LABELS, add_member, write_tar

from rpfgsm_jax.data import (
  list_places365_tar,
  list_places365_tfds,
  load_folder,
  places365_archives,
  places365_class_names,
)

pytestmark = pytest.mark.usefixtures("offline")

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
  path = write_tar(tmp_path / "val.tar", sources.contents, extras)
  records = list_places365_tar(path, sources.labels, complete=False)
  assert [record.path for record in records] == [path / "val_256" / name for name in sorted(LABELS)]
  assert load_folder(records, (32, 32)).failures == []


def test_the_archive_is_not_unpacked_or_kept_open(sources, tmp_path):
  path = write_tar(tmp_path / "val.tar", sources.contents)
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
  path = write_tar(tmp_path / "val.tar", sources.contents | dict(zip(names, changed, strict=True)))
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
    add_member(archive, f"val_256/{name}", sources.contents[sorted(LABELS)[1]])
  read = load_folder(list_places365_tar(path, sources.labels, complete=False), (32, 32)).images
  np.testing.assert_array_equal(read[0], read[1])
  with tarfile.open(path, "a") as archive:
    add_member(archive, f"other/{name}", b"")
  with pytest.raises(ValueError, match="is there twice, in two folders"):
    list_places365_tar(path, sources.labels, complete=False)


# TFDS


def test_a_missing_tfds_data_set_says_how_to_get_it(tmp_path):
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
