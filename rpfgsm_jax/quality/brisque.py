"""BRISQUE, a quality score that needs no original: 0 is about the best photograph, 100 the worst.

Mittal, Moorthy, Bovik, "No-Reference Image Quality Assessment in the Spatial Domain" (IEEE TIP
2012), with every step as in the MATLAB code and with the trained model of LIVE's "BRISQUE Software
Release" (2011). The model is not bundled; see `load_brisque_model`.

Everything is float64 on the host: in flat areas Eq. 1 divides differences of near-equal numbers, in
which float32 keeps no digit, and a library must not switch JAX to 64 bits for its user.
"""

import codecs
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import pathlib

import numpy as np
import scipy.special

from rpfgsm_jax.models.weights import cache_directory
from rpfgsm_jax.quality._pairs import rounded_gray
from rpfgsm_jax.typing import ArrayLike

MODEL_FILE, RANGE_FILE = "allmodel", "allrange"
VARIABLE = "RPFGSM_BRISQUE"
NUM_FEATURES = 36
SMALLEST_SIDE = 14  # both scales hold the 7 x 7 window

_PIXELS_AT_ONCE = 1 << 25  # of all threads together; a pixel takes about 70 bytes of work space
_WINDOW = np.exp(-((np.arange(7) - 3.0) ** 2) / (2 * (7 / 6) ** 2))
_WINDOW /= _WINDOW.sum()
_SNAP = 1e-6  # below it, Eq. 1 is rounding noise, whose random signs the fits would count
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))  # (down, right)
# MATLAB's antialiased bicubic at scale 0.5: half its cubic at 0.25, 0.75, 1.25, 1.75 on both sides.
_HALVING = (-3 / 256, -9 / 256, 29 / 256, 111 / 256, 111 / 256, 29 / 256, -9 / 256, -3 / 256)
_SHAPES = 0.2 + 0.001 * np.arange(9801)  # 0.2..10, the shape parameters that are tried
_GAMMA1, _GAMMA2, _GAMMA3 = (scipy.special.gamma(k / _SHAPES) for k in (1, 2, 3))
_RATIOS = _GAMMA2**2 / (_GAMMA1 * _GAMMA3)  # increasing
_INVERSE_RATIOS = _GAMMA1 * _GAMMA3 / _GAMMA2**2  # decreasing


