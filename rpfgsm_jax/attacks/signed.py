"""The whole of a signed-gradient attack from its recipe: checks, draws, target, loop, success.

A new attack of the family is a recipe, a config with `epsilon` and `step_size`, and one function
that calls `run_signed`; see `fgsm.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.schedule import Draw, Draws, draw_schedule
from rpfgsm_jax.attacks.steps import (
  AttackResult,
  Loop,
  all_logits,
  goal_reached,
  iterations_for,
  signed_gradient_attack,
)
from rpfgsm_jax.attacks.transfer import TransferOptions, check_transfer
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Array, ArrayLike, Images, Key, Logits

Aim = Callable[[Key, Logits, ArrayLike], tuple[Array, Array | None]]
"""A rule of `targets`."""


class SignedConfig(Protocol):
  """What the configs of all signed-gradient attacks have in common."""

  epsilon: ArrayLike
  step_size: ArrayLike
  num_steps: int | None
  transfer: TransferOptions
  micro_batch: int
  record_draws: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """What makes a signed-gradient attack the one it is; static.

  Attributes:
    name: for messages.
    aim: how its target is found; None: it is untargeted.
    networks: "one": it takes a single network; "random": one of K is drawn each iteration;
      "ensemble": all K each iteration.
    loop: its transformations, penalty and further options; direction and the like are filled in.
    draw: how networks and transformations are drawn.
  """

  name: str
  aim: Aim | None = None
  networks: Literal["one", "random", "ensemble"] = "one"
  loop: Loop = dataclasses.field(default_factory=Loop)
  draw: Draw = "balanced"


def run_signed(
  recipe: Recipe,
  key: Key,
  images: Images,
  classifiers: Sequence[Classifier],
  config: SignedConfig,
  *,
  gamma: ArrayLike = 0.0,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Runs one attack of the family.

  Args:
    recipe: which attack.
    key: root key; each image's own is `fold_in(key, image_id)`.
    images: `(B, H, W, 3)`, whole gray levels 0..255.
    classifiers: the networks.
    config: its settings.
    gamma: of Eq. 17, for the recipes that draw their target by it.
    image_ids: `(B,)`, see `rp_fgsm`.
    target: chosen classes instead of the recipe's.
    label: chosen classes to leave instead of the predicted ones.

  Returns:
    The attack's result.

  Raises:
    ValueError: an argument breaks its rule.
  """
  classifiers = inputs.check_classifiers(classifiers)
  if recipe.networks == "one":
    inputs.check_single(recipe.name, classifiers)
  images = inputs.check_images(images, classifiers)
  _check_config(config, gamma)
  targeted = recipe.aim is not None
  chosen = inputs.check_goal(recipe.name, targeted, target, label, len(images), classifiers)
  if targeted and chosen is None:
    inputs.check_enough_classes(classifiers)
  numbers = {
    name: inputs.per_image(name, value, len(images))
    for name, value in (
      ("step_size", config.step_size),
      ("gamma", gamma),
    )
  }
  numbers["epsilon"] = inputs.per_pixel("epsilon", config.epsilon, images.shape)
  image_ids = inputs.check_image_ids(image_ids, len(images))
  recipe = dataclasses.replace(
    recipe,
    loop=dataclasses.replace(
      recipe.loop,
      direction=-1.0 if targeted else 1.0,
      ensemble=recipe.networks == "ensemble",
      transfer=config.transfer,
      micro_batch=config.micro_batch,
    ),
  )
  num_steps = _resolve_num_steps(config, len(classifiers) if recipe.networks == "random" else 1)
  # The same program before and after: compiled once.
  clean = all_logits(classifiers, images, config.micro_batch)
  result, labels = _run(
    recipe, num_steps, key, images, classifiers, clean, numbers, image_ids, chosen
  )
  reached = goal_reached(
    all_logits(classifiers, result.adversarial, config.micro_batch), labels, targeted=targeted
  )
  if targeted:
    reached &= ~jnp.any(jnp.argmax(clean, axis=-1) == labels, axis=-1)
  return dataclasses.replace(
    result, success=reached, draws=result.draws if config.record_draws else None
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(
  recipe: Recipe,
  num_steps: int,
  key: Key,
  images: Images,
  classifiers: tuple[Classifier, ...],
  clean: Logits,
  numbers: dict[str, Array],
  image_ids: Array,
  chosen: Array | None,
) -> tuple[AttackResult, Array]:
  """Returns the result, `success` left open, and the labels, `(B, K)`."""

  def draw_image(image_id: Array) -> tuple[Key, Draws]:
    key_target, key_schedule = jax.random.split(jax.random.fold_in(key, image_id))
    return key_target, draw_schedule(
      key_schedule, num_steps, len(classifiers), recipe.loop.bank, recipe.draw
    )

  key_target, draws = jax.vmap(draw_image)(image_ids)
  target, gamma = jnp.full(images.shape[:1], -1, jnp.int32), None
  if recipe.aim is None:
    labels = jnp.argmax(clean, axis=-1).astype(jnp.int32)
    if chosen is not None:
      labels = jnp.broadcast_to(chosen[:, None], labels.shape)
  else:
    target = chosen
    if target is None:
      target, gamma = jax.vmap(recipe.aim)(key_target, clean, numbers["gamma"])
    labels = jnp.broadcast_to(target[:, None], clean.shape[:2])
  adversarial, evaluations = signed_gradient_attack(
    recipe.loop,
    classifiers,
    images,
    labels,
    draws,
    jnp.floor(numbers["epsilon"]),  # the whole gray levels inside the ball
    numbers["step_size"],
  )
  result = AttackResult(
    adversarial=adversarial,
    target=target,
    success=jnp.zeros(images.shape[:1], bool),
    gradient_evaluations=evaluations,
    gamma=gamma,
    draws=draws,
  )
  return result, labels


def _resolve_num_steps(config: SignedConfig, rounds: int) -> int:
  if config.num_steps is not None:
    return config.num_steps
  epsilon = inputs.known(config.epsilon)
  if epsilon is None:
    raise ValueError(
      "num_steps must be given when epsilon is traced (N is a shape); for eps = 16 the paper's is "
      f"num_steps={20 * rounds} here."
    )
  return rounds * iterations_for(float(np.max(epsilon, initial=0.0)))


def _check_config(config: SignedConfig, gamma: ArrayLike) -> None:
  inputs.check_counts(config, num_steps=0, micro_batch=1)
  check_transfer(config.transfer)
  epsilon, step_size, gamma = map(inputs.known, (config.epsilon, config.step_size, gamma))
  if epsilon is not None and not np.all((epsilon >= 0) & np.isfinite(epsilon)):
    raise ValueError(f"epsilon must be >= 0 gray levels and finite, got {epsilon}.")
  if step_size is not None and not np.all((step_size >= 1) & (step_size == np.rint(step_size))):
    raise ValueError(
      f"step_size must be whole gray levels >= 1, got {step_size}; "
      "a fraction would leave the 8-bit grid."
    )
  schedule = config.transfer.step_schedule
  if schedule != "constant" and step_size is not None and step_size.size and np.max(step_size) <= 1:
    raise ValueError(
      f"step_schedule {schedule!r} goes from step_size down to 1: it needs step_size > 1, got "
      f"{step_size}."
    )
  if gamma is not None and not np.all((gamma >= 0) & (gamma <= 1)):
    raise ValueError(f"gamma must be a probability in 0..1, got {gamma}.")
