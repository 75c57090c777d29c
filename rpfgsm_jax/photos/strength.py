"""How strong the change of a photo may be, and the recipe of attack that spends it.

Measured by real networks that no attack saw, at equal SSIM: docs/PHOTOS.md.
"""

import math
from typing import Any

from rpfgsm_jax.attacks.masking import TextureMasking
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.defenses.views import views_bank

STRENGTHS = {"gentle": 8.0, "medium": 16.0, "strong": 16.0}
"""Largest change, gray levels, by name; all but strong change smooth places less."""

MASKING = TextureMasking(smooth=0.25, textured=15.0)
"""How gentle and medium spare smooth places: four of medium's sixteen levels where all is flat."""

_PASSES = 30
_PASSES_EVERYWHERE = 60  # beside masking, more than thirty buy nothing
_FIRST_STEP = 3 / 16  # of epsilon
_EVERYWHERE = "strong"  # the strength that spares no place


def photo_attack(strength: str | float = "medium") -> RPFGSMConfig:
  """Returns RP-FGSM's settings for photos.

  Thirty passes, sixty where no place is spared, whose steps fall to one gray level; the defenses
  are the paper's and random views. Momentum would drive more pixels to the limit, which costs looks
  and buys nothing beside them.

  Args:
    strength: a name of `STRENGTHS`, or the largest change in gray levels, allowed everywhere.

  Returns:
    The settings, for one photo at a time.

  Raises:
    ValueError: no such name.
  """
  if isinstance(strength, str) and strength not in STRENGTHS:
    raise ValueError(
      f"strength must be {', '.join(STRENGTHS)} or a number of gray levels, got {strength!r}."
    )
  epsilon = STRENGTHS[strength] if isinstance(strength, str) else strength
  masked = strength in STRENGTHS and strength != _EVERYWHERE
  return RPFGSMConfig(
    epsilon=epsilon,
    step_size=float(max(1, math.ceil(_FIRST_STEP * epsilon))),
    num_steps=_PASSES if masked else _PASSES_EVERYWHERE,
    defenses=views_bank(),
    masking=MASKING if masked else None,
    transfer=TransferOptions(step_schedule="linear"),
    micro_batch=1,
  )


def strength_name(epsilon: float, masked: Any) -> str | None:
  """Returns what a largest change, in smooth places less or not, is called; None: nothing."""
  for name, largest in STRENGTHS.items():
    if (largest, name != _EVERYWHERE) == (epsilon, bool(masked)):
      return name
  return None


def describe_strength(epsilon: float, masked: Any) -> str:
  """Returns a largest change in words, by its name where it has one."""
  name = strength_name(epsilon, masked)
  where = ", less in smooth places" if masked else ""
  return f"{name + ', ' if name else ''}at most {epsilon:g} gray levels of 255{where}"
