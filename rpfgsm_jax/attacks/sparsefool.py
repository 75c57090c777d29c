"""SparseFool: few pixels, found by DeepFool's boundary and a linear program along the axes.

Modas, Moosavi-Dezfooli, Frossard, "SparseFool: a few pixels make a big difference", CVPR 2019.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs, minimal
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.deepfool import to_nearest_boundary
from rpfgsm_jax.attacks.rows import run_rows_until
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import likely_classes
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Image, Images, Integers, Key, Labels

_BUDGETS = {
  "quick": {"num_loops": 20, "num_steps": 10},
  "paper": {"num_loops": 20, "num_steps": 50},
}
_LEAST = 1e-4 * 255.0  # gray levels, least step to the boundary
_BEYOND = 1e-3 * 255.0  # gray levels beyond the boundary's tangent
_APPROACH, _SOLVE = 0, 1


@static_except()
@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseFoolConfig:
  """Settings of SparseFool; the defaults are its authors' but for the budget. Static."""

  budget: minimal.Budget = "quick"  # num_loops x num_steps: quick 20 x 10, paper 20 x 50
  num_loops: int | None = None  # boundaries met at most; None: the budget's. 0 returns the images
  num_steps: int | None = None  # linearizations at most for each boundary; None: the budget's
  num_classes: int = 10  # most likely classes whose boundaries are looked at
  distance_factor: float = 3.0  # lambda: how far behind the boundary its tangent is put
  overshoot: float = 0.02  # of the final perturbation
  quantize: bool = True  # round to whole gray levels
  micro_batch: int = 4  # images computed together; results are the same bits for the same value


def sparsefool(
  key: Key,
  images: ArrayLike,
  classifiers: Sequence[Classifier],
  config: SparseFoolConfig | None = None,
  *,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
) -> AttackResult:
  """Leaves the predicted class of one network by changing few values, inside 0..255.

  Modas et al. (2019), Algorithms 1 and 2; Sanchez-Matilla et al. (2020), Eq. 8. Each loop looks for
  the decision boundary by DeepFool from the current point, puts its tangent `distance_factor` times
  as far, and crosses the tangent along the steepest axes, each as far as the range allows.

  Args:
    key: unused; SparseFool draws nothing.
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the network's image_size.
    classifiers: one network.
    config: settings; None: the defaults.
    image_ids: unused.
    target: not for this attack; must be None.
    label: classes to leave, one or `(B,)`, instead of the predicted ones. An image whose prediction
      is another class already is returned as it is, with success and no gradient evaluation.

  Returns:
    The result; where the loops were not enough, the last attempt.

  Raises:
    ValueError: an argument breaks its rule.

  Note:
    The release walks coordinate by coordinate; here one sort and a cumulative sum do the same. The
    class to leave stays the same in all loops; in the release it is the current point's prediction,
    which differs where the point has crossed a boundary but its overshot copy has not.
  """
  del key
  config = _resolved(inputs.config_or_default(config, SparseFoolConfig))
  goal: dict[str, Any] = {
    "image_ids": image_ids,
    "target": target,
    "label": label,
    "targeted": False,
  }
  return minimal.run_minimal("sparsefool", _sparsefool, images, classifiers, config, **goal)


@jax.jit
def _sparsefool(begin: minimal.Start, config: Any) -> tuple[Images, Labels, Array, Array]:
  leave = begin.leave
  zeros = jnp.zeros_like(leave)
  state = {
    "point": begin.images,  # inside the range, before the overshoot
    "adversarial": begin.images,
    "total": jnp.zeros_like(begin.images),  # from the point to the boundary
    "classes": _classes_around(begin.logits, leave, config.num_classes),
    "other": leave,  # predicted behind the boundary
    "steps": zeros,
    "loops": jnp.where(begin.predicted == leave, 0, config.num_loops),
    "evaluations": zeros,
    "slopes": jnp.zeros(leave.shape, jnp.float32),
  }

  def advance(branch: Array, classifier: Classifier, state: Any, row: Any, step: Array) -> Any:
    del step
    branches = [functools.partial(each, config) for each in (_approach, _solve)]
    return jax.lax.switch(branch, branches, classifier, state, row)

  def choose(state: Any, row: Any, step: Array) -> Array:
    del step
    at_boundary = (state["other"] != row["leave"]) | (state["steps"] >= config.num_steps)
    branch = jnp.where(at_boundary, _SOLVE, _APPROACH)
    return jnp.where(state["loops"] >= config.num_loops, 2, branch)

  constants = {"image": begin.images, "leave": leave}
  state = run_rows_until(advance, 2, begin.classifier, state, constants, choose, config.micro_batch)
  return state["adversarial"], leave, state["evaluations"], state["slopes"]


