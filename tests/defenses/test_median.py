"""Median smoothing against SciPy, and its gradient against a slow search for the winner."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from rpfgsm_jax.defenses import median

SIZES = (2, 3, 5)
SHAPES = [(1, 1), (5, 3), (16, 16), (37, 51), (219, 331), (224, 224)]


RUN = jax.jit(median, static_argnums=1)
RUN_TRACED = jax.jit(median)


def _pull(image, size, cotangent):
  return jax.vjp(lambda x: median(x, size), image)[1](cotangent)[0]


PULL = jax.jit(_pull, static_argnums=1)


def oracle(image, size):
  return ndimage.median_filter(image, size=(size, size, 1), mode="reflect")


def oracle_gradient(image, size, cotangent):
  """Adds each cotangent at the position of the window's median; for images without ties."""
  height, width, channels = image.shape
  before = size // 2
  rows = np.pad(np.arange(height), (before, size), mode="symmetric")
  columns = np.pad(np.arange(width), (before, size), mode="symmetric")
  gradient = np.zeros(image.shape, np.float64)
  for y, x, c in np.ndindex(height, width, channels):
    window_rows, window_columns = rows[y : y + size], columns[x : x + size]
    window = image[np.ix_(window_rows, window_columns, [c])][..., 0]
    middle = np.sort(window, axis=None)[size * size // 2]
    i, j = np.argwhere(window == middle)[0]
    gradient[window_rows[i], window_columns[j], c] += cotangent[y, x, c]
  return gradient


def images_of(shape, photo):
  """Photo, noise with many ties, and values between the gray levels, negative ones too."""
  height, width = shape
  rng = np.random.default_rng(height * 1000 + width)
  tile = np.tile(photo, (2, 2, 1))[:height, :width].astype(np.float32)
  noise = rng.integers(0, 4, (height, width, 3)).astype(np.float32)
  fraction = rng.uniform(-40, 300, (height, width, 3)).astype(np.float32)
  return {"photo": tile, "ties": noise, "fraction": fraction}


def distinct(shape, seed):
  """An image in which no value occurs twice: its medians have one position each."""
  values = np.random.default_rng(seed).permutation(np.prod(shape))
  return (values * np.float32(255 / values.size)).astype(np.float32).reshape(shape)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_equals_scipy(photo, shape, size):
  for name, image in images_of(shape, photo).items():
    np.testing.assert_array_equal(RUN(image, size), oracle(image, size), err_msg=name)


def test_unjitted_equals_scipy(photo):
  image = photo[40:59, 70:101].astype(np.float32)
  got = median(image, 3)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, oracle(image, 3))


def test_one_compile_serves_all_sizes_as_a_real_branch(photo):
  image = photo[:37, :51].astype(np.float32)
  traces = []

  @jax.jit
  def run(image, size):
    traces.append(None)
    return median(image, size)

  for size in SIZES:
    np.testing.assert_array_equal(run(image, size), oracle(image, size))
    np.testing.assert_array_equal(run(image, jnp.int32(size)), oracle(image, size))
  assert len(traces) == 2  # a Python int is weakly typed, an int32 is not
  assert "stablehlo.case" in run.lower(image, 3).as_text()
  assert "stablehlo.case" not in jax.jit(median, static_argnums=1).lower(image, 3).as_text()


def test_float_sizes_and_arrays_of_one_number(photo):
  image = photo[:9, :14].astype(np.float32)
  for size in (2.0, np.float32(2), jnp.int32(2), jnp.float32(2), np.uint8(2)):
    np.testing.assert_array_equal(median(image, size), oracle(image, 2))
  got = RUN_TRACED(image, jnp.float32(5))
  np.testing.assert_array_equal(got, oracle(image, 5))


