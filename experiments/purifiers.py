"""What somebody may do to a photo to take a change out of it: uint8 in, uint8 out, on the host.

Pillow, SciPy and scikit-image as they come; their strengths are fixed, or estimated from the photo.
"""

from collections.abc import Callable

import numpy as np

from rpfgsm_jax import data, defenses
from rpfgsm_jax.defenses.oracle import oracle_member
from rpfgsm_jax.photos.verdict import AS_WRITTEN

Purifier = Callable[[np.ndarray], np.ndarray]
"""`(H, W, 3)` uint8 to the same."""


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
  **{
    f"bilateral {color}": _restored("denoise_bilateral", sigma_color=color, sigma_spatial=1)
    for color in (0.05, 0.1)
  },
  "non-local means": _non_local_means,
}
"""Numbers: JPEG's quality, the median's side, the weight of total variation, and the bilateral
filter's deviation of color (1: white against black; of place it is one pixel)."""


def needs_wavelets() -> None:
  """Refuses to begin where the package is missing that scikit-image's wavelet denoiser needs."""
  try:
    import pywt  # noqa: F401
  except ImportError as error:
    raise ValueError(
      "the wavelet purifier needs PyWavelets: pip install 'rpfgsm-jax[experiments]'."
    ) from error
