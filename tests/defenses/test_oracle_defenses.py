"""Pillow's and SciPy's defenses against our own on a photograph; the bank of single parameters."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.schedule import draw_schedule
from rpfgsm_jax.defenses import oracle

BANK = rp.defenses.paper_bank()
IDENTITY, REQUANTIZE, MEDIAN, JPEG = BANK.families


def on_the_host(family, parameter, image):
  return oracle.oracle_member(family, parameter)(image)


def on_the_device(family, parameter, image):
  return np.asarray(family.apply(jnp.asarray(image, jnp.float32), parameter, "straight_through"))


@pytest.mark.parametrize("bits", REQUANTIZE.parameters, ids="{:g}".format)
def test_fewer_bits_are_the_same_to_a_ten_thousandth_of_a_level(photo, bits):
  # 1e-4 gray levels: 3, 5, 6 and 7 bits have values between levels, rounded to float32 at other
  # places; a value taken to another of the 2^bits would be off by 2 levels at least.
  np.testing.assert_allclose(
    on_the_device(REQUANTIZE, bits, photo), on_the_host(REQUANTIZE, bits, photo), rtol=0, atol=1e-4
  )


@pytest.mark.parametrize(
  ("family", "parameter"),
  [(family, parameter) for family in (MEDIAN, JPEG) for parameter in family.parameters],
  ids=lambda value: value.name if isinstance(value, rp.defenses.Defense) else f"{value:g}",
)
def test_medians_and_jpeg_are_identical(photo, family, parameter):
  np.testing.assert_array_equal(
    on_the_device(family, parameter, photo), on_the_host(family, parameter, photo)
  )


def test_the_identity_changes_nothing(photo):
  np.testing.assert_array_equal(on_the_host(IDENTITY, 0.0, photo), photo)


@pytest.mark.parametrize("family", BANK.families, ids=BANK.names)
def test_every_member_gives_float32_of_the_same_shape_and_leaves_its_input_alone(photo, family):
  before = photo.copy()
  found = on_the_host(family, family.parameters[-1], photo)
  assert (found.dtype, found.shape) == (np.float32, photo.shape)
  np.testing.assert_array_equal(photo, before)


def test_a_parameter_that_is_not_the_papers_is_defended_too(photo):
  family = dataclasses.replace(JPEG, parameters=(30.0,))
  np.testing.assert_array_equal(
    on_the_device(family, 30.0, photo), on_the_host(family, 30.0, photo)
  )


def test_a_family_of_another_kind_is_refused():
  with pytest.raises(ValueError, match="must be requantize, median or jpeg, got 'rotate'"):
    oracle.oracle_member(rp.defenses.ROTATE, 10.0)


# The bank of single parameters


def test_the_uniform_bank_has_each_parameter_of_the_paper_once_in_order():
  families = rp.defenses.uniform_bank().families
  assert [(family.name, *family.parameters) for family in families] == [
    ("identity", 0.0),
    *(("requantize", bits) for bits in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)),
    *(("median", size) for size in (2.0, 3.0, 5.0)),
    *(("jpeg", quality) for quality in (25.0, 50.0, 75.0, 100.0)),
  ]


def test_the_uniform_bank_of_another_bank_has_its_members():
  bank = rp.defenses.DefenseBank((JPEG, rp.defenses.ROTATE))
  families = rp.defenses.uniform_bank(bank).families
  assert [family.apply for family in families[:4]] == [JPEG.apply] * 4
  rotations = rp.defenses.ROTATE
  assert families[4:] == tuple(
    dataclasses.replace(rotations, parameters=(each,)) for each in rotations.parameters
  )


def test_the_uniform_bank_of_a_uniform_bank_is_the_same():
  once = rp.defenses.uniform_bank()
  assert rp.defenses.uniform_bank(once) == once


def drawn_members(draws, bank):
  """(name, parameter) -> how often one image met it."""
  names = [bank.names[index] for index in np.ravel(draws.family)]
  return collections.Counter(zip(names, np.ravel(draws.parameter).tolist(), strict=True))


@pytest.mark.parametrize("networks", [1, 3])
def test_balanced_draws_meet_each_of_the_papers_members_equally_often(networks):
  bank = rp.defenses.uniform_bank()
  draws = draw_schedule(jax.random.key(4), 30, networks, bank, "balanced")
  assert drawn_members(draws, bank) == {
    (family.name, family.parameters[0]): 2 for family in bank.families
  }


def test_rp_fgsm_meets_each_member_of_a_uniform_bank_equally_often():
  # Without medians and most qualities, which take long to compile: 9 members, 27 iterations.
  light = dataclasses.replace(JPEG, parameters=(50.0,))
  bank = rp.defenses.uniform_bank(rp.defenses.DefenseBank((IDENTITY, REQUANTIZE, light)))
  config = rp.RPFGSMConfig(num_steps=27, draw="balanced", defenses=bank, record_draws=True)
  result = rp.rp_fgsm(jax.random.key(0), toys.images(2), [toys.linear(1)], config)
  expected = {(family.name, family.parameters[0]): 3 for family in bank.families}
  for image in range(2):
    draws = jax.tree.map(lambda leaf, image=image: leaf[image], result.draws)
    assert drawn_members(draws, bank) == expected
