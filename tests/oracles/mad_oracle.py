"""Most Apparent Distortion, written out pixel by pixel and block by block; slow, and meant to be.

A second transcription of Larson and Chandler (2010) as their MATLAB release of September 2011
computes it (constants and index ranges; no code of it). It shares nothing with
`rpfgsm_jax/quality/mad.py`: plain loops over frequencies and blocks, NumPy's FFT, moments by their
definition. Gray planes are `(H, W)` float64 holding integers 0..255.
"""

import cmath
import math

import numpy as np


def mad(image: np.ndarray, original: np.ndarray) -> float:
  """MAD of two `(H, W, C)` images."""
  plane, original_plane = gray(image), gray(original)
  high, low = high_quality(plane, original_plane), low_quality(plane, original_plane)
  sigma = 1 / (1 + math.exp(-2.55 / 3.35) * high ** (1 / (math.log(10) * 3.35)))
  return low ** (1 - sigma) * high**sigma


def gray(image: np.ndarray) -> np.ndarray:
  """The luma of NTSC, rounded: the first row of the inverse of the RGB-to-YIQ matrix."""
  rows, columns, channels = image.shape
  yiq = np.linalg.inv([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.106, 1.703]])
  plane = np.zeros((rows, columns))
  for r in range(rows):
    for c in range(columns):
      value = float(image[r, c, 0])
      if channels == 3:
        value = sum(float(yiq[0, k]) * float(image[r, c, k]) for k in range(3))
      plane[r, c] = math.floor(value + 0.5)
  return plane


def contrast_sensitivity(rows: int, columns: int) -> np.ndarray:
  """The filter over centered frequencies, `(rows, columns)`; 32 cycles/degree at Nyquist."""
  response = np.zeros((rows, columns))
  for r in range(rows):
    for c in range(columns):
      point = complex(r - rows / 2 + 0.5, c - columns / 2 + 0.5) / columns * 2 * 32
      frequency = abs(point) / (0.15 * math.cos(4 * cmath.phase(point)) + 0.85)
      if frequency < 7.8909:
        response[r, c] = 0.9809
      else:
        decay = math.exp(-((0.114 * frequency) ** 1.1))
        response[r, c] = 2.6 * (0.0192 + 0.114 * frequency) * decay
  return response


def seen(plane: np.ndarray) -> np.ndarray:
  """Relative lightness behind the contrast sensitivity filter."""
  lightness = 0.02874 * plane ** (2.2 / 3)
  spectrum = np.fft.fftshift(np.fft.fft2(lightness)) * contrast_sensitivity(*plane.shape)
  return np.real(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def block_starts(length: int) -> range:
  return range(0, length - 15, 4)


def deviation(values: np.ndarray) -> float:
  """The sample standard deviation (divided by n - 1)."""
  return math.sqrt(float(np.sum((values - values.mean()) ** 2)) / (values.size - 1))


def least_deviation(reference: np.ndarray, r: int, c: int) -> float:
  """The least deviation of the 8x8 blocks at `(r, c)` and four pixels on, as far as they exist.

  The release looks five pixels on, and five pixels on lies in the next cell of four.
  """
  rows, columns = reference.shape
  least = math.inf
  for dr in (0, 5):
    for dc in (0, 5):
      if (dr == 0 or r + dr < rows - 15) and (dc == 0 or c + dc < columns - 15):
        top, left = (r + dr) // 4 * 4, (c + dc) // 4 * 4
        least = min(least, deviation(reference[top : top + 8, left : left + 8]))
  return least


def visibility(deviation_reference: float, deviation_error: float, mean: float) -> float:
  """By how much the log contrast of the error exceeds what the reference hides."""
  if mean < 0.5 or deviation_error == 0:
    return 0.0
  error = math.log(deviation_error / mean)
  masking = math.log(deviation_reference / mean) if deviation_reference > 0 else -math.inf
  if masking > -5:
    return max(error - masking, 0.0)
  return max(error + 5, 0.0)


def high_quality(plane: np.ndarray, original: np.ndarray) -> float:
  """The detection-based index."""
  rows, columns = plane.shape
  reference = seen(original)
  error = seen(plane) - reference
  mask = np.zeros((rows, columns))
  for r in block_starts(rows):
    for c in block_starts(columns):
      mask[r : r + 4, c : c + 4] = visibility(
        least_deviation(reference, r, c),
        deviation(error[r : r + 16, c : c + 16]),
        reference[r : r + 16, c : c + 16].mean(),
      )
  total, count = 0.0, 0
  for r in range(16, rows - 17):
    for c in range(16, columns - 17):
      window = (slice(r - 7, r + 9), slice(c - 7, c + 9))
      total += (mask[r, c] * np.mean((plane[window] - original[window]) ** 2)) ** 2
      count += 1
  return 200 * math.sqrt(total / count)


def log_gabor(rows: int, columns: int, scale: int, orientation: int) -> np.ndarray:
  """The filter over centered frequencies for `scale` 0..4 and `orientation` 0..3."""
  angle, sigma = orientation * math.pi / 4, math.pi / 4 / 1.5
  center = (1 / (3 * 3**scale)) / 0.5
  response = np.zeros((rows, columns))
  for r in range(rows):
    for c in range(columns):
      if r == math.floor(rows / 2 + 0.5) and c == math.floor(columns / 2 + 0.5):
        continue  # the constant component
      x, y = (c - columns / 2) / (columns / 2), (r - rows / 2) / (rows / 2)
      theta = math.atan2(-y, x)
      sine = math.sin(theta) * math.cos(angle) - math.cos(theta) * math.sin(angle)
      cosine = math.cos(theta) * math.cos(angle) + math.sin(theta) * math.sin(angle)
      distance = abs(math.atan2(sine, cosine))
      radial = math.exp(-(math.log(math.hypot(x, y) / center) ** 2) / (2 * math.log(0.55) ** 2))
      response[r, c] = radial * math.exp(-(distance**2) / (2 * sigma**2))
  return response


def shape(values: np.ndarray) -> tuple[float, float, float]:
  """Sample standard deviation, skewness and kurtosis; 0 where the deviation is rounding noise."""
  change = values - values.mean()
  variance = float(np.mean(change**2))
  if math.sqrt(variance) < 1e-9:
    return 0.0, 0.0, 0.0
  return (
    deviation(values),
    float(np.mean(change**3)) / variance**1.5,
    float(np.mean(change**4)) / variance**2,
  )


def low_quality(plane: np.ndarray, original: np.ndarray) -> float:
  """The appearance-based index."""
  rows, columns = plane.shape
  spectra = np.fft.fft2(plane), np.fft.fft2(original)
  difference = np.zeros((rows, columns))
  for scale, weight in enumerate((0.5, 0.75, 1, 5, 6)):
    for orientation in range(4):
      # The release calls fftshift, not ifftshift; both languages' move by floor(n / 2).
      response = np.fft.fftshift(log_gabor(rows, columns, scale, orientation))
      one, two = (np.abs(np.fft.ifft2(spectrum * response)) for spectrum in spectra)
      for r in block_starts(rows):
        for c in block_starts(columns):
          block = (slice(r, r + 16), slice(c, c + 16))
          std, skewness, kurtosis = np.abs(np.subtract(shape(one[block]), shape(two[block])))
          difference[r : r + 4, c : c + 4] += weight / 13.25 * (std + 2 * skewness + kurtosis)
  return math.sqrt(np.mean(difference[16 : rows - 17, 16 : columns - 17] ** 2))
