"""Most Apparent Distortion (MAD): gray levels in, 0 = identical, unbounded, larger = worse.

Larson and Chandler, Journal of Electronic Imaging 19(1), 2010.

Note:
  Where the paper and the authors' MATLAB release of September 2011 differ, or the paper is silent,
  this follows the release, since published scores come from it. It multiplies lightness by 0.02874
  after the power 2.2/3, not before, so that nothing is visible where the original's mean is darker
  than gray level 49 (the paper: 13); takes the masking deviation from 8x8 blocks 4 pixels apart,
  not 8; gives a block's numbers to its first 4x4 pixels, while the squared error is centered there;
  measures both frequencies of the contrast sensitivity in units of the width (exact for square
  images); multiplies the detection index by 200; and leaves a border of 16 or 17 pixels out. One
  rule is ours: skewness and kurtosis of a block are 0 where its deviation is below 1e-9 gray
  levels, since they would only measure rounding there.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from rpfgsm_jax.quality._pairs import rounded_gray
from rpfgsm_jax.typing import ArrayLike

_BLOCK, _STRIDE = 16, 4
_MIN_SIZE = 34
_LIGHTNESS = 0.02874 * np.arange(256) ** (2.2 / 3)
_DARK = 0.5  # mean lightness below which nothing counts as visible: gray level 49
_LOG_CONTRAST = -5.0  # least log contrast that is seen, and least that masks
_SCALE_WEIGHTS = np.array([0.5, 0.75, 1.0, 5.0, 6.0]) / 13.25
_ORIENTATIONS = 4
_ROUNDING_NOISE = 1e-9  # gray levels


def mad(images: ArrayLike, originals: ArrayLike) -> np.ndarray:
  """Returns the Most Apparent Distortion of each image against its original.

  Larson and Chandler (2010), combined index: `detection_index^s * appearance_index^(1 - s)` with
  s = 1 / (1 + b1 detection^b2), b1 = exp(-2.55 / 3.35), b2 = 1 / (3.35 ln 10). Not symmetric in its
  arguments: the original masks.

  Args:
    images: `(..., H, W, C)`, gray levels 0..255, with one channel or RGB; H and W at least 34.
      RGB becomes gray as in MATLAB's `rgb2gray`, and gray is rounded, halves upwards.
    originals: same shape.

  Returns:
    `(...)` float64, 0 where nothing visible differs. 0 does not mean equal: both indices look at
    variations, so that a constant shift counts for nothing.

  Raises:
    ValueError: the shapes differ or are no `(..., H, W, 1 or 3)`, an image is too small, or a value
      is outside 0..255.
  """
  images, originals = np.asarray(images), np.asarray(originals)
  if images.shape != originals.shape or images.ndim < 3 or images.shape[-1] not in (1, 3):
    raise ValueError(
      "images and originals must have one shape (..., H, W, C) with C = 1 or 3, got "
      f"{images.shape} and {originals.shape}."
    )
  if min(images.shape[-3:-1]) < _MIN_SIZE:
    raise ValueError(
      f"images must be at least {_MIN_SIZE}x{_MIN_SIZE} pixels, because MAD leaves a border out, "
      f"got shape {images.shape}; enlarge both images first."
    )
  values = np.empty(images.shape[:-3])
  for index in np.ndindex(values.shape):  # one image at a time fits into the processor's cache
    image, original = _gray("images", images[index]), _gray("originals", originals[index])
    detection, appearance = detection_index(image, original), appearance_index(image, original)
    share = 1 / (1 + math.exp(-2.55 / 3.35) * detection ** (1 / (3.35 * math.log(10))))
    values[index] = detection**share * appearance ** (1 - share)
  return values[()]  # a scalar for one image, as in `psnr`


def detection_index(image: np.ndarray, original: np.ndarray) -> float:
  """Returns the high-quality index of MAD: squared error, as far as the original does not mask it.

  Larson and Chandler (2010), detection strategy: lightness behind a contrast sensitivity filter;
  the log contrast of the error above that of the original, in 16x16 blocks; times the local squared
  error of the gray levels; the root mean square over the image, times 200.
  """
  planes = _LIGHTNESS[np.stack([original, image]).astype(int)]
  spectra = scipy.fft.fft2(planes) * _contrast_sensitivity(*image.shape)
  original_seen, image_seen = scipy.fft.ifft2(spectra).real[:, _BLOCK:, _BLOCK:]
  cells = _moments_of_cells(np.stack([original_seen, image_seen - original_seen]))
  blocks, small_blocks = _pool(cells, 4), _pool(cells, 2)
  rows, columns = blocks.mean.shape[1:]
  masking = np.sqrt(small_blocks.second[0, :rows, :columns] * 64 / 63)
  masking = _least_of_neighbors(masking, *original_seen.shape)
  error, mean = np.sqrt(blocks.second[1] * 256 / 255), blocks.mean[0]
  with np.errstate(divide="ignore", invalid="ignore"):  # flat and black blocks
    masking, error = np.log(masking / mean), np.log(error / mean)
    visible = np.where(mean < _DARK, 0, error - np.maximum(masking, _LOG_CONTRAST))
  visible = _inner_pixels(np.maximum(visible, 0), *image.shape)
  return 200 * np.sqrt(np.mean((visible * _local_squared_error(image - original)) ** 2))


def appearance_index(image: np.ndarray, original: np.ndarray) -> float:
  """Returns the low-quality index of MAD: change of local statistics of log-Gabor magnitudes.

  Larson and Chandler (2010), appearance strategy: |change of deviation| + 2 |of skewness| + |of
  kurtosis| in 16x16 blocks, weighted by scale, summed over 5 scales and 4 orientations; the root
  mean square over the image.
  """
  spectra = scipy.fft.fft2(np.stack([original, image]))
  radial, angular = _log_gabor(*image.shape)
  change: Any = 0.0
  for scale, weight in zip(radial, _SCALE_WEIGHTS, strict=True):
    for direction in angular:
      magnitudes = np.abs(scipy.fft.ifft2(spectra * (scale * direction), overwrite_x=True))
      moments = _pool(_moments_of_cells(magnitudes[:, _BLOCK:, _BLOCK:]), 4)
      spread = np.sqrt(moments.second)
      flat = spread < _ROUNDING_NOISE
      spread[flat] = 1
      deviation, skewness = spread * math.sqrt(256 / 255), moments.third / spread**3
      statistics = np.stack([deviation, 2 * skewness, moments.fourth / spread**4])
      statistics[:, flat] = 0
      change = change + weight * np.abs(statistics[:, 1] - statistics[:, 0]).sum(axis=0)
  return np.sqrt(np.mean(_inner_pixels(change, *image.shape) ** 2))


def _gray(name: str, image: np.ndarray) -> np.ndarray:
  """Returns the rounded gray plane `(H, W)` of an image `(H, W, 1 or 3)`."""
  image = image.astype(np.float64)
  least, largest = image.min(), image.max()
  if not (least >= 0 and largest <= 255):
    raise ValueError(f"{name} must be in 0..255, got {least} to {largest}; clip or scale them.")
  return rounded_gray(image)


@functools.lru_cache(maxsize=1)
def _contrast_sensitivity(rows: int, columns: int) -> np.ndarray:
  """Returns the filter `(rows, columns)`, constant component first; Nyquist is 32 cycles/degree.

  Mannos and Sakrison (1974), made flat below its peak and weaker along diagonals (Daly 1993).
  """
  vertical = (np.arange(rows) - rows / 2 + 0.5)[:, None] / columns * 64
  horizontal = (np.arange(columns) - columns / 2 + 0.5) / columns * 64
  angle = np.arctan2(horizontal, vertical)
  frequency = np.hypot(vertical, horizontal) / (0.15 * np.cos(4 * angle) + 0.85)
  response = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
  return scipy.fft.ifftshift(np.where(frequency < 7.8909, 0.9809, response))


@functools.lru_cache(maxsize=1)
def _log_gabor(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns radial `(5, rows, columns)` and angular `(4, ...)` filters, constant component first.

  Kovesi's log-Gabor filters: wavelengths 3, 9, .., 243 pixels, sigma/f 0.55; orientations 45
  degrees apart with an angular deviation of 30 degrees.
  """
  x = (np.arange(columns) - columns / 2) / (columns / 2)
  y = ((np.arange(rows) - rows / 2) / (rows / 2))[:, None]
  # fftshift also for odd sizes, where frequencies are half a step off: the release does so.
  radius, angle = scipy.fft.fftshift(np.hypot(x, y)), scipy.fft.fftshift(np.arctan2(-y, x))
  radius[0, 0] = 1
  centers = 2 / 3.0 ** np.arange(1, 6)
  radial = np.exp(-((np.log(radius / centers[:, None, None]) / math.log(0.55)) ** 2) / 2)
  radial[:, 0, 0] = 0
  turned = angle - (np.arange(_ORIENTATIONS) * math.pi / _ORIENTATIONS)[:, None, None]
  distance = np.arctan2(np.sin(turned), np.cos(turned))
  return radial, np.exp(-((distance / (math.pi / _ORIENTATIONS / 1.5)) ** 2) / 2)


