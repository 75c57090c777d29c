"""Random views for attacks that shall carry over: a window, a mirror, moved blocks, a new spectrum.

Members for a bank, beside the defenses or, by `viewed_bank`, in front of each of them. One image
`(H, W, C)` of float32 gray levels in, one of the same shape out; the rules are those of
`transforms`: amounts may be traced and get no gradient, what leaves 0..255 is clipped.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.defenses import _checks
from rpfgsm_jax.defenses.bank import Defense, DefenseBank, paper_bank
from rpfgsm_jax.defenses.transforms import (
  INPUT_DIVERSITY,
  SCALE,
  TRANSLATE,
  add_levels,
  stretch,
)
from rpfgsm_jax.randomness import noise_key
from rpfgsm_jax.rounding import Rounding
from rpfgsm_jax.typing import Array, ArrayLike, Image, Key

_NOISE = 16.0  # gray levels, the standard deviation that Long et al. give
_MOST_PARTS = 8


def crop(image: Image, share: ArrayLike, down: ArrayLike, right: ArrayLike) -> Image:
  """Returns a window of the image, enlarged to the image's size.

  Bilinear, as Pillow's `Image.resize` with a `box`.

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    share: of the height and of the width that the window has, above 0 and at most 1.
    down: rows above the window, pixels, fractions interpolate.
    right: columns to its left, likewise.

  Returns:
    Same shape, gray levels 0..255; black where the window leaves the image.

  Raises:
    ValueError: a wrong shape or dtype, a known share out of range, or a known place that is not
      finite.
  """
  image = _checks.check_one_image(image)
  factor = 1 / _checks.check_amount("share", share, above=0.0, at_most=1.0)
  place = _checks.check_amount("down", down), _checks.check_amount("right", right)
  return stretch(image, [factor] * 2, [-factor * offset for offset in place])


def shuffle_blocks(
  image: Image,
  row_cuts: ArrayLike,
  row_places: ArrayLike,
  column_cuts: ArrayLike,
  column_places: ArrayLike,
) -> Image:
  """Returns the image cut into blocks, whose rows and whose columns are put in another order.

  After Wang et al. (2024), "Boosting adversarial transferability by block shuffle and rotation".

  Args:
    image: `(H, W, C)`, float32 gray levels 0..255.
    row_cuts: `(n - 1,)` integers: rows, 0..H, at which another row of blocks begins.
    row_places: `(n,)` numbers: the rows of blocks, from above, are put in the order in which these
      ascend; (1, 0) swaps two. Equal ones stay in their order.
    column_cuts: `(m - 1,)` integers: columns, 0..W, at which another column of blocks begins.
    column_places: `(m,)` numbers, likewise, from the left.

  Returns:
    Same shape, the same pixels.

  Raises:
    ValueError: a wrong shape or dtype.

  Note:
    The paper also rotates each block, which is left out, and moves each block by itself; here whole
    rows and whole columns of blocks change places.
  """
  image = _checks.check_one_image(image)
  rows = _source_lines("row", image.shape[0], row_cuts, row_places)
  columns = _source_lines("column", image.shape[1], column_cuts, column_places)
  # A permutation whatever was given: no pixel is taken twice.
  take = functools.partial(jnp.take, mode="clip", unique_indices=True)
  return take(take(image, rows, axis=0), columns, axis=1)


def multiply_spectrum(image: Image, factors: ArrayLike) -> Image:
  """Returns the image with each coefficient of its cosine transform (DCT-II) multiplied.

  Long et al. (2022), "Frequency domain model augmentation for adversarial attack", whose transform
  is one of the whole image, each channel by itself.

  Args:
    image: `(H, W, C)`, float32 gray levels.
    factors: one number, or one for each coefficient, `(H, W, C)`: the lowest frequencies first.

  Returns:
    Same shape, clipped to gray levels 0..255, with the derivative of `add_levels`; the paper does
    not clip, but the defenses behind a view want a photo.

  Raises:
    ValueError: a wrong shape or dtype.
  """
  image = _checks.check_one_image(image)
  if jnp.shape(factors) not in ((), image.shape):
    raise ValueError(
      f"factors must be one number or {image.shape}, got shape {jnp.shape(factors)}."
    )
  factors = jax.lax.stop_gradient(jnp.asarray(factors, jnp.float32))
  # Matrix products: at 240 x 240 pixels 2.5 times as fast on a CPU as jax.scipy.fft.
  bases = [jnp.asarray(_cosines(length)) for length in image.shape[:2]]
  multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  spectrum = factors * multiply("ih,jw,hwc->ijc", *bases, image)
  return add_levels(multiply("ih,jw,ijc->hwc", *bases, spectrum), 0.0)  # clipped


def _source_lines(axis: str, length: int, cuts: ArrayLike, places: ArrayLike) -> Array:
  """Returns which of an image's rows or columns comes at each place, `(length,)` integers."""
  cuts, places = jnp.asarray(cuts), jnp.asarray(places)
  if cuts.ndim != 1 or (cuts.size and not jnp.issubdtype(cuts.dtype, jnp.integer)):
    raise ValueError(f"{axis}_cuts must be a list of integers, got {cuts}.")
  if places.shape != (len(cuts) + 1,):
    raise ValueError(
      f"{axis}_places must be {len(cuts) + 1} numbers, one more than {axis}_cuts, "
      f"got shape {places.shape}."
    )
  lines = jnp.arange(length, dtype=jnp.int32)
  part = jnp.sum(lines[:, None] >= cuts.astype(jnp.int32)[None], axis=1)
  return jnp.argsort(places[part], stable=True)


