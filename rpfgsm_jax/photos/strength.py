"""How strong the change of a photo may be, and where in it.

What a photo can hide is not the same everywhere: texture covers a change that a clear sky shows.
"""

import numpy as np

STRENGTHS = {"gentle": 4.0, "medium": 8.0, "strong": 16.0}
"""Largest change, gray levels, by name; see docs/PHOTOS.md for what they cost and buy."""

_TEXTURED = 20.0  # gray levels, local standard deviation from which the full change is allowed
_FLAT = 5.4  # gray levels, sqrt(C2 / 2) of SSIM: what a flat place counts as
_WINDOW = 1 / 170  # of the photo's shorter side, standard deviation of the window
_LUMA = (0.299, 0.587, 0.114)


def allowed_change(photo: np.ndarray, epsilon: float) -> np.ndarray:
  """Returns the largest change of each pixel, `(H, W, 1)` float32, smaller in smooth places.

  A change of variance v costs a window of SSIM (Wang et al. 2004) about v / (2 s^2 + C2 + v), with
  s the photo's standard deviation there: equal cost everywhere means a change in proportion to
  sqrt(s^2 + C2 / 2). That is allowed here, up to epsilon where s is 20 gray levels or more; a flat
  place gets about a quarter of it.
  """
  import scipy.ndimage  # late: users of other parts need not wait for it

  luma = np.tensordot(photo.astype(np.float32), np.asarray(_LUMA, np.float32), axes=1)
  window = max(_WINDOW * min(luma.shape), 1.5)
  mean = scipy.ndimage.gaussian_filter(luma, window)
  square = scipy.ndimage.gaussian_filter(luma * luma, window)
  variance = np.maximum(square - mean * mean, 0.0)
  share = np.sqrt((variance + _FLAT**2) / (_TEXTURED**2 + _FLAT**2))
  largest = float(np.floor(epsilon))  # a NumPy number would make the result float64
  return np.clip(np.round(epsilon * share), min(1.0, largest), largest)[..., None]
