"""Rounding and clipping with a stated derivative: exact values forward, a chosen rule backward.

Rounding is to the nearest integer, half to even. Its true derivative is zero almost everywhere, so
an attack that differentiates through it learns nothing; a rule says what the derivative is instead.

| rule | value | derivative |
| --- | --- | --- |
| `"straight_through"` | `round(u)` | 1 |
| `"cubic"` | `round(u)` | `3 (u - round(u))^2` |
| `"cubic_value"` | `round(u) + (u - round(u))^3` | `3 (u - round(u))^2` |

The last is the surrogate of Sanchez-Matilla et al. (2020), Sec. III-B (after Shin and Song, 2017),
in the value too; `"cubic"` keeps its derivative and not its error of up to 0.125.

Clipping: `jnp.clip` has the derivative 0.5 exactly at a bound, where saturated photographs sit.
Here it is 1 on the closed interval; outside, 1 under `"straight_through"` and 0 under the others.

`x + stop_gradient(round(x) - x)` is not used: in float32 its value is not always an integer.
"""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

Rounding = Literal["straight_through", "cubic", "cubic_value"]
ROUNDINGS: tuple[str, ...] = get_args(Rounding)


def check_rounding(rounding: str) -> None:
  """Refuses a rule that does not exist."""
  if rounding not in ROUNDINGS:
    names = ", ".join(repr(name) for name in ROUNDINGS)
    raise ValueError(f"rounding must be one of {names}, got {rounding!r}.")


@jax.custom_jvp
def round_straight_through(values: Array) -> Array:
  """Rounds to the nearest integer, half to even; the derivative is one."""
  return jnp.round(values)


@round_straight_through.defjvp
def _round_straight_through_jvp(primals, tangents):
  return round_straight_through(primals[0]), tangents[0]


@jax.custom_jvp
def round_cubic(values: Array) -> Array:
  """Rounds to the nearest integer, half to even; the derivative is `3 (u - round(u))^2`."""
  return jnp.round(values)


@round_cubic.defjvp
def _round_cubic_jvp(primals, tangents):
  rounded = round_cubic(primals[0])
  return rounded, tangents[0] * cubic_slope(primals[0] - rounded)


def cubic_slope(residual: Array) -> Array:
  """Returns the derivative of both cubic rules, `3 (u - round(u))^2`, in 0..0.75."""
  return 3 * residual * residual


def round_cubic_value(values: Array) -> Array:
  """Returns the cubic surrogate `round(u) + (u - round(u))^3`, which is smooth between ties."""
  nearest = jax.lax.stop_gradient(jnp.round(values))
  residual = values - nearest
  return nearest + residual * residual * residual


def round_values(values: Array, rounding: Rounding) -> Array:
  """Rounds `values` by the named rule (see the table at the top of this file)."""
  check_rounding(rounding)
  rules: dict[str, Callable[[Array], Array]] = {
    "straight_through": round_straight_through,
    "cubic": round_cubic,
    "cubic_value": round_cubic_value,
  }
  return rules[rounding](values)


@jax.custom_jvp
def _clip_straight_through(values: Array, low: Array, high: Array) -> Array:
  return jnp.clip(values, low, high)


@_clip_straight_through.defjvp
def _clip_straight_through_jvp(primals, tangents):
  return _clip_straight_through(*primals), tangents[0]


@jax.custom_jvp
def _clip_closed(values: Array, low: Array, high: Array) -> Array:
  return jnp.clip(values, low, high)


@_clip_closed.defjvp
def _clip_closed_jvp(primals, tangents):
  values, low, high = primals
  inside = (values >= low) & (values <= high)
  return _clip_closed(*primals), jnp.where(inside, tangents[0], 0)


def clip_values(values: Array, low: float, high: float, rounding: Rounding) -> Array:
  """Clips to `low..high`; the derivative is one on the closed interval.

  Outside the interval it is one under `"straight_through"` and zero under the cubic rules. The
  bounds get no gradient.
  """
  check_rounding(rounding)
  rule = _clip_straight_through if rounding == "straight_through" else _clip_closed
  return rule(values, jnp.asarray(low, values.dtype), jnp.asarray(high, values.dtype))
