"""Defaults that depend on the machine."""

WORKING_PIXELS = 2**18
"""Pixels at which photos are attacked on a CPU: as good as more, see docs/PHOTOS.md."""

_OWN_SIZE_PIXELS = 2**24


def default_working_pixels(platform: str) -> int:
  """Returns the pixels above which photos are attacked at a working size.

  Args:
    platform: "cpu", "gpu" or "tpu", as a JAX device says it.

  Returns:
    2^18 on a CPU, 2^24 elsewhere: photos of up to 16 megapixels at their own size.
  """
  return WORKING_PIXELS if platform == "cpu" else _OWN_SIZE_PIXELS
