"""What the minimal-norm attacks share: they stop at their goal, so each image has its own length.

JSMA, CW, DeepFool and SparseFool attack one network until their goal is reached, by a loop in which
an image that is done makes room for the next one (`rows.run_rows_until`).
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.steps import AttackResult, all_logits, goal_reached
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Labels, Logits

Budget = Literal["quick", "paper"]


class Start(NamedTuple):
  """Checked arguments of a minimal-norm attack, and what the network says before it.

  Attributes:
    classifier: the network.
    images: `(B, H, W, C)` float32, grey levels.
    image_ids: `(B,)` uint32.
    chosen: `(B,)` int32, classes given by the caller; None: none.
    logits: `(B, D)`, of the clean images.
    predicted: `(B,)` int32.
  """

  classifier: Classifier
  images: Images
  image_ids: Array
  chosen: Labels | None
  logits: Logits
  predicted: Labels


def start(
  name: str,
  images: Images,
  classifiers: Sequence[Classifier],
  image_ids: ArrayLike | None,
  *,
  targeted: bool,
  target: ArrayLike | None,
  label: ArrayLike | None,
  micro_batch: int,
) -> Start:
  """Checks the arguments of an attack and asks the network about the clean images.

  Args:
    name: of the attack, for messages.
    images: `(B, H, W, C)`, whole grey levels.
    classifiers: one network.
    image_ids: `(B,)` integers; None: 0..B-1.
    targeted: whether it approaches a class.
    target: chosen classes; None: the attack's own.
    label: classes to leave; None: the predicted ones.
    micro_batch: images computed together.

  Returns:
    What the attack starts from.

  Raises:
    ValueError: an argument breaks its rule.
  """
  classifiers = inputs.check_classifiers(classifiers)
  inputs.check_single(name, classifiers)
  images = inputs.check_images(images, classifiers)
  image_ids = inputs.check_image_ids(image_ids, len(images))
  chosen = inputs.check_goal(name, targeted, target, label, len(images), classifiers)
  logits = all_logits(classifiers, images, micro_batch)[:, 0]
  predicted = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  return Start(classifiers[0], images, image_ids, chosen, logits, predicted)


def finish(
  begin: Start,
  adversarial: Images,
  evaluations: Array,
  *,
  target: Labels | None = None,
  label: Labels | None = None,
  quantize: bool,
  micro_batch: int,
) -> AttackResult:
  """Rounds to 8 bits if asked to, and asks the network whether the goal is reached.

  Args:
    begin: from `start`.
    adversarial: `(B, H, W, C)`, as the attack found it.
    evaluations: `(B,)` int32.
    target: `(B,)`, the classes approached; or
    label: `(B,)`, the classes left.
    quantize: round to whole grey levels in 0..255.
    micro_batch: images computed together.

  Returns:
    The attack's result.
  """
  if quantize:
    adversarial = jnp.clip(jnp.round(adversarial), 0.0, 255.0)
  logits = all_logits((begin.classifier,), adversarial, micro_batch)
  goal = label if target is None else target
  success = goal_reached(logits, goal[:, None], targeted=target is not None)
  if target is not None:
    success &= begin.predicted != target
  return AttackResult(
    adversarial=adversarial,
    target=jnp.full_like(begin.predicted, -1) if target is None else target,
    success=success,
    gradient_evaluations=evaluations,
  )


def logit_gradients(classifier: Classifier, images: Images, classes: Array) -> tuple[Logits, Array]:
  """Returns the logits and the gradients of some of them: one forward, k backward passes.

  Args:
    classifier: the network.
    images: `(m, H, W, C)`, grey levels.
    classes: `(m, k)` int32.

  Returns:
    `(m, D)`, and `(m, k, H, W, C)` in logits a grey level.
  """
  logits, pull_back = jax.vjp(classifier, images)
  chosen = jax.nn.one_hot(classes.T, logits.shape[-1], dtype=logits.dtype)
  gradients = jax.lax.map(lambda cotangent: pull_back(cotangent)[0], chosen)
  return logits, jnp.moveaxis(gradients, 0, 1)


def per_row(values: Array, like: Array) -> Array:
  """Returns `(m,)` values shaped to broadcast against `(m, ...)`."""
  return values.reshape(values.shape + (1,) * (like.ndim - 1))


def norm(arrays: Array, axes: int) -> Array:
  """Returns the L2 norm over the last `axes` axes; never differentiated, so 0 is no trap."""
  return jnp.sqrt(jnp.sum(arrays**2, axis=tuple(range(-axes, 0))))


def check_budget(budget: Any) -> None:
  """Checks the name of a budget.

  Raises:
    ValueError: it is neither "quick" nor "paper".
  """
  if budget not in ("quick", "paper"):
    raise ValueError(f"budget must be 'quick' or 'paper', got {budget!r}.")
