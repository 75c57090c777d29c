"""Re-quantization: fewer gray levels per channel (bit-depth reduction of feature squeezing).

Gray levels 0..255 in, the nearest of `2^bits` equally spaced gray levels out.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from rpfgsm_jax.defenses import _checks
from rpfgsm_jax.rounding import Rounding, check_rounding, round_values

MIN_BITS = 1
MAX_BITS = 7


def requantize(
  image: ArrayLike, bits: ArrayLike, *, rounding: Rounding = "straight_through"
) -> Array:
  """Returns the image with `2^bits` gray levels per channel.

  Sanchez-Matilla et al. (2020), Sec. III-B; the squeezer is that of Xu et al. (2018):
  `round(x / 255 * (2^bits - 1)) / (2^bits - 1) * 255`.

  Args:
    image: image(s), `(..., H, W, C)`, float32 gray levels 0..255, integral or not.
    bits: bits per channel, integer in 1..7, a number or a traced scalar (int32 or float32). A
      traced value cannot be checked: it is rounded and clipped to 1..7.
    rounding: rule for the rounding, see `rpfgsm_jax.rounding`. No image with integral gray levels
      has a tie; between them a tie goes to the even level.

  Returns:
    Same shape and dtype, gray levels 0..255, integral only for 1, 2 and 4 bits. The gradient is
    that of the rule; `bits` gets none.

  Raises:
    ValueError: a wrong shape or dtype, an unknown rule, or known `bits` outside 1..7.
  """
  check_rounding(rounding)
  image = _checks.check_image(image)
  remedy = "8 bits is the identity, leave the defense out."
  bits = _checks.as_integer("bits", bits, MIN_BITS, MAX_BITS, remedy)
  steps = (1 << bits) - 1
  level = round_values(image * steps.astype(jnp.float32) / 255, rounding)
  # Not `level * 255 / steps`: XLA multiplies by the reciprocal instead, and white comes out as
  # 255.00002. Whole gray levels first; what is left is small, and so is its rounding.
  whole, rest = 255 // steps, 255 % steps
  fraction = rest.astype(jnp.float32) / steps.astype(jnp.float32)
  return level * whole.astype(jnp.float32) + level * fraction
