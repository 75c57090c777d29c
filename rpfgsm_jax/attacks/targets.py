"""Which class a targeted attack aims at.

Every rule has one form: `rule(key, logits, gamma) -> (target, gamma)` for one image, with the
networks' clean logits `(K, D)`; the gamma returned is None where the rule has none.
"""

import jax
import jax.numpy as jnp

from rpfgsm_jax.typing import Array, ArrayLike, Key, Logits


def candidate_mass(logits: Logits) -> Array:
  """Returns, for each class, the least probability mass that any network ranks before it.

  A class is a candidate of Sanchez-Matilla et al. (2020), Eq. 17, exactly when this exceeds gamma:
  it then stands behind the point where the cumulative sorted probability passes gamma, for every
  network. A network's prediction has mass 0. `(K, D)` logits to `(D,)`.
  """
  probabilities = jax.nn.softmax(logits, axis=-1)
  # ranked_before[k, c, j]: network k ranks class j before class c; equal ones go by their number.
  mine, other = probabilities[:, :, None], probabilities[:, None, :]
  number = jnp.arange(logits.shape[-1])
  lower = jnp.broadcast_to(number[None, :] < number[:, None], (*logits.shape, logits.shape[-1]))
  ranked_before = (other > mine) | ((other == mine) & lower)
  mass = jnp.sum(jnp.where(ranked_before, other, 0.0), axis=-1)
  return jnp.min(mass, axis=0)


def effective_gamma(mass: Array, gamma: ArrayLike) -> Array:
  """Returns the largest gamma' <= gamma that leaves at least one candidate; negative: none is.

  Note:
    The paper does not say what happens when the intersection of Eq. 17 is empty, as it is for a
    quarter of photographs with 25 classes.
  """
  below_best = jnp.nextafter(jnp.max(mass), jnp.float32(-1.0))
  return jnp.minimum(jnp.asarray(gamma, jnp.float32), below_best)


def draw_target(key: Key, logits: Logits, gamma: ArrayLike) -> tuple[Array, Array]:
  """Draws a target uniformly from the candidates of Eq. 17, with the gamma that leaves one.

  Where there is none at all (then D <= K) the target is -1.
  """
  mass = candidate_mass(logits)
  gamma = effective_gamma(mass, gamma)
  candidates = jnp.logical_and(mass > gamma, mass > 0.0)
  count = jnp.sum(candidates, dtype=jnp.int32)
  place = jax.random.randint(key, (), 0, jnp.maximum(count, 1), jnp.int32)
  seen = jnp.cumsum(candidates.astype(jnp.int32))
  target = jnp.argmax(seen > place).astype(jnp.int32)
  return jnp.where(count > 0, target, -1), gamma


def draw_other(key: Key, logits: Logits, gamma: ArrayLike | None = None) -> tuple[Array, None]:
  """Draws a target uniformly from all classes that no network predicts.

  Sanchez-Matilla et al. (2020), Sec. V-A: R-FGSM, EOT, targeted DI-FGSM and E-FGSM. The target is
  -1 when there is none (then D <= K).
  """
  del gamma
  return draw_target(key, logits, 0.0)[0], None


def least_likely(key: Key, logits: Logits, gamma: ArrayLike | None = None) -> tuple[Array, None]:
  """Returns the least likely class, of equal ones the last: L-FGSM's target, Kurakin et al. (2017).

  With several networks that of their mean log-probability.
  """
  del key, gamma
  log_probability = jnp.mean(jax.nn.log_softmax(logits, axis=-1), axis=0)
  last = logits.shape[-1] - 1
  return (last - jnp.argmin(log_probability[::-1])).astype(jnp.int32), None


def likely_classes(logits: Logits, count: int) -> Array:
  """Returns the most likely classes, `(B, count)`, of `(B, D)`; of equal ones the lower number."""
  return jax.lax.top_k(logits, min(count, logits.shape[-1]))[1].astype(jnp.int32)