class _Moments(NamedTuple):
  """Mean and central moments (averages of powers), `(N, rows, columns)` each.

  Raw moments would not do: of a slow band's magnitude, 50 +- 0.01 in a block, the fourth central
  moment is lost in the rounding of 50^4.
  """

  mean: np.ndarray
  second: np.ndarray
  third: np.ndarray
  fourth: np.ndarray


def _moments_of_cells(planes: np.ndarray) -> _Moments:
  """Returns the moments of each 4x4 cell of `(N, H, W)`; what is left at the end is dropped."""
  count, rows, columns = planes.shape[0], planes.shape[1] // _STRIDE, planes.shape[2] // _STRIDE
  cells = planes[:, : rows * _STRIDE, : columns * _STRIDE]
  cells = cells.reshape(count, rows, _STRIDE, columns, _STRIDE).transpose(2, 4, 0, 1, 3)
  cells = cells.reshape(_STRIDE**2, count, rows, columns)  # a copy: cheap sums over the first axis
  mean = cells.mean(axis=0)
  change = cells - mean
  square = change * change
  third, fourth = (np.mean(square * factor, axis=0) for factor in (change, square))
  return _Moments(mean, square.mean(axis=0), third, fourth)


def _pool(moments: _Moments, width: int) -> _Moments:
  """Returns the moments of every square of `width` x `width` neighboring cells (Pébay 2008)."""
  for axis in (1, 2):
    windows = np.lib.stride_tricks.sliding_window_view(np.stack(moments), width, axis=axis + 1)
    parts = np.moveaxis(windows, -1, 0)  # (width, 4, N, rows, columns)
    mean = parts[:, 0].mean(axis=0)
    second = third = fourth = np.zeros_like(mean)
    for part_mean, part_second, part_third, part_fourth in parts:
      shift = part_mean - mean
      square = shift * shift
      fourth = fourth + part_fourth + shift * (4 * part_third + shift * (6 * part_second + square))
      third = third + part_third + shift * (3 * part_second + square)
      second = second + part_second + square
    moments = _Moments(mean, second / width, third / width, fourth / width)
  return moments


