"""Resizing against Pillow, pass by pass, and its gradient against an independent dense matrix."""

import functools
import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import PIL
import pytest
from PIL import Image

from rpfgsm_jax.defenses import resize

MODULE = sys.modules["rpfgsm_jax.defenses.resize"]  # the package's name for it is the function

# From (height, width) to (height, width). Either path, down and up, and both in one.
CASES = {
  "small, down": ((219, 331), (37, 51)),
  "small, up": ((37, 51), (219, 331)),
  "to 256": ((300, 331), (256, 256)),
  "to 257": ((300, 331), (257, 257)),
  "from 257": ((257, 257), (300, 331)),
  "large, down": ((400, 600), (301, 477)),
  "large, up": ((261, 331), (400, 601)),
  "simple ratio": ((400, 600), (320, 480)),  # 5:4 has the most ties
  "great reduction": ((11, 3000), (2, 224)),
  "down and up": ((219, 40), (31, 333)),
  "height alone": ((219, 331), (90, 331)),
  "from one row": ((1, 331), (5, 50)),
  "to one pixel": ((37, 51), (1, 1)),
  "from one pixel": ((1, 1), (3, 300)),
}
BOTH_PATHS = ["small, down", "from 257", "down and up"]


def cases(names):
  return pytest.mark.parametrize(("old", "new"), [CASES[name] for name in names], ids=names)


RUN = jax.jit(resize, static_argnums=1)


def _pull(image, size, cotangent):
  return jax.vjp(lambda x: resize(x, size), image)[1](cotangent)[0]


PULL = jax.jit(_pull, static_argnums=1)


def pillow(image, size):
  """What Pillow makes of `(H, W, 3)` uint8."""
  height, width = size
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@functools.cache
def oracle_matrix(old, new):
  """A transcription of Pillow's `precompute_coeffs`, one weight at a time, in float64."""
  matrix = np.zeros((new, old))
  scale = old / new
  support = filterscale = max(scale, 1.0)
  for row in range(new):
    center = (row + 0.5) * scale
    low = max(int(center - support + 0.5), 0)
    high = min(int(center + support + 0.5), old)
    for place in range(low, high):
      matrix[row, place] = max(1.0 - abs((place - center + 0.5) / filterscale), 0.0)
    matrix[row] /= matrix[row].sum()
  return matrix


def exact_pass(image, axis, new):
  """One pass without its rounding, in float64."""
  moved = np.tensordot(oracle_matrix(image.shape[axis], new), image.astype(np.float64), (1, axis))
  return np.moveaxis(moved, 0, axis)


def pass_tolerance(old, new):
  """How near to half a level float32 and Pillow may disagree.

  Pillow rounds each weight to 2^-22: it is off by up to 255 * 2^-23 = 3e-5 for each of the
  2 * reduction + 1 pixels it weighs. float32 adds less.
  """
  return 1e-4 * max(1.0, old / new)


def assert_equal_but_near_half(got, expected, exact, tolerance):
  """Differences are of one level, and only where the exact value is nearly half-way."""
  differs = got != expected
  distance = np.abs(exact - np.floor(exact) - 0.5)
  assert distance[differs].max(initial=0.0) <= tolerance
  assert np.abs(got - expected).max() <= 1
  assert differs.mean() < 0.04 or differs.size < 1000  # measured: 0.026, at 5:4


