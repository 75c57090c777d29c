"""The chunk engine against a plain Python loop, and what it promises about cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfgsm_jax.attacks.rows import map_rows, run_rows, run_rows_until


def _advance(branch, shared, state, constants, step):
  """value <- 3 value + branch + 7 step + bonus (mod a prime): order shows in the result."""
  value = (state["value"] * 3 + branch + 7 * step + constants["bonus"] + shared) % 100003
  return {"value": value, "visits": state["visits"] + 1}


def _reference(schedule, bonus, shared):
  values = []
  for row, extra in zip(schedule, bonus, strict=True):
    value = 0
    for step, k in enumerate(row):
      value = (value * 3 + int(k) + 7 * step + int(extra) + shared) % 100003
    values.append(value)
  return np.asarray(values)


def _run(schedule, bonus, micro_batch, num_branches=3, shared=5):
  rows = schedule.shape[0]
  state = {"value": jnp.zeros(rows, jnp.int32), "visits": jnp.zeros(rows, jnp.int32)}
  return run_rows(
    _advance,
    num_branches,
    jnp.int32(shared),
    state,
    {"bonus": jnp.asarray(bonus, jnp.int32)},
    jnp.asarray(schedule, jnp.int32),
    micro_batch,
  )


@pytest.mark.parametrize(
  ("rows", "micro_batch"), [(1, 1), (1, 4), (3, 4), (8, 4), (24, 8), (13, 5)]
)
def test_every_row_walks_its_own_sequence_in_order(rows, micro_batch):
  generator = np.random.default_rng(rows)
  schedule, bonus = generator.integers(0, 3, (rows, 11)), generator.integers(0, 50, rows)
  out = _run(schedule, bonus, micro_batch)
  np.testing.assert_array_equal(np.asarray(out["value"]), _reference(schedule, bonus, 5))
  np.testing.assert_array_equal(np.asarray(out["visits"]), 11)


def test_no_steps_and_no_rows():
  out = _run(np.zeros((4, 0), int), np.zeros(4), 2)
  np.testing.assert_array_equal(np.asarray(out["value"]), 0)
  assert _run(np.zeros((0, 3), int), np.zeros(0), 2)["value"].shape == (0,)


def test_vmap_equals_the_loop_and_works_nested_and_jitted():
  generator = np.random.default_rng(1)
  schedule = generator.integers(0, 3, (2, 3, 5, 9))
  bonus = generator.integers(0, 50, (2, 3, 5))
  once = lambda s, b: _run(s, b, 4)["value"]  # noqa: E731
  nested = jax.jit(jax.vmap(jax.vmap(once)))(jnp.asarray(schedule), jnp.asarray(bonus))
  for i in range(2):
    for j in range(3):
      np.testing.assert_array_equal(
        np.asarray(nested[i, j]), _reference(schedule[i, j], bonus[i, j], 5)
      )


def test_vmap_over_a_part_of_the_rows_broadcasts_the_rest():
  schedule = np.random.default_rng(2).integers(0, 3, (4, 7))
  bonus = np.arange(12).reshape(3, 4)
  out = jax.vmap(lambda b: _run(schedule, b, 2)["value"])(jnp.asarray(bonus))
  for each, expected in zip(np.asarray(out), bonus, strict=True):
    np.testing.assert_array_equal(each, _reference(schedule, expected, 5))


def test_mapping_the_shared_networks_is_refused():
  schedule = np.zeros((2, 3), int)
  with pytest.raises(ValueError, match=r"classifiers must not be mapped by jax\.vmap"):
    jax.vmap(lambda shared: _run(schedule, np.zeros(2), 2, shared=shared)["value"])(jnp.arange(2))


def _chunks_served(rows, micro_batch, num_steps=60, num_branches=3):
  """Counts executed chunks: each adds one to a row that no branch reads."""
  generator = np.random.default_rng(0)
  base = np.arange(num_steps) % num_branches
  schedule = np.stack([generator.permutation(base) for _ in range(rows)])
  calls = []

  def advance(branch, shared, state, constants, step):
    jax.debug.callback(lambda: calls.append(1))
    return state + 1

  out = jax.jit(
    lambda s: run_rows(
      advance, num_branches, jnp.int32(0), jnp.zeros(rows, jnp.int32), {}, s, micro_batch
    )
  )(jnp.asarray(schedule, jnp.int32))
  np.testing.assert_array_equal(np.asarray(out), num_steps)
  jax.effects_barrier()
  return len(calls)


@pytest.mark.parametrize(
  ("rows", "micro_batch", "most"), [(24, 4, 1.02), (96, 4, 1.01), (24, 8, 1.04), (8, 4, 1.10)]
)
def test_rows_computed_stay_close_to_rows_needed(rows, micro_batch, most):
  """The price of the random choice in rows: padded rows over needed rows."""
  computed = _chunks_served(rows, micro_batch) * micro_batch
  assert 1.0 <= computed / (rows * 60) <= most


def test_map_rows_equals_the_function_whatever_the_chunking():
  values = jnp.arange(11.0)
  for micro_batch in (1, 4, 11, 16):
    out = map_rows(lambda scale, x: {"y": x * scale}, jnp.float32(3), values, micro_batch)
    np.testing.assert_array_equal(np.asarray(out["y"]), np.arange(11.0) * 3)
  nested = jax.vmap(lambda x: map_rows(lambda s, v: v * s, jnp.float32(2), x, 4))(
    values.reshape(11, 1)
  )
  np.testing.assert_array_equal(np.asarray(nested)[:, 0], np.arange(11.0) * 2)


def _collatz(rows, micro_batch):
  """Halve even values (branch 0), 3 v + 1 odd ones (branch 1), until 1: lengths differ widely."""

  def advance(branch, shared, state, constants, step):
    value = jnp.where(branch == 0, state["value"] // 2, 3 * state["value"] + 1)
    return {"value": value, "steps": state["steps"] + 1}

  def choose(state, constants, step):
    return jnp.where(state["value"] == 1, 2, state["value"] % 2)

  value = jnp.asarray(rows, jnp.int32)
  state = {"value": value, "steps": jnp.zeros_like(value)}
  return run_rows_until(advance, 2, None, state, {}, choose, micro_batch)


# Lengths of the sequences from 1..27 to 1: https://oeis.org/A006577
COLLATZ = [0, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14, 9, 9, 17, 17, 4, 12, 20, 20, 7, 7, 15, 15, 10, 23]
COLLATZ += [10, 111]


@pytest.mark.parametrize("micro_batch", [1, 4, 32])
def test_rows_that_choose_for_themselves_run_until_each_is_done(micro_batch):
  out = jax.jit(lambda: _collatz(range(1, 28), micro_batch))()
  assert np.asarray(out["steps"]).tolist() == COLLATZ
  assert (np.asarray(out["value"]) == 1).all()


def test_rows_that_choose_for_themselves_under_vmap():
  values = jnp.asarray([[27, 1, 9], [3, 25, 2]])
  steps = jax.vmap(lambda each: _collatz(each, 2)["steps"])(values)
  assert np.asarray(steps).tolist() == [[111, 0, 19], [7, 23, 1]]
