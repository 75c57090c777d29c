"""What an attack makes a network leave or approach, and whether it got there.

The goal of a classifier is a class for each image, `(B,)` int32; of an embedder the features of
each layer, `(B, F)`, of length one.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks.rows import map_rows
from rpfgsm_jax.models.answers import are_finite
from rpfgsm_jax.models.embedder import Answer, Embedder, Network, similarity
from rpfgsm_jax.typing import Array, Images, Labels, Logits

Goal = Array | tuple[Array, ...]


def cross_entropy(logits: Logits, labels: Labels) -> Array:
  """Returns the cross-entropy of each row, `(B, D)` and `(B,)` to `(B,)`.

  Written as log(1 + sum over the others of exp(z_j - z_y)): the same function, but its gradient
  survives a network that is sure. Through `log_softmax`, float32 cancels 1 - p_y to noise from
  p_y = 1 - 1e-6 on, and an untargeted attack starts exactly there.
  """
  number = jnp.broadcast_to(jnp.arange(logits.shape[-1])[None, :], logits.shape)
  others = jnp.where(number == labels[:, None], -jnp.inf, logits)
  own = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
  return jax.nn.softplus(jax.nn.logsumexp(others, axis=-1) - own)


def distance(network: Network, answer: Any, goal: Any) -> Array:
  """Returns how far an answer is from a goal, `(B,)`: cross-entropy, or one minus the cosine."""
  if isinstance(network, Embedder):
    return 1.0 - similarity(answer, goal)
  return cross_entropy(answer, goal)


@functools.partial(jax.jit, static_argnums=2)
def all_answers(
  networks: tuple[Network, ...], images: Images, micro_batch: int
) -> tuple[Answer, ...]:
  """Returns what each network makes of images, the same bits in any batch; jitted."""

  def forward(networks: tuple[Network, ...], rows: Images) -> tuple[Answer, ...]:
    return tuple(network(rows) for network in networks)

  return map_rows(forward, networks, images, micro_batch)


def all_finite(answers: Sequence[Answer]) -> Array:
  """Returns, `(B, K)` bool, which answers are finite throughout."""
  return jnp.stack([are_finite(answer) for answer in answers], axis=-1)


def shown_goals(networks: Sequence[Network], answers: Sequence[Any]) -> tuple[Goal, ...]:
  """Returns as goals what networks make of an image: the predicted class, or the features."""
  return tuple(
    answer if isinstance(network, Embedder) else jnp.argmax(answer, axis=-1).astype(jnp.int32)
    for network, answer in zip(networks, answers, strict=True)
  )


def chosen_goals(
  networks: Sequence[Network], goals: Sequence[Goal], classes: Labels
) -> tuple[Goal, ...]:
  """Returns the goals with those of all classifiers replaced by `classes`, `(B,)`."""
  return tuple(
    goal if isinstance(network, Embedder) else classes
    for network, goal in zip(networks, goals, strict=True)
  )


def agreeing(
  networks: Sequence[Network], answers: Sequence[Answer], goals: Sequence[Goal]
) -> Array:
  """Returns, `(B, K)` bool, which networks predict the class, or see an image like the goal's."""

  def agrees(network: Network, answer: Any, goal: Any) -> Any:
    if isinstance(network, Embedder):
      return similarity(answer, goal) >= network.threshold
    return jnp.argmax(answer, axis=-1).astype(jnp.int32) == goal

  return jnp.stack([*map(agrees, networks, answers, goals)], axis=-1)