def _cosines(length: int) -> np.ndarray:
  """Returns the orthonormal DCT-II as a matrix `(frequency, position)`."""
  frequency, position = np.arange(length)[:, None], np.arange(length) + 0.5
  matrix = np.sqrt(2 / length) * np.cos(np.pi / length * frequency * position)
  matrix[0] /= np.sqrt(2)
  return matrix.astype(np.float32)


def _random_flip(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  mirrored = jax.random.uniform(key, (), jnp.float32) < parameter
  return jnp.where(mirrored, jnp.flip(image, 1), image)


def _random_crop(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  key_share, key_down, key_right = jax.random.split(key, 3)
  share = jax.random.uniform(key_share, (), jnp.float32, minval=parameter)
  down, right = (
    (1 - share) * length * jax.random.uniform(each, (), jnp.float32)
    for each, length in zip((key_down, key_right), image.shape[:2], strict=True)
  )
  return crop(image, share, down, right)


def _random_blocks(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding

  def draw(key: Key, length: int) -> tuple[Array, Array]:
    key_cuts, key_places = jax.random.split(key)
    cuts = jax.random.randint(key_cuts, (_MOST_PARTS - 1,), 1, length, jnp.int32)
    cuts = jnp.where(
      jnp.arange(1, _MOST_PARTS, dtype=jnp.float32) < parameter, cuts, length
    )  # else no cut
    return cuts, jax.random.uniform(key_places, (_MOST_PARTS,), jnp.float32)

  key_rows, key_columns = jax.random.split(key)
  return shuffle_blocks(image, *draw(key_rows, image.shape[0]), *draw(key_columns, image.shape[1]))


def _random_spectrum(image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
  del rounding
  key_noise, key_factors = jax.random.split(key)
  noise = _NOISE * jax.random.normal(key_noise, image.shape, jnp.float32)
  factors = jax.random.uniform(
    key_factors, image.shape, jnp.float32, minval=1 - parameter, maxval=1 + parameter
  )
  return multiply_spectrum(image + noise, factors)


FLIP = Defense("flip", _random_flip, (0.5,), random=True)
"""Mirrored left to right, with a probability of one half."""

CROP = Defense("crop", _random_crop, (0.6,), random=True)
"""A window of 0.6 to 1 of both sides, enlarged to the image's size; share and place uniform."""

BLOCK_SHUFFLE = Defense("block shuffle", _random_blocks, (2.0,), random=True)
"""Cut into 2 x 2 blocks at uniform lines, their rows and their columns in a uniform order.

The parameter is the number of blocks a side, 1 to 8; see `shuffle_blocks`.
"""

SPECTRUM = Defense("spectrum", _random_spectrum, (0.5,), random=True)
"""Noise of 16 gray levels added, then each DCT coefficient multiplied by 0.5 to 1.5.

The noise is Gaussian, the factors are uniform; see `multiply_spectrum`.
"""


def views_bank() -> DefenseBank:
  """Returns the paper's set and three random views: `INPUT_DIVERSITY`, `SCALE` and `TRANSLATE`.

  Sanchez-Matilla et al. (2020), Sec. V-B, for the others. What misleads a network at every size and
  place of the scene carries over further to other networks (Xie et al., 2019).
  """
  return DefenseBank((*paper_bank().families, INPUT_DIVERSITY, SCALE, TRANSLATE))


def viewed_bank(bank: DefenseBank, views: tuple[Defense, ...]) -> DefenseBank:
  """Returns the set with each member, the identity too, applied to a random view of the image.

  For each image and iteration one of the views is drawn uniformly, then a parameter of it. Where an
  accelerator takes several images together it computes all views of each.

  Args:
    bank: the set.
    views: at least one, members such as `CROP`; with `IDENTITY` among them the member sometimes
      meets the image itself.

  Returns:
    The set, as many families as before; equal arguments give equal sets, so that nothing is
    compiled anew.

  Raises:
    ValueError: `views` is empty or holds something else.
  """
  views = tuple(views)
  if not views or not all(isinstance(view, Defense) for view in views):
    raise ValueError(f"views must be members such as CROP, at least one, got {views!r}.")
  return DefenseBank(
    tuple(
      dataclasses.replace(
        family, name=f"{family.name} behind a view", apply=_Viewed(family, views), random=True
      )
      for family in bank.families
    )
  )


@dataclasses.dataclass(frozen=True)
class _Viewed:
  """A member's function on a random view; compared by its fields."""

  family: Defense
  views: tuple[Defense, ...]

  def __call__(self, image: Image, parameter: Array, rounding: Rounding, key: Key) -> Image:
    key_view, key_apply, key_family = jax.random.split(key, 3)
    index = jax.random.randint(key_view, (), 0, len(self.views), jnp.int32)
    branches = [functools.partial(_apply_view, view, rounding) for view in self.views]
    # Numbers, not the key: `vmap` computes all branches, and no key may be used twice.
    viewed = jax.lax.switch(index, branches, image, jax.random.bits(key_apply, (), jnp.uint32))
    noise = (key_family,) if self.family.random else ()
    return self.family.apply(viewed, parameter, rounding, *noise)


def _apply_view(view: Defense, rounding: Rounding, image: Image, noise: Array) -> Image:
  """Applies a view with one of its parameters, drawn uniformly."""
  key_parameter, key_noise = jax.random.split(noise_key(noise))
  values = jnp.asarray(view.parameters, jnp.float32)
  parameter = values[jax.random.randint(key_parameter, (), 0, len(values), jnp.int32)]
  return view.apply(image, parameter, rounding, *((key_noise,) if view.random else ()))
