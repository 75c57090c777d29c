"""The derivatives of JPEG: against an independent transcription, and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from jax.test_util import check_grads

from rpfgsm_jax.defenses import _jpeg_integer, jpeg

# An independent transcription of the linear map, one axis and one sample at a time, in float64.


def half_matrix(length):
  """Chroma averaging along one axis: pairs, an odd last sample repeated, then whole blocks."""
  wanted = -(-length // 16) * 8
  matrix = np.zeros((wanted, length))
  for i in range(wanted):
    for j in (2 * i, 2 * i + 1):
      matrix[i, min(j, length - 1)] += 0.5
  return matrix


def double_matrix(length, blocks, triangle):
  """Chroma upsampling along one axis of `blocks` samples, of which ceil(length / 2) are true."""
  true = -(-length // 2)
  matrix = np.zeros((length, blocks))
  for i in range(length):
    near, step = i // 2, 1 if i % 2 else -1
    far = min(max(near + step, 0), true - 1)
    matrix[i, near] += 0.75 if triangle else 1
    matrix[i, far] += 0.25 if triangle else 0
  return matrix


def edge_matrix(length):
  """Repetition of the last sample up to whole blocks."""
  wanted = -(-length // 8) * 8
  return np.eye(length)[np.minimum(np.arange(wanted), length - 1)]


def transcription(image, quality, subsampling, change):
  """JPEG in float64 of images centered at 128; `change(steps, where)` replaces the rounding."""
  height, width, channels = image.shape[-3:]
  table = np.asarray(_jpeg_integer.quantization_tables(jnp.int32(quality)), np.float64)
  to_ycc = [[0.299, 0.587, 0.114], [-0.16874, -0.33126, 0.5], [0.5, -0.41869, -0.08131]]
  to_rgb = [[1, 0, 1.402], [1, -0.34414, -0.71414], [1, 1.772, 0]]
  planes = image if channels == 1 else image @ np.transpose(to_ycc)
  decoded = np.zeros_like(planes)
  for number in range(channels):
    rows, columns = edge_matrix(height), edge_matrix(width)
    back_rows, back_columns = np.eye(height, len(rows)), np.eye(width, len(columns))
    if number and subsampling == "4:2:0":
      triangle = -(-width // 2) > 2
      rows, columns = half_matrix(height), half_matrix(width)
      back_rows = double_matrix(height, len(rows), triangle)
      back_columns = double_matrix(width, len(columns), triangle)
    plane = rows @ planes[..., number] @ columns.T
    for top in range(0, plane.shape[-2], 8):
      for left in range(0, plane.shape[-1], 8):
        block = plane[..., top : top + 8, left : left + 8]
        steps = scipy.fft.dctn(block, axes=(-2, -1), norm="ortho") / table[number]
        steps = change(steps, (number, top // 8, left // 8)) * table[number]
        block[...] = scipy.fft.idctn(steps, axes=(-2, -1), norm="ortho")
    decoded[..., number] = back_rows @ plane @ back_columns.T
  return decoded if channels == 1 else decoded @ np.transpose(to_rgb)


def slow_pullback(shape, quality, subsampling, change, cotangent):
  """The transposed transcription, from its value at every unit image."""
  units = np.eye(np.prod(shape)).reshape(-1, *shape)
  columns = transcription(units, quality, subsampling, change)
  return np.sum(columns * cotangent, axis=(-3, -2, -1)).reshape(shape)


@functools.partial(jax.jit, static_argnums=(3, 4))
def pull(image, quality, cotangent, subsampling, rounding):
  function = functools.partial(jpeg, quality=quality, subsampling=subsampling, rounding=rounding)
  return jax.vjp(function, image)[1](cotangent)[0]


# Chroma of two columns and wider, one pixel, odd sides, several blocks each way, gray.
LOPSIDED = [
  ((5, 3, 3), "4:2:0"),
  ((11, 18, 3), "4:2:0"),
  ((11, 18, 3), "4:4:4"),
  ((9, 10, 1), "4:2:0"),
]
ONE_PIXEL = [((1, 1, 3), "4:2:0"), ((3, 5, 3), "4:2:0")]


@pytest.mark.parametrize(("shape", "subsampling"), LOPSIDED + ONE_PIXEL, ids=str)
def test_straight_through_is_the_linear_surrogate(shape, subsampling):
  rng = np.random.default_rng(sum(shape))
  image = rng.integers(0, 256, shape).astype(np.float32)
  cotangent = rng.normal(size=shape).astype(np.float32)
  expected = slow_pullback(shape, 37, subsampling, lambda steps, _: steps, cotangent)
  got = pull(image, 37, cotangent, subsampling, "straight_through")
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # float32 against float64
  np.testing.assert_array_equal(pull(image, 3, cotangent, subsampling, "straight_through"), got)
  np.testing.assert_array_equal(
    pull(255 * np.float32(image > 99), 37, cotangent, subsampling, "straight_through"), got
  )


def integer_residuals(image, quality, subsampling):
  """`u - round(u)` of libjpeg's own coefficients, by (plane, block row, block column)."""
  tables = np.asarray(_jpeg_integer.quantization_tables(jnp.int32(quality)))
  residuals, number = {}, 0
  code = jax.jit(
    lambda image: [
      _jpeg_integer.forward_dct(planes - 128)
      for planes in _jpeg_integer.split(image.astype(jnp.int32), subsampling)
    ]
  )
  for group in code(image):
    for coefficients in np.asarray(group, np.float64):
      for row, column in np.ndindex(coefficients.shape[0], coefficients.shape[2]):
        steps = coefficients[row, :, column] / (8 * tables[number])
        residuals[number, row, column] = steps - np.rint(steps)
      number += 1
  return residuals


