"""Re-quantization against NumPy in float64, and the derivative each rule states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rpfgsm_jax.defenses import requantize

ALL_BITS = range(1, 8)


def oracle_level(image, bits):
  """Level index, 0..2^bits - 1, in float64."""
  return np.rint(image.astype(np.float64) / 255 * (2**bits - 1))


def oracle(image, bits):
  return oracle_level(image, bits) / (2**bits - 1) * 255


@pytest.fixture(scope="module")
def every_level():
  """All 256 gray levels, each in every channel, in a lopsided image: (32, 24, 3)."""
  levels = np.tile(np.arange(256), 9).reshape(3, 32, 24).transpose(1, 2, 0)
  return levels.astype(np.float32)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_equals_numpy_at_every_gray_level(every_level, bits):
  for got in (requantize(every_level, bits), jax.jit(requantize)(every_level, bits)):
    assert got.shape == every_level.shape
    assert got.dtype == jnp.float32
    level = np.asarray(got, np.float64) * (2**bits - 1) / 255
    np.testing.assert_array_equal(np.rint(level), oracle_level(every_level, bits))
    # 1e-4 gray levels: bits 3, 5, 6 and 7 have fractional levels, rounded to float32.
    np.testing.assert_allclose(got, oracle(every_level, bits), rtol=0, atol=1e-4)
    assert len(np.unique(got)) == 2**bits
    assert got.min() == 0
    assert got.max() == 255
    if bits in (1, 2, 4):  # 2^bits - 1 divides 255
      np.testing.assert_array_equal(got, oracle(every_level, bits))


def test_equals_numpy_on_a_photo_and_between_gray_levels(photo):
  for image in (photo.astype(np.float32), photo.astype(np.float32) * np.float32(0.937) + 3):
    got = requantize(image, 3)
    np.testing.assert_allclose(got, oracle(image, 3), rtol=0, atol=1e-4)


def test_second_application_changes_nothing(every_level):
  once = requantize(every_level, 5)
  np.testing.assert_allclose(requantize(once, 5), once, rtol=0, atol=1e-4)


def test_one_compile_serves_all_bits_and_their_gradients(every_level):
  traces = []

  @jax.jit
  def run(image, bits):
    traces.append(None)
    return jax.value_and_grad(lambda x: jnp.sum(requantize(x, bits)))(image)

  totals = [float(run(every_level, bits)[0]) for bits in ALL_BITS]
  assert len(traces) == 1
  expected = [oracle(every_level, bits).sum() for bits in ALL_BITS]
  np.testing.assert_allclose(totals, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_traced_bits_of_any_real_type(every_level, dtype):
  got = jax.jit(requantize)(every_level, jnp.asarray(6, dtype))
  np.testing.assert_array_equal(got, jax.jit(requantize)(every_level, 6))


def test_vmap_over_bits_and_images_equals_the_loop(every_level):
  images = jnp.stack([every_level, 255 - every_level[::-1], every_level * 0.5])
  bits = jnp.array([7, 1, 4])
  mapped = jax.vmap(requantize)(images, bits)
  looped = jnp.stack([requantize(image, b) for image, b in zip(images, bits, strict=True)])
  np.testing.assert_array_equal(mapped, looped)
  np.testing.assert_array_equal(requantize(images[None], 4)[0, 2], mapped[2])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_and_one_pixel(channels):
  image = np.full((1, 1, channels), 200, np.float32)
  np.testing.assert_allclose(requantize(image, 2), oracle(image, 2), atol=1e-4)


def gradient(image, bits, rounding, cotangent):
  function = functools.partial(requantize, bits=bits, rounding=rounding)
  return jax.vjp(function, image)[1](cotangent)[0]


@pytest.mark.parametrize("bits", [1, 4, 7])
def test_straight_through_returns_the_cotangent(every_level, bits):
  cotangent = np.random.default_rng(bits).normal(size=every_level.shape).astype(np.float32)
  got = gradient(every_level, bits, "straight_through", cotangent)
  # The scales (2^bits - 1) / 255 and back are two float32 roundings.
  np.testing.assert_allclose(got, cotangent, rtol=3e-7)


@pytest.mark.parametrize("rounding", ["cubic", "cubic_value"])
@pytest.mark.parametrize("bits", [1, 3, 7])
def test_cubic_rules_scale_the_cotangent_by_the_formula(every_level, bits, rounding):
  cotangent = np.random.default_rng(bits).normal(size=every_level.shape).astype(np.float32)
  residual = every_level.astype(np.float64) / 255 * (2**bits - 1) - oracle_level(every_level, bits)
  got = gradient(every_level, bits, rounding, cotangent)
  np.testing.assert_allclose(got, 3 * residual**2 * cotangent, atol=1e-4)


@pytest.mark.parametrize("bits", [1, 3, 7])
def test_cubic_keeps_the_exact_value_and_cubic_value_the_papers(every_level, bits):
  exact = requantize(every_level, bits)
  np.testing.assert_array_equal(requantize(every_level, bits, rounding="cubic"), exact)
  level = oracle_level(every_level, bits)
  steps = every_level.astype(np.float64) / 255 * (2**bits - 1)
  surrogate = (level + (steps - level) ** 3) / (2**bits - 1) * 255
  got = requantize(every_level, bits, rounding="cubic_value")
  np.testing.assert_allclose(got, surrogate, rtol=0, atol=1e-4)
  # What the surrogate costs in value: an eighth of a step at worst, 31.5 levels at 1 bit.
  assert 0.9 < np.abs(got - exact).max() / (255 / (2**bits - 1) / 8) <= 1.001


def test_cubic_value_differentiates_as_finite_differences():
  # 2 bits: ties at 42.5, 127.5 and 212.5; these stay away from them by more than the step.
  image = jnp.array([3.0, 30.0, 70.0, 110.0, 150.0, 239.0], jnp.float32).reshape(1, 2, 3)
  function = functools.partial(requantize, bits=2, rounding="cubic_value")
  check_grads(function, (image,), order=1, eps=1.0, rtol=2e-2, atol=2e-2)


def test_bits_get_no_gradient(every_level):
  slope = jax.grad(lambda bits: jnp.sum(requantize(every_level, bits)))(jnp.float32(3))
  assert slope == 0


@pytest.mark.parametrize("bits", [0, 8, -1, 2.5, np.nan, np.int32(9)], ids=str)
def test_known_bits_out_of_range_are_refused(every_level, bits):
  with pytest.raises(ValueError, match=r"bits must be an integer in 1\.\.7, got .*leave"):
    requantize(every_level, bits)


@pytest.mark.parametrize("bits", [True, "3", None, [3], np.array([3, 4]), 3j], ids=str)
def test_bits_that_are_no_real_scalar_are_refused(every_level, bits):
  with pytest.raises(ValueError, match="bits must be"):
    requantize(every_level, bits)


@pytest.mark.parametrize(("bits", "nearest"), [(0, 1), (-5, 1), (8, 7), (99, 7)])
def test_traced_bits_out_of_range_act_as_the_nearest(every_level, bits, nearest):
  np.testing.assert_array_equal(
    jax.jit(requantize)(every_level, bits), jax.jit(requantize)(every_level, nearest)
  )


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float16, np.int32])
def test_other_dtypes_are_refused(dtype):
  with pytest.raises(ValueError, match=r"image must be float32 gray levels .*jnp\.asarray"):
    requantize(np.zeros((4, 5, 3), dtype), 3)


@pytest.mark.parametrize("shape", [(4, 5), (3,), (), (0, 5, 3), (4, 5, 0)], ids=str)
def test_other_shapes_are_refused(shape):
  with pytest.raises(ValueError, match=r"image must have shape \(\.\.\., H, W, C\)"):
    requantize(np.zeros(shape, np.float32), 3)


def test_unknown_rule_is_refused(every_level):
  with pytest.raises(ValueError, match="rounding must be one of"):
    requantize(every_level, 3, rounding="nearest")
