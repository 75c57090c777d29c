"""Pairs that cannot be compared in full: what is said of them, and that the others are."""

import math

import numpy as np
import pytest
from compared_folders import (
  FIRST_CLASSES,
  NAMES,
  NETWORKS,
  compare,
  logits,
  make,
  picture,
  rank,
  write,
)

from rpfgsm_jax.comparison import ComparisonError


def test_a_pair_of_two_sizes_has_no_quality_but_is_judged(tmp_path):
  folders = make(tmp_path)
  write(folders[1] / "attic/b.png", picture(1, (22, 18)))
  found = compare(folders)
  photo = found.photos[1]
  assert (photo.original_size, photo.protected_size) == ((60, 52), (22, 18))
  assert set(photo.measures.values()) == {None}
  assert found.networks[0].ranks.shape == (2, len(NAMES), 15)
  small = logits(NETWORKS[0], picture(1, (22, 18)))
  own = int(logits(NETWORKS[0], picture(1))[0].argmax())
  np.testing.assert_array_equal(found.networks[0].ranks[1, 1], rank(small, own))
  assert found.values("psnr").size == len(NAMES) - 1


def test_damaged_files_are_reported_and_left_out(tmp_path):
  folders = make(tmp_path)
  whole = (folders[1] / "attic/b.png").read_bytes()
  (folders[1] / "attic/b.png").write_bytes(whole[: len(whole) // 2])
  (folders[0] / "dam/d.bmp").write_bytes(b"no picture")
  found = compare(folders)
  assert [photo.name for photo in found.photos] == [
    n for n in NAMES if n not in ("attic/b", "dam/d")
  ]
  assert len(found.failures) == 2
  assert "b.png" in found.failures[0]
  assert "d.bmp" in found.failures[1]
  # Labels follow the photographs, not the places of the files.
  assert [FIRST_CLASSES[label] for label in found.networks[0].labels[:4]] == [
    "attic",
    "beach",
    "garden",
    "garden",
  ]
  assert found.networks[0].labels[4] == -1
  # So do examples: here all that could be read.
  assert [example.place for example in found.examples] == list(range(5))
  np.testing.assert_array_equal(found.examples[1].before, picture(2))


def test_an_unchanged_photo_has_no_finite_psnr(tmp_path):
  folders = make(tmp_path)
  write(folders[1] / "attic/b.png", picture(1))
  found = compare(folders)
  assert found.photos[1].unchanged
  assert found.photos[1].measures["psnr"] is None
  assert found.photos[1].measures["ssim"] == 1
  assert math.isfinite(found.mean("psnr"))


def test_no_readable_pair_is_an_error(tmp_path):
  folders = make(tmp_path)
  for name in NAMES:
    (folders[1] / f"{name}.png").write_bytes(b"no picture")
  with pytest.raises(ComparisonError, match=r"none of 7: .*a\.png must be a JPEG"):
    compare(folders)