def _least_of_neighbors(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns the least of each block's value and those of the next blocks below and to the right.

  The release looks five pixels on and never at the last block where the size divides by four.
  """
  least = values.copy()
  count = (rows - _BLOCK - 1) // _STRIDE
  least[:count] = np.minimum(least[:count], values[1 : count + 1])
  count, below = (columns - _BLOCK - 1) // _STRIDE, least.copy()
  least[:, :count] = np.minimum(least[:, :count], below[:, 1 : count + 1])
  return least


def _inner_pixels(blocks: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Returns per-pixel values `(rows - 33, columns - 33)` from blocks that start at pixel 16."""
  pixels = blocks.repeat(_STRIDE, axis=0).repeat(_STRIDE, axis=1)
  return pixels[: rows - _MIN_SIZE + 1, : columns - _MIN_SIZE + 1]


def _local_squared_error(error: np.ndarray) -> np.ndarray:
  """Returns the mean square over 16x16 pixels around each inner pixel, exact for integers."""
  sums = np.pad(np.cumsum(np.cumsum(error**2, axis=0), axis=1), ((1, 0), (1, 0)))
  rows, columns = error.shape
  sums = sums[25 : rows - 8] - sums[9 : rows - 24]
  return (sums[:, 25 : columns - 8] - sums[:, 9 : columns - 24]) / _BLOCK**2
