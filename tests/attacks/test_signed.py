"""`signed_attack`: attacks made of parts, and the start anywhere in the ball, of all of them."""

import dataclasses
import pickle

import jax
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.targets import draw_target

NETS = toys.three()
IMAGES = toys.images(5)
LIGHT = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
SHORT = rp.FGSMConfig(epsilon=6.0, num_steps=9, record_draws=True)
NO_STEPS = rp.RPFGSMConfig(epsilon=6.5, num_steps=0, defenses=LIGHT, random_start=True)

made = rp.signed_attack("made", networks="random", bank=LIGHT, aim=draw_target)
away = rp.signed_attack("away", penalty=lambda images, originals: (images * 0).sum((1, 2, 3)))


def test_rp_fgsm_made_of_parts_is_rp_fgsm():
  theirs = rp.RPFGSMConfig(**dataclasses.asdict(SHORT) | {"transfer": SHORT.transfer})
  theirs = dataclasses.replace(theirs, targeted=True, defenses=LIGHT)
  expected = rp.rp_fgsm(jax.random.key(3), IMAGES, NETS, theirs)
  jax.tree.map(
    np.testing.assert_array_equal, made(jax.random.key(3), IMAGES, NETS, SHORT), expected
  )


def test_it_looks_like_a_function_of_this_module():
  assert pickle.loads(pickle.dumps(made)) is made
  assert made.__name__ == "made"
  assert made.__doc__.startswith("Takes signed gradient steps")
  assert rp.u_fgsm.__module__ == "rpfgsm_jax.attacks.fgsm"


def test_a_penalty_that_is_zero_changes_nothing():
  expected = rp.u_fgsm(jax.random.key(0), IMAGES, NETS[:1], SHORT)
  found = away(jax.random.key(0), IMAGES, NETS[:1], SHORT)
  np.testing.assert_array_equal(found.adversarial, expected.adversarial)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"networks": "all"}, "networks must be 'one', 'random' or 'ensemble', got 'all'"),
    ({"draw": "fair"}, "draw must be 'balanced' or 'iid', got 'fair'"),
    ({"bank": rp.defenses.DefenseBank(())}, "bank must be a DefenseBank with at least one family"),
    ({"rounding": "none"}, "rounding must be"),
  ],
)
def test_bad_parts_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    rp.signed_attack("wrong", **change)


def start(images, seed=0, config=NO_STEPS, **options):
  result = rp.rp_fgsm(jax.random.key(seed), images, NETS, config, **options)
  return np.asarray(result.adversarial)


def test_a_random_start_is_uniform_on_the_whole_levels_of_the_ball():
  gray = np.full((30, *toys.SIZE, 3), 100, np.uint8)
  change = start(gray) - gray
  values, counts = np.unique(change, return_counts=True)
  np.testing.assert_array_equal(values, np.arange(-6, 7))
  expected = change.size / 13
  assert ((counts - expected) ** 2 / expected).sum() < 40  # chi square, 12 degrees of freedom
  assert abs(np.corrcoef(change[..., 0].ravel(), change[..., 1].ravel())[0, 1]) < 0.02
  edge = start(np.where(gray[:1] == 100, 253, 0).astype(np.uint8))
  assert edge.max() == 255  # clipped, not wrapped or drawn again


def test_a_random_start_is_the_images_own_and_changes_no_other_draw():
  whole = start(IMAGES)
  np.testing.assert_array_equal(start(IMAGES[2:3], image_ids=np.asarray([2])), whole[2:3])
  same = np.repeat(IMAGES[:1], 2, axis=0)
  first, second = start(same)
  assert (first != second).mean() > 0.8
  assert (start(IMAGES, seed=1) != whole).mean() > 0.8
  plain = made(jax.random.key(0), IMAGES, NETS, SHORT)
  begun = made(jax.random.key(0), IMAGES, NETS, dataclasses.replace(SHORT, random_start=True))
  np.testing.assert_array_equal(begun.target, plain.target)
  jax.tree.map(np.testing.assert_array_equal, begun.draws, plain.draws)
  adversarial = np.asarray(begun.adversarial)
  assert (adversarial != np.asarray(plain.adversarial)).any()
  assert np.abs(adversarial - IMAGES).max() == 6
  np.testing.assert_array_equal(adversarial, np.rint(adversarial))


def test_a_random_start_keeps_each_pixels_own_ball_and_its_color():
  epsilon = np.arange(np.prod(toys.SIZE)).reshape(1, *toys.SIZE, 1) % 5.0
  gray = np.full((1, *toys.SIZE, 3), 100, np.uint8)
  config = dataclasses.replace(NO_STEPS, epsilon=epsilon, gray=True)
  change = start(gray, config=config) - gray
  assert (np.abs(change) <= epsilon).all()
  assert np.abs(change).max() == 4
  assert (change == change[..., :1]).all()
  assert (start(gray, config=dataclasses.replace(config, epsilon=0.0)) == gray).all()


def test_a_random_start_is_on_or_off():
  with pytest.raises(ValueError, match="random_start must be True or False, got 1"):
    start(IMAGES, config=dataclasses.replace(NO_STEPS, random_start=1))
