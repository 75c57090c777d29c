"""The signed gradient step, the eps-ball, and the one loop of all signed-gradient attacks."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rpfgsm_jax.attacks.goals import Goal, Network, distance
from rpfgsm_jax.attacks.rows import run_rows
from rpfgsm_jax.attacks.schedule import Draws
from rpfgsm_jax.attacks.transfer import (
  PLAIN,
  TransferOptions,
  accumulate,
  look_ahead,
  smooth,
  step_sizes,
)
from rpfgsm_jax.defenses.bank import DefenseBank, apply_rows, no_defenses
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, ArrayLike, Images, Labels


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=[
    "adversarial",
    "target",
    "success",
    "gradient_evaluations",
    "gamma",
    "draws",
    "finite",
    "has_gradient",
  ],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackResult:
  """What an attack returns; arrays only.

  Attributes:
    adversarial: `(B, H, W, C)` float32, integer-valued, in [0, 255], and in the eps-ball where the
      attack has one. With `quantize=False` the optimum as it was found.
    target: `(B,)` int32, the target class; -1 when untargeted.
    success: `(B,)` bool, whether `adversarial` reaches the attack's own goal on every network it
      was given: the prediction is the target, or is no longer the class to leave; an embedder's
      similarity reaches its threshold, or no longer does. False where a given target was predicted
      before: nothing was hidden.
    gradient_evaluations: `(B,)` int32, counted: one for each gradient of one scalar of one
      network's output for this image. Forward passes alone do not count.
    gamma: `(B,)` float32, the gamma of Eq. 17 that left a candidate; None when none was needed.
    draws: what each iteration met, `(B, N)`; None unless asked for.
    finite: `(B, K)` bool, whether all that each network answered for this image was finite: its
      logits, before and after, and the gradients taken of it. A broken network is refused by name
      outside tracing; inside, look here: what was attacked with its help may be unchanged.
    has_gradient: `(B, K)` bool, whether of the gradients taken one was not zero everywhere; True
      where none was taken.
  """

  adversarial: Images
  target: Labels
  success: Array
  gradient_evaluations: Array
  gamma: Array | None = None
  draws: Draws | None = None
  finite: Array | None = None
  has_gradient: Array | None = None


def gradient_sign(gradient: Array) -> Array:
  """Returns -1, 0 or 1; 0 also where the gradient is NaN, so that no pixel is ever lost to one."""
  return (gradient > 0).astype(gradient.dtype) - (gradient < 0).astype(gradient.dtype)


def clip_to_ball(adversarial: Array, image: Array, epsilon: ArrayLike) -> Array:
  """Projects onto the intersection of the eps-ball around `image` and [0, 255].

  Sanchez-Matilla et al. (2020), Eq. 11.
  """
  if adversarial.shape != image.shape:
    raise ValueError(
      f"adversarial and image must have one shape, got {adversarial.shape} and {image.shape}."
    )
  return jnp.clip(jnp.clip(adversarial, image - epsilon, image + epsilon), 0.0, 255.0)


def iterations_for(epsilon: float) -> int:
  """Returns the number of iterations for one network, floor(min(1.25 eps, eps + 4)).

  Kurakin et al. (2017), as used in Sanchez-Matilla et al. (2020), Sec. V-B; 20 for eps = 16.
  """
  return int(min(1.25 * epsilon, epsilon + 4.0))


Penalty = Callable[[Images, Images], Array]
"""`penalty(transformed, transformed_original) -> (m,)`, of images `(m, H, W, C)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
  """How a signed-gradient loop runs; static.

  Attributes:
    direction: +1 leaves the labels, -1 approaches them.
    ensemble: all networks at each iteration (Eq. 13) instead of the drawn one.
    bank: the transformations that `Draws.family` counts.
    rounding: rule for the roundings inside them.
    penalty: added to the network's distance.
    gray: one step for all channels of a pixel, by the sum of their gradients.
    transfer: momentum, the schedule of steps and the like.
    micro_batch: images computed together.
  """

  direction: float = 1.0
  ensemble: bool = False
  bank: DefenseBank = dataclasses.field(default_factory=no_defenses)
  rounding: Rounding = "straight_through"
  penalty: Penalty | None = None
  gray: bool = False
  transfer: TransferOptions = PLAIN
  micro_batch: int = 4


def signed_gradient_attack(
  loop: Loop,
  networks: tuple[Network, ...],
  images: Images,
  start: Images,
  goals: tuple[Goal, ...],
  draws: Draws,
  epsilon: Array,
  step_size: Array,
) -> tuple[Images, Array, Array]:
  """Runs x <- clip(x + direction * step * sign(grad distance(M(phi(x)), y))) for all images.

  Sanchez-Matilla et al. (2020), Eq. 9-13, 15, 16. Images advance at their own pace, see `rows`; in
  an ensemble each iteration sums the K gradients behind one drawn transformation. `goals` has one
  of each network; `draws` are `(B, N)`; `epsilon` `(B,)` or `(B, H, W, 1 or C)`, and `step_size`
  `(B,)`, gray levels, of a schedule the first. Returns the adversarial images, how many gradients
  each took, `(B,)` int32, and the sum of the absolute values of those of each network, `(B, K)`:
  NaN or infinite if one was, zero if there was nothing else.
  """
  groups = [tuple(range(len(networks)))] if loop.ensemble else [(k,) for k in range(len(networks))]
  schedule = draws.classifier * 0 if loop.ensemble else draws.classifier
  if _scheduled(loop):
    step_size = step_sizes(loop.transfer.step_schedule, step_size, schedule.shape[1])
  constants = {
    "image": images,
    "goals": goals,
    "drawn": (draws.family, draws.parameter, draws.noise),
    "epsilon": epsilon,
    "move": loop.direction * step_size,
  }
  state = {
    "adversarial": start,
    "evaluations": jnp.zeros_like(images[:, 0, 0, 0], jnp.int32),
    # From the images, not from zero: inside shard_map it varies as they do.
    "slopes": jnp.broadcast_to(images[:, :1, 0, 0] * 0, (len(images), len(networks))),
  }
  if loop.transfer.momentum:
    state["velocity"] = jnp.zeros_like(images)
  advance = functools.partial(_advance, loop, groups)
  state = run_rows(advance, len(groups), networks, state, constants, schedule, loop.micro_batch)
  return state["adversarial"], state["evaluations"], state["slopes"]


def _scheduled(loop: Loop) -> bool:
  """Whether the steps are a sequence of their own, not one number for all iterations."""
  return loop.transfer.step_schedule != "constant"


def _advance(
  loop: Loop,
  groups: Sequence[tuple[int, ...]],
  branch: Array,
  networks: tuple[Network, ...],
  state: Any,
  row: Any,
  step: Array,
) -> Any:
  """One iteration of m images, all with the same group of networks."""
  transfer, adversarial = loop.transfer, state["adversarial"]

  def now(values: Array) -> Array:
    return jnp.take_along_axis(values, step[:, None], axis=1)[:, 0]

  family, parameter, noise = map(now, row["drawn"])
  move = now(row["move"]) if _scheduled(loop) else row["move"]
  point = adversarial
  if transfer.nesterov:
    point = look_ahead(point, state["velocity"], transfer.momentum * move)

  def gradient_at(scale: ArrayLike) -> tuple[Images, Array]:
    def transform(candidate: Images) -> Images:
      return apply_rows(loop.bank, candidate, family, parameter, noise, loop.rounding)

    # The transformation stands outside the switch over networks: it is compiled once, not K times.
    transformed, pull_back = jax.vjp(lambda x: transform(x * scale), point)
    gradient, slopes = _network_gradient(groups, branch, networks, transformed, row["goals"])
    penalty = loop.penalty
    if penalty is not None:
      reference = transform(row["image"] * scale)
      gradient += jax.grad(lambda x: jnp.sum(penalty(x, reference)))(transformed)
    return pull_back(gradient)[0], slopes

  copies = transfer.scale_copies
  if copies == 1:
    gradient, slopes = gradient_at(1.0)
  else:
    scales = 0.5 ** jnp.arange(copies, dtype=jnp.float32)
    add = lambda total, scale: (jax.tree.map(jnp.add, total, gradient_at(scale)), None)  # noqa: E731
    nothing = (jnp.zeros_like(point), jnp.zeros_like(state["slopes"]))
    gradient, slopes = jax.lax.scan(add, nothing, scales)[0]
  gradient = smooth(gradient, transfer.smoothing)
  new = {
    "evaluations": state["evaluations"] + copies * len(groups[0]),
    "slopes": state["slopes"] + slopes,
  }
  if transfer.momentum:
    new["velocity"] = gradient = accumulate(state["velocity"], gradient, transfer.momentum)
  if loop.gray:
    gradient = jnp.broadcast_to(jnp.sum(gradient, axis=-1, keepdims=True), gradient.shape)
  epsilon = row["epsilon"]
  epsilon = epsilon if epsilon.ndim == 4 else epsilon[:, None, None, None]
  moved = adversarial + move[:, None, None, None] * gradient_sign(gradient)
  new["adversarial"] = clip_to_ball(moved, row["image"], epsilon)
  return new


def _network_gradient(
  groups: Sequence[tuple[int, ...]],
  branch: Array,
  networks: tuple[Network, ...],
  images: Images,
  goals: tuple[Goal, ...],
) -> tuple[Images, Array]:
  """Returns the gradient of the summed distances of one group of networks.

  And the sum of the absolute values of each network's own, `(m, K)`; 0 for those outside.
  """

  def loss(images: Images, network: Network, goal: Goal) -> Array:
    return jnp.sum(distance(network, network(images), goal))

  def gradient_of(members: tuple[int, ...], networks: Any, images: Images, goals: Any):
    gradients = [jax.grad(loss)(images, networks[k], goals[k]) for k in members]
    slopes = jnp.zeros((len(images), len(networks)), jnp.float32)
    for k, gradient in zip(members, gradients, strict=True):
      slopes = slopes.at[:, k].set(jnp.sum(jnp.abs(gradient), axis=(1, 2, 3)))
    return functools.reduce(jnp.add, reversed(gradients)), slopes

  branches = [functools.partial(gradient_of, members) for members in groups]
  if len(branches) == 1:
    return branches[0](networks, images, goals)
  return jax.lax.switch(branch, branches, networks, images, goals)
