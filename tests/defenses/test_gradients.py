"""Every defense, under every rule: finite gradients wherever images are flat or saturated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfgsm_jax.defenses import (
  REQUANTIZE,
  DefenseBank,
  encoded_bank,
  jpeg,
  median,
  requantize,
  resize,
)
from rpfgsm_jax.rounding import ROUNDINGS

ENCODED = encoded_bank(DefenseBank((REQUANTIZE,)), 25, "4:2:0").families[0]
DEFENSES = {
  "median": (lambda image, size, rounding: median(image, size), (2, 3, 5), ("no rounding",)),
  "requantize": (
    lambda image, bits, rounding: requantize(image, bits, rounding=rounding),
    (1, 4, 7),
    ROUNDINGS,
  ),
  "jpeg 4:2:0": (
    lambda image, quality, rounding: jpeg(image, quality, rounding=rounding),
    (1, 25, 100),
    ROUNDINGS,
  ),
  "jpeg 4:4:4": (
    lambda image, quality, rounding: jpeg(image, quality, subsampling="4:4:4", rounding=rounding),
    (1, 25, 100),
    ("straight_through", "cubic"),
  ),
  "resize": (
    lambda image, number, rounding: resize(resize(image, (9, 23)), (13, 18)),
    (0,),
    ("straight_through",),
  ),
  "encoded requantize": (ENCODED.apply, (1, 7), ("straight_through",)),
}
CASES = [(name, rule) for name, (_, _, rules) in DEFENSES.items() for rule in rules]


@functools.lru_cache
def special_images():
  """Black, white, flat, all but one pixel black, and a saturated checkerboard: (5, 13, 18, 3)."""
  shape = (13, 18, 3)
  spot = np.zeros(shape)
  spot[6, 7] = [255, 1, 128]
  board = np.indices(shape[:2]).sum(0)[..., None] % 2 * np.array([255, 0, 255])
  flat = [np.full(shape, level) for level in (0, 255, 128)]
  return np.stack([*flat, spot, board]).astype(np.float32)


@functools.lru_cache
def jitted(name, rule):
  """Values and gradients of a defense at images, with a traced parameter: one compile."""
  defend = DEFENSES[name][0]

  def run(images, parameter, cotangent):
    defended, pull = jax.vjp(lambda x: defend(x, parameter, rule), images)
    return defended, pull(cotangent)[0]

  return jax.jit(run)


@pytest.mark.parametrize(("name", "rule"), CASES, ids=lambda part: part.replace(" ", "-"))
def test_gradients_are_finite_on_flat_and_saturated_images(name, rule):
  images = special_images()
  cotangent = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
  for parameter in DEFENSES[name][1]:
    defended, gradient = jitted(name, rule)(images, parameter, cotangent)
    assert np.all(np.isfinite(gradient))
    assert np.all(defended >= 0)
    assert np.all(defended <= 255)
    if rule in ("straight_through", "no rounding"):
      for row in gradient:  # also at saturation: an attack can always leave the bound
        assert np.count_nonzero(row) > row.size / 9
    else:  # |3 r^2| <= 3/4 times a projection, which chroma and repeated edges scale by less than 9
      assert np.abs(gradient).max() <= 9 * np.abs(cotangent).max()


@pytest.mark.parametrize("level", [0, 64, 255])
def test_flat_images_keep_their_gray(level):
  """Gray has no chroma, and every defense but requantization leaves a flat plane where it is."""
  image = np.full((13, 18, 3), level, np.float32)
  np.testing.assert_array_equal(median(image, 5), image)
  np.testing.assert_array_equal(jpeg(image, 100), image)


@pytest.mark.parametrize("rule", ["straight_through", "cubic_value"])
def test_defenses_work_inside_switch_scan_map_and_checkpoint(rule):
  """As the attack's inner loop uses them, against the same defenses called one by one."""
  rng = np.random.default_rng(3)
  images = rng.integers(0, 256, (2, 11, 14, 3)).astype(np.float32)
  weights = rng.normal(size=images.shape[1:]).astype(np.float32)
  family, parameter = np.array([[0, 0], [1, 3], [2, 5], [3, 30], [3, 95], [2, 2]]).T
  members = [
    lambda x, parameter: x,
    lambda x, bits: requantize(x, bits, rounding=rule),
    lambda x, size: median(x, size),
    lambda x, quality: jpeg(x, quality, rounding=rule),
  ]

  def gradient(member, image, parameter):
    return jax.grad(lambda x: jnp.sum(weights * member(x, parameter)))(image)

  def through_switch(image, draws):
    def step(carry, draw):
      family, parameter = draw
      chosen = lambda x, p: jax.lax.switch(family, members, x, p)  # noqa: E731
      return carry, gradient(jax.checkpoint(chosen), image, parameter)

    return jax.lax.scan(step, None, draws)[1]

  run = jax.jit(lambda images, draws: jax.lax.map(lambda x: through_switch(x, draws), images))
  got = run(images, (jnp.asarray(family), jnp.asarray(parameter)))
  alone = [jax.jit(functools.partial(gradient, member)) for member in members]
  for row, image in enumerate(images):
    expected = [alone[f](image, p) for f, p in zip(family, parameter, strict=True)]
    np.testing.assert_allclose(got[row], expected, rtol=1e-4, atol=1e-4)


def test_defenses_chain_and_differentiate_through_each_other():
  image = np.random.default_rng(9).integers(0, 256, (10, 15, 3)).astype(np.float32)

  @jax.jit
  def gradient(image):
    return jax.grad(lambda x: jnp.sum(jpeg(median(requantize(x, 4), 3), 60)))(image)

  got = gradient(image)
  assert np.all(np.isfinite(got))
  # Each straight-through chain passes on the whole sum: 4:2:0 and the median only move it.
  np.testing.assert_allclose(np.sum(got), image.size, rtol=1e-3)