class ModelNotFoundError(FileNotFoundError):
  """LIVE's two files are not where they were looked for; the message says where to put them."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BrisqueModel:
  """A support vector regression with a Gaussian kernel, and the scaling of its 36 features.

  Attributes:
    support_vectors: `(S, 36)` float64, scaled features.
    coefficients: `(S,)` float64.
    gamma: of the kernel exp(-gamma |x - y|^2).
    rho: subtracted from the weighted sum of kernels.
    feature_min: `(36,)` float64, what becomes `low`.
    feature_max: `(36,)` float64, what becomes `high`.
    low: of the scaled features, -1 in LIVE's.
    high: of the scaled features, 1 in LIVE's.
  """

  support_vectors: np.ndarray
  coefficients: np.ndarray
  gamma: float
  rho: float
  feature_min: np.ndarray
  feature_max: np.ndarray
  low: float
  high: float


def load_brisque_model(path: str | os.PathLike[str] | None = None) -> BrisqueModel:
  """Reads LIVE's model, the files `allmodel` and `allrange` of its BRISQUE_release.zip.

  Args:
    path: the folder that has both; `None` for the one that the variable `RPFGSM_BRISQUE` names, or
      else `brisque` in the user's cache folder.

  Returns:
    The model.

  Raises:
    ModelNotFoundError: that folder lacks a file; no other one is tried.
    ValueError: a file is damaged; names its first bad line.
  """
  cache = cache_directory()
  named = path or os.environ.get(VARIABLE) or (cache and cache / "brisque")
  if named is None:
    raise ModelNotFoundError(
      f"there is no home folder to find LIVE's model in; set {VARIABLE} to the folder that has "
      f"{MODEL_FILE} and {RANGE_FILE}."
    )
  folder = pathlib.Path(named)
  # os.path, because a home that is somebody else's may not be looked into.
  lacking = [name for name in (MODEL_FILE, RANGE_FILE) if not os.path.isfile(folder / name)]
  if lacking:
    raise ModelNotFoundError(
      f"{folder} lacks {' and '.join(lacking)}; run 'rpfgsm weights fetch brisque', or copy "
      f"{MODEL_FILE} and {RANGE_FILE} of LIVE's BRISQUE_release.zip there, or set {VARIABLE} to "
      "the folder that has both."
    )
  return BrisqueModel(**_read_regression(folder / MODEL_FILE), **_read_ranges(folder / RANGE_FILE))


def brisque(images: ArrayLike, model: BrisqueModel) -> np.ndarray:
  """Returns the BRISQUE score of each image; larger is worse, and 0..100 is not a strict range.

  Args:
    images: `(..., H, W, C)`, C 3 (red, green, blue) or 1, both sides at least 14 pixels; gray
      levels 0..255, rounded to 8 bits first, as a saved file is.
    model: from `load_brisque_model`.

  Returns:
    `(...)` float64; NaN for an image without any texture, such as a black one. An image's score
    does not depend on the rest of the batch.

  Raises:
    ValueError: another shape, a side below 14, or values that are no gray levels.

  Note:
    LIVE's script hands features to libsvm as text with six decimals, which moves its scores by less
    than a thousandth; ours are not rounded.
  """
  return score_features(brisque_features(images), model)


def brisque_features(images: ArrayLike) -> np.ndarray:
  """Returns the 36 features of each image: 18 of the image, 18 of it at half its size (Table I).

  Gray levels are rounded to 8 bits first, as in a saved file. The order is that of LIVE's
  `brisque_feature.m`.

  Note:
    LIVE's code has rounding noise where an image is flat, and counts its signs; there we snap
    |MSCN| < 1e-6 to 0. Where no product of neighbors is negative (or none positive), that side's
    width is 0; MATLAB's mean of nothing is NaN.
  """
  images = _checked(images)
  *batch, height, width, _ = images.shape
  flat = images.reshape(math.prod(batch), *images.shape[-3:])
  workers = min(len(flat), os.cpu_count() or 1, _PIXELS_AT_ONCE // (height * width))
  if workers <= 1:
    rows = [_image_features(image) for image in flat]
  else:
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      rows = list(pool.map(_image_features, flat))
  return np.asarray(rows, np.float64).reshape(*batch, NUM_FEATURES)


def score_features(features: ArrayLike, model: BrisqueModel) -> np.ndarray:
  """Returns the model's score of features: scaled as by `svm-scale`, then libsvm's epsilon-SVR."""
  features = np.asarray(features, np.float64)
  if features.shape[-1:] != (NUM_FEATURES,):
    raise ValueError(f"features must be (..., {NUM_FEATURES}), got {features.shape}.")
  fraction = (features - model.feature_min) / (model.feature_max - model.feature_min)
  scaled = model.low + (model.high - model.low) * fraction
  # One row at a time: a product of matrices would round differently for another batch.
  kernels = (
    np.exp(-model.gamma * np.sum((model.support_vectors - row) ** 2, axis=-1))
    for row in scaled.reshape(-1, NUM_FEATURES)
  )
  scores = [np.sum(model.coefficients * kernel) - model.rho for kernel in kernels]
  return np.asarray(scores, np.float64).reshape(features.shape[:-1])


def _checked(images: ArrayLike) -> np.ndarray:
  images = np.asarray(images)
  if images.ndim < 3 or images.shape[-1] not in (1, 3):
    raise ValueError(f"images must be (..., H, W, C) with C 1 or 3, got {images.shape}.")
  if min(images.shape[-3:-1]) < SMALLEST_SIDE:
    raise ValueError(
      f"images must have sides of {SMALLEST_SIDE} pixels or more, got {images.shape}; the half "
      "scale would not hold the 7 x 7 window."
    )
  if images.dtype == np.uint8:
    return images
  images = images.astype(np.float64)
  if not np.all((images >= 0) & (images <= 255)):
    raise ValueError("images must be gray levels within 0..255, got a NaN or a value outside.")
  return np.floor(images + 0.5).astype(np.uint8)


def _image_features(image: np.ndarray) -> np.ndarray:
  gray = rounded_gray(image)
  half = _halve_rows(np.ascontiguousarray(_halve_rows(gray).T)).T
  return np.asarray(_scale_features(gray) + _scale_features(np.ascontiguousarray(half)))


def _halve_rows(gray: np.ndarray) -> np.ndarray:
  size = (len(gray) + 1) // 2
  padded = np.pad(gray, ((3, 4), (0, 0)), mode="symmetric")
  taps = [weight * padded[k : k + 2 * size - 1 : 2] for k, weight in enumerate(_HALVING)]
  return np.asarray(sum(taps))


def _blur(gray: np.ndarray) -> np.ndarray:
  import scipy.ndimage  # late: a fifth of a second that users of PSNR need not wait

  down = scipy.ndimage.correlate1d(gray, _WINDOW, axis=0, mode="constant")
  return scipy.ndimage.correlate1d(down, _WINDOW, axis=1, mode="constant")


def _scale_features(gray: np.ndarray) -> list[float]:
  mean = _blur(gray)
  deviation = np.sqrt(np.abs(_blur(gray * gray) - mean * mean))
  mscn = (gray - mean) / (deviation + 1)  # Eq. 1
  mscn[np.abs(mscn) < _SNAP] = 0
  features = _fit_symmetric(mscn)
  for shift in _SHIFTS:
    features += _fit_asymmetric(mscn * np.roll(mscn, shift, axis=(0, 1)))
  return features


def _fit_symmetric(values: np.ndarray) -> list[float]:
  """Returns shape and variance of the generalized Gaussian that has the values' moments."""
  variance = np.mean(values * values)
  if variance == 0:
    return [math.nan, 0.0]
  index = _nearest(_INVERSE_RATIOS[::-1], variance / np.mean(np.abs(values)) ** 2)
  return [_SHAPES[::-1][index], variance]


