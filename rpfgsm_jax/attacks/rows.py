"""Many images at their own pace through one of several networks, at the price of one network.

`lax.switch` on a per-image index under `vmap` runs every branch for every image. Here an image is a
row; each row has its own sequence of branches, and rows need not share an iteration. A chunk serves
`micro_batch` rows whose next branch is the same, the least advanced first, so that a `lax.switch`
inside is a scalar one: a real branch. While at least K (micro_batch - 1) + 1 rows are unfinished,
some branch has a full chunk waiting (pigeonhole), so only the last chunks of a run are padded.

What a row computes depends on its own data and on `micro_batch`, the fixed width of every
computation, and on nothing else: results are the same bits alone, in any batch, order or position.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.typing import Array

Advance = Callable[[Array, Any, Any, Any, Array], Any]
"""`advance(branch, shared, state, constants, step) -> state`: `branch` is an int32 scalar, leaves
of `state` and `constants` have a leading axis of micro_batch, `step` is `(micro_batch,)` int32."""

Choose = Callable[[Any, Any, Array], Array]
"""`choose(state, constants, step) -> (R,) int32`: the branch each row waits for; K: it is done."""


def run_rows(
  advance: Advance,
  num_branches: int,
  shared: Any,
  state: Any,
  constants: Any,
  schedule: Array,
  micro_batch: int,
) -> Any:
  """Runs every row through its own sequence of branches.

  Under `jax.vmap` a mapped axis is flattened into rows, so that the branch stays real and the cost
  is that of one larger batch; also nested, jitted and under `shard_map`. `shared` (the networks'
  parameters) cannot be mapped over. `schedule` is `(R, N)`, the branch of each row's n-th step; a
  row's new state may depend only on that row.
  """
  num_steps = schedule.shape[1]
  if num_steps == 0:
    return state

  def choose(state: Any, constants: tuple[Any, Array], step: Array) -> Array:
    place = jnp.minimum(step, num_steps - 1)[:, None]
    branch = jnp.take_along_axis(constants[1], place, axis=1)[:, 0]
    return jnp.where(step < num_steps, branch, num_branches)

  def within(branch: Array, shared: Any, state: Any, constants: Any, step: Array) -> Any:
    return advance(branch, shared, state, constants[0], jnp.minimum(step, num_steps - 1))

  packed = (constants, schedule)
  return run_rows_until(within, num_branches, shared, state, packed, choose, micro_batch)


def run_rows_until(
  advance: Advance,
  num_branches: int,
  shared: Any,
  state: Any,
  constants: Any,
  choose: Choose,
  micro_batch: int,
) -> Any:
  """Runs every row through the branches its own state asks for, until it asks for none.

  For loops whose length depends on the data: a row that is done makes room for the next one, so
  the cost is that of the steps that rows need, not of the slowest row. A row's choice may depend
  only on that row. See `run_rows`, also for `jax.vmap`.
  """
  run = functools.partial(_run, advance, num_branches, choose, micro_batch)
  return _flattening(run)(shared, state, constants)


def map_rows(
  function: Callable[[Any, Any], Any], shared: Any, arrays: Any, micro_batch: int
) -> Any:
  """Applies a batched function to rows, `micro_batch` at a time, so that no batch size shows.

  `function(shared, rows) -> rows`; `shared` cannot be mapped over by `jax.vmap`.
  """
  return _flattening(functools.partial(_map, function, micro_batch))(shared, arrays)


def _flattening(function: Callable[..., Any]) -> Callable[..., Any]:
  """Gives `function(shared, *rows)` a batching rule that turns a mapped axis into rows."""
  mapped = jax.custom_batching.custom_vmap(function)

  @mapped.def_vmap
  def _rule(axis_size: int, in_batched: list, shared: Any, *rows: Any) -> tuple[Any, Any]:
    if any(jax.tree.leaves(in_batched[0])):
      raise ValueError(
        "classifiers must not be mapped by jax.vmap: each set of parameters would be a network of "
        "its own; loop over the classifiers, or pass them as several classifiers of one call."
      )

    def flatten(batched: bool, leaf: Array) -> Array:
      if not batched:
        leaf = jnp.broadcast_to(leaf[None], (axis_size, *leaf.shape))
      return leaf.reshape(-1, *leaf.shape[2:])

    flat = [jax.tree.map(flatten, *pair) for pair in zip(in_batched[1:], rows, strict=True)]
    out = mapped(shared, *flat)
    out = jax.tree.map(lambda leaf: leaf.reshape(axis_size, -1, *leaf.shape[1:]), out)
    return out, jax.tree.map(lambda _: True, out)

  return mapped


def _run(
  advance: Advance,
  num_branches: int,
  choose: Choose,
  micro_batch: int,
  shared: Any,
  state: Any,
  constants: Any,
) -> Any:
  given = jax.tree.leaves(state)[0].shape[0]
  if given == 0:
    return state
  num_rows = max(given, micro_batch)
  if given < num_rows:
    # A single row would be gathered as a broadcast, which XLA moves behind the arithmetic: fused
    # otherwise, that may round otherwise. Rows that wait for nothing hide how few there are.
    filled = jnp.minimum(jnp.arange(num_rows), given - 1)
    state, constants = jax.tree.map(lambda leaf: leaf[filled], (state, constants))

  def waiting(state: Any, progress: Array) -> Array:
    wanted = choose(state, constants, progress).astype(jnp.int32)
    return jnp.where(jnp.arange(num_rows) < given, wanted, num_branches)

  def unfinished(carry: tuple[Array, Array, Any]) -> Array:
    return jnp.any(carry[1] < num_branches)

  def serve_chunk(carry: tuple[Array, Array, Any]) -> tuple[Array, Array, Any]:
    progress, wanted, state = carry
    branch, rows, live = _next_chunk(progress, wanted, num_branches, micro_batch)
    here, fixed = jax.tree.map(lambda leaf: leaf[rows], (state, constants))
    new = advance(branch, shared, here, fixed, progress[rows])
    place = jnp.where(live, rows, num_rows)  # a row out of range is dropped
    state = jax.tree.map(lambda leaf, value: leaf.at[place].set(value, mode="drop"), state, new)
    progress = progress.at[place].add(1, mode="drop")
    return progress, waiting(state, progress), state

  # Made from a row's data, not from zeros: inside shard_map the counter varies as the rows do.
  start = jax.tree.leaves(state)[0].reshape(num_rows, -1)[:, 0]
  progress = (start != start).astype(jnp.int32) * 0
  start = (progress, waiting(state, progress), state)
  state = jax.lax.while_loop(unfinished, serve_chunk, start)[2]
  return jax.tree.map(lambda leaf: leaf[:given], state) if given < num_rows else state


def _next_chunk(
  progress: Array, waiting: Array, num_branches: int, micro_batch: int
) -> tuple[Array, Array, Array]:
  """Chooses a branch and up to `micro_batch` rows that wait for it, the least advanced first.

  Returns the branch, `(micro_batch,)` rows, and which of them are live.
  """
  beyond = jnp.max(progress) + 1
  waits = waiting[:, None] == jnp.arange(num_branches, dtype=jnp.int32)[None, :]
  counts = jnp.sum(waits, axis=0, dtype=jnp.int32)
  least = jnp.min(jnp.where(waits, progress[:, None], beyond), axis=0)
  full = counts >= micro_batch
  branch = jnp.where(
    jnp.any(full), jnp.argmin(jnp.where(full, least, beyond)), jnp.argmax(counts)
  ).astype(jnp.int32)
  behind = jnp.where(waiting == branch, beyond - progress, 0)  # 0: not waiting for this branch
  behind, rows = jax.lax.top_k(behind, micro_batch)
  return branch, rows.astype(jnp.int32), behind > 0


def _map(function: Callable[[Any, Any], Any], micro_batch: int, shared: Any, arrays: Any) -> Any:
  num_rows = jax.tree.leaves(arrays)[0].shape[0]
  num_chunks = -(-num_rows // micro_batch)
  padded = jnp.minimum(jnp.arange(num_chunks * micro_batch), num_rows - 1)

  def chunked(leaf: Array) -> Array:
    return leaf[padded].reshape(num_chunks, micro_batch, *leaf.shape[1:])

  out = jax.lax.map(functools.partial(function, shared), jax.tree.map(chunked, arrays))
  return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num_rows], out)
