"""Judging: conditions by hand with Pillow, verdicts of networks whose answers are known before."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics
import toy_classifiers as toys
from PIL import Image

from rpfgsm_jax.models import kinds
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.photos.judging import CONDITIONS, conditioned, judge_photo

ALL = dict.fromkeys(CONDITIONS, True)
NOTHING = dict.fromkeys(CONDITIONS, False)


def _flat(color, shape=(40, 52)):
  return np.full((*shape, 3), color, np.uint8)


def _noisy(photo, seed=0):
  change = np.random.default_rng(seed).integers(-16, 17, photo.shape)
  return np.clip(photo + change, 0, 255).astype(np.uint8)


# Conditions


def _coded(photo, quality):
  file = io.BytesIO()
  Image.fromarray(photo).save(file, "JPEG", quality=quality, subsampling=2)  # 2: 4:2:0
  return np.asarray(Image.open(file).convert("RGB"))


def test_conditions_and_their_order():
  assert CONDITIONS == ("as written", "JPEG 90", "JPEG 75", "JPEG 50", "1080 px")


def test_as_written_is_the_photo_itself(photo):
  assert conditioned(photo, "as written") is photo


@pytest.mark.parametrize("quality", [90, 75, 50])
def test_jpeg_is_pillows(photo, quality):
  found = conditioned(photo, f"JPEG {quality}")
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, _coded(photo, quality))


def test_a_photo_that_no_jpeg_can_hold_is_coded_at_the_largest_size_that_one_can(photo):
  strip = np.asarray(Image.fromarray(photo).resize((66_000, 40)))
  found = conditioned(strip, "JPEG 75")
  assert found.shape == (40, 65_500, 3)
  shrunk = Image.fromarray(strip).resize((65_500, 40), Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(found, _coded(np.asarray(shrunk), 75))


@pytest.mark.parametrize(
  ("size", "expected"),
  [
    ((1200, 1620), (800, 1080)),
    ((2160, 1000), (1080, 500)),
    ((1081, 700), (1080, 699)),
    ((3, 3000), (1, 1080)),
    ((2, 5000), (1, 1080)),  # never none
  ],
)
def test_a_shared_copy_is_shrunk_by_lanczos(photo, size, expected):
  large = np.asarray(Image.fromarray(photo).resize(size[::-1]))
  found = conditioned(large, "1080 px")
  assert found.shape == (*expected, 3)
  by_hand = Image.fromarray(large).resize(expected[::-1], Image.Resampling.LANCZOS)
  np.testing.assert_array_equal(found, np.asarray(by_hand))


@pytest.mark.parametrize("size", [(1080, 1080), (1080, 3), (219, 331)])
def test_what_is_small_enough_is_shared_as_it_is(photo, size):
  small = np.asarray(Image.fromarray(photo).resize(size[::-1]))
  assert conditioned(small, "1080 px") is small


@pytest.mark.parametrize("condition", ["JPEG 91", "JPEG", "720 px", "", "as written "])
def test_an_unknown_condition_is_refused(photo, condition):
  with pytest.raises(ValueError, match=r"condition must be one of \('as written', .*, got '"):
    conditioned(photo, condition)


# Networks whose answers are known


def _mean_color(params, images):
  return images.mean(axis=(1, 2)) * params["scale"]


def _color_network(name="colors", size=(8, 6), scale=0.05):
  """Says which color dominates; of (255, 0, 0) "red" at scale 0.05: 12.75 above the others."""
  return Classifier.from_function(
    _mean_color,
    {"scale": jnp.float32(scale)},
    class_names=("red", "green", "blue"),
    image_size=size,
    name=name,
  )


def _roughness(params, images):
  """Compares the mean step between neighbors with a threshold."""
  step = jnp.abs(images[:, :, 1:] - images[:, :, :-1]).mean(axis=(1, 2, 3))
  return jnp.stack([params["threshold"] - step, step - params["threshold"]], axis=-1) * 20


def _rough_network(size):
  params = {"threshold": jnp.float32(0.6)}
  return Classifier.from_function(
    _roughness, params, class_names=("smooth", "rough"), image_size=size, name="roughness"
  )


def test_another_color_misleads_everybody():
  networks = [_color_network("first"), _color_network("second", (16, 20), 0.03)]
  verdict = judge_photo(_flat((200, 10, 20)), _flat((30, 20, 190)), networks, ())
  assert verdict.status == "protected"
  assert [network.misled for network in verdict.networks] == [ALL, ALL]
  assert [network.name for network in verdict.networks] == ["first", "second"]
  assert [network.held_out for network in verdict.networks] == [False, False]
  assert verdict.largest_change == 170
  error = (170**2 + 10**2 + 170**2) / 3
  assert verdict.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)


def test_the_same_color_misleads_nobody():
  photo = _flat((200, 10, 20))
  verdict = judge_photo(photo, photo.copy(), [_color_network()], [_color_network("other")])
  assert verdict.status == "not"
  assert [network.misled for network in verdict.networks] == [NOTHING, NOTHING]
  assert [network.held_out for network in verdict.networks] == [False, True]
  assert (verdict.psnr, verdict.ssim, verdict.largest_change) == (float("inf"), 1.0, 0)


def test_judges_are_asked_for_the_scene_that_is_named_where_they_know_it():
  photo, other = _flat((200, 10, 20)), _flat((30, 190, 20))
  judges = [_color_network(), _rough_network((20, 24))]
  for scene, recognized, misled in (("Red", True, ALL), ("blue", False, ALL)):
    first, second = judge_photo(photo, other, judges, (), scene).networks
    assert (first.scene, first.recognized, first.misled) == (scene.lower(), recognized, misled)
    assert (second.scene, second.misled) == (None, NOTHING)
  (first,) = judge_photo(photo, other, judges[:1], (), "green").networks
  assert (first.recognized, first.misled) == (False, NOTHING)  # it sees the scene only now


def test_a_better_judge_of_other_size_and_classes_changes_the_verdict(monkeypatch):
  """A transformer that looks at nothing but smoothness, which a new color leaves."""
  monkeypatch.setattr(kinds, "SMALL", 1)
  photo, other = _flat((200, 10, 20)), _flat((30, 20, 190))
  networks, strangers = [_color_network("first")], [_color_network("second")]
  before = judge_photo(photo, other, networks, strangers)
  assert before.status == "protected"
  assert before.judged_by == "2 other networks; not judged by a modern network"
  better = dataclasses.replace(_rough_network((20, 24)), family="vit")
  after = judge_photo(photo, other, networks, [*strangers, better])
  assert [network.kind for network in after.networks] == ["other", "other", "modern"]
  assert (after.status, after.judged_by) == ("not", "1 modern network, 2 other networks")
  assert after.networks[-1].before[0][0] == "smooth"


def test_classes_come_with_probabilities_most_likely_first():
  networks = [_color_network(scale=0.01)]
  (network,) = judge_photo(_flat((100, 10, 60)), _flat((20, 130, 40)), networks, ()).networks

  def expected(color):
    likely = np.exp(np.array(color) * 0.01)
    pairs = zip(("red", "green", "blue"), likely / likely.sum(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])

  for found, color in ((network.before, (100, 10, 60)), (network.after, (20, 130, 40))):
    assert [name for name, _ in found] == [name for name, _ in expected(color)]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected(color)], atol=6e-5)


def test_nobody_was_sure():
  unsure = _color_network(scale=0.001)
  verdict = judge_photo(_flat((200, 10, 20)), _flat((10, 20, 200)), [unsure], ())
  assert verdict.status == "no scene"
  assert verdict.networks[0].misled == ALL  # told in any case


def test_strangers_who_recognize_it_still_decide():
  """Red and blue are two colors for the first network, and equally smooth for the other."""
  attacked, stranger = _color_network("attacked"), _rough_network((40, 52))
  verdict = judge_photo(_flat((200, 10, 20)), _flat((10, 20, 200)), [attacked], [stranger])
  assert [network.misled for network in verdict.networks] == [ALL, NOTHING]
  assert verdict.status == "not"
  assert judge_photo(_flat(9), _flat(99), [stranger], ()).status == "not"


def _rough_judges(change):
  """Judges a gray photo with a change, at its own size by a network that sees roughness alone."""
  smooth = _flat(128, change.shape)
  changed = (smooth + change[..., None]).astype(np.uint8)
  return judge_photo(smooth, changed, [_rough_network(change.shape)], ())


def test_a_change_that_jpeg_removes_counts_where_it_is_left():
  """A checkerboard of +-2 levels has 13 in its highest coefficient: of that JPEG 90 keeps one step
  of 20, and JPEG 75 and 50 nothing, their steps being 50 and 99."""
  verdict = _rough_judges(np.indices((40, 56)).sum(axis=0) % 2 * 4 - 2)
  kept = {"as written": True, "JPEG 90": True, "JPEG 75": False, "JPEG 50": False, "1080 px": True}
  assert verdict.networks[0].misled == kept
  assert verdict.status == "partly"
  assert verdict.networks[0].after[0][0] == "rough"  # as written
  assert verdict.largest_change == 2


def test_a_change_that_shrinking_removes_counts_where_it_is_left():
  """Bars of +-8 levels, a pixel wide: of three a pixel of the smaller copy has nothing left."""
  verdict = _rough_judges(np.indices((16, 3300))[1] % 2 * 16 - 8)
  assert verdict.networks[0].misled == ALL | {"1080 px": False}


def test_each_network_is_shown_the_photo_at_its_own_size(photo):
  written = _noisy(photo)
  networks = [toys.linear(1, scale=1e-3), _linear_of((20, 7))]
  verdict = judge_photo(photo, written, networks[:1], networks[1:])
  for network, told in zip(networks, verdict.networks, strict=True):
    for image, found in ((photo, told.before), (written, told.after)):
      height, width = network.image_size
      shown = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
      logits = np.asarray(network(np.asarray(shown)[None])[0], np.float64)
      likely = np.exp(logits - logits.max())
      likely /= likely.sum()
      best = np.argsort(-likely)[:5]
      assert [name for name, _ in found] == [network.class_names[place] for place in best]
      np.testing.assert_allclose([p for _, p in found], likely[best], atol=1e-4)


def _linear_of(size):
  """A network of another size and with other classes: judges need not agree in them."""
  kernel = np.random.default_rng(5).normal(0, 1e-3, (size[0] * size[1] * 3, 6))
  return Classifier.from_function(
    _linear,
    {"kernel": jnp.asarray(kernel, jnp.float32)},
    class_names=tuple("abcdef"),
    image_size=size,
  )


def _linear(params, images):
  return images.reshape(len(images), -1) @ params["kernel"]


def test_of_many_classes_five_are_told(photo):
  networks = [toys.linear(1), _color_network()]
  verdict = judge_photo(photo, _noisy(photo), networks, ())
  assert [len(network.before) for network in verdict.networks] == [5, 3]
  assert [len(network.after) for network in verdict.networks] == [5, 3]


def test_psnr_ssim_and_the_largest_change(photo):
  written = _coded(_noisy(photo), 60)
  verdict = judge_photo(photo, written, [_color_network()], ())
  assert verdict.psnr == pytest.approx(
    skimage.metrics.peak_signal_noise_ratio(photo, written, data_range=255), abs=1e-9
  )
  expected = skimage.metrics.structural_similarity(
    written.astype(np.float64),
    photo.astype(np.float64),
    gaussian_weights=True,
    sigma=1.5,
    use_sample_covariance=False,
    data_range=255,
    channel_axis=-1,
  )
  assert verdict.ssim == pytest.approx(expected, abs=1e-9)
  assert verdict.largest_change == np.abs(written.astype(int) - photo).max() > 16
  for value in (verdict.psnr, verdict.ssim, verdict.largest_change):
    assert type(value) in (float, int)  # JSON's


@pytest.mark.parametrize(("low", "high"), [(0, 255), (255, 0)])
def test_the_largest_change_goes_both_ways(low, high):
  original, written = _flat(low), _flat(low)
  written[7, 3, 1] = high
  assert judge_photo(original, written, [_color_network()], ()).largest_change == 255


@pytest.mark.parametrize(
  ("shape", "has_one"), [((10, 40), False), ((40, 10), False), ((11, 11), True)]
)
def test_photos_smaller_than_ssims_window_have_none(shape, has_one):
  verdict = judge_photo(_flat(9, shape), _flat(12, shape), [_color_network()], ())
  assert (verdict.ssim is not None) == has_one


def test_photos_of_two_sizes_are_refused():
  with pytest.raises(
    ValueError, match=r"written must have the original's shape \(40, 52, 3\), got \(52, 40, 3\); "
  ):
    judge_photo(_flat(9), _flat(9, (52, 40)), [_color_network()], ())
