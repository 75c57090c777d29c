"""The set Phi of defenses an attack draws from, and applying one drawn member to each image.

A bank is static (hashable); which family and which parameter an image meets are traced numbers.
On a CPU each image takes its own branch in a sequential map: a batched `lax.switch` runs every
defense on every image, and there a 5x5 median costs half a small network. An accelerator would
rather do all of them at once than wait for images one by one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from rpfgsm_jax.defenses.jpeg import jpeg
from rpfgsm_jax.defenses.median import median
from rpfgsm_jax.defenses.requantize import requantize
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, Image, Images


@dataclasses.dataclass(frozen=True)
class Defense:
  """A family of transformations with the parameters that are drawn for it.

  Attributes:
    name: how reports call it.
    apply: `apply(image, parameter, rounding) -> image` for one image `(H, W, C)`; the parameter is
      a float32 scalar, possibly traced. Define it once, at module level: it is
      compared by identity.
    parameters: the values drawn uniformly; at least one.
    random: whether it draws numbers of its own; then a key comes fourth,
      `apply(image, parameter, rounding, key)`, a new one each iteration of each image.
  """

  name: str
  apply: Callable[..., Image]
  parameters: tuple[float, ...]
  random: bool = False


@dataclasses.dataclass(frozen=True)
class DefenseBank:
  """Families drawn uniformly, then a parameter uniformly within the family.

  Attributes:
    families: at least one; the identity counts when it is listed.
  """

  families: tuple[Defense, ...]

  @property
  def names(self) -> tuple[str, ...]:
    """The families' names, in the order of their indices."""
    return tuple(family.name for family in self.families)


def _identity(image: Image, parameter: Array, rounding: Rounding) -> Image:
  del parameter, rounding
  return image


def _requantize(image: Image, parameter: Array, rounding: Rounding) -> Image:
  return requantize(image, parameter, rounding=rounding)


def _median(image: Image, parameter: Array, rounding: Rounding) -> Image:
  del rounding  # nothing is rounded
  return median(image, parameter)


def _jpeg(image: Image, parameter: Array, rounding: Rounding) -> Image:
  return jpeg(image, parameter, rounding=rounding)


IDENTITY = Defense("identity", _identity, (0.0,))
REQUANTIZE = Defense("requantize", _requantize, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
MEDIAN = Defense("median", _median, (2.0, 3.0, 5.0))
JPEG = Defense("jpeg", _jpeg, (25.0, 50.0, 75.0, 100.0))


def paper_bank() -> DefenseBank:
  """Returns the paper's set: identity, 1..7 bits, median 2, 3, 5, JPEG 25, 50, 75, 100.

  Sanchez-Matilla et al. (2020), Sec. V-B.
  """
  return DefenseBank((IDENTITY, REQUANTIZE, MEDIAN, JPEG))


def no_defenses() -> DefenseBank:
  """Returns the set with the identity alone: the ablation "without random transformation"."""
  return DefenseBank((IDENTITY,))


def uniform_bank(bank: DefenseBank | None = None) -> DefenseBank:
  """Returns the same members, each parameter drawn as often as every other.

  Of the paper's set the identity then comes once in 15 draws instead of once in 4.

  Args:
    bank: the set; None: the paper's.

  Returns:
    A set with one family for each parameter, under the names of their families.
  """
  bank = paper_bank() if bank is None else bank
  return DefenseBank(
    tuple(
      dataclasses.replace(family, parameters=(parameter,))
      for family in bank.families
      for parameter in family.parameters
    )
  )


def apply_member(
  bank: DefenseBank,
  image: Image,
  family: Array,
  parameter: Array,
  noise: Array,
  rounding: Rounding,
) -> Image:
  """Applies one member to one image, as a real branch when `family` is a scalar index.

  Args:
    bank: the set.
    image: `(H, W, C)`, grey levels.
    family: int32 scalar, index into `bank.families`.
    parameter: float32 scalar, one of that family's parameters.
    noise: uint32 scalar, the seed of a random member's own numbers.
    rounding: rule for the roundings inside.

  Returns:
    The defended image, same shape.
  """

  def branch(defense: Defense, image: Image, parameter: Array, noise: Array) -> Image:
    if defense.random:
      return defense.apply(image, parameter, rounding, jax.random.key(noise))
    return defense.apply(image, parameter, rounding)

  branches = [functools.partial(branch, defense) for defense in bank.families]
  if len(branches) == 1:
    return branches[0](image, parameter, noise)
  return jax.lax.switch(family, branches, image, parameter, noise)


def apply_rows(
  bank: DefenseBank,
  images: Images,
  families: Array,
  parameters: Array,
  noise: Array,
  rounding: Rounding,
) -> Images:
  """Applies to each image the member drawn for it; each pays only for its own.

  The backward pass computes the member anew: keeping what each family wants to remember would keep
  it for all families.

  Args:
    bank: the set.
    images: `(m, H, W, C)`, grey levels.
    families: `(m,)` int32, indices into `bank.families`.
    parameters: `(m,)` float32.
    noise: `(m,)` uint32, see `apply_member`.
    rounding: rule for the roundings inside.

  Returns:
    The defended images, same shape.
  """
  if bank.families == (IDENTITY,):
    return images
  return _apply_rows(bank, rounding, images, (families, parameters, noise))


def _each_row(function: Callable[[Any], Image], rows: Any) -> Images:
  if jax.default_backend() == "cpu":
    return jax.lax.map(function, rows)
  return jax.vmap(function)(rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _apply_rows(
  bank: DefenseBank, rounding: Rounding, images: Images, drawn: tuple[Array, ...]
) -> Images:
  return _each_row(lambda row: apply_member(bank, row[0], *row[1], rounding), (images, drawn))


def _apply_rows_forward(bank, rounding, images, drawn):
  return _apply_rows(bank, rounding, images, drawn), (images, drawn)


def _apply_rows_backward(bank, rounding, rows, cotangents):
  def pull(row):
    (image, drawn), cotangent = row
    _, pullback = jax.vjp(lambda i: apply_member(bank, i, *drawn, rounding), image)
    return pullback(cotangent)[0]

  return _each_row(pull, (rows, cotangents)), None


_apply_rows.defvjp(_apply_rows_forward, _apply_rows_backward)
