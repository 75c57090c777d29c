"""CIELAB against scikit-image in float64: values, derivatives, and the norm where it is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color

from rpfgsm_jax.attacks.lab import lab_distance, rgb_to_lab


def by_skimage(levels):
  return skimage.color.rgb2lab(np.asarray(levels, np.float64) / 255.0)


def colors():
  """The colors whose channels are multiples of 15, and all grays: `(1, 6088, 3)`."""
  grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
  gray = np.repeat(np.arange(256)[:, None], 3, axis=1)
  return np.concatenate([grid, gray])[None].astype(np.float32)


def photos(seed=0, shape=(2, 9, 7, 3)):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def test_values_equal_skimage():
  """Float32 cubic roots are wrong by 3e-7, and a is 500 times a difference of two: 3e-4."""
  np.testing.assert_allclose(
    jax.jit(rgb_to_lab)(jnp.asarray(colors())), by_skimage(colors()), rtol=0, atol=1e-3
  )


def test_known_colors():
  """Black, white, and the primary red of sRGB, L a b = 53.24, 80.09, 67.20."""
  image = jnp.asarray([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], jnp.float32)
  expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20]]
  np.testing.assert_allclose(rgb_to_lab(image)[0], expected, atol=1e-2)


def test_derivatives_equal_finite_differences_of_skimage():
  """Away from the two knees, where scikit-image's rounded constants leave a step."""
  levels = photos(1, (1, 40, 3))
  levels[0, :6] = [[2, 3, 5], [0, 0, 0], [255, 255, 255], [4, 4, 4], [0, 200, 0], [255, 0, 1]]
  jacobian = jax.vmap(jax.jacrev(lambda color: rgb_to_lab(color[None, None])[0, 0]))(
    jnp.asarray(levels[0])
  )
  for channel in range(3):
    step = np.zeros(3)
    step[channel] = 1e-4
    expected = (by_skimage(levels + step) - by_skimage(levels - step))[0] / 2e-4
    np.testing.assert_allclose(jacobian[:, :, channel], expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("level", [-30.0, 0.0, 1e-6, 10.31475, 128.0, 255.0, 300.0])
def test_gradients_are_finite_in_and_beyond_the_range(level):
  """Black, the knee, flat gray, white; and what a transformation might leave outside 0..255."""
  for image in (jnp.full((2, 2, 3), level), jnp.asarray([[[level, 0.0, 255.0]]])):
    jacobian = jax.jacrev(rgb_to_lab)(image)
    assert np.all(np.isfinite(jacobian))
    assert np.any(np.asarray(jacobian) > 0)


def test_distance_is_the_norm_of_skimages_difference():
  first, second = photos(1), photos(2)
  expected = np.sqrt(((by_skimage(first) - by_skimage(second)) ** 2).sum((1, 2, 3)))
  distance = lab_distance(jnp.asarray(first), jnp.asarray(second))
  np.testing.assert_allclose(distance, expected, rtol=1e-5)
  np.testing.assert_array_equal(distance, lab_distance(jnp.asarray(second), jnp.asarray(first)))


@pytest.mark.parametrize("level", [None, 0.0, 128.0, 255.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_equal_images_have_no_distance_and_no_gradient(level, compiled):
  """Neither NaN nor noise: compiled together, two conversions of one image may differ by 1e-5."""
  image = jnp.asarray(photos() if level is None else np.full((2, 9, 7, 3), level), jnp.float32)
  run = jax.value_and_grad(lambda first, second: jnp.sum(lab_distance(first, second)))
  distance, gradient = (jax.jit(run) if compiled else run)(image, image)
  assert distance == 0
  np.testing.assert_array_equal(gradient, 0)


def test_images_that_differ_by_less_than_float32_can_tell_have_a_gradient_of_zero():
  """Not equal, and yet the squares sum to zero: the corner of the root once more."""
  first, second = jnp.zeros((2, 2, 3)), jnp.full((2, 2, 3), 1e-30)
  assert lab_distance(first, second) == 0
  np.testing.assert_array_equal(jax.grad(lab_distance)(first, second), 0)


def test_gradient_is_of_the_norm_itself_and_stops_where_pixels_agree():
  """d / ||d|| times the derivative of Lab: as long for a small difference as for a large one."""
  first = photos(3, (5, 4, 3))
  second = first.copy()
  second[1, 2] = np.clip(second[1, 2] + 2, 0, 255)
  gradient = np.array(jax.grad(lab_distance)(jnp.asarray(second), jnp.asarray(first)))
  shift = by_skimage(second)[1, 2] - by_skimage(first)[1, 2]
  jacobian = jax.jacrev(lambda color: rgb_to_lab(color[None, None])[0, 0])(
    jnp.asarray(second[1, 2])
  )
  expected = shift / np.linalg.norm(shift) @ np.asarray(jacobian, np.float64)
  np.testing.assert_allclose(gradient[1, 2], expected, rtol=1e-3)
  gradient[1, 2] = 0
  np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: rgb_to_lab(jnp.zeros((4, 4, 1))), r"images must be \(\.\.\., H, W, 3\)"),
    (lambda: rgb_to_lab(jnp.zeros((4, 3))), r"images must be \(\.\.\., H, W, 3\)"),
    (lambda: lab_distance(jnp.zeros((4, 4, 3)), jnp.zeros((1, 4, 4, 3))), "must have one shape"),
  ],
)
def test_bad_images_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
