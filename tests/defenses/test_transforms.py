"""The transformations of EOT and DI-FGSM against SciPy, Pillow and `jax.image`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from jax.test_util import check_grads
from PIL import Image

from rpfgsm_jax import defenses
from rpfgsm_jax.defenses import add_levels, resize_and_pad, rotate, scale, translate

SHAPE = (23, 17, 3)
IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.float32)
VIEWS = (defenses.CROP, defenses.FLIP, defenses.BLOCK_SHUFFLE)
MEMBERS = (
  *defenses.eot_bank().families,
  defenses.INPUT_DIVERSITY,
  *VIEWS,
  defenses.SPECTRUM,
)
MOVING = (*defenses.eot_bank().families[:3], defenses.INPUT_DIVERSITY, *VIEWS)
# Coordinates up to 23 are wrong by some 2e-6 in float32, and neighbors differ by up to 255 levels.
TOLERANCE = 1e-3


def name_of(member):
  return member.name


def sources(matrix, offset=(0.0, 0.0), shape=SHAPE):
  """Returns where each result's pixel comes from, `(2, H, W)` float64: matrix about the center."""
  middle = (np.array(shape[:2]) - 1) / 2
  place = np.moveaxis(np.indices(shape[:2]), 0, -1) - middle - np.array(offset)
  return np.moveaxis(place @ np.array(matrix).T + middle, -1, 0)


def by_scipy(image, place):
  """Bilinear in float64, the border's pixels repeated, black outside the area of the pixels.

  Also returns where the float64 position leaves no doubt about being inside the area.
  """
  edge = np.array(image.shape[:2])[:, None, None] - 0.5
  inside = np.all((place >= -0.5) & (place <= edge), axis=0)
  sure = np.all((np.abs(place + 0.5) > 1e-4) & (np.abs(place - edge) > 1e-4), axis=0)
  planes = [
    scipy.ndimage.map_coordinates(image[..., c].astype(np.float64), place, order=1, mode="nearest")
    for c in range(image.shape[2])
  ]
  return np.where(inside[..., None], np.stack(planes, axis=-1), 0.0), sure


def assert_equals_scipy(result, place, tolerance=TOLERANCE, image=IMAGE):
  expected, sure = by_scipy(image, place)
  assert sure.mean() > 0.95
  np.testing.assert_allclose(np.asarray(result)[sure], expected[sure], rtol=0, atol=tolerance)
  # The middle third by SciPy's plain rule, without a word about borders.
  plain = scipy.ndimage.map_coordinates(
    image[..., 1].astype(np.float64), place, order=1, mode="constant"
  )
  middle = tuple(slice(n // 3, n - n // 3) for n in image.shape[:2])
  np.testing.assert_allclose(
    np.asarray(result)[..., 1][middle], plain[middle], rtol=0, atol=tolerance
  )


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.07, 1.2, 2.5])
def test_scale_equals_scipy(factor):
  assert_equals_scipy(scale(IMAGE, factor), sources(np.eye(2) / factor))


@pytest.mark.parametrize(("down", "right"), [(3.25, -1.6), (-4.6, 3.4), (0.3, 0.0), (40.0, 0.0)])
def test_translate_equals_scipy(down, right):
  assert_equals_scipy(translate(IMAGE, down, right), sources(np.eye(2), (down, right)))


@pytest.mark.parametrize("degrees", [-60.0, -33.3, 0.7, 17.0, 60.0, 140.0])
def test_rotate_equals_scipy(degrees):
  cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
  assert_equals_scipy(rotate(IMAGE, degrees), sources([[cosine, sine], [-sine, cosine]]))


@pytest.mark.parametrize("degrees", [-60.0, 17.0, 60.0])
def test_rotate_turns_as_pillow_does(degrees):
  planes = [
    Image.fromarray(np.ascontiguousarray(IMAGE[..., c])).rotate(
      degrees, resample=Image.Resampling.BILINEAR
    )
    for c in range(3)
  ]
  expected = np.stack([np.asarray(plane) for plane in planes], axis=-1)
  np.testing.assert_allclose(rotate(IMAGE, degrees), expected, rtol=0, atol=TOLERANCE)


