"""A slow float64 transcription of LIVE's BRISQUE, written apart from the library's.

Literal where the library is clever: the 7 x 7 window is not separated, the local deviation is
E[(x - mu)^2] and not E[x^2] - mu^2, MATLAB's `imresize` computes weights and 1-based indices for
each row, shifts are indices, shape parameters are tried one and all, and libsvm's two text files
are read and evaluated by plain Python.
"""

import math
import pathlib

import numpy as np

GRID = [0.2 + 0.001 * k for k in range(9801)]


def gray_levels(image: np.ndarray) -> np.ndarray:
  """MATLAB's `double(rgb2gray(image))` of `(H, W, 3)` uint8, or the levels of `(H, W, 1)`."""
  if image.shape[2] == 1:
    return image[:, :, 0].astype(np.float64)
  red, green, blue = (image[:, :, c].astype(np.float64) for c in range(3))
  luma = 0.298936021293775 * red + 0.587043074451121 * green + 0.114020904255103 * blue
  return np.trunc(luma + 0.5)  # half away from zero


def gaussian_window() -> np.ndarray:
  """`fspecial('gaussian', 7, 7/6)`, normalized again as LIVE does."""
  window = np.array(
    [[math.exp(-(x * x + y * y) / (2 * (7 / 6) ** 2)) for x in range(-3, 4)] for y in range(-3, 4)]
  )
  return window / window.sum()


def mscn(gray: np.ndarray) -> np.ndarray:
  """Mean-subtracted contrast-normalized levels, Eq. 1-3, with zeros around the image."""
  height, width = gray.shape
  window, padded = gaussian_window(), np.zeros((height + 6, width + 6))
  padded[3:-3, 3:-3] = gray
  views = [
    (window[i, j], padded[i : i + height, j : j + width]) for i in range(7) for j in range(7)
  ]
  mean = sum(weight * view for weight, view in views)
  deviation = np.sqrt(sum(weight * (view - mean) ** 2 for weight, view in views))
  result = (gray - mean) / (deviation + 1)
  return np.where(np.abs(result) < 1e-6, 0.0, result)


def _cubic(x: float) -> float:
  """MATLAB's `cubic` (Keys, a = -1/2)."""
  x = abs(x)
  if x <= 1:
    return 1.5 * x**3 - 2.5 * x**2 + 1
  return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def _resize_rows(levels: np.ndarray, scale: float) -> np.ndarray:
  """`imresize`'s `contributions` and `resizeAlongDim`, antialiased, for one axis."""
  in_length = levels.shape[0]
  out_length = math.ceil(in_length * scale)
  kernel_width = 4 / scale
  mirror = [*range(1, in_length + 1), *range(in_length, 0, -1)]
  result = np.zeros((out_length, levels.shape[1]))
  for x in range(1, out_length + 1):
    u = x / scale + 0.5 * (1 - 1 / scale)
    left = math.floor(u - kernel_width / 2)
    indices = [left + k for k in range(math.ceil(kernel_width) + 2)]
    weights = [scale * _cubic(scale * (u - index)) for index in indices]
    total = sum(weights)
    for index, weight in zip(indices, weights, strict=True):
      source = mirror[(index - 1) % (2 * in_length)]
      result[x - 1] += weight / total * levels[source - 1]
  return result


def half_size(gray: np.ndarray) -> np.ndarray:
  """MATLAB's `imresize(gray, 0.5)` of doubles: bicubic, antialiased, not rounded."""
  return _resize_rows(_resize_rows(gray, 0.5).T, 0.5).T


def fit_symmetric(values: np.ndarray) -> list[float]:
  """LIVE's `estimateggdparam`: shape and variance."""
  variance = float(np.mean(values**2))
  rho = variance / float(np.mean(np.abs(values))) ** 2
  errors = [abs(rho - math.gamma(1 / g) * math.gamma(3 / g) / math.gamma(2 / g) ** 2) for g in GRID]
  return [GRID[errors.index(min(errors))], variance]


def fit_asymmetric(values: np.ndarray) -> list[float]:
  """LIVE's `estimateaggdparam` and the mean: shape, mean, left variance, right variance."""
  left = math.sqrt(np.mean(values[values < 0] ** 2))
  right = math.sqrt(np.mean(values[values > 0] ** 2))
  quotient = left / right
  rhat = float(np.mean(np.abs(values))) ** 2 / float(np.mean(values**2))
  wanted = rhat * (quotient**3 + 1) * (quotient + 1) / (quotient**2 + 1) ** 2
  errors = [
    (math.gamma(2 / g) ** 2 / (math.gamma(1 / g) * math.gamma(3 / g)) - wanted) ** 2 for g in GRID
  ]
  alpha = GRID[errors.index(min(errors))]
  const = math.sqrt(math.gamma(1 / alpha)) / math.sqrt(math.gamma(3 / alpha))
  mean = (right - left) * (math.gamma(2 / alpha) / math.gamma(1 / alpha)) * const
  return [alpha, mean, left**2, right**2]


def features(image: np.ndarray) -> list[float]:
  """The 36 features of `(H, W, C)` uint8, in LIVE's order."""
  gray, found = gray_levels(image), []
  for _ in range(2):
    levels = mscn(gray)
    rows, columns = np.indices(levels.shape)
    found += fit_symmetric(levels)
    for down, right in ((0, 1), (1, 0), (1, 1), (-1, 1)):
      shifted = levels[(rows - down) % levels.shape[0], (columns - right) % levels.shape[1]]
      found += fit_asymmetric((levels * shifted).ravel())
    gray = half_size(gray)
  return found


def score(unscaled: list[float], folder: pathlib.Path) -> float:
  """`svm-scale -r allrange` and `svm-predict ... allmodel` of one feature vector."""
  _, target, *lines = (folder / "allrange").read_text().split("\n")[:38]
  low, high = (float(word) for word in target.split())
  point = {}
  for line in lines:
    index, smallest, largest = line.split()
    place = (unscaled[int(index) - 1] - float(smallest)) / (float(largest) - float(smallest))
    point[int(index)] = low + (high - low) * place
  head, _, body = (folder / "allmodel").read_text().partition("SV\n")
  header = dict(line.split() for line in head.splitlines())
  total = 0.0
  for line in body.splitlines():
    coefficient, *pairs = line.split()
    vector = {int(pair.split(":")[0]): float(pair.split(":")[1]) for pair in pairs}
    distance = sum((point[index] - vector.get(index, 0.0)) ** 2 for index in point)
    total += float(coefficient) * math.exp(-float(header["gamma"]) * distance)
  return total - float(header["rho"])
