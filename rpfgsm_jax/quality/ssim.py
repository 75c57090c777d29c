"""Structural similarity."""

import numpy as np

from rpfgsm_jax.quality._pairs import check_same_shape
from rpfgsm_jax.typing import ArrayLike

_STRIP_PIXELS = 2**16  # of which the float64 planes fit into a processor's cache
_RADIUS = 5  # int(truncate * sigma + 0.5) with truncate 3.5: an 11x11 window
_WEIGHTS = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / 1.5) ** 2)
_WEIGHTS /= _WEIGHTS.sum()
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(images: ArrayLike, originals: ArrayLike) -> np.ndarray:
  """Returns the structural similarity of each image and its original.

  Wang et al. (2004), Eq. 13-16: Gaussian weights of sigma 1.5 in an 11x11 window, variances of the
  weighted population, K1 = 0.01, K2 = 0.03, 255 gray levels; the mean over all windows inside the
  image and over the channels. It is what scikit-image's `structural_similarity` computes with
  `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1`.

  Computed in float64 on the host: in float32 a variance, the small difference of two numbers near
  65,000, is wrong by up to 0.004, which shows beside C2 = 58.5 where a photograph is flat.

  Args:
    images: `(..., H, W, C)`, gray levels 0..255; H and W at least 11.
    originals: same shape.

  Returns:
    `(...)` float64, at most 1; exactly 1 where nothing differs.

  Raises:
    ValueError: the shapes differ, there are fewer than three axes, or an image is smaller than the
      window.
  """
  images, originals = check_same_shape(images, originals)
  size = 2 * _RADIUS + 1
  if min(images.shape[-3:-1]) < size:
    raise ValueError(
      f"images must be at least {size}x{size} pixels, the window of SSIM, got shape "
      f"{images.shape}; enlarge both images first."
    )
  values = np.empty(images.shape[:-3])
  for index in np.ndindex(values.shape):
    values[index] = _mean_similarity(images[index], originals[index])
  return values[()]  # a scalar for one image, as in `psnr`


def _mean_similarity(image: np.ndarray, original: np.ndarray) -> float:
  """Returns the SSIM of two `(H, W, C)` images, a strip of rows at a time: floats are large."""
  height, width, channels = image.shape
  windows, rows = height - 2 * _RADIUS, max(_STRIP_PIXELS // width, 1)
  total = sum(
    _similarity(image[top : top + rows + 2 * _RADIUS], original[top : top + rows + 2 * _RADIUS])
    for top in range(0, windows, rows)
  )
  return total / (windows * (width - 2 * _RADIUS) * channels)


def _similarity(image: np.ndarray, original: np.ndarray) -> float:
  """Returns the sum of similarities over every window inside."""
  x, y = image.astype(np.float64), original.astype(np.float64)
  mean_x, mean_y, square, product = _local_means(np.stack([x, y, x * x + y * y, x * y]))
  mean_square, mean_product = mean_x * mean_x + mean_y * mean_y, mean_x * mean_y
  # With x = y each numerator equals its denominator to the last bit: doubling is exact.
  similarity = (2 * mean_product + _C1) * (2 * (product - mean_product) + _C2)
  similarity /= (mean_square + _C1) * (square - mean_square + _C2)
  return float(similarity.sum())


def _local_means(planes: np.ndarray) -> np.ndarray:
  """Returns Gaussian means of `(N, H, W, C)` over every window inside, `(N, H - 10, W - 10, C)`."""
  import scipy.ndimage  # late: a fifth of a second that users of PSNR need not wait

  inside = slice(_RADIUS, -_RADIUS)
  planes = scipy.ndimage.correlate1d(planes, _WEIGHTS, axis=-3)[:, inside]
  return scipy.ndimage.correlate1d(planes, _WEIGHTS, axis=-2)[:, :, inside]
