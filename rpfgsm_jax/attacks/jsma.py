"""JSMA: two values of the image at a time, those whose gradients favor the target class most.

Papernot, McDaniel, Jha, Fredrikson, Celik, Swami, "The limitations of deep learning in adversarial
settings", IEEE EuroS&P 2016.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs, minimal
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.attacks.rows import run_rows_until
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import likely_classes
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Integers, Key, Labels

_BUDGETS = {
  "quick": {"num_candidates": 3, "num_steps": 200},
  "paper": {"num_candidates": 10, "num_steps": None},  # as many as largest_share allows
}
_AT_ONCE = 2  # values changed a step


@static_except()
@dataclasses.dataclass(frozen=True, kw_only=True)
class JSMAConfig:
  """Settings of JSMA; the defaults are its authors' but for the budget. Static."""

  budget: minimal.Budget = "quick"  # candidates x steps: quick 3 x 200, paper 10 x largest_share
  num_candidates: int | None = None  # likely classes tried as targets; None: the budget's
  num_steps: int | None = None  # pairs of values changed at most; None: the budget's
  theta: int = 255  # gray levels added to a value, up to the range's end; negative: taken away
  largest_share: float = 0.145  # of all values, that may be changed: Upsilon
  quantize: bool = True  # no effect: JSMA changes by whole gray levels
  micro_batch: int = 4  # images computed together; results are the same bits for the same value


def jsma(
  key: Key,
  images: ArrayLike,
  classifiers: Sequence[Classifier],
  config: JSMAConfig | None = None,
  *,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
) -> AttackResult:
  """Approaches a class of one network by changing two values of the image a step, as few as it can.

  Papernot et al. (2016); the saliency of Sanchez-Matilla et al. (2020), Eq. 6. The target is the
  one reached first of the `num_candidates` most likely other classes, which advance in step: every
  step changes as many values, so the first is the one "that introduces the smallest perturbation"
  (Sec. V-A) of these; of two, the more likely.

  Args:
    key: unused; JSMA draws nothing.
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the network's image_size.
    classifiers: one network.
    config: settings; None: the defaults.
    image_ids: unused.
    target: chosen classes, one or `(B,)`, instead of the candidates. An image whose prediction is
      its target already is returned as it is, without success.
    label: not for this attack; must be None.

  Returns:
    The result; where no target was reached, the candidate with the most likely one.

  Raises:
    ValueError: an argument breaks its rule.

  Note:
    Probabilities sum to one, so the other classes' gradients in Eq. 6 sum to minus the target's:
    the saliency is the target's squared gradient where that is positive, which orders values as the
    gradient of its log-probability does. One gradient a candidate replaces the whole Jacobian. The
    original scores pairs of values, of which there are 10^10; Eq. 6 scores single ones. The paper's
    "one intensity unit" a step is read as the original's theta = 1 of a range 0..1.
  """
  del key
  config = _resolved(inputs.config_or_default(config, JSMAConfig))
  goal: dict[str, Any] = {
    "image_ids": image_ids,
    "target": target,
    "label": label,
    "targeted": True,
  }
  return minimal.run_minimal("jsma", _jsma, images, classifiers, config, **goal)


