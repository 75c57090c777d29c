"""Random views against Pillow and SciPy, their draws, and banks that put them before defenses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.stats
from PIL import Image

from rpfgsm_jax import defenses
from rpfgsm_jax.defenses import crop, multiply_spectrum, shuffle_blocks
from rpfgsm_jax.defenses.bank import apply_rows
from rpfgsm_jax.randomness import noise_key

SHAPE = (23, 17, 3)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
VIEWS = (defenses.FLIP, defenses.CROP, defenses.BLOCK_SHUFFLE, defenses.SPECTRUM)


@functools.lru_cache
def drawn(member, parameter, level=None, count=400):
  """A member's results on a flat image, or on one whose channels are row, column and 50."""
  rows, columns = np.indices(SHAPE[:2])
  ramps = np.stack([rows, columns, np.full_like(rows, 50)], axis=-1)
  image = jnp.asarray(ramps if level is None else np.full(SHAPE, level), jnp.float32)
  keys = jax.random.split(jax.random.key(7), count)
  run = lambda key: member.apply(image, jnp.float32(parameter), "straight_through", key)  # noqa: E731
  return np.asarray(jax.jit(jax.vmap(run))(keys), np.float64)


@pytest.mark.parametrize(
  ("share", "down", "right"), [(1.0, 0.0, 0.0), (0.6, 9.2, 0.0), (0.73, 1.3, 4.59), (0.9, 0.0, 1.7)]
)
def test_crop_equals_pillow(share, down, right):
  """To 4e-4 levels, of float32 positions; the window's upper left and lower right included."""
  box = (right, down, min(right + share * 17, 17), min(down + share * 23, 23))
  planes = [
    Image.fromarray(np.ascontiguousarray(IMAGE[..., c])).resize(
      (17, 23), Image.Resampling.BILINEAR, box=box
    )
    for c in range(3)
  ]
  expected = np.stack([np.asarray(plane) for plane in planes], axis=-1)
  np.testing.assert_allclose(crop(IMAGE, share, down, right), expected, rtol=0, atol=1e-3)


def test_a_window_that_leaves_the_image_is_black_there():
  white = np.full(SHAPE, 255, np.float32)
  result = np.asarray(crop(white, 0.5, 17.25, -4.25))  # half of it below, half to the left
  expected = np.zeros(SHAPE)
  expected[:12, 8:] = 255  # those whose centers the image covers
  np.testing.assert_array_equal(result, expected)


def test_shuffled_blocks_are_those_of_numpy_and_the_gradient_goes_back():
  """Three by two blocks, one column of which is empty."""
  given = ([4, 15], [2, 0, 1], [6, 6], [1, 2, 0])
  result, pull = jax.jit(lambda cuts: jax.vjp(lambda x: shuffle_blocks(x, *cuts), IMAGE))(
    jax.tree.map(jnp.asarray, given, is_leaf=lambda x: isinstance(x, list))
  )
  first, second, third = np.split(IMAGE, [4, 15])
  rows = np.concatenate([second, third, first])
  np.testing.assert_array_equal(result, np.concatenate([rows[:, 6:], rows[:, :6]], axis=1))
  np.testing.assert_array_equal(pull(result)[0], IMAGE)  # its inverse


def test_the_spectrum_is_that_of_scipy():
  """Values and gradients in float64, where a few results are clipped; 1e-3 levels of float32."""
  image = IMAGE * 0.9 + 10
  factors = np.random.default_rng(2).uniform(0.5, 1.5, SHAPE).astype(np.float32)

  def multiply(values):
    spectrum = scipy.fft.dctn(values.astype(np.float64), axes=(0, 1), norm="ortho")
    return scipy.fft.idctn(factors * spectrum, axes=(0, 1), norm="ortho")

  result, pull = jax.vjp(lambda x: multiply_spectrum(x, factors), image)
  expected = multiply(image)
  inside = (expected >= 0) & (expected <= 255)
  assert 0.02 < np.mean(~inside) < 0.3
  np.testing.assert_allclose(result, np.clip(expected, 0, 255), rtol=0, atol=1e-3)
  np.testing.assert_allclose(pull(WEIGHTS)[0], multiply(inside * WEIGHTS), rtol=0, atol=1e-5)


def test_every_second_image_is_mirrored():
  results, image = drawn(defenses.FLIP, 0.5), drawn(defenses.FLIP, 0.0, count=1)[0]
  mirrored = results[:, 0, 0, 1] == 16
  np.testing.assert_array_equal(results[~mirrored], np.tile(image, (sum(~mirrored), 1, 1, 1)))
  flipped = np.tile(image[:, ::-1], (sum(mirrored), 1, 1, 1))
  np.testing.assert_array_equal(results[mirrored], flipped)
  assert scipy.stats.binomtest(int(sum(mirrored)), 400).pvalue > 0.01


