"""What somebody may do to a photo to take a change out of it: uint8 in, uint8 out, on the host.

Pillow's, SciPy's and scikit-image's, with fixed strengths, or estimated from the photo.
"""

import itertools
from collections.abc import Callable

import numpy as np

from rpfgsm_jax import data, defenses
from rpfgsm_jax.defenses.oracle import oracle_member
from rpfgsm_jax.photos.verdict import AS_WRITTEN

Purifier = Callable[[np.ndarray], np.ndarray]
"""`(H, W, 3)` uint8 to the same."""

_REACH, _NEAR = 3, 1.5  # of the bilateral filter: pixels to each side, deviation of place


def _unchanged(photo: np.ndarray) -> np.ndarray:
  return photo


def _defense(defense: defenses.Defense, parameter: float) -> Purifier:
  return lambda photo: oracle_member(defense, parameter)(photo).astype(np.uint8)


def _half_and_back(photo: np.ndarray) -> np.ndarray:
  height, width = photo.shape[:2]
  small = data.resize(photo, (max(height // 2, 1), max(width // 2, 1)))
  return data.resize(small, (height, width))


def _restored(name: str, /, **options: object) -> Purifier:
  """A method of skimage.restoration on values 0..1."""

  def purify(photo: np.ndarray) -> np.ndarray:
    from skimage import restoration

    found = getattr(restoration, name)(photo / 255.0, channel_axis=-1, **options)
    return np.clip(np.rint(255.0 * found), 0, 255).astype(np.uint8)

  return purify


def _non_local_means(photo: np.ndarray) -> np.ndarray:
  from skimage import restoration

  # As scikit-image's example has it: the strength follows from the photo's own noise.
  noise = np.mean(restoration.estimate_sigma(photo / 255.0, channel_axis=-1))
  noise = max(float(noise), 1e-3)  # of a flat photo it is 0, and divides
  options = {"h": 0.8 * noise, "sigma": noise, "patch_size": 5, "patch_distance": 6}
  return _restored("denoise_nl_means", fast_mode=True, **options)(photo)


def _bilateral(color: float) -> Purifier:
  """Means of neighbors, weighted by nearness in place and in color."""
  # Our own: the window of scikit-image 0.26 is skewed, so that pictures shift.
  reach = range(-_REACH, _REACH + 1)

  def purify(photo: np.ndarray) -> np.ndarray:
    height, width = photo.shape[:2]
    values = photo / 255.0
    padded = np.pad(values, ((_REACH, _REACH), (_REACH, _REACH), (0, 0)), mode="edge")
    total, weights = np.zeros_like(values), np.zeros((height, width, 1))
    for down, right in itertools.product(reach, reach):
      top, left = _REACH + down, _REACH + right
      neighbor = padded[top : top + height, left : left + width]
      apart = np.sum((neighbor - values) ** 2, axis=-1, keepdims=True) / color**2
      weight = np.exp(-(apart + (down**2 + right**2) / _NEAR**2) / 2)
      total, weights = total + weight * neighbor, weights + weight
    return np.rint(255.0 * total / weights).astype(np.uint8)

  return purify


_WAVELET = {"method": "BayesShrink", "mode": "soft", "rescale_sigma": True, "convert2ycbcr": True}
PURIFIERS: dict[str, Purifier] = {
  AS_WRITTEN: _unchanged,
  **{f"JPEG {quality}": _defense(defenses.JPEG, quality) for quality in (90, 70, 50, 30)},
  "half size and back": _half_and_back,
  **{f"median {size}": _defense(defenses.MEDIAN, size) for size in (3, 5)},
  **{
    f"total variation {weight}": _restored("denoise_tv_chambolle", weight=weight)
    for weight in (0.05, 0.1)
  },
  "wavelet, BayesShrink": _restored("denoise_wavelet", **_WAVELET),
  **{f"bilateral {color}": _bilateral(color) for color in (0.05, 0.1)},
  "non-local means": _non_local_means,
}
"""Numbers: JPEG's quality, the median's side, the weight of total variation, and the bilateral
filter's deviation of color, 1 being a channel's whole range."""


def needs_wavelets() -> None:
  """Refuses to begin where the package is missing that scikit-image's wavelet denoiser needs."""
  try:
    import pywt  # noqa: F401
  except ImportError as error:
    raise ValueError(
      "the wavelet purifier needs PyWavelets: pip install 'rpfgsm-jax[experiments]'."
    ) from error
