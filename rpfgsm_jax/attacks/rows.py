"""Many images at their own pace through one of several networks, at the price of one network.

`lax.switch` on a per-image index under `vmap` runs every branch for every image. Here an image is a
row; each row has its own sequence of branches, and rows need not share an iteration. A chunk serves
`micro_batch` rows whose next branch is the same, the least advanced first, inside one scalar
`lax.switch`: a real branch. While at least K (micro_batch - 1) + 1 rows are unfinished, some branch
has a full chunk waiting (pigeonhole), so only the last chunks of a run are padded.

What a row computes depends on its own data and on `micro_batch`, the fixed width of every
computation, and on nothing else: results are the same bits alone, in any batch, order or position.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.typing import Array

Branch = Callable[[Any, Any, Any, Array], Any]
"""`branch(shared, state, constants, step) -> state`, leaves with a leading axis of micro_batch."""


def run_rows(
  branches: tuple[Branch, ...],
  shared: Any,
  state: Any,
  constants: Any,
  schedule: Array,
  micro_batch: int,
) -> Any:
  """Runs every row through its own sequence of branches.

  Under `jax.vmap` a mapped axis is flattened into rows, so that the branch stays real and the cost
  is that of one larger batch; also nested, jitted and under `shard_map`.

  Args:
    branches: K functions; each advances `micro_batch` rows by one step. A row's new state may
      depend only on that row.
    shared: pytree handed to every branch (the networks' parameters); cannot be mapped over.
    state: pytree of arrays `(R, ...)`, changed by the branches.
    constants: pytree of arrays `(R, ...)`.
    schedule: `(R, N)` int32, the branch of each row's n-th step.
    micro_batch: m >= 1, rows a chunk.

  Returns:
    The state after all N steps of all rows.

  Raises:
    ValueError: `jax.vmap` maps `shared`.
  """
  if schedule.shape[1] == 0:
    return state
  run = functools.partial(_run, branches, micro_batch)
  return _flattening(run)(shared, state, constants, schedule)


def map_rows(
  function: Callable[[Any, Any], Any], shared: Any, arrays: Any, micro_batch: int
) -> Any:
  """Applies a batched function to rows, `micro_batch` at a time, so that no batch size shows.

  Args:
    function: `function(shared, rows) -> rows`, leaves with a leading axis of micro_batch.
    shared: pytree handed to every call; cannot be mapped over.
    arrays: pytree of arrays `(R, ...)`.
    micro_batch: m >= 1.

  Returns:
    Pytree of arrays `(R, ...)`, the same bits whatever R and the order of rows.

  Raises:
    ValueError: `jax.vmap` maps `shared`.
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
  branches: tuple[Branch, ...],
  micro_batch: int,
  shared: Any,
  state: Any,
  constants: Any,
  schedule: Array,
) -> Any:
  num_rows, num_steps = schedule.shape
  if num_rows == 0:
    return state

  def unfinished(carry: tuple[Array, Any]) -> Array:
    return jnp.any(carry[0] < num_steps)

  def serve_chunk(carry: tuple[Array, Any]) -> tuple[Array, Any]:
    progress, state = carry
    branch, rows, live = _next_chunk(progress, schedule, len(branches), micro_batch)
    gathered = jnp.minimum(rows, num_rows - 1)
    step = jnp.minimum(progress[gathered], num_steps - 1)
    here = jax.tree.map(lambda leaf: leaf[gathered], state)
    fixed = jax.tree.map(lambda leaf: leaf[gathered], constants)
    if len(branches) == 1:
      new = branches[0](shared, here, fixed, step)
    else:
      new = jax.lax.switch(branch, branches, shared, here, fixed, step)
    place = jnp.where(live, rows, num_rows)  # a row out of range is dropped
    state = jax.tree.map(lambda leaf, value: leaf.at[place].set(value, mode="drop"), state, new)
    return progress.at[place].add(1, mode="drop"), state

  # Made from the schedule, not from zeros: inside shard_map the counter varies as the rows do.
  progress = schedule[:, 0] * 0
  return jax.lax.while_loop(unfinished, serve_chunk, (progress, state))[1]


def _next_chunk(
  progress: Array, schedule: Array, num_branches: int, micro_batch: int
) -> tuple[Array, Array, Array]:
  """Chooses a branch and up to `micro_batch` rows that wait for it.

  Returns:
    The branch, scalar int32; the rows, `(micro_batch,)` int32, the least advanced first (their
    number may exceed R - 1 when fewer than micro_batch rows exist); which of them are live.
  """
  num_rows, num_steps = schedule.shape
  upcoming = jnp.minimum(progress, num_steps - 1)[:, None]
  waiting = jnp.take_along_axis(schedule, upcoming, axis=1)[:, 0]
  waiting = jnp.where(progress < num_steps, waiting, num_branches)
  waits = waiting[:, None] == jnp.arange(num_branches, dtype=jnp.int32)[None, :]
  counts = jnp.sum(waits, axis=0, dtype=jnp.int32)
  least = jnp.min(jnp.where(waits, progress[:, None], num_steps), axis=0)
  full = counts >= micro_batch
  branch = jnp.where(
    jnp.any(full), jnp.argmin(jnp.where(full, least, num_steps)), jnp.argmax(counts)
  ).astype(jnp.int32)
  behind = jnp.where(waiting == branch, num_steps - progress, 0)  # 0: not waiting for this branch
  if num_rows < micro_batch:
    behind = jnp.pad(behind, (0, micro_batch - num_rows))
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