@pytest.mark.parametrize(("shape", "subsampling"), LOPSIDED, ids=str)
@pytest.mark.parametrize("quality", [10, 96])
def test_cubic_weighs_every_coefficient_by_the_formula(shape, subsampling, quality):
  rng = np.random.default_rng(quality)
  image = rng.integers(0, 256, shape).astype(np.float32)
  cotangent = rng.normal(size=shape).astype(np.float32)
  residuals = integer_residuals(image, quality, subsampling)
  change = lambda steps, where: 3 * residuals[where] ** 2 * steps  # noqa: E731
  expected = slow_pullback(shape, quality, subsampling, change, cotangent)
  got = pull(image, quality, cotangent, subsampling, "cubic")
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "subsampling"), LOPSIDED, ids=str)
def test_cubic_value_equals_the_transcription_and_its_finite_differences(shape, subsampling):
  rng = np.random.default_rng(4)
  image = rng.uniform(90, 170, shape).astype(np.float32)  # far enough from clipping
  direction = rng.normal(size=shape).astype(np.float32)
  levels = []

  def surrogate(steps, _):
    levels.append(np.rint(steps))
    return np.rint(steps) + (steps - np.rint(steps)) ** 3

  def slow(centered):
    levels.clear()
    return transcription(centered, 33, subsampling, surrogate) + 128, list(levels)

  value, base = slow(image.astype(np.float64) - 128)
  function = functools.partial(jpeg, quality=33, subsampling=subsampling, rounding="cubic_value")
  cotangent = rng.normal(size=shape).astype(np.float32)

  @jax.jit
  def both(x):
    return *jax.jvp(function, (x,), (direction,)), jax.vjp(function, x)[1](cotangent)[0]

  got, pushed, pulled = both(image)
  np.testing.assert_allclose(got, value, atol=2e-3)
  step = 1e-4
  up, above = slow(image + step * direction.astype(np.float64) - 128)
  down, below = slow(image - step * direction.astype(np.float64) - 128)
  for here in (above, below):  # or the difference would cross a jump
    np.testing.assert_array_equal(here, base)
  np.testing.assert_allclose(pushed, (up - down) / (2 * step), rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(
    np.vdot(cotangent, pushed), np.vdot(pulled, direction), rtol=1e-4, atol=1e-3
  )


def test_cubic_value_passes_check_grads_where_smooth():
  image = np.random.default_rng(8).uniform(110, 150, (6, 9, 3)).astype(np.float32)
  function = jax.jit(functools.partial(jpeg, quality=20, rounding="cubic_value"))
  check_grads(function, (image,), order=1, eps=1e-2, rtol=5e-2, atol=5e-2)


def test_cubic_value_has_no_slope_where_its_result_is_clipped():
  image = np.zeros((8, 8, 1), np.float32)
  image[:, 4:] = 255
  image[::3, 1] = 90
  value = jpeg(image, 12, subsampling="4:4:4", rounding="cubic_value")
  clipped = np.asarray((value == 0) | (value == 255))
  assert 0 < clipped.sum() < clipped.size
  got = pull(image, 12, clipped.astype(np.float32), "4:4:4", "cubic_value")
  np.testing.assert_array_equal(got, 0)
  assert np.any(pull(image, 12, 1 - clipped.astype(np.float32), "4:4:4", "cubic_value"))


@pytest.mark.parametrize("rounding", ["straight_through", "cubic"])
def test_forward_and_reverse_mode_agree_and_vmap_equals_the_loop(photo, rounding):
  rng = np.random.default_rng(5)
  saturated = 255 * rng.integers(0, 2, (19, 21, 3))
  noise = rng.integers(0, 256, (19, 21, 3))
  images = np.stack([photo[:19, :21], photo[90:109, 101:122], noise, saturated]).astype(np.float32)
  tangent, cotangent = rng.normal(size=(2, *images.shape)).astype(np.float32)
  qualities = jnp.array([15, 40, 75, 100])

  def both(image, quality, tangent, cotangent):
    function = functools.partial(jpeg, quality=quality, rounding=rounding)
    pushed = jax.jvp(function, (image,), (tangent,))[1]
    return pushed, jax.vjp(function, image)[1](cotangent)[0]

  pushed, pulled = jax.jit(jax.vmap(both))(images, qualities, tangent, cotangent)
  for row in range(4):
    left, right = np.vdot(cotangent[row], pushed[row]), np.vdot(pulled[row], tangent[row])
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-2)
    alone = pull(images[row], qualities[row], cotangent[row], "4:2:0", rounding)
    np.testing.assert_allclose(pulled[row], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rounding", ["straight_through", "cubic", "cubic_value"])
def test_quality_gets_no_gradient(rounding):
  image = np.random.default_rng(0).uniform(0, 255, (9, 12, 3)).astype(np.float32)
  total = lambda q: jnp.sum(jpeg(image, q, rounding=rounding) ** 2)  # noqa: E731
  assert jax.jit(jax.grad(total))(jnp.float32(30)) == 0
