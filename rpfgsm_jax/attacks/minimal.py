"""What the minimal-norm attacks share: they stop at their goal, so each image has its own length.

JSMA, CW, DeepFool and SparseFool attack one network until their goal is reached, by a loop in which
an image that is done makes room for the next one (`rows.run_rows_until`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.goals import all_answers
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.models.answers import are_finite
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Integers, Labels, Logits

Budget = Literal["quick", "paper"]


class Start(NamedTuple):
  """What a minimal-norm attack starts from, checked.

  Attributes:
    classifier: the network.
    images: `(B, H, W, C)` float32, gray levels.
    chosen: `(B,)` int32, classes given by the caller; None: none.
    logits: `(B, D)`, of the clean images.
    predicted: `(B,)` int32.
  """

  classifier: Classifier
  images: Images
  chosen: Any  # an array or None
  logits: Logits
  predicted: Labels

  @property
  def leave(self) -> Labels:
    """The classes an untargeted attack leaves, `(B,)` int32."""
    return self.predicted if self.chosen is None else self.chosen


Search = Callable[[Start, Any], tuple[Images, Labels, Array, Array]]
"""`search(start, config) -> (adversarial, goal, evaluations, slopes)`: goal is `(B,)`, the classes
approached or left; the images are as they were found, in float; evaluations are `(B,)` int32, and
slopes `(B,)` the sum of the absolute values of all gradients, see `slopes_of`."""


def run_minimal(
  name: str,
  search: Search,
  images: ArrayLike,
  classifiers: Sequence[Classifier],
  config: Any,
  *,
  targeted: bool,
  image_ids: Integers | None,
  target: Integers | None,
  label: Integers | None,
) -> AttackResult:
  """Checks the arguments, searches, rounds to 8 bits if asked to, and asks for success.

  Nothing is drawn, so `image_ids` are only checked.
  """
  networks = inputs.check_classifiers(classifiers)
  inputs.check_single(name, networks)
  images = inputs.check_images(images, classifiers)
  inputs.check_image_ids(image_ids, len(images))
  chosen = inputs.check_goal(name, targeted, target, label, len(images), classifiers)
  (logits,) = all_answers(classifiers, images, config.micro_batch)
  finite = are_finite(logits)[:, None]
  inputs.check_networks(classifiers, images, finite)
  predicted = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  start = Start(classifiers[0], images, chosen, logits, predicted)
  adversarial, goal, evaluations, slopes = search(start, config)
  adversarial = jnp.where(jnp.isfinite(adversarial), adversarial, images)  # no pixel is lost
  if config.quantize:
    adversarial = jnp.clip(jnp.round(adversarial), 0.0, 255.0)
  (after,) = all_answers(classifiers, adversarial, config.micro_batch)
  finite &= (are_finite(after) & jnp.isfinite(slopes))[:, None]
  has_gradient = ((slopes != 0) | (evaluations == 0))[:, None]
  asked = config.num_steps != 0
  inputs.check_networks(classifiers, images, finite, has_gradient if asked else None)
  success = (jnp.argmax(after, axis=-1) == goal) == targeted
  if targeted:
    success &= predicted != goal
  return AttackResult(
    adversarial=adversarial,
    target=goal if targeted else jnp.full_like(predicted, -1),
    success=success,
    gradient_evaluations=evaluations,
    finite=finite,
    has_gradient=has_gradient,
  )


def logit_gradients(classifier: Classifier, images: Images, classes: Array) -> tuple[Logits, Array]:
  """Returns the logits and the gradients of some of them: one forward, k backward passes.

  Classes are `(m, k)`, gradients `(m, k, H, W, C)`, in logits a gray level.
  """
  logits, pull_back = jax.vjp(classifier, images)
  chosen = jax.nn.one_hot(classes.T, logits.shape[-1], dtype=logits.dtype)
  gradients = jax.lax.map(lambda cotangent: pull_back(cotangent)[0], chosen)
  return logits, jnp.moveaxis(gradients, 0, 1)


def slopes_of(gradients: Array) -> Array:
  """Returns `(m,)` sums of absolute values: NaN or infinite if one value was, zero if all are."""
  return jnp.sum(jnp.abs(gradients), axis=tuple(range(1, gradients.ndim)))


def per_row(values: Array, like: Array) -> Array:
  """Returns `(m,)` values shaped to broadcast against `(m, ...)`."""
  return values.reshape(values.shape + (1,) * (like.ndim - 1))


def norm(arrays: Array, axes: int) -> Array:
  """Returns the L2 norm over the last `axes` axes; never differentiated, so 0 is no trap."""
  return jnp.sqrt(jnp.sum(arrays**2, axis=tuple(range(-axes, 0))))


def check_budget(budget: Any) -> None:
  """Checks the name of a budget."""
  if budget not in ("quick", "paper"):
    raise ValueError(f"budget must be 'quick' or 'paper', got {budget!r}.")


def with_budget(config: Any, budgets: Mapping[str, Any]) -> Any:
  """Returns a config whose fields that are None have the numbers of its budget."""
  check_budget(config.budget)
  numbers = budgets[config.budget]
  missing = {name: value for name, value in numbers.items() if getattr(config, name) is None}
  return dataclasses.replace(config, **missing)
