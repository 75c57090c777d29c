"""One rule for what counts as an integer, whoever asks: whatever `operator.index` takes."""

import operator
from typing import Any

import numpy as np


def as_int(value: Any) -> int | None:
  """Returns a Python, NumPy or JAX integer as an int; None for all else, also True and False."""
  if isinstance(value, bool | np.bool_):
    return None
  try:
    return operator.index(value)
  except TypeError:  # a float, a string, a traced number
    return None
