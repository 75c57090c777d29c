"""Photos of many megapixels: the attack runs at a working size, its change is lifted to the photo.

Networks see a photo shrunk to a few hundred pixels, so what misleads them is coarse, and survives
being interpolated. Working sizes come in few shapes, since a program is compiled for each.
"""

import math

import numpy as np
from PIL import Image

_RATIOS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 13.0)
_MULTIPLE = 16  # pixels; whole blocks of JPEG


def working_size(size: tuple[int, int], pixels: int) -> tuple[int, int] | None:
  """Returns the (height, width) at which a photo of a (height, width) is attacked.

  It has about `pixels` pixels, one of a few shapes, and nearly the photo's aspect ratio. None: the
  photo has no more pixels than that and is attacked as it is.
  """
  height, width = size
  if height * width <= pixels:
    return None
  ratio = max(size) / min(size)
  nearest = min(_RATIOS, key=lambda each: abs(math.log(each / ratio)))
  short = max(round(math.sqrt(pixels / nearest) / _MULTIPLE), 2) * _MULTIPLE
  long = round(short * nearest / _MULTIPLE) * _MULTIPLE
  return (long, short) if height > width else (short, long)


def lift(photo: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
  """Returns a photo with a change that was found at another size; all `(H, W, 3)` uint8.

  The change is interpolated bilinearly, which never leaves the range of its values: the lifted one
  is nowhere larger than the largest one of its neighborhood.
  """
  height, width = photo.shape[:2]
  lifted = np.empty_like(photo)
  for channel in range(photo.shape[2]):  # one at a time: floats of a large photo are large
    change = after[..., channel].astype(np.float32) - before[..., channel]
    large = Image.fromarray(change).resize((width, height), Image.Resampling.BILINEAR)
    values = np.rint(np.asarray(large))
    values += photo[..., channel]
    np.clip(values, 0, 255, out=values)
    lifted[..., channel] = values
  return lifted
