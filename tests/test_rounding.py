"""Rounding and clipping rules: exact values, and the derivative each rule states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rpfgsm_jax import rounding

# Off the ties, both signs, far from zero too; no two with the same residual.
SMOOTH = np.array([-128.4, -3.7, -1.2, -0.3, 0.0, 0.1, 0.49, 0.51, 2.25, 16.75, 254.9], np.float32)


def slopes(function, values):
  return jax.vjp(function, values)[1](jnp.ones_like(values))[0]


@pytest.mark.parametrize("rule", rounding.ROUNDINGS[:2])
def test_value_is_the_nearest_integer_exactly(rule):
  values = np.random.default_rng(3).uniform(-300, 300, 4096).astype(np.float32)
  rounded = rounding.round_values(jnp.asarray(values), rule)
  np.testing.assert_array_equal(rounded, np.rint(values))


@pytest.mark.parametrize("rule", rounding.ROUNDINGS[:2])
@pytest.mark.parametrize("tie", [-2.5, -0.5, 0.5, 1.5, 2.5, 127.5, 254.5])
def test_ties_go_to_even_and_their_neighbors_do_not(rule, tie):
  tie = np.float32(tie)
  values = np.array([np.nextafter(tie, np.float32(-999)), tie, np.nextafter(tie, np.float32(999))])
  expected = [np.floor(tie), 2 * np.rint(tie / 2), np.ceil(tie)]
  np.testing.assert_array_equal(rounding.round_values(jnp.asarray(values), rule), expected)


def test_straight_through_has_slope_one_everywhere():
  values = jnp.asarray(np.append(SMOOTH, [0.5, -1.5, 1e6]).astype(np.float32))
  tangents = jnp.arange(values.size, dtype=jnp.float32)
  _, pushed = jax.jvp(rounding.round_straight_through, (values,), (tangents,))
  np.testing.assert_array_equal(pushed, tangents)
  np.testing.assert_array_equal(slopes(rounding.round_straight_through, values), 1)


@pytest.mark.parametrize("rule", rounding.ROUNDINGS[1:])
def test_cubic_rules_have_the_slope_of_the_surrogate(rule):
  residual = SMOOTH - np.rint(SMOOTH)
  got = slopes(lambda values: rounding.round_values(values, rule), jnp.asarray(SMOOTH))
  np.testing.assert_allclose(got, 3 * residual**2, rtol=1e-6)


def test_cubic_value_is_the_surrogate_and_differentiates_as_finite_differences():
  nearest = np.rint(SMOOTH)
  got = rounding.round_cubic_value(jnp.asarray(SMOOTH))
  np.testing.assert_allclose(got, nearest + (SMOOTH - nearest) ** 3, rtol=1e-6)
  smooth = jnp.array([-1.25, -0.3, 0.1, 0.3, 1.2], jnp.float32)
  check_grads(rounding.round_cubic_value, (smooth,), order=1, eps=1e-2, rtol=2e-2, atol=2e-3)


def test_straight_through_clip_passes_every_gradient():
  values = jnp.array([-3.0, -1e-3, 0.0, 17.0, 255.0, 255.5, 900.0], jnp.float32)
  clip = lambda v: rounding.clip_values(v, 0, 255, "straight_through")  # noqa: E731
  np.testing.assert_array_equal(clip(values), [0, 0, 0, 17, 255, 255, 255])
  np.testing.assert_array_equal(slopes(clip, values), 1)


@pytest.mark.parametrize("rule", rounding.ROUNDINGS[1:])
def test_cubic_clip_has_slope_one_on_the_closed_interval(rule):
  above = np.nextafter(np.float32(255), np.float32(999))
  values = jnp.array([-3.0, -1e-30, 0.0, 17.0, 255.0, above, 900.0], jnp.float32)
  clip = lambda v: rounding.clip_values(v, 0, 255, rule)  # noqa: E731
  np.testing.assert_array_equal(clip(values), [0, 0, 0, 17, 255, 255, 255])
  np.testing.assert_array_equal(slopes(clip, values), [0, 0, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("name", ["Straight_through", "", None, "floor"])
def test_unknown_rule_is_refused_by_name(name):
  with pytest.raises(ValueError, match=r"rounding must be one of 'straight_through', 'cubic'"):
    rounding.round_values(jnp.zeros(3), name)
  with pytest.raises(ValueError, match="rounding must be one of"):
    rounding.clip_values(jnp.zeros(3), 0, 255, name)


def test_rules_work_under_jit_vmap_and_scan():
  values = jnp.asarray(SMOOTH)

  def step(carry, rule_values):
    return carry + jnp.sum(rounding.round_cubic(rule_values)), rounding.round_cubic(rule_values)

  total, rows = jax.jit(lambda v: jax.lax.scan(step, jnp.float32(0), v))(values[:, None])
  np.testing.assert_array_equal(rows[:, 0], np.rint(SMOOTH))
  assert total == np.rint(SMOOTH).sum()
  mapped = jax.vmap(jax.grad(rounding.round_cubic))(values)
  np.testing.assert_array_equal(mapped, slopes(rounding.round_cubic, values))