def test_a_whole_photo_equals_scipy(photo):
  """Positions up to 331 are wrong by 1e-4 at worst; neighbors differ by less than 100 levels."""
  image = photo.astype(np.float32)
  cosine, sine = np.cos(np.deg2rad(28)), np.sin(np.deg2rad(28))
  place = sources([[cosine, sine], [-sine, cosine]], shape=image.shape)
  assert_equals_scipy(rotate(image, 28.0), place, 1e-2, image)
  place = sources(np.eye(2) / 1.13, shape=image.shape)
  assert_equals_scipy(scale(image, 1.13), place, 1e-2, image)


def test_whole_pixels_move_exactly():
  expected = np.zeros_like(IMAGE)
  expected[4:, :-3] = IMAGE[:-4, 3:]
  np.testing.assert_array_equal(translate(IMAGE, 4, -3), expected)


@pytest.mark.parametrize(
  ("size", "top", "left"),
  [((21, 15), 0, 0), ((21, 16), 2, 1), ((20, 17), 1, 0), ((23, 16), 0, 1), ((1, 2), 22, 15)],
)
def test_resize_and_pad_equals_resize_and_pad(size, top, left):
  """With sizes and places that are traced, to 2e-5 of the range."""
  small = jax.image.resize(IMAGE, (*size, 3), "linear", antialias=False)
  margins = [(top, 23 - top - size[0]), (left, 17 - left - size[1]), (0, 0)]
  expected = np.pad(np.asarray(small), margins)
  given = (jnp.asarray(size), jnp.int32(top), jnp.int32(left))
  for result in (jax.jit(resize_and_pad)(IMAGE, *given), resize_and_pad(IMAGE, size, top, left)):
    np.testing.assert_allclose(result, expected, rtol=0, atol=255 * 2e-5)
    np.testing.assert_array_equal(np.asarray(result)[expected == 0], 0)


@pytest.mark.parametrize(
  "unchanged",
  [
    lambda image: resize_and_pad(image, SHAPE[:2], 0, 0),
    lambda image: scale(image, 1),
    lambda image: translate(image, 0, 0),
    lambda image: rotate(image, 0),
    lambda image: add_levels(image, 0),
  ],
  ids=["resize and pad", "scale", "translate", "rotate", "add levels"],
)
def test_the_identity_changes_nothing(unchanged):
  weights = jnp.asarray(np.random.default_rng(1).normal(size=SHAPE), jnp.float32)
  result, pull = jax.vjp(unchanged, jnp.asarray(IMAGE))
  np.testing.assert_array_equal(result, IMAGE)
  np.testing.assert_array_equal(pull(weights)[0], weights)


@pytest.mark.parametrize(
  ("total", "value", "slope"),
  [
    (-1e-30, 0, 0),
    (0, 0, 1),
    (1e-3, 1e-3, 1),
    (254.75, 254.75, 1),
    (255, 255, 1),
    (np.nextafter(np.float32(255), np.float32(300)), 255, 0),
  ],
)
def test_clipping_has_derivative_one_at_the_bounds_and_zero_beyond(total, value, slope):
  image = jnp.full((1, 1, 1), total, jnp.float32)
  result, pull = jax.vjp(lambda x: add_levels(x, 0.0), image)
  np.testing.assert_allclose(np.asarray(result), value)
  np.testing.assert_array_equal(np.asarray(pull(jnp.ones_like(image))[0]), slope)


def test_add_levels_takes_one_number_or_one_a_value():
  expected = np.clip(IMAGE.astype(np.float64) + 7.5, 0, 255)
  np.testing.assert_array_equal(add_levels(IMAGE, 7.5), expected)
  levels = np.random.default_rng(1).normal(0, 5, SHAPE).astype(np.float32)
  np.testing.assert_allclose(
    add_levels(IMAGE, levels), np.clip(IMAGE + levels.astype(np.float64), 0, 255), atol=2e-5
  )


@pytest.mark.parametrize("degrees", [-60.0, -45.0, 0.0, 11.0, 60.0, 90.0, 135.0, 180.0])
def test_the_gradient_of_rotate_is_its_transpose(degrees):
  """Rotation is linear: its matrix, a unit image at a time, transposed; all pixels, all borders."""
  shape = (12, 10, 1)
  units = jnp.eye(120, dtype=jnp.float32).reshape(120, *shape)
  matrix = np.asarray(jax.vmap(lambda unit: rotate(unit, degrees))(units)).reshape(120, 120)
  pulled = jax.vmap(
    lambda weight: jax.vjp(lambda x: rotate(x, degrees), jnp.zeros(shape, jnp.float32))[1](weight)[
      0
    ]
  )(units)
  np.testing.assert_allclose(np.asarray(pulled).reshape(120, 120), matrix.T, rtol=0, atol=2e-6)
  assert np.abs(matrix).sum() > 60