def test_windows_are_uniform_and_inside_the_image():
  results = drawn(defenses.CROP, 0.6)
  np.testing.assert_allclose(results[..., 2], 50, atol=1e-4)  # nothing is black
  share = results[:, 12, 8, 0] - results[:, 11, 8, 0]
  np.testing.assert_allclose(results[:, 11, 8, 1] - results[:, 11, 7, 1], share, atol=1e-4)
  assert scipy.stats.kstest(share, "uniform", (0.6, 0.4)).pvalue > 0.01
  places = []
  for channel, length in ((0, 23), (1, 17)):
    start = results[:, 11, 8, channel] + 0.5 - share * length / 2
    assert np.all((start >= -1e-4) & (start <= (1 - share) * length + 1e-4))
    places.append(start / ((1 - share) * length))
    assert scipy.stats.kstest(places[-1][share < 0.99], "uniform").pvalue > 0.01
  assert abs(np.corrcoef([*places, share])[np.triu_indices(3, 1)]).max() < 0.15


def test_blocks_are_cut_at_uniform_lines_and_swapped_every_second_time():
  """Two parts of an axis that change places are the axis turned around its end."""
  results, image = (
    drawn(defenses.BLOCK_SHUFFLE, 2.0),
    drawn(defenses.BLOCK_SHUFFLE, 1.0, count=1)[0],
  )
  first = results[:, 0, 0, :2].astype(int)
  for result, (down, right) in zip(results, first, strict=True):
    np.testing.assert_array_equal(result, np.roll(image, (-down, -right), (0, 1)))
  _, counts = np.unique(first > 0, axis=0, return_counts=True)
  assert len(counts) == 4
  assert scipy.stats.chisquare(counts).pvalue > 0.01
  for axis, length in ((0, 23), (1, 17)):
    lines, counts = np.unique(first[first[:, axis] > 0, axis], return_counts=True)
    assert lines.tolist() == list(range(1, length))
    assert scipy.stats.chisquare(counts).pvalue > 0.01


def test_four_blocks_a_side_are_four_pieces():
  rows = drawn(defenses.BLOCK_SHUFFLE, 4.0)[:, :, 0, 0]
  np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(23), (400, 1)))
  pieces = np.sum(np.diff(rows) != 1, axis=1) + 1
  assert set(pieces) == {1, 2, 3, 4}


def test_the_spectrum_is_multiplied_by_half_to_three_halves_after_noise_of_16():
  spectrum = scipy.fft.dctn(drawn(defenses.SPECTRUM, 0.5, level=100), axes=(1, 2), norm="ortho")
  brightness = spectrum[:, 0, 0] / (100 * np.sqrt(23 * 17))
  assert scipy.stats.kstest(brightness.ravel(), "uniform", (0.5, 1)).pvalue > 0.01
  others = spectrum[:, 1:, 1:]
  # Gaussian times uniform: variances 16^2 (1 + 1 / 12), excess 3 E f^4 / (E f^2)^2 - 3.
  assert abs(others.std() - 16 * np.sqrt(13 / 12)) < 0.1
  assert abs(scipy.stats.kurtosis(others.ravel()) - 3 * (1.5125 / (13 / 12) ** 2 - 1)) < 0.05


def test_the_views_bank_is_the_papers_and_three_random_views():
  bank = defenses.views_bank()
  paper = defenses.paper_bank().families
  assert bank.families[: len(paper)] == paper
  assert [family.name for family in bank.families[len(paper) :]] == [
    "input diversity",
    "scale",
    "translate",
  ]
  assert all(family.random for family in bank.families[len(paper) :])
  assert defenses.views_bank() == bank


def _mirrored(image, parameter, rounding):
  del rounding
  return jnp.flip(image, 1) + parameter


MIRROR = defenses.Defense("mirror", _mirrored, (0.0,))
MEDIAN = dataclasses.replace(defenses.MEDIAN, parameters=(3.0,))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_members_meet_the_view(device, monkeypatch):
  """On an accelerator a median is given a Python number, and identities are left out."""
  monkeypatch.setattr(jax, "default_backend", lambda: device)
  bank = defenses.viewed_bank(defenses.DefenseBank((defenses.IDENTITY, MEDIAN)), (MIRROR,))
  families, parameters = np.array([0, 1], np.int32), np.array([0, 3], np.float32)
  run = jax.jit(lambda *rows: apply_rows(bank, *rows, "straight_through"))
  got = run(np.stack([IMAGE] * 2), families, parameters, np.arange(2, dtype=np.uint32))
  flipped = IMAGE[:, ::-1]
  np.testing.assert_array_equal(got, [flipped, defenses.median(flipped, 3)])


