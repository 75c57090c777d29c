"""JPEG against Pillow, bit for bit."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
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
