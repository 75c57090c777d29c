"""S-CIELAB: color differences after the eye's blur; gray levels in, Delta E out, 0 = identical.

Zhang and Wandell, "A spatial extension of CIELAB for digital color-image reproduction", Journal of
the SID 5(1), 1997, with CIEDE2000 in the place of the difference of 1976.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.attacks.lab import rgb_to_xyz, xyz_to_lab
from rpfgsm_jax.quality.ciede2000 import ciede2000
from rpfgsm_jax.typing import Array, ArrayLike, Images

# Black and white, red and green, blue and yellow from X, Y, Z of the 2 degree observer, as the
# authors' release has it.
_OPPONENT = np.array(
  [[0.2787336, 0.7218031, -0.1065520], [-0.4487736, 0.2898056, 0.0771569],
   [0.0859513, -0.5899859, 0.5011089]]
)  # fmt: skip
# Weights, before they are made to sum to one, and spreads in degrees: Table 1 of the paper.
_GAUSSIANS = (
  ((0.921, 0.0283), (0.105, 0.133), (-0.108, 4.336)),
  ((0.531, 0.0392), (0.330, 0.494)),
  ((0.488, 0.0536), (0.371, 0.386)),
)


def scielab(images: ArrayLike, originals: ArrayLike, *, samples_per_degree: float = 40.0) -> Array:
  """Returns the mean S-CIELAB difference of each image from its original, in Delta E.

  See `scielab_map`, which has it pixel by pixel, for percentiles and pictures.

  Args:
    images: `(..., H, W, 3)`, gray levels 0..255 of sRGB.
    originals: same shape.
    samples_per_degree: see `scielab_map`.

  Returns:
    `(...)` float32; 0 where nothing differs.

  Raises:
    ValueError: an argument breaks its rule.
  """
  found = scielab_map(images, originals, samples_per_degree=samples_per_degree)
  return jnp.mean(found, axis=(-2, -1))


def scielab_map(
  images: ArrayLike, originals: ArrayLike, *, samples_per_degree: float = 40.0
) -> Array:
  """Returns the S-CIELAB difference at every pixel, in Delta E: 1 is about just visible.

  Both are seen through the eye's blur, which takes fine patterns away, those of color before those
  of brightness; what is left is compared by CIEDE2000. Jitted, also works under `jax.vmap`, and
  its gradient is finite everywhere.

  Args:
    images: `(..., H, W, 3)`, gray levels 0..255 of sRGB.
    originals: same shape.
    samples_per_degree: pixels in a degree of the field of view, a number known outside tracing. The
      default is a screen of 96 pixels an inch seen from 60 cm, or one of 120 from 48 cm; twice the
      distance is twice as many.

  Returns:
    `(..., H, W)` float32; 0 everywhere where nothing differs.

  Raises:
    ValueError: the shapes differ or are no `(..., H, W, 3)`, or `samples_per_degree` is no number
      of at least 1.

  Note:
    Kernels are one degree wide, as in the authors' release, and images mirrored at their border.
  """
  images, originals = (jnp.asarray(each).astype(jnp.float32) for each in (images, originals))
  if images.shape != originals.shape or images.ndim < 3 or images.shape[-1] != 3:
    raise ValueError(
      "images and originals must have one shape (..., H, W, 3), red green blue, got "
      f"{images.shape} and {originals.shape}."
    )
  if not 1 <= samples_per_degree <= 1000:
    raise ValueError(f"samples_per_degree must be in 1..1000, got {samples_per_degree!r}.")
  return _map(images, originals, float(samples_per_degree))


@functools.partial(jax.jit, static_argnums=2)
def _map(images: Images, originals: Images, samples: float) -> Array:
  original = _mixed(_OPPONENT, rgb_to_xyz(originals))
  # The blur is linear: that of no change is none. Compiled together, the two may round differently.
  equal = jnp.all(images == originals, axis=-1)
  change = jnp.where(equal, 0.0, _mixed(_OPPONENT, rgb_to_xyz(images)) - original)
  seen, change = _blurred(original, samples), _blurred(change, samples)
  before, after = (
    xyz_to_lab(*_mixed(np.linalg.inv(_OPPONENT), each)) for each in (seen, seen + change)
  )
  return jnp.where(jnp.all(change == 0, axis=0), 0.0, ciede2000(after, before))


def _mixed(matrix: np.ndarray, planes: Sequence[Array] | Array) -> Array:
  """Returns the linear combinations of three planes that the rows of a matrix say, stacked."""
  return jnp.stack(
    [sum(float(each) * plane for each, plane in zip(row, planes, strict=True)) for row in matrix]
  )


def _blurred(opponents: Array, samples: float) -> Array:
  """Returns the three planes `(3, ..., H, W)` as the eye sees them, mirrored at their border."""
  reach, (height, width) = int(samples / 2), opponents.shape[-2:]
  border = [(0, 0)] * (opponents.ndim - 2) + [(reach, reach)] * 2
  shape = (height + 2 * reach, width + 2 * reach)
  response = np.stack([frequency_response(each, samples, shape) for each in _GAUSSIANS])
  response = response.reshape(3, *[1] * (opponents.ndim - 3), *response.shape[1:])
  spectrum = jnp.fft.rfft2(jnp.pad(opponents, border, mode="symmetric"))
  blurred = jnp.fft.irfft2(spectrum * jnp.asarray(response, spectrum.dtype), s=shape)
  return blurred[..., reach : reach + height, reach : reach + width]


def frequency_response(
  gaussians: Sequence[tuple[float, float]], samples: float, shape: tuple[int, int]
) -> np.ndarray:
  """Returns what a sum of Gaussians of one degree passes, `(height, width // 2 + 1)`.

  Of the frequencies of the discrete Fourier transform of real images of a (height, width).
  """
  place = np.arange(-int(samples / 2), int(samples / 2) + 1)
  weights = np.asarray([weight for weight, _ in gaussians])
  response = 0.0
  for weight, (_, spread) in zip(weights / weights.sum(), gaussians, strict=True):
    kernel = np.exp(-((place / (spread * samples)) ** 2))
    rows, columns = (  # the transform of what is symmetric about zero
      np.cos(2 * np.pi * np.outer(np.arange(count), place) / size) @ kernel / kernel.sum()
      for count, size in zip((shape[0], shape[1] // 2 + 1), shape, strict=True)
    )
    response = response + weight * np.outer(rows, columns)
  return response