def test_batches_and_vmap_equal_the_loop(photo):
  images = np.stack([photo[:13, :22], photo[50:63, 90:112], 255 - photo[:13, 20:42]])
  images = images.astype(np.float32)
  sizes = jnp.array([5, 2, 3])
  looped = [oracle(image, int(size)) for image, size in zip(images, sizes, strict=True)]
  np.testing.assert_array_equal(jax.jit(jax.vmap(median))(images, sizes), looped)
  np.testing.assert_array_equal(
    RUN(images[None, ::-1], 3)[0], [oracle(image, 3) for image in images[::-1]]
  )
  every = jax.jit(jax.vmap(median, in_axes=(None, 0)))(images[0], sizes)
  np.testing.assert_array_equal(every, [oracle(images[0], int(size)) for size in sizes])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels(channels):
  image = distinct((6, 11, channels), channels)
  np.testing.assert_array_equal(RUN(image, 3), oracle(image, 3))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 1, 1), (5, 3, 3), (11, 17, 3)], ids=str)
def test_gradient_lands_on_the_median_alone(shape, size):
  image = distinct(shape, size)
  cotangent = np.random.default_rng(7).normal(size=shape).astype(np.float32)
  got = PULL(image, size, cotangent)
  # Up to 25 windows share a winner: their sum is rounded in another order.
  np.testing.assert_allclose(got, oracle_gradient(image, size, cotangent), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_gradient_of_one_window_is_one_hot(size):
  image = distinct((9, 12, 3), 11)
  one = np.zeros(image.shape, np.float32)
  one[4, 7, 1] = 2.5
  got = np.asarray(PULL(image, size, one))
  position = np.argwhere(got)
  assert len(position) == 1
  assert got[tuple(position[0])] == 2.5
  assert image[tuple(position[0])] == RUN(image, size)[4, 7, 1]


@pytest.mark.parametrize("size", SIZES)
def test_ties_pass_the_whole_gradient_to_the_first(size):
  image = np.full((7, 10, 3), 64, np.float32)
  one = np.zeros(image.shape, np.float32)
  one[3, 5, 2] = 1
  got = np.asarray(PULL(image, size, one))
  expected = np.zeros(image.shape, np.float32)
  expected[3 - size // 2, 5 - size // 2, 2] = 1
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", SIZES)
def test_finite_differences_agree_without_ties(size):
  image = distinct((6, 7, 2), 5)  # neighbors in value are 3 levels apart: the step crosses none
  function = jax.jit(functools.partial(median, size=size))
  check_grads(function, (image,), order=1, modes=["rev"], eps=0.5, rtol=1e-3)


def test_gradients_of_batches_traced_sizes_and_vmap_agree():
  images = np.stack([distinct((8, 5, 3), seed) for seed in range(3)])
  cotangent = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
  pull_traced = jax.jit(_pull)
  for size in SIZES:
    rows = [PULL(image, size, g) for image, g in zip(images, cotangent, strict=True)]
    np.testing.assert_array_equal(PULL(images, size, cotangent), rows)
    np.testing.assert_array_equal(pull_traced(images, size, cotangent), rows)
  mixed = jax.jit(jax.vmap(_pull))(images, jnp.array([5, 3, 2]), cotangent)
  np.testing.assert_array_equal(mixed[1], PULL(images[1], 3, cotangent[1]))
  np.testing.assert_array_equal(mixed[0], PULL(images[0], 5, cotangent[0]))


@pytest.mark.parametrize("size", [1, 4, 6, 0, -3, 2.5, np.nan], ids=str)
def test_known_sizes_that_do_not_exist_are_refused(size):
  with pytest.raises(ValueError, match=r"size must be .*2, 3 and 5"):
    median(np.zeros((4, 5, 3), np.float32), size)


@pytest.mark.parametrize(("size", "acts_as"), [(-1, 2), (1, 2), (4, 3), (6, 5), (99, 5)])
def test_traced_sizes_that_do_not_exist_act_as_the_next_lower(size, acts_as):
  image = distinct((6, 9, 3), 1)
  np.testing.assert_array_equal(RUN_TRACED(image, size), oracle(image, acts_as))


def test_wrong_images_are_refused():
  with pytest.raises(ValueError, match="image must be float32"):
    median(np.zeros((4, 5, 3), np.uint8), 3)
  with pytest.raises(ValueError, match=r"image must have shape \(\.\.\., H, W, C\)"):
    median(np.zeros((4, 5), np.float32), 3)
