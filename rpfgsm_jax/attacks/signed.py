"""The whole of a signed-gradient attack from its recipe: checks, draws, target, loop, success.

A new attack of the family is one call of `signed_attack`; see `fgsm.py`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.config import (
  FGSMConfig,
  SignedConfig,
  checked_signed_config,
  number_of_steps,
)
from rpfgsm_jax.attacks.goals import (
  Answer,
  Goal,
  Network,
  agreeing,
  all_answers,
  all_finite,
  chosen_goals,
  shown_goals,
)
from rpfgsm_jax.attacks.masking import pixel_limits
from rpfgsm_jax.attacks.schedule import Draw, Draws, draw_schedule
from rpfgsm_jax.attacks.steps import (
  AttackResult,
  Loop,
  Penalty,
  signed_gradient_attack,
)
from rpfgsm_jax.defenses.bank import DefenseBank, no_defenses
from rpfgsm_jax.models.embedder import Embedder
from rpfgsm_jax.randomness import fixed_key
from rpfgsm_jax.rounding import Rounding, check_rounding
from rpfgsm_jax.typing import Array, ArrayLike, Image, Images, Key, Logits

Aim = Callable[[Key, Logits, ArrayLike], tuple[Array, Array | None]]
"""A rule of `targets`."""

Attack = Callable[..., AttackResult]
"""`attack(key, images, classifiers, config, *, image_ids, target, label) -> AttackResult`."""

# An image's key is split in two, for its target and its schedule. `fold_in(key, i)` may be the i-th
# of the keys that `split` gives, so the start has the third.
_START = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignedRecipe:
  """What makes a signed-gradient attack the one it is; static. See `signed_attack`."""

  name: str
  networks: Literal["one", "random", "ensemble"] = "one"
  bank: DefenseBank = dataclasses.field(default_factory=no_defenses)
  aim: Aim | None = None
  penalty: Penalty | None = None
  draw: Draw = "balanced"
  rounding: Rounding = "straight_through"
  gray: bool = False

  def __post_init__(self) -> None:
    if self.networks not in ("one", "random", "ensemble"):
      raise ValueError(f"networks must be 'one', 'random' or 'ensemble', got {self.networks!r}.")
    if self.draw not in ("balanced", "iid"):
      raise ValueError(f"draw must be 'balanced' or 'iid', got {self.draw!r}.")
    inputs.check_bank("bank", self.bank, "no_defenses() has the identity alone")
    check_rounding(self.rounding)


def signed_attack(
  name: str,
  *,
  networks: Literal["one", "random", "ensemble"] = "one",
  bank: DefenseBank | None = None,
  aim: Aim | None = None,
  penalty: Penalty | None = None,
  draw: Draw = "balanced",
  rounding: Rounding = "straight_through",
  gray: bool = False,
  doc: str = "",
) -> Attack:
  """Returns a new attack by signed gradient steps inside the eps-ball, with `FGSMConfig`.

  Each iteration is `clip(x +- step_size * sign(gradient of CE(M(phi(x)), y)))`, Sanchez-Matilla et
  al. (2020), Eq. 9-16. Make it once, at module level, as a function is: an equal one made later is
  compiled anew.

  Example:
    >>> rotating = rp.signed_attack("rotating", networks="random", bank=rp.defenses.paper_bank())
    >>> result = rotating(jax.random.key(0), images, nets, rp.FGSMConfig(epsilon=8.0))

  Args:
    name: how messages call it; also its `__name__`: the variable's, so that it can be pickled.
    networks: "one": it takes a single network; "random": one of K is drawn each iteration;
      "ensemble": the gradients of all K are summed each iteration.
    bank: phi, one member drawn each iteration; None: the image itself.
    aim: `aim(key, logits, gamma) -> (target, gamma or None)` for one image and clean logits
      `(K, D)`, such as those of `rpfgsm_jax.attacks.targets`; None: it is untargeted, and each
      network leaves the class that it predicts.
    penalty: `penalty(transformed, transformed_original) -> (m,)` for images `(m, H, W, C)`, added
      to the cross-entropy. Compared by `==`: a function, or a frozen dataclass with `__call__`.
    draw: "balanced": each network and each family of the bank serves equally often, shuffled;
      "iid": all draws independent.
    rounding: backward rule of the roundings in the bank.
    gray: one step for all channels of a pixel, by the sum of their gradients.
    doc: first lines of its docstring; arguments and results are described below them.

  Returns:
    `attack(key, images, classifiers, config, *, image_ids, target, label) -> AttackResult`, the
    form of every attack.

  Raises:
    ValueError: an argument breaks its rule.
  """
  recipe = SignedRecipe(
    name=name,
    networks=networks,
    bank=no_defenses() if bank is None else bank,
    aim=aim,
    penalty=penalty,
    draw=draw,
    rounding=rounding,
    gray=gray,
  )
  attack = _attack_of(recipe, doc or "Takes signed gradient steps inside the eps-ball.")
  caller = sys._getframe(1).f_globals
  attack.__module__ = caller.get("__name__", "__main__")  # pickled by name, like its neighbors
  return attack


def _attack_of(recipe: SignedRecipe, doc: str) -> Attack:
  def attack(
    key: Key,
    images: Images,
    classifiers: Sequence[Network],
    config: FGSMConfig | None = None,
    *,
    image_ids: ArrayLike | None = None,
    target: ArrayLike | None = None,
    label: ArrayLike | None = None,
  ) -> AttackResult:
    config = inputs.config_or_default(config, FGSMConfig)
    goal = {"image_ids": image_ids, "target": target, "label": label}
    return run_signed(recipe, key, images, classifiers, config, gamma=config.gamma, **goal)

  several = "K >= 1 networks of one image size; where a class is approached, of the same classes."
  target = label = "not for this attack; must be None."
  if recipe.aim is None:
    label = (
      "classes to leave, one or `(B,)`, instead of the predicted ones. The loop also runs\n"
      "    where the network predicts another class already."
    )
  else:
    target = (
      "chosen classes, one or `(B,)`, instead of those of the attack's own rule; or an image\n"
      "    `(H, W, 3)`, or one for each, whose class and features the networks are to see."
    )
  attack.__name__ = attack.__qualname__ = recipe.name
  attack.__doc__ = f"""{doc.strip()}