def test_views_and_their_parameters_are_drawn_uniformly():
  several = dataclasses.replace(MIRROR, parameters=(1.0, 2.0))
  bank = defenses.DefenseBank((dataclasses.replace(defenses.GAUSSIAN_NOISE, parameters=(1e-6,)),))
  (member,) = defenses.viewed_bank(bank, (defenses.IDENTITY, several)).families
  results = drawn(member, 1e-6)
  added = np.round(results[..., 2].mean((1, 2)) - 50).astype(int)
  np.testing.assert_array_equal(results[:, 0, 0, 1] > 8, added > 0)  # mirrored
  assert scipy.stats.chisquare(np.bincount(added), [200, 100, 100]).pvalue > 0.01
  assert np.std(results[added == 1], axis=0).min() > 1e-4  # the member's own noise


def test_viewed_members_keep_what_banks_need_and_are_compiled_once():
  paper = defenses.paper_bank()
  bank = defenses.viewed_bank(paper, VIEWS)
  for before, after in zip(paper.families, bank.families, strict=True):
    assert after.name == f"{before.name} behind a view"
    assert after.random
    assert (after.parameters, after.by_parameter) == (before.parameters, before.by_parameter)
  traced = []
  run = jax.jit(lambda bank, x: traced.append(bank) or x, static_argnums=0)
  banks = [
    defenses.shrunk_bank(defenses.viewed_bank(paper, views), 9) for views in (VIEWS, [*VIEWS])
  ]
  for each in (*banks, defenses.shrunk_bank(bank, 9)):
    run(each, 1.0)
  assert len(traced) == 1
  assert bank != defenses.viewed_bank(paper, VIEWS[1:])


def test_a_thumbnail_is_viewed_and_changed_as_a_photo_is():
  bank = defenses.shrunk_bank(defenses.viewed_bank(defenses.DefenseBank((MEDIAN,)), (MIRROR,)), 12)
  small = np.asarray(defenses.resize(IMAGE, (14, 10)))[:, ::-1]
  expected = defenses.resize(defenses.median(small, 3), SHAPE[:2])
  found = bank.families[0].apply(IMAGE, 3.0, "straight_through", jax.random.key(0))
  np.testing.assert_array_equal(found, expected)


def test_all_views_before_a_random_member_pass_a_gradient_the_same_with_64_bits():
  bank = defenses.viewed_bank(defenses.DefenseBank((defenses.SPECTRUM,)), VIEWS)
  (member,) = defenses.shrunk_bank(bank, 12).families

  def gradient(image, noise):
    apply = lambda x: member.apply(x, jnp.float32(0.5), "cubic", noise_key(noise))  # noqa: E731
    return jax.vjp(apply, image)[1](WEIGHTS)[0]

  def run():
    mapped = jax.jit(jax.vmap(gradient, in_axes=(None, 0)))
    return np.asarray(mapped(IMAGE, np.arange(8, dtype=np.uint32)))

  found = run()
  assert np.all(np.isfinite(found))
  assert np.all(np.count_nonzero(found, axis=(1, 2, 3)) > IMAGE.size / 5)
  assert len(np.unique(found.reshape(8, -1), axis=0)) == 8
  with jax.enable_x64(True):
    np.testing.assert_array_equal(run(), found)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: crop(IMAGE[None], 1.0, 0, 0), r"image must be one image \(H, W, C\)"),
    (
      lambda: crop(IMAGE, 1.1, 0, 0),
      r"share must be a finite number above 0 and at most 1, got 1.1",
    ),
    (lambda: crop(IMAGE, 0.5, np.nan, 0), "down must be a finite number, got nan"),
    (lambda: shuffle_blocks(IMAGE, [0.5], [0, 1], [], [0]), "row_cuts must be a list of integers"),
    (lambda: shuffle_blocks(IMAGE, [], [0], [3], [0]), "column_places must be 2 numbers, one more"),
    (lambda: multiply_spectrum(IMAGE, np.ones(3)), r"factors must be one number or \(23, 17, 3\)"),
    (lambda: defenses.viewed_bank(defenses.paper_bank(), ()), "views must be members such as CROP"),
    (lambda: defenses.viewed_bank(defenses.paper_bank(), (crop,)), "views must be members"),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
