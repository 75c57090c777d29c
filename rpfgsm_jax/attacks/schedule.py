"""Who is drawn when: for one image, the classifier and the defense of each iteration.

Draws are data, made before the loop from the image's own key, so that they never depend on batch
mates, and a run can be audited from them.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp

from rpfgsm_jax.defenses.bank import DefenseBank
from rpfgsm_jax.typing import Array, Key

Draw = Literal["balanced", "iid"]


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["classifier", "family", "parameter", "noise"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
  """What each iteration meets, for one image `(N,)` or for a batch `(B, N)`.

  Attributes:
    classifier: int32, index into the attack's classifiers.
    family: int32, index into the bank's families.
    parameter: float32, the family's parameter (bits, size or quality; 0 for the identity).
    noise: uint32, the seed of the numbers that a random member draws for itself.
  """

  classifier: Array
  family: Array
  parameter: Array
  noise: Array


def draw_schedule(
  key: Key, num_steps: int, num_classifiers: int, bank: DefenseBank, draw: Draw
) -> Draws:
  """Draws one image's whole schedule.

  Sanchez-Matilla et al. (2020), Sec. IV: `R(M)` and `R(Phi)` at each iteration. `"iid"` is the
  text's independent uniform draw: classifier, family, then a parameter of the family. `"balanced"`
  shuffles: each classifier serves `N // K` or `N // K + 1` iterations (exactly N / K when K divides
  N; the remainder is drawn without replacement), families likewise, and within a family each
  parameter likewise over the iterations that the family got. The defenses do not depend on K, so
  that variants of an attack with the same N meet the same ones.
  """
  if draw not in ("balanced", "iid"):
    raise ValueError(f"draw must be 'balanced' or 'iid', got {draw!r}.")
  key_classifier, key_family, key_parameter, key_noise = jax.random.split(key, 4)
  pick = _balanced_indices if draw == "balanced" else _uniform_indices
  classifier = pick(key_classifier, num_steps, num_classifiers)
  family = pick(key_family, num_steps, len(bank.families))
  keys_parameter = jax.random.split(key_parameter, len(bank.families))
  parameter = jnp.zeros((num_steps,), jnp.float32)
  for index, defense in enumerate(bank.families):
    values = jnp.asarray(defense.parameters, jnp.float32)
    order = _cycled_indices if draw == "balanced" else _uniform_indices
    sequence = values[order(keys_parameter[index], num_steps, len(defense.parameters))]
    drawn = family == index
    turn = jnp.cumsum(drawn.astype(jnp.int32)) - 1  # ordinal of the visit to this family
    parameter = jnp.where(drawn, sequence[jnp.maximum(turn, 0)], parameter)
  noise = jax.random.bits(key_noise, (num_steps,), jnp.uint32)
  return Draws(classifier=classifier, family=family, parameter=parameter, noise=noise)


def _uniform_indices(key: Key, count: int, size: int) -> Array:
  return jax.random.randint(key, (count,), 0, size, jnp.int32)


def _balanced_indices(key: Key, count: int, size: int) -> Array:
  key_remainder, key_order = jax.random.split(key)
  members = _permutations(key_remainder, (size,))
  return members[_permutations(key_order, (count,)) % size]


def _cycled_indices(key: Key, count: int, size: int) -> Array:
  """Shuffled rounds over all members, one after another: every prefix is as even as can be."""
  rounds = -(-count // size)
  return _permutations(key, (rounds, size)).reshape(-1)[:count]


def _permutations(key: Key, shape: tuple[int, ...]) -> Array:
  """Returns independent uniform permutations of 0..n-1 along the last axis, n = shape[-1].

  The rank of each of n random words, by counting: for the few hundred iterations of an attack that
  is cheaper than `jax.random.permutation`, whose sorts were half of the attack's compile time. Two
  equal words, once in 2^32 / n^2 permutations, go by their order.
  """
  words = jax.random.bits(key, shape, jnp.uint32)
  mine, other = words[..., :, None], words[..., None, :]
  place = jnp.arange(shape[-1])
  earlier = jnp.broadcast_to(place[None, :] < place[:, None], (*shape, shape[-1]))
  return jnp.sum((other < mine) | ((other == mine) & earlier), axis=-1, dtype=jnp.int32)
