"""The bank: each image gets its own member, forward and backward, and pays for nobody else's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfgsm_jax import defenses
from rpfgsm_jax.defenses.bank import apply_member, apply_rows

BANK = defenses.paper_bank()
# One row a family and more; the last two share a family but not the parameter.
FAMILIES = np.asarray([0, 1, 2, 3, 3], np.int32)
PARAMETERS = np.asarray([0.0, 3.0, 3.0, 25.0, 75.0], np.float32)
NOISE = np.arange(5, dtype=np.uint32)


@pytest.fixture(scope="module")
def images(photo):
  return jnp.asarray(
    np.stack([photo[i : i + 21, i : i + 18] for i in range(0, 50, 10)]), jnp.float32
  )


def expected_row(row, image):
  family, parameter = FAMILIES[row], float(PARAMETERS[row])
  if family == 0:
    return image
  if family == 1:
    return defenses.requantize(image, parameter)
  return (defenses.median if family == 2 else defenses.jpeg)(image, parameter)


def test_the_papers_set():
  """Sec. V-B: 1 to 7 bits, sizes 2, 3, 5, qualities 25, 50, 75, 100, and the identity."""
  assert BANK.names == ("identity", "requantize", "median", "jpeg")
  assert [len(family.parameters) for family in BANK.families] == [1, 7, 3, 4]
  assert BANK.families[1].parameters == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
  assert BANK.families[2].parameters == (2.0, 3.0, 5.0)
  assert BANK.families[3].parameters == (25.0, 50.0, 75.0, 100.0)
  assert hash(BANK) == hash(defenses.paper_bank())
  assert defenses.paper_bank() == BANK


@pytest.mark.parametrize(
  ("backend", "known"),
  [("cpu", False), ("gpu", False), ("gpu", True)],
  ids=["cpu", "gpu", "gpu, known when compiled"],
)
def test_rows_meet_their_own_member_forward_and_backward(images, backend, known, monkeypatch):
  # One after the other on a CPU, all at once elsewhere; XLA's CPU runs both.
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  weights = jnp.asarray(np.random.default_rng(0).normal(size=images.shape), jnp.float32)

  def together(images, families, parameters):
    out, pull = jax.vjp(
      lambda x: apply_rows(BANK, x, families, parameters, NOISE, "straight_through"), images
    )
    return out, pull(weights)[0]

  if known:
    out, gradient = jax.jit(lambda images: together(images, FAMILIES, PARAMETERS))(images)
  else:
    out, gradient = jax.jit(together)(images, FAMILIES, PARAMETERS)
  for row in range(len(FAMILIES)):
    alone, pull = jax.vjp(lambda x, row=row: expected_row(row, x), images[row])
    # Re-quantized levels are fractions, on which differently fused programs differ by a rounding.
    np.testing.assert_allclose(
      np.asarray(out[row]), np.asarray(alone), rtol=0, atol=0 if backend == "cpu" else 2e-5
    )
    np.testing.assert_allclose(
      np.asarray(gradient[row]), np.asarray(pull(weights[row])[0]), rtol=1e-5, atol=1e-5
    )


def test_the_family_is_a_real_branch_in_the_lowered_text(images):
  text = (
    jax.jit(lambda x, f, p: apply_rows(BANK, x, f, p, NOISE, "straight_through"))
    .lower(images, FAMILIES, PARAMETERS)
    .as_text()
  )
  # One branch over the families, one over the median's sizes.
  assert text.count("stablehlo.case") == 2


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_groups_of_an_accelerator_hold_only_those_who_drew_the_member(rows, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  computed = {"together": [], "apart": []}

  def counted(name, image, parameter, rounding):
    jax.debug.callback(lambda p: computed[name].append(float(p)), jnp.float32(parameter))
    return image + parameter

  members = (
    defenses.IDENTITY,
    defenses.Defense("together", functools.partial(counted, "together"), (10.0, 20.0)),
    defenses.Defense("apart", functools.partial(counted, "apart"), (30.0, 40.0), by_parameter=True),
  )
  # A third each, parameters in turn; with one row: 30 alone.
  families = np.arange(2, rows + 2, dtype=np.int32) % 3
  chosen = np.asarray([[0, 0], [10, 20], [30, 40]], np.float32)
  parameters = chosen[families, np.arange(rows) // 3 % 2]
  images = jnp.zeros((rows, 2, 2, 3))
  out = apply_rows(
    defenses.DefenseBank(members), images, families, parameters, np.zeros(rows, np.uint32), "cubic"
  )
  jax.effects_barrier()
  np.testing.assert_array_equal(np.asarray(out)[:, 0, 0, 0], parameters)
  width = min(rows, 16)
  groups = lambda mask: -(-int(mask.sum()) // width) * width  # noqa: E731
  in_family = [families == index for index in range(3)]
  assert len(computed["together"]) == groups(in_family[1])
  for parameter in (30.0, 40.0):
    # The number is not batched: what depends on it alone is computed once a group.
    assert computed["apart"].count(parameter) * width == groups(
      in_family[2] & (parameters == parameter)
    )


def test_identity_alone_costs_nothing(images):
  alone = defenses.no_defenses()
  text = (
    jax.jit(lambda x: apply_rows(alone, x, FAMILIES, PARAMETERS, NOISE, "cubic"))
    .lower(images)
    .as_text()
  )
  assert "while" not in text
  assert apply_rows(alone, images, FAMILIES, PARAMETERS, NOISE, "cubic") is images


def test_a_bank_of_ones_own(images):
  def darken(image, parameter, rounding):
    return image * parameter

  bank = defenses.DefenseBank((defenses.IDENTITY, defenses.Defense("darken", darken, (0.5, 0.25))))
  out = apply_member(
    bank, images[0], jnp.int32(1), jnp.float32(0.25), jnp.uint32(0), "straight_through"
  )
  np.testing.assert_allclose(np.asarray(out), 0.25 * np.asarray(images[0]))


def _shift(image, parameter, rounding, key):
  return image + jnp.round(jax.random.uniform(key, (), minval=0.0, maxval=parameter))


def test_a_random_member_draws_from_its_own_word_forward_and_backward(images):
  bank = defenses.DefenseBank(
    (defenses.IDENTITY, defenses.Defense("shift", _shift, (1000.0,), random=True))
  )
  families, parameters = jnp.ones(5, jnp.int32), jnp.full(5, 1000.0)
  words = jnp.asarray([3, 4, 3, 5, 6], jnp.uint32)

  def together(x):
    return apply_rows(bank, x, families, parameters, words, "straight_through")

  out, pull = jax.vjp(together, images)
  shift = np.asarray(out - images)[:, 0, 0, 0]
  expected = [
    float(np.round(jax.random.uniform(jax.random.key(w), (), minval=0.0, maxval=1000.0)))
    for w in (3, 4, 3, 5, 6)
  ]
  assert shift.tolist() == expected
  assert len(set(expected)) == 4
  np.testing.assert_array_equal(np.asarray(pull(images)[0]), np.asarray(images))