def _fit_asymmetric(values: np.ndarray) -> list[float]:
  """Returns shape, mean, left and right variance of the asymmetric one."""
  negative, positive = np.minimum(values, 0), np.maximum(values, 0)
  left = np.sum(negative * negative) / max(np.count_nonzero(negative), 1)
  right = np.sum(positive * positive) / max(np.count_nonzero(positive), 1)
  square = np.mean(values * values)
  if square == 0:
    return [math.nan, math.nan, left, right]
  l, r = math.sqrt(left), math.sqrt(right)
  # LIVE's formula in l / r, multiplied out so that an empty side divides nothing by zero.
  ratio = np.mean(positive - negative) ** 2 / square
  index = _nearest(_RATIOS, ratio * (l**3 + r**3) * (l + r) / (left + right) ** 2)
  one, two, three = _GAMMA1[index], _GAMMA2[index], _GAMMA3[index]
  return [_SHAPES[index], (r - l) * (two / one) * math.sqrt(one / three), left, right]


def _nearest(increasing: np.ndarray, value: float) -> int:
  above = int(np.clip(np.searchsorted(increasing, value), 1, len(increasing) - 1))
  below = above - 1
  return below if value - increasing[below] <= increasing[above] - value else above


def _read_regression(path: pathlib.Path) -> dict:
  """Returns the fields that libsvm's text of an epsilon-SVR gives."""
  lines = _read_lines(path)
  start = lines.index("SV") if "SV" in lines else len(lines)
  header = dict(line.partition(" ")[::2] for line in lines[:start])
  count = len(lines) - start - 1
  needed = {"svm_type": "epsilon_svr", "kernel_type": "rbf", "total_sv": str(count)}
  for name, value in needed.items():
    if header.get(name) != value:
      raise ValueError(f"{path} must say {name} {value}, got {header.get(name)}; copy it again.")
  gamma, rho = (_finite(header.get(name), f"{path}, {name}") for name in ("gamma", "rho"))
  vectors, coefficients = np.zeros((count, NUM_FEATURES)), np.zeros(count)
  for row, line in enumerate(lines[start + 1 :]):
    place, last = f"{path}, line {start + 2 + row}", 0
    coefficient, *pairs = line.split() or [""]
    coefficients[row] = _finite(coefficient, place)
    for pair in pairs:  # a feature that is 0 may be left out
      index, _, value = pair.partition(":")
      if not (index.isdecimal() and last < int(index) <= NUM_FEATURES):
        raise ValueError(f"{place} is damaged at {pair!r}; copy the file again.")
      last = int(index)
      vectors[row, last - 1] = _finite(value, place)
  return {"support_vectors": vectors, "coefficients": coefficients, "gamma": gamma, "rho": rho}


def _read_ranges(path: pathlib.Path) -> dict:
  """Returns the fields that svm-scale's text gives: x, the target range, a line a feature."""
  first, *lines = _read_lines(path)
  rows = [
    [_finite(word, f"{path}, line {n}") for word in line.split()] for n, line in enumerate(lines, 2)
  ]
  indices = [row[:-2] for row in rows]
  if first != "x" or indices != [[], *([float(n)] for n in range(1, NUM_FEATURES + 1))]:
    raise ValueError(f"{path} must hold x, LOW HIGH, and INDEX MIN MAX for 1..{NUM_FEATURES}.")
  (low, high), *ranges = (row[-2:] for row in rows)
  smallest, largest = np.array(ranges).T
  if not (low < high and np.all(smallest < largest)):
    raise ValueError(f"{path} has a MIN that is not below its MAX; copy it again.")
  return {"feature_min": smallest, "feature_max": largest, "low": low, "high": high}


def _read_lines(path: pathlib.Path) -> list[str]:
  content = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # editors add it
  text = content.decode("ascii", errors="replace")
  if not text.endswith("\n"):
    raise ValueError(f"{path} is cut off, its last line has no end; copy it again.")
  return text.splitlines()


def _finite(text: str | None, place: str) -> float:
  with contextlib.suppress(ValueError):
    if text is not None and math.isfinite(value := float(text)):
      return value
  raise ValueError(f"{place} is damaged at {text!r}; copy the file again.")
