"""DeepFool: the smallest L2 step across the nearest linearized class boundary, until it is crossed.

Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: a simple and accurate method to fool deep neural
networks", CVPR 2016.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs, minimal
from rpfgsm_jax.attacks.config import static_except
from rpfgsm_jax.attacks.rows import run_rows_until
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.targets import likely_classes
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Integers, Key, Labels

_PUSH = 1e-4 * 255.0  # gray levels beyond the boundary, as in the authors' release


@static_except()
@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepFoolConfig:
  """Settings of DeepFool; the defaults are its authors'. Static."""

  overshoot: float = 0.02  # eta of Eq. 7
  num_steps: int = 50  # linearizations at most; 0 returns the images
  num_classes: int = 10  # most likely classes of the clean image whose boundaries are looked at
  quantize: bool = True  # round to whole gray levels; mostly undoes so small a perturbation
  micro_batch: int = 4  # images computed together; results are the same bits for the same value


def deepfool(
  key: Key,
  images: ArrayLike,
  classifiers: Sequence[Classifier],
  config: DeepFoolConfig | None = None,
  *,
  image_ids: Integers | None = None,
  target: Integers | None = None,
  label: Integers | None = None,
) -> AttackResult:
  """Leaves the predicted class of one network by nearly the smallest L2 perturbation.

  Moosavi-Dezfooli et al. (2016); Sanchez-Matilla et al. (2020), Eq. 7. Each step goes to the
  nearest of the linearized boundaries between the predicted class and the next most likely ones.

  Example:
    >>> net = rp.load_classifier("scenes25/resnet50")
    >>> raw = rp.deepfool(key, images, [net], rp.DeepFoolConfig(quantize=False))
    >>> float(raw.success.mean())
    1.0

  Args:
    key: unused; DeepFool draws nothing.
    images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the network's image_size.
    classifiers: one network.
    config: settings; None: the defaults.
    image_ids: unused.
    target: not for this attack; must be None.
    label: classes to leave, one or `(B,)`, instead of the predicted ones. An image whose prediction
      is another class already is returned as it is, with success and no gradient evaluation.

  Returns:
    The result. With `quantize=False`, `adversarial` may leave 0..255: nothing is clipped. A step
    takes one gradient for each of `num_classes`.

  Raises:
    ValueError: an argument breaks its rule.
  """
  del key
  config = inputs.config_or_default(config, DeepFoolConfig)
  config = inputs.with_counts(config, num_steps=0, num_classes=2, micro_batch=1)
  if not config.overshoot >= 0:
    raise ValueError(f"overshoot must be >= 0, got {config.overshoot!r}.")
  goal: dict[str, Any] = {
    "image_ids": image_ids,
    "target": target,
    "label": label,
    "targeted": False,
  }
  return minimal.run_minimal("deepfool", _deepfool, images, classifiers, config, **goal)


@jax.jit
def _deepfool(begin: minimal.Start, config: DeepFoolConfig) -> tuple[Images, Labels, Array, Array]:
  leave = begin.leave
  classes = likely_classes(begin.logits, config.num_classes)
  state = {
    "total": jnp.zeros_like(begin.images),
    "evaluations": jnp.zeros_like(leave),
    "slopes": jnp.zeros(leave.shape, jnp.float32),
    "crossed": begin.predicted != leave,
  }
  constants = {"image": begin.images, "classes": classes}

  def advance(branch: Array, classifier: Classifier, state: Any, row: Any, step: Array) -> Any:
    del branch, step
    point = row["image"] + (1 + config.overshoot) * state["total"]
    move, slopes = to_nearest_boundary(classifier, point, row["classes"], push=_PUSH)
    total = state["total"] + move
    logits = classifier(row["image"] + (1 + config.overshoot) * total)
    return {
      "total": total,
      "evaluations": state["evaluations"] + row["classes"].shape[1],
      "slopes": state["slopes"] + slopes,
      "crossed": jnp.argmax(logits, axis=-1).astype(jnp.int32) != row["classes"][:, 0],
    }

  def choose(state: Any, row: Any, step: Array) -> Array:
    del row
    return jnp.where(state["crossed"] | (step >= config.num_steps), 1, 0)

  state = run_rows_until(advance, 1, begin.classifier, state, constants, choose, config.micro_batch)
  adversarial = begin.images + (1 + config.overshoot) * state["total"]
  return adversarial, leave, state["evaluations"], state["slopes"]


def to_nearest_boundary(
  classifier: Classifier, images: Images, classes: Array, *, push: float, least: float = 0.0
) -> tuple[Images, Array]:
  """Returns the orthogonal step to the nearest linearized boundary around the first class.

  Moosavi-Dezfooli et al. (2016), Algorithm 2, lines 6 to 10. `classes` is `(m, k)`, the one to
  leave first; `push` is added to the step's length, which is at least `least`, both gray levels
  (L2). Zero where no boundary has a gradient. Also returns the gradients' `slopes_of`.
  """
  logits, gradients = minimal.logit_gradients(classifier, images, classes)
  values = jnp.take_along_axis(logits, classes, axis=1)
  gap = jnp.abs(values[:, 1:] - values[:, :1])
  normals = gradients[:, 1:] - gradients[:, :1]
  lengths = minimal.norm(normals, 3)
  flat = lengths == 0
  distance = jnp.where(flat, jnp.inf, gap / jnp.where(flat, 1.0, lengths))
  nearest = jnp.argmin(distance, axis=1)
  normal, distance, length = (
    jnp.take_along_axis(each, minimal.per_row(nearest, each), axis=1)[:, 0]
    for each in (normals, distance, lengths)
  )
  some = jnp.isfinite(distance)
  reach = jnp.maximum(jnp.where(some, distance, 0.0) + push, least)
  scale = jnp.where(some, reach / jnp.where(some, length, 1.0), 0.0)
  return minimal.per_row(scale, normal) * normal, minimal.slopes_of(gradients)