@pytest.mark.parametrize(
  "transform",
  [
    lambda x: resize_and_pad(x, (6, 5), 1, 0),
    lambda x: scale(x, 1.13),
    lambda x: translate(x, 0.7, -1.2),
    lambda x: rotate(x, 23.0),
    lambda x: add_levels(x, 3.0),
  ],
  ids=["resize and pad", "scale", "translate", "rotate", "add levels"],
)
def test_gradients_equal_finite_differences(transform):
  image = jnp.asarray(IMAGE[:7, :6], jnp.float32) / 2 + 30  # nothing is clipped
  check_grads(transform, (image,), order=1, modes=["rev"], eps=1.0, atol=2e-3, rtol=2e-3)


def special_images():
  """Black, white, flat, and a saturated checkerboard: (4, 23, 17, 3)."""
  board = np.indices(SHAPE[:2]).sum(0)[..., None] % 2 * np.array([255, 0, 255])
  return np.stack([*(np.full(SHAPE, level) for level in (0, 255, 128)), board]).astype(np.float32)


@functools.lru_cache
def pulled(member):
  """Values and gradients of a member on the special images, for one draw."""
  weights = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)

  def run(image, key):
    transform = lambda x: member.apply(x, member.parameters[0], "straight_through", key)  # noqa: E731
    result, pull = jax.vjp(transform, image)
    return result, pull(weights)[0]

  mapped = jax.jit(jax.vmap(run, in_axes=(0, None)))
  return jax.tree.map(np.asarray, mapped(special_images(), jax.random.key(3)))


@pytest.mark.parametrize("member", MEMBERS, ids=name_of)
def test_values_stay_in_range_and_gradients_finite_on_flat_and_saturated_images(member):
  results, gradients = pulled(member)
  assert np.all(np.isfinite(gradients))
  # Interpolation may leave the range by the rounding of its weights: three units in the last place.
  assert results.min() >= -5e-5
  assert results.max() <= 255 + 5e-5
  assert np.count_nonzero(gradients[2]) > gradients[2].size / 3  # flat gray


@pytest.mark.parametrize("member", MOVING, ids=name_of)
def test_saturated_pixels_keep_their_gradient_when_they_are_moved(member):
  _, gradients = pulled(member)
  for row in gradients[1:]:
    np.testing.assert_array_equal(row, gradients[0])


def test_the_papers_transformations():
  """Sec. V-B: 0.8 to 1.2, -0.2 to 0.2, -60 to 60 degrees, 0 to 13 points, variance 25."""
  bank = defenses.eot_bank()
  names = ("scale", "translate", "rotate", "lighten", "darken", "gaussian noise")
  assert bank.names == names
  assert [family.parameters for family in bank.families] == [
    (0.2,), (0.2,), (60.0,), (13.0,), (13.0,), (25.0,)
  ]  # fmt: skip
  assert all(family.random for family in bank.families)
  assert defenses.eot_bank() == bank
  assert hash(defenses.eot_bank()) == hash(bank)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: rotate(IMAGE[None], 1.0), r"image must be one image \(H, W, C\)"),
    (lambda: rotate(IMAGE.astype(np.uint8), 1.0), "image must be float32"),
    (lambda: rotate(IMAGE, np.nan), "degrees must be a finite number, got nan"),
    (lambda: rotate(IMAGE, np.ones(2)), "degrees must be one number"),
    (lambda: scale(IMAGE, 0.0), "factor must be a finite number above 0, got 0"),
    (lambda: translate(IMAGE, np.inf, 0.0), "down must be a finite number, got inf"),
    (lambda: add_levels(IMAGE, np.ones(3)), r"levels must be one number or \(23, 17, 3\)"),
    (lambda: resize_and_pad(IMAGE, 20, 0, 0), r"size must be two integers \(height, width\)"),
    (lambda: resize_and_pad(IMAGE, (24, 17), 0, 0), r"size must be an integer in 1\.\.23, got 24"),
    (lambda: resize_and_pad(IMAGE, (20, 15), 23, 0), r"top must be an integer in 0\.\.22"),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