def images_of(size, photo):
  """A photograph, noise, and noise of only 0 and 255: (3, H, W, 3) uint8."""
  height, width = size
  rng = np.random.default_rng(height * 1000 + width)
  tiled = np.tile(photo, (-(-height // 219), -(-width // 331), 1))
  noise = rng.integers(0, 256, (height, width, 3))
  saturated = rng.integers(0, 2, (height, width, 3)) * 255
  return np.stack([tiled[:height, :width], noise, saturated]).astype(np.uint8)


@cases(CASES)
def test_each_pass_equals_pillows_but_near_half_a_level(photo, old, new):
  images = images_of(old, photo)
  for axis, size in ((2, (old[0], new[1])), (1, (new[0], old[1]))):
    expected = np.stack([pillow(image, size) for image in images])
    got = np.asarray(RUN(images.astype(np.float32), size))
    assert got.dtype == np.float32
    exact = exact_pass(images, axis, size[axis - 1])
    tolerance = pass_tolerance(old[axis - 1], new[axis - 1])
    assert_equal_but_near_half(got, expected, exact, tolerance)


def test_the_tolerance_grows_with_the_reduction():
  """Of 54 bright pixels Pillow's weights are off by more than 1e-4 together: measured 3e-4."""
  image = np.random.default_rng(0).integers(200, 256, (300, 6000, 3)).astype(np.uint8)
  got = np.asarray(RUN(image.astype(np.float32), (300, 224)))
  exact = exact_pass(image, 1, 224)
  assert_equal_but_near_half(got, pillow(image, (300, 224)), exact, pass_tolerance(6000, 224))


# (height, width) from and to; whether the columns shrink first. Pillow 13's rule, and its border.
ORDERS = {
  "both down": ((219, 331), (37, 51), False),
  "both up": ((37, 51), (219, 331), False),
  "tall to square": ((360, 240), (64, 64), False),
  "taller to square": ((450, 241), (64, 64), True),
  "down and up": ((219, 40), (31, 333), True),
  "up and down": ((40, 219), (333, 31), False),
  "down and a little up": ((219, 300), (218, 307), True),
  "twice as much": ((100, 90), (50, 65), False),
  "more than twice as much": ((100, 90), (49, 65), True),
  "large, taller": ((500, 301), (260, 270), True),
  "great reduction": ((11, 3000), (2, 224), False),
}


@pytest.mark.parametrize(("old", "new", "columns_first"), ORDERS.values(), ids=ORDERS)
def test_the_order_of_the_passes_is_pillow_13s(photo, old, new, columns_first):
  images = images_of(old, photo)
  between = {True: (new[0], old[1]), False: (old[0], new[1])}
  expected, other = (
    np.stack([pillow(pillow(image, between[order]), new) for image in images])
    for order in (columns_first, not columns_first)
  )
  got = np.asarray(RUN(images.astype(np.float32), new))
  assert np.abs(got - expected).max() <= 1
  assert (got != expected).mean() < 0.02  # measured: at most 0.005
  assert (got != other).mean() > 0.05
  if int(PIL.__version__.partition(".")[0]) >= 13:
    np.testing.assert_array_equal(expected, [pillow(image, new) for image in images])


@pytest.mark.parametrize(("old", "new"), [((40, 62), (20, 31)), ((40, 62), (80, 124))], ids=str)
def test_ties_round_up_as_pillows_do_where_the_weights_are_exact(photo, old, new):
  """By two, inside the border, weights are multiples of 1/8: no arithmetic rounds."""
  image = images_of(old, photo)[1]
  exact = exact_pass(image, 1, new[1])[:, 1:-1]
  ties = exact % 1 == 0.5
  assert 0.05 < ties.mean() < 0.3
  got = np.asarray(RUN(image.astype(np.float32), (old[0], new[1])))[:, 1:-1]
  np.testing.assert_array_equal(got[ties], np.ceil(exact[ties]))
  np.testing.assert_array_equal(got, pillow(image, (old[0], new[1]))[:, 1:-1])


def test_rounding_of_a_tie_and_its_neighbors():
  tie = np.float32([2.5, 254.5])
  for values, steps in ((tie, [3, 255]), (np.nextafter(tie, 0), [2, 254])):
    np.testing.assert_array_equal(MODULE._round_half_up(values), steps)
  np.testing.assert_array_equal(MODULE._round_half_up(np.nextafter(tie, 256)), [3, 255])


def test_weights_are_pillows_before_its_fixed_point():
  for old, new in ((331, 51), (51, 331), (300, 277), (1, 7), (7, 1), (2, 3), (5, 5)):
    matrix = MODULE.bilinear_weights(old, new)
    # float32 keeps 2^-24 of each weight; Pillow's window leaves out weights below 1e-15.
    np.testing.assert_allclose(matrix, oracle_matrix(old, new), rtol=1e-6, atol=1e-9)


def test_the_size_it_has_changes_nothing(photo):
  image = photo[:21, :30].astype(np.float32) + 0.25  # and rounds nothing
  np.testing.assert_array_equal(resize(image, (21, 30)), image)
  np.testing.assert_array_equal(PULL(image, (21, 30), image), image)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_images_stay_flat(level):
  image = np.full((31, 270, 3), level, np.float32)
  for size in ((7, 11), (90, 290), (7, 301)):
    np.testing.assert_array_equal(RUN(image, size), np.full((*size, 3), level))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(photo, channels):
  plane = photo[:37, :51, :1].astype(np.float32)
  image = np.concatenate([plane, 255 - np.tile(plane, channels - 1)], axis=-1)
  got = np.asarray(RUN(image, (30, 23)))
  assert got.shape == (30, 23, channels)
  expected = Image.fromarray(photo[:37, :51, 0]).resize((23, 30), Image.Resampling.BILINEAR)
  differs = got[..., 0] != np.asarray(expected)
  assert differs.mean() < 0.01


@cases(["small, down", "from 257"])
def test_jit_equals_eager_and_vmap_equals_the_loop(photo, old, new):
  """Programs add in different orders: they too may differ near half a level, and only there."""
  size = (old[0], new[1])
  images = images_of(old, photo)[..., :2]
  exact, tolerance = exact_pass(images, 2, new[1]), pass_tolerance(old[1], new[1])
  values = images.astype(np.float32)
  looped = np.stack([RUN(image, size) for image in values])
  eager = np.asarray(resize(values, size))
  mapped = np.asarray(jax.jit(jax.vmap(lambda x: resize(x, size)))(values))
  for got in (eager, mapped):
    assert_equal_but_near_half(got, looped, exact, tolerance)


@cases(["from 257"])
def test_leading_axes_and_nested_vmap_are_batches(photo, old, new):
  images = images_of(old, photo).astype(np.float32)[None, :, :, :9]
  size = (new[0], 30)
  whole = np.asarray(RUN(images, size))
  assert whole.shape == (1, 3, *size, 3)
  nested = np.asarray(jax.vmap(jax.vmap(lambda x: resize(x, size)))(images))
  for got in (whole, nested):
    assert np.abs(got[0] - [RUN(image, size) for image in images[0]]).max() <= 1
    assert np.mean(got[0] == [RUN(image, size) for image in images[0]]) > 0.98


@cases(BOTH_PATHS)
def test_the_two_paths_agree(photo, old, new, monkeypatch):
  """Strips of rows on a CPU, the whole at once elsewhere: the same sums."""
  images = images_of(old, photo).astype(np.float32)
  cotangent = np.random.default_rng(3).normal(size=(3, *new, 3)).astype(np.float32)
  size, results = (old[0], new[1]), []
  for backend in ("cpu", "gpu"):
    monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
    run = jax.jit(lambda x, _=backend: resize(x, size))
    pull = jax.jit(lambda x, g, _=backend: _pull(x, new, g))
    text = run.lower(images).as_text()
    assert ("stablehlo.while" in text) == (backend == "cpu")
    results.append((np.asarray(run(images)), np.asarray(pull(images, cotangent))))
  (strips, strips_gradient), (whole, whole_gradient) = results
  exact, tolerance = exact_pass(images, 2, new[1]), pass_tolerance(old[1], new[1])
  assert_equal_but_near_half(strips, whole, exact, tolerance)
  np.testing.assert_allclose(strips_gradient, whole_gradient, rtol=1e-5, atol=1e-5)


def test_fewer_rows_than_strips_are_not_divided():
  def loops(rows: int) -> bool:
    image = np.zeros((rows, 9, 1), np.float32)
    return "stablehlo.while" in RUN.lower(image, (rows, 5)).as_text()

  assert [loops(rows) for rows in (1, 7, 8, 9)] == [False, False, True, True]


@cases(
  [
    "small, down",
    "small, up",
    "large, down",
    "from 257",
    "great reduction",
    "down and up",
    "height alone",
    "to one pixel",
    "from one row",
  ]
)
def test_the_gradient_is_the_adjoint_of_the_linear_map(photo, old, new):
  image = images_of(old, photo)[0].astype(np.float32)
  cotangent = np.random.default_rng(1).normal(size=(*new, 3)).astype(np.float32)
  got = np.asarray(PULL(image, new, cotangent), np.float64)
  rows, columns = oracle_matrix(old[0], new[0]), oracle_matrix(old[1], new[1])
  expected = np.einsum("ih,jw,ijc->hwc", rows, columns, cotangent, optimize=True)
  # Up to 300 terms of size 1 where one pixel becomes a row, summed in float32.
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)
  applied = np.einsum("ih,jw,hwc->ijc", rows, columns, image, optimize=True)
  scale = np.linalg.norm(applied) * np.linalg.norm(cotangent)
  assert abs(np.vdot(applied, cotangent) - np.vdot(image, got)) <= 1e-6 * scale


@cases(BOTH_PATHS)
def test_the_roundings_are_straight_through(old, new):
  """The gradient is the same wherever the image lies, on ties too, and passes on every sum."""
  cotangent = np.random.default_rng(2).normal(size=(*new, 3)).astype(np.float32)
  flat = np.zeros((*old, 3), np.float32)
  ties = flat + np.float32([0.5, 254.5, 255.0])
  ramp = np.linspace(-3, 260, flat.size, dtype=np.float32).reshape(flat.shape)
  pulled = [np.asarray(PULL(image, new, cotangent)) for image in (flat, ties, ramp)]
  np.testing.assert_array_equal(pulled[0], pulled[1])
  np.testing.assert_array_equal(pulled[0], pulled[2])
  np.testing.assert_allclose(np.sum(pulled[0]), np.sum(cotangent), rtol=1e-4, atol=1e-3)
  assert jax.grad(lambda x: MODULE._round_half_up(x))(jnp.float32(0.3)) == 1


def test_a_gradient_is_no_scatter():
  """Slow on accelerators: the adjoint, too, is a sum of gathers."""
  text = PULL.lower(
    np.zeros((1, 300, 3), np.float32), (1, 400), np.zeros((1, 400, 3), np.float32)
  ).as_text()
  assert "stablehlo.gather" in text
  assert "stablehlo.scatter" not in text


def test_what_is_kept_of_large_photos_is_small():
  MODULE._bands.cache_clear()
  tracemalloc.start()
  try:
    MODULE._bands(3001, 1501, False)
    MODULE._bands(3001, 1501, True)
    kept, _ = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert kept < 200_000  # the matrix has 18 MB
