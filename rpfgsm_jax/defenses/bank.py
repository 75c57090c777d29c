"""The set Phi of defenses an attack draws from, and applying one drawn member to each image.

A bank is static (hashable); which family and which parameter an image meets are traced numbers.
A batched `lax.switch` would run every defense on every image, and a 5x5 median costs half a small
network. So a CPU takes images one after the other, each through its own branch; an accelerator,
which a single image does not fill, takes those of one member together, a group at a time.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rpfgsm_jax.defenses.jpeg import jpeg
from rpfgsm_jax.defenses.median import median
from rpfgsm_jax.defenses.requantize import requantize
from rpfgsm_jax.randomness import noise_key
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, ArrayLike, Image, Images


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
    by_parameter: each parameter is a computation of its own, as each size of a median is. Then
      `apply` may be given a Python number instead, and images are grouped by parameter as well.
  """

  name: str
  apply: Callable[..., Image]
  parameters: tuple[float, ...]
  random: bool = False
  by_parameter: bool = False


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
"""No defense: the image as it is."""

REQUANTIZE = Defense("requantize", _requantize, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
"""Re-quantization to 1..7 bits a channel."""

MEDIAN = Defense("median", _median, (2.0, 3.0, 5.0), by_parameter=True)
"""A median over windows of 2, 3 or 5 pixels a side."""

JPEG = Defense("jpeg", _jpeg, (25.0, 50.0, 75.0, 100.0))
"""JPEG compression at quality 25, 50, 75 or 100."""


_GROUP = 16  # images of one member that an accelerator takes together; at most the last is padded


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

  `noise` is the uint32 seed of a random member's own numbers.
  """

  branches = [functools.partial(_apply, defense, rounding) for defense in bank.families]
  if len(branches) == 1:
    return branches[0](image, parameter, noise)
  return jax.lax.switch(family, branches, image, parameter, noise)


def _apply(
  defense: Defense, rounding: Rounding, image: Image, parameter: ArrayLike, noise: Array
) -> Image:
  if defense.random:
    return defense.apply(image, parameter, rounding, noise_key(noise))
  return defense.apply(image, parameter, rounding)


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
  it for all families. `families`, `parameters` and `noise` (see `apply_member`) are `(m,)`.
  """
  if bank.families == (IDENTITY,):
    return images
  return _apply_rows(bank, rounding, images, (families, parameters, noise))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _apply_rows(
  bank: DefenseBank, rounding: Rounding, images: Images, drawn: tuple[Array, Array, Array]
) -> Images:
  if jax.default_backend() == "cpu":
    return jax.lax.map(
      lambda row: apply_member(bank, *row, rounding),  # type: ignore[call-arg]  # an image, its draws
      (images, *drawn),
    )
  return _in_groups(bank, functools.partial(_apply_group, rounding), (images,), drawn)


def _apply_rows_forward(bank, rounding, images, drawn):
  return _apply_rows(bank, rounding, images, drawn), (images, drawn)


def _apply_rows_backward(bank, rounding, kept, cotangents):
  images, drawn = kept

  def pull(row):
    image, cotangent, drawn = row
    _, pullback = jax.vjp(lambda i: apply_member(bank, i, *drawn, rounding), image)
    return pullback(cotangent)[0]

  if jax.default_backend() == "cpu":
    return jax.lax.map(pull, (images, cotangents, drawn)), None
  pull_group = functools.partial(_pull_group, rounding)
  return _in_groups(bank, pull_group, (images, cotangents), drawn), None


_apply_rows.defvjp(_apply_rows_forward, _apply_rows_backward)


def _apply_group(
  rounding: Rounding, defense: Defense, parameters: ArrayLike, noise: Array, images: Images
) -> Images:
  in_axes = (0, None if isinstance(parameters, float) else 0, 0)
  return jax.vmap(functools.partial(_apply, defense, rounding), in_axes)(images, parameters, noise)


def _pull_group(
  rounding: Rounding,
  defense: Defense,
  parameters: ArrayLike,
  noise: Array,
  images: Images,
  cotangents: Images,
) -> Images:
  apply = functools.partial(_apply_group, rounding, defense, parameters, noise)
  return jax.vjp(apply, images)[1](cotangents)[0]


def _in_groups(
  bank: DefenseBank,
  function: Callable[..., Images],
  arrays: tuple[Images, ...],
  drawn: tuple[Array, ...],
) -> Images:
  """Returns `function(member, parameters, noise, *arrays)` of each row's own member.

  A row's member is given the same number of rows at a time, whoever they are: results do not depend
  on the others.
  """
  families, parameters, noise = drawn
  result = arrays[-1]
  for index, defense in enumerate(bank.families):
    if defense == IDENTITY:
      continue
    if not defense.by_parameter:
      chosen = families == index
      result = _fill_in(result, chosen, functools.partial(function, defense), (*drawn[1:], *arrays))
      continue
    for parameter in defense.parameters:
      chosen = (families == index) & (parameters == parameter)
      member = functools.partial(function, defense, parameter)
      result = _fill_in(result, chosen, member, (noise, *arrays))
  return result


def _fill_in(
  result: Images, chosen: Array, function: Callable[..., Images], arrays: tuple[Array, ...]
) -> Images:
  """Puts `function(*arrays)` into the chosen rows, a group at a time; no time where none is."""
  number = len(chosen)
  width = min(_GROUP, number)
  (places,) = jnp.nonzero(chosen, size=number + width, fill_value=number)
  groups = -(-jnp.sum(chosen, dtype=jnp.int32) // width)

  def next_group(carry: tuple[Array, Images]) -> tuple[Array, Images]:
    # Steps of 1: where all is constant, XLA takes a longer step beyond the end for no step at all.
    group, result = carry
    rows = jax.lax.dynamic_slice(places, (group * width,), (width,))
    taken = (jnp.take(array, rows, axis=0, mode="clip") for array in arrays)
    return group + 1, result.at[rows].set(function(*taken), mode="drop")  # fills are dropped

  return jax.lax.while_loop(lambda carry: carry[0] < groups, next_group, (groups * 0, result))[1]