def _approach(config: Any, classifier: Classifier, state: Any, row: Any) -> Any:
  """One step of DeepFool from the current point."""
  del row
  move, slopes = to_nearest_boundary(
    classifier, state["point"] + state["total"], state["classes"], push=0.0, least=_LEAST
  )
  total = state["total"] + move
  logits = classifier(state["point"] + (1 + config.overshoot) * total)
  return state | {
    "total": total,
    "other": jnp.argmax(logits, axis=-1).astype(jnp.int32),
    "steps": state["steps"] + 1,
    "evaluations": state["evaluations"] + state["classes"].shape[1],
    "slopes": state["slopes"] + slopes,
  }


def _solve(config: Any, classifier: Classifier, state: Any, row: Any) -> Any:
  """Crosses the boundary's tangent along few axes, and looks whether the class was left."""
  other, leave = state["other"], row["leave"]

  def lead(images: Images) -> Array:
    logits = classifier(images)
    pair = (jnp.take_along_axis(logits, each[:, None], axis=1) for each in (other, leave))
    return jnp.sum(next(pair) - next(pair))

  normal = jax.grad(lead)(state["point"] + state["total"])
  tangent = state["point"] + config.distance_factor * state["total"]
  point = jax.vmap(cross_plane)(state["point"], normal, tangent)
  adversarial = row["image"] + (1 + config.overshoot) * (point - row["image"])
  adversarial = jnp.clip(adversarial, 0.0, 255.0)
  left = jnp.argmax(classifier(adversarial), axis=-1).astype(jnp.int32) != leave
  stuck = other == leave  # no boundary was found: another loop would begin at the same point
  return {
    "point": point,
    "adversarial": adversarial,
    "total": jnp.zeros_like(state["total"]),
    "classes": _classes_around(classifier(point), leave, config.num_classes),
    "other": leave,
    "steps": jnp.zeros_like(state["steps"]),
    "loops": jnp.where(left | stuck, config.num_loops, state["loops"] + 1),
    "evaluations": state["evaluations"] + 1,
    "slopes": state["slopes"] + minimal.slopes_of(normal),
  }


def _classes_around(logits: Array, leave: Labels, count: int) -> Array:
  """Returns the class to leave, then the most likely other ones, `(m, count)` int32."""
  own = jax.nn.one_hot(leave, logits.shape[-1], dtype=jnp.bool_)
  logits = jnp.where(own, jnp.inf, logits)
  return likely_classes(logits, count)


def cross_plane(image: Image, normal: Image, tangent: Image) -> Image:
  """Moves an image just across a plane by changing as few values as possible, inside 0..255.

  Modas et al. (2019), Algorithm 1: the values with the steepest normal first, each as far as needed
  or as the range allows. `tangent` is a point of the plane, `(H, W, C)` as the others are. The
  image itself where the normal is zero or the plane is behind it.
  """
  length = minimal.norm(normal, 3)
  normal = (normal / jnp.where(length > 0, length, 1.0)).reshape(-1)
  flat = image.reshape(-1)
  deficit = jnp.sum(normal * (tangent.reshape(-1) - flat))
  slope = jnp.abs(normal)
  room = jnp.where(normal > 0, 255.0 - flat, flat)
  order = jnp.argsort(-slope)
  slope, room = slope[order], room[order]
  gains = slope * room
  before = jnp.cumsum(gains) - gains
  wanted = (deficit + _BEYOND - before) / jnp.where(slope > 0, slope, 1.0)
  moved = jnp.where((before < deficit) & (slope > 0), jnp.minimum(wanted, room), 0.0)
  amount = jnp.zeros_like(flat).at[order].set(moved)
  return jnp.clip(image + (jnp.sign(normal) * amount).reshape(image.shape), 0.0, 255.0)


def _resolved(config: SparseFoolConfig) -> SparseFoolConfig:
  """Returns the config with the budget's numbers filled in, checked."""
  config = minimal.with_budget(config, _BUDGETS)
  config = inputs.with_counts(config, num_loops=0, num_steps=1, num_classes=2, micro_batch=1)
  if not config.distance_factor >= 1:
    raise ValueError(f"distance_factor must be >= 1, got {config.distance_factor!r}.")
  if not config.overshoot >= 0:
    raise ValueError(f"overshoot must be >= 0, got {config.overshoot!r}.")
  return config
