"""Training photographs: splits, epochs, decoding and random views."""

import os

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.training import augment, data

RANDOM_VIEWS = jax.jit(augment.random_views, static_argnames="size")


def test_splits_with_different_classes_are_refused(tmp_path):
  for folder in ("train/a", "train/b", "val/a", "val/c"):
    (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / folder / "0.png")
  with pytest.raises(ValueError, match=r"only in train: \['b'\], only in val: \['c'\]"):
    data.list_splits(tmp_path)
  (tmp_path / "val" / "c" / "0.png").unlink()
  with pytest.raises(ValueError, match=r"without photographs: \['c'\]"):
    data.list_splits(tmp_path)


def test_held_out_photographs_are_a_share_of_every_class():
  labels = np.repeat(np.arange(4), [2, 10, 37, 100])
  kept, held = data.hold_out(labels, 0.1, seed=5)
  assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
  assert np.bincount(labels[held]).tolist() == [1, 1, 4, 10]
  assert np.array_equal(held, data.hold_out(labels, 0.1, seed=5)[1])
  assert not np.array_equal(held, data.hold_out(labels, 0.1, seed=6)[1])


def test_an_epoch_shows_classes_and_their_members_equally_often():
  labels = np.repeat(np.arange(3), [5, 40, 200])
  order = data.balanced_epoch(labels, 122, np.random.default_rng(1))
  assert sorted(np.bincount(labels[order])) == [40, 41, 41]
  shown = np.bincount(order, minlength=len(labels))
  for label in range(3):
    members = shown[labels == label]
    assert members.max() - members.min() <= 1
  assert len(set(labels[order[:12]])) > 1  # shuffled
  assert order.max() > 150  # members of the large class are drawn, not its first 41 taken


def test_decoding_is_kept_until_a_photograph_changes(tmp_path):
  path = tmp_path / "a.png"
  Image.new("RGB", (9, 5), (10, 20, 30)).save(path)
  one = data.Photos(paths=(path,), labels=np.zeros(1, np.int32), class_names=("a",))
  cache = tmp_path / "cache"
  assert np.all(data.decode_cached(one, 4, cache) == np.uint8([10, 20, 30]))
  data.decode_cached(one, 4, cache)
  assert len(list(cache.iterdir())) == 1
  Image.new("RGB", (9, 6), (200, 20, 30)).save(path)
  os.utime(path, ns=(1, 1))
  assert np.all(data.decode_cached(one, 4, cache) == np.uint8([200, 20, 30]))
  path.write_bytes(b"no photograph")
  with pytest.raises(ValueError, match=r"a\.png"):
    data.decode_cached(one, 4, cache)


def test_views_lie_inside_the_photograph_and_are_mirrored_half_the_time():
  # Red grows downward, green to the right: a view of a ramp is a ramp within the ramp's ends.
  rows, columns = np.meshgrid(np.arange(32) * 8, np.arange(32) * 8, indexing="ij")
  ramp = np.stack([rows, columns, np.full_like(rows, 77)], axis=-1).astype(np.uint8)
  zero = np.float32(0.0)
  views = RANDOM_VIEWS(
    jax.random.key(3), np.repeat(ramp[None], 64, axis=0), size=12, min_crop=np.float32(0.3),
    jitter=zero, gray=zero,
  )  # fmt: skip
  levels = np.asarray(views)
  assert levels.min() > -0.01
  assert levels.max() < 248.01
  np.testing.assert_allclose(levels[..., 2], 77.0, atol=1e-3)
  assert np.all(levels[:, -1, 5, 0] > levels[:, 0, 5, 0])
  mirrored = levels[:, 5, 0, 1] > levels[:, 5, -1, 1]
  assert 16 < mirrored.sum() < 48
  height = (levels[:, -1, 5, 0] - levels[:, 0, 5, 0]) / 248.0
  width = np.abs(levels[:, 5, -1, 1] - levels[:, 5, 0, 1]) / 248.0
  assert (height * width).min() > 0.3 * 0.7  # the outermost pixel centers lie inside the view
  assert height.std() > 0.05
  assert np.abs(height / width).max() < 1.34


def test_gray_views_have_three_equal_channels():
  image = np.broadcast_to(np.uint8([200, 30, 90]), (64, 32, 32, 3))
  views = RANDOM_VIEWS(
    jax.random.key(0), image, size=12, min_crop=np.float32(0.5), jitter=np.float32(0.2),
    gray=np.float32(1.0),
  )  # fmt: skip
  np.testing.assert_allclose(views[..., 0], views[..., 2], atol=1e-3)
