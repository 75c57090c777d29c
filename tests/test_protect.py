"""The batch engine: uint8 in and out, any number of images, the same bytes whatever the batches."""

import dataclasses

import jax
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks import signed

NETS = toys.three()
IMAGES = toys.images(7)
CONFIG = rp.RPFGSMConfig(epsilon=5.0, num_steps=6, defenses=rp.defenses.no_defenses())


def test_equals_the_attack_itself():
  protected = rp.protect(IMAGES, NETS, CONFIG, seed=3)
  assert protected.dtype == np.uint8
  expected = rp.rp_fgsm(jax.random.key(3), IMAGES, NETS, CONFIG).adversarial
  np.testing.assert_array_equal(protected, np.asarray(expected).astype(np.uint8))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_batch_size_does_not_show_in_the_bytes(batch_size):
  np.testing.assert_array_equal(
    rp.protect(IMAGES, NETS, CONFIG, batch_size=batch_size), rp.protect(IMAGES, NETS, CONFIG)
  )


def test_one_compilation_a_run_and_progress_to_the_end():
  compiled, calls = signed._run._cache_size(), []
  config = dataclasses.replace(CONFIG, num_steps=7)
  rp.protect(
    IMAGES, NETS, config, batch_size=3, devices=1, progress=lambda *each: calls.append(each)
  )
  assert signed._run._cache_size() == compiled + 1
  assert calls == [(3, 7), (6, 7), (7, 7)]


def test_ids_targets_and_labels_follow_their_images():
  ids, target = np.arange(7) * 11, np.asarray([0, 1, 2, 3, 4, 5, 6])
  config = dataclasses.replace(CONFIG, targeted=True)
  batches = list(
    rp.protect_batches(IMAGES, NETS, config, image_ids=ids, target=target, batch_size=2, devices=1)
  )
  assert [(where.start, where.stop) for where, _ in batches] == [(0, 2), (2, 4), (4, 6), (6, 7)]
  np.testing.assert_array_equal(np.concatenate([r.target for _, r in batches]), target)
  whole = rp.protect(IMAGES, NETS, config, image_ids=ids, target=target)
  np.testing.assert_array_equal(np.concatenate([r.adversarial for _, r in batches]), whole)


def test_no_images_give_no_images():
  assert rp.protect(IMAGES[:0], NETS, CONFIG).shape == (0, *toys.SIZE, 3)


def test_input_is_not_touched():
  before = IMAGES.copy()
  rp.protect(IMAGES, NETS, CONFIG)
  np.testing.assert_array_equal(IMAGES, before)


@pytest.mark.parametrize(
  ("images", "options", "message"),
  [
    (IMAGES[0], {}, r"images must be \(n, H, W, 3\)"),
    (IMAGES[:, 1:], {}, r"images must be \(B, 12, 10, channels\)"),
    (IMAGES / 255.0, {}, "multiply by 255"),
    (np.full((2, 12, 10, 3), np.nan), {}, "must be finite"),
    (IMAGES, {"batch_size": 0}, "batch_size must be an integer >= 1"),
    (IMAGES, {"image_ids": [1]}, r"image_ids must be \(7,\) integers"),
    (IMAGES, {"label": 99}, "label must be classes"),
  ],
)
def test_bad_input_is_named_before_any_work(images, options, message):
  calls = []
  with pytest.raises(ValueError, match=message):
    rp.protect(images, NETS, CONFIG, progress=lambda *n: calls.append(n), **options)
  assert not calls


def test_what_is_not_on_the_grid_is_rounded_and_clipped():
  raw = rp.deepfool(jax.random.key(0), IMAGES, NETS[:1], rp.DeepFoolConfig(quantize=False))
  values = np.asarray(raw.adversarial)
  assert (values != np.rint(values)).any()
  assert values.min() < 0
  config = rp.DeepFoolConfig(quantize=False)
  protected = rp.protect(IMAGES, NETS[:1], config, attack=rp.deepfool)
  np.testing.assert_array_equal(protected, np.clip(np.rint(values), 0, 255))