Args:
  key: root key; each image's own is `fold_in(key, image_id)`.
  images: `(B, H, W, 3)`, whole gray levels 0..255, any real dtype, of the networks' image_size.
  classifiers: {"one network." if recipe.networks == "one" else several}
  config: settings; None: the paper's.
  image_ids: `(B,)` stable integers in 0..2^32-1; default 0..B-1.
  target: {target}
  label: {label}

Returns:
  The result; `adversarial` is integer-valued, in [0, 255], and within epsilon of `images`.

Raises:
  ValueError: an argument breaks its rule.
"""
  return attack


def run_signed(
  recipe: SignedRecipe,
  key: Key,
  images: Images,
  networks: Sequence[Network],
  config: SignedConfig,
  *,
  gamma: ArrayLike = 0.0,
  image_ids: ArrayLike | None = None,
  target: ArrayLike | None = None,
  label: ArrayLike | None = None,
) -> AttackResult:
  """Runs one attack of the family; `gamma` is for the recipes that draw their target by Eq. 17."""
  networks = inputs.check_classifiers(networks, mixed=True)
  if recipe.networks == "one":
    inputs.check_single(recipe.name, networks)
  key, images = fixed_key(key), inputs.check_images(images, networks)
  config = checked_signed_config(config, gamma, gray=recipe.gray)
  targeted = recipe.aim is not None
  chosen = shown = None  # a class for each image; an image that is to be approached
  if targeted and inputs.is_image(target):
    shown = inputs.check_target_images(target, images.shape)
  else:
    chosen = inputs.check_goal(recipe.name, targeted, target, label, len(images), networks)
    if targeted and chosen is None:
      inputs.check_enough_classes(networks)
  numbers = {
    "step_size": inputs.per_image("step_size", config.step_size, len(images)),
    "gamma": inputs.per_image("gamma", gamma, len(images)),
    "epsilon": inputs.per_pixel("epsilon", config.epsilon, images.shape),
    "masking": config.masking,
  }
  image_ids = inputs.check_image_ids(image_ids, len(images))
  loop = Loop(
    direction=-1.0 if targeted else 1.0,
    ensemble=recipe.networks == "ensemble",
    bank=recipe.bank,
    rounding=recipe.rounding,
    penalty=recipe.penalty,
    gray=recipe.gray,
    transfer=config.transfer,
    micro_batch=config.micro_batch,
  )
  num_steps = number_of_steps(config, len(networks) if recipe.networks == "random" else 1)
  # The same program before and after: compiled once.
  clean = all_answers(networks, images, config.micro_batch)
  finite = all_finite(clean)
  inputs.check_networks(networks, images, finite)
  aimed = clean if shown is None else all_answers(networks, shown, config.micro_batch)
  static = (recipe, loop, num_steps, config.random_start, shown is not None)
  answers = {"clean": clean, "aimed": aimed}
  result, goals = _run(*static, key, images, networks, answers, numbers, image_ids, chosen)
  after = all_answers(networks, result.adversarial, config.micro_batch)
  reached = jnp.all(agreeing(networks, after, goals) == targeted, axis=-1)
  if targeted:
    reached &= ~jnp.any(agreeing(networks, clean, goals), axis=-1)
  finite &= result.finite & all_finite(after)
  inputs.check_networks(networks, images, finite, result.has_gradient if num_steps else None)
  return dataclasses.replace(
    result, success=reached, finite=finite, draws=result.draws if config.record_draws else None
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _run(
  recipe: SignedRecipe,
  loop: Loop,
  num_steps: int,
  random_start: bool,
  image_shown: bool,
  key: Key,
  images: Images,
  networks: tuple[Network, ...],
  answers: dict[str, tuple[Answer, ...]],
  numbers: dict[str, Any],
  image_ids: Array,
  chosen: Array | None,
) -> tuple[AttackResult, tuple[Goal, ...]]:
  """Returns the result, `success` and the answers' share of `finite` left open, and the goals."""

  def draw_image(image_id: Array) -> tuple[Key, Draws]:
    key_target, key_schedule = jax.random.split(jax.random.fold_in(key, image_id))
    return key_target, draw_schedule(
      key_schedule, num_steps, len(networks), recipe.bank, recipe.draw
    )

  key_target, draws = jax.vmap(draw_image)(image_ids)
  target, gamma = jnp.full(images.shape[:1], -1, jnp.int32), None
  goals = shown_goals(networks, answers["aimed"])
  if recipe.aim is not None and not image_shown:
    if chosen is None:
      clean = jnp.stack(answers["clean"], axis=1)
      chosen, gamma = jax.vmap(recipe.aim)(key_target, clean, numbers["gamma"])
    target = chosen
  if chosen is not None:
    goals = chosen_goals(networks, goals, chosen)
  epsilon = pixel_limits(numbers["masking"], images, numbers["epsilon"])
  start, reach = images, epsilon
  if recipe.aim is None and any(isinstance(network, Embedder) for network in networks):
    # Nothing is more like an image than itself: there the gradient of the cosine is zero.
    random_start, reach = True, epsilon if random_start else jnp.minimum(epsilon, 1.0)
  if random_start:
    draw_start = functools.partial(_draw_start, key, loop.gray)
    start = jax.vmap(draw_start)(image_ids, images, reach)
  adversarial, evaluations, slopes = signed_gradient_attack(
    loop, networks, images, start, goals, draws, epsilon, numbers["step_size"]
  )
  asked = jnp.full(slopes.shape, num_steps > 0)
  if not loop.ensemble:
    places = jnp.arange(len(networks), dtype=jnp.int32)
    asked = jnp.any(draws.classifier[:, :, None] == places[None, None, :], axis=1)
  result = AttackResult(
    adversarial=adversarial,
    target=target,
    success=jnp.zeros(images.shape[:1], bool),
    gradient_evaluations=evaluations,
    gamma=gamma,
    draws=draws,
    finite=jnp.isfinite(slopes),
    has_gradient=(slopes != 0) | ~asked,
  )
  return result, goals


def _draw_start(key: Key, gray: bool, image_id: Array, image: Image, epsilon: Array) -> Image:
  """Draws whole gray levels uniformly from one image's ball, clipped to 0..255.

  Madry et al. (2018). With `gray` all channels of a pixel change alike.
  """
  key = jax.random.fold_in(jax.random.fold_in(key, image_id), _START)
  if gray and epsilon.ndim:
    epsilon = jnp.min(epsilon, axis=-1, keepdims=True)
  shape = (*image.shape[:-1], 1) if gray else image.shape
  reach = jnp.minimum(epsilon, 255.0).astype(jnp.int32)
  change = jax.random.randint(key, shape, -reach, reach + 1, jnp.int32)
  return jnp.clip(image + change.astype(image.dtype), 0.0, 255.0)
