"""Settings: how a config becomes a pytree, and what the signed-gradient attacks share."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.masking import TextureMasking, checked_masking
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.attacks.transfer import PLAIN, TransferOptions, checked_transfer
from rpfgsm_jax.typing import ArrayLike


def static_except(*data: str) -> Callable[[type], type]:
  """Registers a dataclass as a pytree: only the fields named may be traced, swept and mapped."""

  def register(config: type) -> type:
    static = [field.name for field in dataclasses.fields(config) if field.name not in data]
    return jax.tree_util.register_dataclass(config, data_fields=data, meta_fields=static)

  return register


class SignedConfig(Protocol):
  """What the configs of all signed-gradient attacks have in common."""

  epsilon: ArrayLike
  step_size: ArrayLike
  num_steps: int | None
  transfer: TransferOptions
  masking: TextureMasking | None
  random_start: bool
  micro_batch: int
  record_draws: bool


@static_except("epsilon", "step_size", "gamma", "masking")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSMConfig:
  """Settings of the iterative FGSM family and of every attack that `signed_attack` makes.

  The defaults are the paper's (Sec. V-B). `epsilon`, `step_size`, `gamma` and `masking` are data,
  as in `RPFGSMConfig`; the rest is static.
  """

  epsilon: ArrayLike = 16.0  # largest change, gray levels; a fraction is rounded down
  step_size: ArrayLike = 1.0  # change an iteration, whole gray levels >= 1
  gamma: ArrayLike = 0.99  # Eq. 17, in 0..1; only P-FGSM, and who aims as it does, draws by it
  num_steps: int | None = None  # N; None: floor(min(1.25 eps, eps + 4)), random networks: K times
  transfer: TransferOptions = PLAIN  # momentum and the like; all off
  masking: TextureMasking | None = None  # None: epsilon at every pixel; else less in smooth places
  random_start: bool = False  # begin anywhere in the ball, on whole gray levels, as PGD does
  micro_batch: int = 4  # images computed together; results are the same bits for the same value
  record_draws: bool = False  # put each iteration's draws into the result


def checked_signed_config(
  config: SignedConfig, gamma: ArrayLike, *, gray: bool = False
) -> SignedConfig:
  """Returns the settings with plain ints, or refuses them; numbers only where they are known."""
  config = inputs.with_counts(config, num_steps=0, micro_batch=1)
  config = dataclasses.replace(
    config,
    transfer=checked_transfer(config.transfer),
    masking=checked_masking(config.masking, gray=gray),
  )
  if not isinstance(config.random_start, bool):
    raise ValueError(f"random_start must be True or False, got {config.random_start!r}.")
  epsilon, step_size, gamma = map(
    inputs.concrete_or_none, (config.epsilon, config.step_size, gamma)
  )
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
  return config


def number_of_steps(config: SignedConfig, rounds: int) -> int:
  """Returns N; where the config leaves it open, `rounds` times that of one network."""
  if config.num_steps is not None:
    return config.num_steps
  epsilon = inputs.concrete_or_none(config.epsilon)
  if epsilon is None:
    raise ValueError(
      "num_steps must be given when epsilon is traced (N is a shape); for eps = 16 the paper's is "
      f"num_steps={20 * rounds} here."
    )
  return rounds * iterations_for(float(np.max(epsilon, initial=0.0)))
