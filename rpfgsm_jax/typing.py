"""Aliases with shapes and units; one convention for the whole package.

Images are channels last and, everywhere outside `Classifier`, in gray levels 0..255, where integers
are exact and eps = 16 reads as in the paper.
"""

from collections.abc import Callable, Sequence

from jax import Array
from jax.typing import ArrayLike

Image = Array
"""`(H, W, C)` float32, gray levels 0..255."""

Images = Array
"""`(B, H, W, C)` float32, gray levels 0..255."""

Logits = Array
"""`(..., D)` float32, unnormalized log-probabilities."""

Labels = Array
"""`(B,)` int32 class indices; -1 where there is none."""

ImagesLike = ArrayLike | Sequence[ArrayLike]
"""`(n, H, W, 3)` gray levels in any real dtype, or several `(H, W, 3)`."""

Integers = ArrayLike | Sequence[int]
"""Integers, one or one an image: image ids, class indices."""

Key = Array
"""A typed threefry2x32 key, `jax.random.key(seed)` by default, shape `()`."""

Params = dict[str, Array]
"""Flat parameters of a network: dotted name -> array."""

ApplyFn = Callable[..., Logits]
"""`apply(params, images) -> logits`."""

__all__ = [
  "ApplyFn",
  "Array",
  "ArrayLike",
  "Image",
  "Images",
  "ImagesLike",
  "Integers",
  "Key",
  "Labels",
  "Logits",
  "Params",
]
