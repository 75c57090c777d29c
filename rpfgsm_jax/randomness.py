"""Keys whose draws depend on no setting of JAX: one implementation, threefry2x32, in one layout.

What a plain `jax.random.key` is depends on `jax_default_prng_impl`, and what a threefry key draws
on `jax_threefry_partitionable`. Keys made here draw what JAX draws by default, whatever is set.
Their users name 32-bit dtypes in every draw, because `jax_enable_x64` changes the usual ones.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp

from rpfgsm_jax.typing import Array, ArrayLike, Key

_NAME = "threefry2x32"
_THREEFRY = jax.extend.random.threefry_prng_impl


def _partitionable(method: Callable[..., Array]) -> Callable[..., Array]:
  """A method of JAX's, which is called while a program is lowered, whatever is set by then."""

  def call(*arguments: Any) -> Array:
    with jax.threefry_partitionable(True):
      return method(*arguments)

  return call


_FIXED = jax.extend.random.define_prng_impl(
  key_shape=_THREEFRY.key_shape,
  seed=_THREEFRY.seed,
  split=_partitionable(_THREEFRY.split),
  random_bits=_partitionable(_THREEFRY.random_bits),
  fold_in=_THREEFRY.fold_in,
  name=f"rpfgsm {_NAME}",
  tag="rpfgsm",
)


_CHANGES_NUMBERS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_disable_jit")


def unusual_settings() -> dict[str, Any]:
  """Returns JAX's settings that may change what is computed, as JSON values, where they are set.

  Draws depend on none of them. Records hold these, so that no folder mixes results.
  """
  found = {name: getattr(jax.config, name) for name in _CHANGES_NUMBERS}
  return {name: value for name, value in found.items() if value not in (None, False)}


def seed_key(seed: int) -> Key:
  """Returns `jax.random.key(seed)` as it is by default; the bits from the 32nd on are folded in.

  Without 64-bit numbers JAX takes 32 bits of a seed, few enough to try them all.
  """
  key = jax.random.key(seed & 0xFFFFFFFF, impl=_NAME)
  return key if seed < 2**32 else jax.random.fold_in(key, seed >> 32)


def noise_key(noise: ArrayLike) -> Key:
  """Returns the fixed key of a uint32 seed that may be traced."""
  words = jnp.stack([jnp.uint32(0), jnp.asarray(noise, jnp.uint32)])
  return jax.random.wrap_key_data(words, impl=_FIXED)


def fixed_key(key: Key) -> Key:
  """Returns the fixed key of a user's threefry key, typed or raw; refuses any other kind."""
  dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
  typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
  kind = str(jax.random.key_impl(key)) if typed else f"{dtype or type(key).__name__} {shape or ''}"
  raw = dtype == jnp.uint32 and shape == (2,)
  if not raw and (shape != () or kind not in (_NAME, str(_FIXED))):
    several = f"{shape} keys of " if typed and shape else ""
    raise ValueError(
      f"key must be one {_NAME} key, got {several}{kind.strip()}; with other kinds an image's "
      f'draws depend on its batch: make it by jax.random.key(seed, impl="{_NAME}").'
    )
  return jax.random.wrap_key_data(key if raw else jax.random.key_data(key), impl=_FIXED)
