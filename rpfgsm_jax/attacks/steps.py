"""The signed gradient step, the eps-ball, and the one loop of all signed-gradient attacks."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks.rows import map_rows, run_rows
from rpfgsm_jax.attacks.schedule import Draws
from rpfgsm_jax.defenses.bank import DefenseBank, apply_rows
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, ArrayLike, Images, Labels, Logits


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["adversarial", "target", "gamma", "draws"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackResult:
  """What an attack returns; arrays only.

  Attributes:
    adversarial: `(B, H, W, C)` float32, integer-valued, in [0, 255] and in the eps-ball.
    target: `(B,)` int32, the target class; -1 when untargeted.
    gamma: `(B,)` float32, the gamma of Eq. 17 that left a candidate; None when no target was drawn.
    draws: what each iteration met, `(B, N)`; None unless asked for.
  """

  adversarial: Images
  target: Labels
  gamma: Array | None = None
  draws: Draws | None = None


def gradient_sign(gradient: Array) -> Array:
  """Returns -1, 0 or 1; 0 also where the gradient is NaN, so that no pixel is ever lost to one."""
  return (gradient > 0).astype(gradient.dtype) - (gradient < 0).astype(gradient.dtype)


def clip_to_ball(adversarial: Array, image: Array, epsilon: ArrayLike) -> Array:
  """Projects onto the intersection of the eps-ball around `image` and [0, 255].

  Sanchez-Matilla et al. (2020), Eq. 11.

  Args:
    adversarial: candidate image(s), `(..., H, W, C)`, grey levels.
    image: original image(s), same shape.
    epsilon: largest absolute change, grey levels, scalar or broadcastable.

  Returns:
    The clipped image(s), same shape and dtype as `adversarial`.

  Raises:
    ValueError: the two shapes differ.
  """
  if adversarial.shape != image.shape:
    raise ValueError(
      f"adversarial and image must have one shape, got {adversarial.shape} and {image.shape}."
    )
  return jnp.clip(jnp.clip(adversarial, image - epsilon, image + epsilon), 0.0, 255.0)


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


def iterations_for(epsilon: float) -> int:
  """Returns the number of iterations for one network, floor(min(1.25 eps, eps + 4)).

  Kurakin et al. (2017), as used in Sanchez-Matilla et al. (2020), Sec. V-B; 20 for eps = 16.
  """
  return int(min(1.25 * epsilon, epsilon + 4.0))


def clean_logits(classifiers: tuple[Classifier, ...], images: Images, micro_batch: int) -> Logits:
  """Returns each network's logits of each image, the same bits in any batch.

  Args:
    classifiers: K networks.
    images: `(B, H, W, C)`, grey levels.
    micro_batch: images computed together.

  Returns:
    `(B, K, D)` float32.
  """

  def forward(classifiers: tuple[Classifier, ...], rows: Images) -> Logits:
    return jnp.stack([classifier(rows) for classifier in classifiers], axis=1)

  return map_rows(forward, classifiers, images, micro_batch)


def signed_gradient_attack(
  classifiers: tuple[Classifier, ...],
  images: Images,
  labels: Array,
  draws: Draws,
  *,
  direction: float,
  epsilon: Array,
  step_size: Array,
  bank: DefenseBank,
  rounding: Rounding,
  ensemble: bool,
  micro_batch: int,
) -> Images:
  """Runs x <- clip(x + direction * step * sign(grad CE(M(phi(x)), y))) for all images.

  Sanchez-Matilla et al. (2020), Eq. 9-11, 13, 15, 16. Images advance at their own pace, see
  `rows`; in an ensemble each iteration sums the K gradients (Eq. 13) behind one drawn defense.

  Args:
    classifiers: K networks.
    images: `(B, H, W, C)`, integer-valued grey levels.
    labels: `(B, K)` int32, the class that each network's gradient speaks of.
    draws: `(B, N)`.
    direction: +1 leaves the labels, -1 approaches them.
    epsilon: `(B,)`, grey levels.
    step_size: `(B,)`, grey levels an iteration.
    bank: the defenses that `draws.family` counts.
    rounding: rule for the roundings inside the defenses.
    ensemble: all networks at each iteration instead of the drawn one.
    micro_batch: images computed together.

  Returns:
    The adversarial images, `(B, H, W, C)`.
  """

  def advance(members: tuple[int, ...], classifiers: Any, adversarial: Any, row: Any, step: Array):
    family, parameter = (
      jnp.take_along_axis(values, step[:, None], axis=1)[:, 0]
      for values in (row["family"], row["parameter"])
    )

    def loss(candidate: Images) -> Array:
      defended = apply_rows(bank, candidate, family, parameter, rounding)
      losses = [cross_entropy(classifiers[k](defended), row["labels"][:, k]) for k in members]
      return jnp.sum(sum(losses))

    shape = (-1, 1, 1, 1)
    move = direction * row["step_size"].reshape(shape) * gradient_sign(jax.grad(loss)(adversarial))
    return clip_to_ball(adversarial + move, row["image"], row["epsilon"].reshape(shape))

  num_classifiers = len(classifiers)
  groups = [tuple(range(num_classifiers))] if ensemble else [(k,) for k in range(num_classifiers)]
  branches = tuple(functools.partial(advance, members) for members in groups)
  schedule = draws.classifier * 0 if ensemble else draws.classifier
  constants = {
    "image": images,
    "labels": labels,
    "family": draws.family,
    "parameter": draws.parameter,
    "epsilon": epsilon,
    "step_size": step_size,
  }
  return run_rows(branches, classifiers, images, constants, schedule, micro_batch)