@jax.jit
def _jsma(begin: minimal.Start, config: Any) -> tuple[Images, Labels, Array, Array]:
  candidates = _candidates(begin, config.num_candidates)
  batch, count = candidates.shape
  num_steps = _num_steps(config, math.prod(begin.images.shape[1:]))
  state = {
    "attempts": jnp.broadcast_to(begin.images[:, None], (batch, count, *begin.images.shape[1:])),
    "best": jnp.zeros(batch, jnp.int32),  # the candidate reached, or the nearest so far
    "done": jnp.any(candidates == begin.predicted[:, None], axis=1),
    "evaluations": jnp.zeros(batch, jnp.int32),
    "slopes": jnp.zeros(batch, jnp.float32),
  }

  def advance(branch: Array, classifier: Classifier, state: Any, row: Any, step: Array) -> Any:
    del branch
    attempts, candidates = state["attempts"], row["candidates"]
    # One candidate after another: k times the rows at once would take k times the memory.
    by_candidate = (jnp.moveaxis(attempts, 1, 0), candidates.T)
    found = jax.lax.map(lambda pair: _attempt(config.theta, classifier, *pair), by_candidate)
    moved, losses, reached, stuck, slopes = (jnp.moveaxis(each, 0, 1) for each in found)
    done = jnp.any(reached, axis=1)
    best = jnp.where(done, jnp.argmax(reached, axis=1), jnp.argmin(losses, axis=1))
    stop = done | jnp.all(stuck, axis=1) | (step >= num_steps)
    return {
      "attempts": jnp.where(minimal.per_row(stop, moved), attempts, moved),
      "best": best.astype(jnp.int32),
      "done": stop,
      "evaluations": state["evaluations"] + count,
      "slopes": state["slopes"] + jnp.sum(slopes, axis=1),
    }

  def choose(state: Any, row: Any, step: Array) -> Array:
    del row
    return jnp.where(state["done"] | (num_steps == 0), 1, 0)

  state = run_rows_until(
    advance, 1, begin.classifier, state, {"candidates": candidates}, choose, config.micro_batch
  )
  best = state["best"]
  adversarial = jax.vmap(lambda attempts, place: attempts[place])(state["attempts"], best)
  target = jnp.take_along_axis(candidates, best[:, None], axis=1)[:, 0]
  return adversarial, target, state["evaluations"], state["slopes"]


def _saliency(
  classifier: Classifier, images: Images, targets: Labels
) -> tuple[Array, Array, Images]:
  """Returns -log p of the targets, whether they are predicted, and the gradient of log p."""

  def loss(images: Images) -> tuple[Array, tuple[Array, Array]]:
    logits = classifier(images)
    losses = cross_entropy(logits, targets)
    reached = jnp.argmax(logits, axis=-1).astype(jnp.int32) == targets
    return -jnp.sum(losses), (losses, reached)

  gradient, (losses, reached) = jax.grad(loss, has_aux=True)(images)
  return losses, reached, gradient


def _attempt(
  theta: int, classifier: Classifier, images: Images, targets: Labels
) -> tuple[Array, ...]:
  """Returns the next images, and of the present: -log p, target predicted, no way on, slopes."""
  losses, reached, gradient = _saliency(classifier, images, targets)
  moved, stuck = jax.vmap(functools.partial(_move, theta))(images, gradient)
  return moved, losses, reached, stuck, minimal.slopes_of(gradient)


def _move(theta: int, image: Array, gradient: Array) -> tuple[Array, Array]:
  """Returns the image with its two most salient values changed, and whether none was salient."""
  room = image < 255.0 if theta > 0 else image > 0.0
  score = jnp.where(room, gradient * (1.0 if theta > 0 else -1.0), 0.0).reshape(-1)
  scores, places = jax.lax.top_k(score, _AT_ONCE)
  change = jnp.where(scores > 0, float(theta), 0.0)
  moved = image.reshape(-1).at[places].add(change).reshape(image.shape)
  return jnp.clip(moved, 0.0, 255.0), scores[0] <= 0


def _candidates(begin: minimal.Start, count: int) -> Array:
  """Returns the chosen class, or the most likely ones that are not predicted, `(B, k)` int32."""
  if begin.chosen is not None:
    return begin.chosen[:, None]
  return likely_classes(begin.logits, count + 1)[:, 1:]


def _num_steps(config: JSMAConfig, num_values: int) -> int:
  """Returns the smaller of the budget's steps and those that the largest share allows."""
  allowed = int(config.largest_share * num_values / _AT_ONCE)
  return allowed if config.num_steps is None else min(config.num_steps, allowed)


def _resolved(config: JSMAConfig) -> JSMAConfig:
  """Returns the config with the budget's numbers filled in, checked."""
  config = minimal.with_budget(config, _BUDGETS)
  config = inputs.with_counts(config, num_candidates=1, num_steps=0, micro_batch=1)
  theta = as_int(config.theta)
  if theta is None or not 1 <= abs(theta) <= 255:
    raise ValueError(
      f"theta must be whole gray levels in -255..255 but not 0, got {config.theta!r}."
    )
  if not 0 <= config.largest_share <= 1:
    raise ValueError(f"largest_share must be in 0..1, got {config.largest_share!r}.")
  return dataclasses.replace(config, theta=theta)
