"""JPEG against Pillow bit for bit, and its gradient against an independent float transcription."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from jax.test_util import check_grads
from PIL import Image

from rpfgsm_jax.defenses import _jpeg_integer, jpeg

QUALITIES = (1, 5, 10, 25, 50, 75, 90, 95, 100)
SUBSAMPLINGS = ("4:2:0", "4:4:4")
SHAPES = [(1, 1), (5, 3), (16, 16), (37, 51), (219, 331), (224, 224)]

TRACES = []


def _counted(image, quality, subsampling, rounding):
  TRACES.append((image.shape, subsampling, rounding))
  return jpeg(image, quality, subsampling=subsampling, rounding=rounding)


_RUN = jax.jit(_counted, static_argnums=(2, 3))


def run(image, quality, subsampling="4:2:0", rounding="straight_through"):
  """The defense, jitted once for the whole file, with a traced quality."""
  return _RUN(image, jnp.asarray(quality, jnp.int32), subsampling, rounding)


def pillow(image, quality, subsampling="4:2:0"):
  """What Pillow reads back of the file it wrote."""
  gray = image.shape[-1] == 1
  file = io.BytesIO()
  picture = Image.fromarray(image[..., 0] if gray else image)
  picture.save(file, format="JPEG", quality=quality, subsampling=subsampling)
  decoded = np.asarray(Image.open(file))
  return decoded[..., None] if gray else decoded


def images_of(shape, photo):
  """Two views of a photograph, noise, and noise of only 0 and 255: (4, H, W, 3) uint8."""
  height, width = shape
  rng = np.random.default_rng(height * 1000 + width)
  tiled = np.tile(photo, (2, 2, 1))
  noise = rng.integers(0, 256, (height, width, 3))
  saturated = rng.integers(0, 2, (height, width, 3)) * 255
  views = [tiled[:height, :width], tiled[90 : 90 + height, 101 : 101 + width]]
  return np.stack([*views, noise, saturated]).astype(np.uint8)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_equals_pillow_with_one_compile_for_all_qualities(photo, shape, subsampling):
  images = images_of(shape, photo)
  before = len(TRACES)
  for quality in QUALITIES:
    got = np.asarray(run(images.astype(np.float32), quality, subsampling))
    assert got.dtype == np.float32
    expected = [pillow(image, quality, subsampling) for image in images]
    np.testing.assert_array_equal(got, expected, err_msg=f"quality {quality}")
  assert len(TRACES) == before + 1


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (37, 51), (219, 331)], ids=str)
def test_gray_equals_pillow_mode_l(photo, shape):
  images = images_of(shape, photo)[..., :1]
  for quality in QUALITIES:
    got = run(images.astype(np.float32), quality)
    np.testing.assert_array_equal(got, [pillow(image, quality) for image in images])


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_equals_pillow_on_the_strongest_blocks(subsampling):
  """Signs of all 64 basis functions between 0 and 255: the largest coefficients there are."""
  frequency, sample = np.mgrid[:8, :8]
  basis = np.cos((2 * sample + 1) * frequency * np.pi / 16)
  blocks = np.einsum("uy,vx->uyvx", basis, basis) > 0
  plane = np.where(blocks.reshape(64, 64), 255, 0)
  opposed = np.stack([plane, 255 - plane, 255 - plane], -1)
  mixed = np.stack([plane, 255 - plane.T, plane[::-1]], -1)
  coarse = opposed[:32, :32].repeat(2, 0).repeat(2, 1)  # survives the averaging of chroma
  images = np.stack([opposed, mixed, coarse, 255 - coarse]).astype(np.uint8)
  for quality in (1, 2, 3, 7, 12, 33, 49, 51, 62, 84, 99, 100):
    got = run(images.astype(np.float32), quality, subsampling)
    np.testing.assert_array_equal(got, [pillow(image, quality, subsampling) for image in images])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 15, 17, 33])
def test_equals_pillow_around_the_switch_of_upsampling_and_block_borders(photo, width):
  """Chroma of one or two columns is doubled by repetition, wider chroma by a triangle filter."""
  image = photo[30:49, 60 : 60 + width]
  for quality in (10, 90):
    np.testing.assert_array_equal(run(image.astype(np.float32), quality), pillow(image, quality))


def test_tables_equal_those_in_pillows_files():
  tables = jax.jit(jax.vmap(_jpeg_integer.quantization_tables))(jnp.arange(1, 101))
  picture = Image.new("RGB", (8, 8))
  for quality in range(1, 101):
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    luma, chroma = Image.open(file).quantization.values()
    np.testing.assert_array_equal(tables[quality - 1].reshape(3, 64), [luma, chroma, chroma])


def test_quantization_equals_integer_division_everywhere():
  """Every coefficient of 8-bit samples and every table entry: no float32 rounding shows."""
  tables = np.resize(np.arange(1, 256, dtype=np.int32), 256).reshape(4, 8, 8)
  values = np.arange(-8300, 8301, dtype=np.int32).reshape(1, -1, 1, 1, 1)
  coefficients = np.broadcast_to(values, (4, values.size, 8, 1, 8))
  divisor = 8 * tables[:, None, :, None, :]
  size = (np.abs(values) + divisor // 2) // divisor
  got = jax.jit(_jpeg_integer.quantize)(coefficients, tables)
  np.testing.assert_array_equal(got, np.where(values < 0, -size, size))


def test_both_transforms_are_the_dct_up_to_their_rounding():
  samples = np.random.default_rng(1).integers(-128, 128, (2, 24, 40)).astype(np.int32)
  blocks = samples.reshape(2, 3, 8, 5, 8)
  coefficients = jax.jit(_jpeg_integer.forward_dct)(samples)
  exact = 8 * scipy.fft.dctn(blocks.astype(np.float64), axes=(-3, -1), norm="ortho")
  np.testing.assert_allclose(coefficients, exact, atol=2)  # jfdctint.c: two roundings of 1/2, 1/4
  whole = np.rint(exact / 8).astype(np.int32)
  back = scipy.fft.idctn(whole.astype(np.float64), axes=(-3, -1), norm="ortho")
  got = jax.jit(_jpeg_integer.inverse_dct)(whole)
  np.testing.assert_allclose(got, back.reshape(samples.shape), atol=0.6)


def test_jit_equals_eager_and_known_quality(photo):
  image = photo[100:121, 200:235].astype(np.float32)
  expected = run(image, 42)
  np.testing.assert_array_equal(jpeg(image, 42), expected)
  np.testing.assert_array_equal(jpeg(image, 42.0, subsampling="4:2:0"), expected)
  np.testing.assert_array_equal(jpeg(image, np.int64(42), rounding="cubic"), expected)
  np.testing.assert_array_equal(jax.jit(jpeg)(image, jnp.float32(42)), expected)


def test_vmap_over_images_and_qualities_equals_the_loop(photo):
  images = images_of((37, 51), photo).astype(np.float32)
  qualities = jnp.array([100, 3, 60, 24])
  looped = [run(image, q) for image, q in zip(images, qualities, strict=True)]
  np.testing.assert_array_equal(jax.jit(jax.vmap(jpeg))(images, qualities), looped)
  every = jax.jit(jax.vmap(jpeg, in_axes=(None, 0)))(images[:2], qualities)
  assert every.shape == (4, 2, 37, 51, 3)
  np.testing.assert_array_equal(every[3, 1], run(images[1], 24))
  nested = run(images.reshape(2, 2, 37, 51, 3), 24)
  np.testing.assert_array_equal(nested[1, 1], looped[3])


def test_values_between_gray_levels_are_rounded_half_to_even_and_clipped(photo):
  image = photo[:37, :51].astype(np.float32)
  offset = np.resize(np.float32([0.49, -0.49, 0.0]), image.shape)
  np.testing.assert_array_equal(run(image + offset, 80), run(image, 80))
  image[0, 0] = [300.0, -7.0, 254.5]
  image[1, 0] = [2.5, 3.5, 0.5]
  clean = image.copy()
  clean[0, 0], clean[1, 0] = [255, 0, 254], [2, 4, 0]
  np.testing.assert_array_equal(run(image, 80), run(clean, 80))


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
  value = run(image, 12, "4:4:4", "cubic_value")
  clipped = np.asarray((value == 0) | (value == 255))
  assert 0 < clipped.sum() < clipped.size
  got = pull(image, 12, clipped.astype(np.float32), "4:4:4", "cubic_value")
  np.testing.assert_array_equal(got, 0)
  assert np.any(pull(image, 12, 1 - clipped.astype(np.float32), "4:4:4", "cubic_value"))


@pytest.mark.parametrize("rounding", ["straight_through", "cubic"])
def test_forward_and_reverse_mode_agree_and_vmap_equals_the_loop(photo, rounding):
  images = images_of((19, 21), photo).astype(np.float32)
  rng = np.random.default_rng(5)
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


@pytest.mark.parametrize("quality", [0, 101, -5, 62.5, np.nan, np.inf, np.int64(1000)], ids=str)
def test_known_quality_out_of_range_is_refused(quality):
  with pytest.raises(ValueError, match=r"quality must be an integer in 1\.\.100, got"):
    jpeg(np.zeros((8, 9, 3), np.float32), quality)


@pytest.mark.parametrize(("quality", "nearest"), [(0, 1), (-40, 1), (101, 100), (10**6, 100)])
def test_traced_quality_out_of_range_acts_as_the_nearest(photo, quality, nearest):
  image = photo[:37, :51].astype(np.float32)
  np.testing.assert_array_equal(run(image, quality), run(image, nearest))


@pytest.mark.parametrize("subsampling", ["4:2:2", 2, "420", None])
def test_unknown_subsampling_is_refused(subsampling):
  with pytest.raises(ValueError, match='subsampling must be "4:2:0" or "4:4:4", got'):
    jpeg(np.zeros((8, 9, 3), np.float32), 50, subsampling=subsampling)


def test_unknown_rule_and_wrong_images_are_refused():
  with pytest.raises(ValueError, match="rounding must be one of"):
    jpeg(np.zeros((8, 9, 3), np.float32), 50, rounding="hard")
  with pytest.raises(ValueError, match="1 or 3 channels last, got shape"):
    jpeg(np.zeros((8, 9, 4), np.float32), 50)
  with pytest.raises(ValueError, match="image must be float32"):
    jpeg(np.zeros((8, 9, 3), np.uint8), 50)
  with pytest.raises(ValueError, match=r"image must have shape"):
    jpeg(np.zeros((8, 9), np.float32), 50)
