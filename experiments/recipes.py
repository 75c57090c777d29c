"""The attack on photos and what may differ from it, by names that rows and the command line have.

`strong` is what `rpfgsm protect --strength strong` does; `strong+passes=30+no-views` is that with
thirty passes and the paper's defenses alone; `16/60` is the paper's plain steps.
"""

import dataclasses
from collections.abc import Callable

import rpfgsm_jax as rp
from experiments.photos import StudyPhoto
from rpfgsm_jax.defenses import (
  BLOCK_SHUFFLE,
  CROP,
  FLIP,
  IDENTITY,
  SPECTRUM,
  Defense,
  DefenseBank,
  paper_bank,
  viewed_bank,
  views_bank,
)
from rpfgsm_jax.photos import STRENGTHS, photo_attack
from rpfgsm_jax.photos.strength import MASKING

FEATURES = "features"
"""Leaves the networks' last features instead of their class."""

TRUE_LABEL = "true-label"
"""Leaves each photo's true scene instead of the class that each network predicts."""


def _transferred(attack: rp.RPFGSMConfig, **options: object) -> rp.RPFGSMConfig:
  return dataclasses.replace(attack, transfer=dataclasses.replace(attack.transfer, **options))


def _with_view(view: Defense) -> Callable[[rp.RPFGSMConfig], rp.RPFGSMConfig]:
  """Returns the change that adds a random view to the attack's bank."""
  return lambda attack: dataclasses.replace(
    attack, defenses=DefenseBank((*attack.defenses.families, view))
  )


_VIEWS = views_bank().families[len(paper_bank().families) :]
_VIEWS_FIRST = viewed_bank(paper_bank(), (IDENTITY, *_VIEWS))

_CHANGES: dict[str, Callable[[rp.RPFGSMConfig], rp.RPFGSMConfig]] = {
  "no-views": lambda attack: dataclasses.replace(attack, defenses=paper_bank()),
  "views-first": lambda attack: dataclasses.replace(attack, defenses=_VIEWS_FIRST),
  "flip": _with_view(FLIP),
  "crop": _with_view(CROP),
  "shuffle": _with_view(BLOCK_SHUFFLE),
  "spectrum": _with_view(SPECTRUM),
  "everywhere": lambda attack: dataclasses.replace(attack, masking=None),
  "masked": lambda attack: dataclasses.replace(attack, masking=MASKING),
  "momentum": lambda attack: _transferred(attack, momentum=1.0),
  "plain-steps": lambda attack: dataclasses.replace(
    _transferred(attack, step_schedule="constant"), step_size=1.0
  ),
  FEATURES: lambda attack: attack,
  TRUE_LABEL: lambda attack: attack,
}
_NUMBERS: dict[str, Callable[[rp.RPFGSMConfig, float], rp.RPFGSMConfig]] = {
  "eps": lambda attack, value: dataclasses.replace(attack, epsilon=value),
  "passes": lambda attack, value: dataclasses.replace(attack, num_steps=int(value)),
  "step": lambda attack, value: dataclasses.replace(attack, step_size=value),
  "smoothing": lambda attack, value: _transferred(attack, smoothing=int(value)),
  "copies": lambda attack, value: _transferred(attack, scale_copies=int(value)),
}
KNOWN = (*_CHANGES, *(f"{name}=N" for name in _NUMBERS))
"""What may follow a strength."""


def attack_of(text: str) -> rp.RPFGSMConfig:
  """Returns the attack that a text names: STRENGTH, STRENGTH+CHANGE+..., or EPS/PASSES."""
  strength, *changes = text.split("+")
  attack = photo_attack(strength) if strength in STRENGTHS else _plain(text)
  for change in changes:
    name, equals, value = change.partition("=")
    if name in _CHANGES and not equals:
      attack = _CHANGES[name](attack)
    elif name in _NUMBERS and value.replace(".", "", 1).isdecimal():
      attack = _NUMBERS[name](attack, float(value))
    else:
      raise ValueError(f"--at: a change must be {', '.join(KNOWN)}, got {change!r} in {text!r}.")
  return attack


def networks_of(text: str, networks: list[rp.Classifier]) -> list[rp.Classifier | rp.Embedder]:
  """Returns what is attacked: the networks, or their insides where a text asks for features."""
  if FEATURES not in text.split("+"):
    return list(networks)
  return [rp.Embedder.from_classifier(each, layers=("features",)) for each in networks]


def scene_of(text: str, photo: StudyPhoto) -> str | None:
  """Returns the scene that the attack is told: a photo's own where a text asks for the true one."""
  return (photo.scene or "") if TRUE_LABEL in text.split("+") else None


def _plain(text: str) -> rp.RPFGSMConfig:
  epsilon, _, passes = text.partition("/")
  try:
    strength = float(epsilon), int(passes)
  except ValueError:
    strength = 0.0, 0
  if not (1.0 <= strength[0] <= 255.0 and strength[1] >= 1):
    raise ValueError(
      f"--at must be {', '.join(STRENGTHS)}, with changes as in strong+passes=30, or EPS/PASSES "
      f"with EPS in 1..255, as in 8/30, got {text!r}."
    )
  return rp.RPFGSMConfig(epsilon=strength[0], num_steps=strength[1], micro_batch=1)
