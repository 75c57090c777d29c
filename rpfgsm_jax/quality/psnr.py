"""Peak signal-to-noise ratio."""

import numpy as np

from rpfgsm_jax.quality._pairs import check_same_shape
from rpfgsm_jax.typing import ArrayLike


def psnr(images: ArrayLike, originals: ArrayLike) -> np.ndarray:
  """Returns the peak signal-to-noise ratio of each image, 10 log10(255^2 / mean squared error).

  Computed in float64 on the host, so that a change of one value in 10^5 still counts.

  Args:
    images: `(..., H, W, C)`, gray levels 0..255.
    originals: same shape.

  Returns:
    `(...)` float64, dB; infinite where nothing differs.

  Raises:
    ValueError: the shapes differ, or there are fewer than three axes.
  """
  images, originals = check_same_shape(images, originals)
  error = np.mean((images.astype(np.float64) - originals) ** 2, axis=(-3, -2, -1))
  with np.errstate(divide="ignore"):
    return 10 * np.log10(255.0**2 / error)
