"""What users of transfer attacks add to a signed-gradient loop: momentum, look-ahead, smoothing.

None of it belongs to the paper, all of it is off by default, and only scale copies cost gradient
passes. Input diversity, one more of these, is a member of a defense bank: see
`rpfgsm_jax.defenses.INPUT_DIVERSITY`.
"""

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.checks import as_int
from rpfgsm_jax.typing import Array, Images

StepSchedule = Literal["constant", "linear", "cosine"]
"""How the step goes from the config's `step_size` down to 1 gray level: see `step_sizes`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferOptions:
  """Changes to the gradient and the step of any signed-gradient attack; static.

  Dong et al. (2018) for momentum, Lin et al. (2020) for look-ahead and scale copies, Dong et al.
  (2019) for smoothing; Rony et al. (2019) anneal the steps of an attack by a cosine.
  """

  momentum: float = 0.0  # mu, decay of the accumulated gradient; MI-FGSM has 1
  nesterov: bool = False  # take the gradient ahead, along the momentum: NI-FGSM
  smoothing: int = 1  # odd side of a Gaussian kernel, pixels; TI-FGSM has 15 at 299 pixels
  scale_copies: int = 1  # gradients of image / 2^i, i = 0.., summed: that many passes; SIM has 5
  step_schedule: StepSchedule = "constant"  # others: from step_size > 1 down to 1, see `step_sizes`


PLAIN = TransferOptions()


def checked_transfer(transfer: TransferOptions) -> TransferOptions:
  """Returns the options with plain ints, or refuses them."""
  if not isinstance(transfer, TransferOptions):
    raise ValueError(f"transfer must be TransferOptions, got {transfer!r}.")
  if not 0 <= transfer.momentum <= 1:
    raise ValueError(f"momentum must be in 0..1, got {transfer.momentum}; 1 forgets nothing.")
  if transfer.nesterov and transfer.momentum == 0:
    raise ValueError("nesterov looks ahead along the momentum: it needs momentum > 0, got 0.")
  smoothing, copies = as_int(transfer.smoothing), as_int(transfer.scale_copies)
  if smoothing is None or smoothing < 1 or smoothing % 2 != 1:
    raise ValueError(f"smoothing must be an odd number of pixels >= 1, got {transfer.smoothing!r}.")
  if copies is None or not 1 <= copies <= 8:
    raise ValueError(
      f"scale_copies must be an integer in 1..8, got {transfer.scale_copies!r}; image / 2^8 is "
      "black."
    )
  if transfer.step_schedule not in get_args(StepSchedule):
    names = ", ".join(map(repr, get_args(StepSchedule)))
    raise ValueError(f"step_schedule must be one of {names}, got {transfer.step_schedule!r}.")
  return dataclasses.replace(transfer, smoothing=smoothing, scale_copies=copies)


def step_sizes(schedule: StepSchedule, first: Array, num_steps: int) -> Array:
  """Returns the step of every iteration, whole gray levels, `(B, N)` of the first ones `(B,)`.

  With s the first step and n = 0..N-1: constant, s; linear, ceil(s (N - n) / N), each level from s
  to 1 for N / s iterations; cosine, ceil(s (1 + cos(pi n / N)) / 2), longest at both ends. So all
  of it stays on the 8-bit grid, starts with s, never grows, and ends with 1 where N >= s (linear)
  or s (1 + cos(pi (N - 1) / N)) <= 2 (cosine).
  """
  place = np.arange(num_steps)
  if schedule == "constant":
    share = np.ones(num_steps)
  elif schedule == "linear":
    share = 1 - place / num_steps
  else:
    share = (1 + np.cos(np.pi * place / num_steps)) / 2
  # A product that is whole by the formula must not reach the next level by its last bit.
  share = share * (1 - 2.0**-20)
  return jnp.ceil(first[:, None] * jnp.asarray(share, first.dtype)[None, :])


def smooth(gradients: Images, side: int) -> Images:
  """Returns gradients convolved with a Gaussian of odd `side`, zero beyond the border.

  Dong et al. (2019), Eq. 7: the gradient of the mean loss over shifted copies. The kernel reaches
  three standard deviations.
  """
  if side == 1:
    return gradients
  rows, columns = (_gaussian_matrix(size, side) for size in gradients.shape[1:3])
  return jnp.einsum("ij,mjkc,lk->milc", rows, gradients, columns, precision="highest")


def look_ahead(images: Images, velocity: Images, move: Array) -> Images:
  """Returns where the momentum alone would lead, inside 0..255.

  Lin et al. (2020), Eq. 6. `move` is `(m,)`, gray levels a unit of velocity, with the sign of the
  attack's direction.
  """
  return jnp.clip(images + move[:, None, None, None] * velocity, 0.0, 255.0)


def accumulate(velocity: Images, gradients: Images, momentum: float) -> Images:
  """Returns the new accumulated gradient.

  Dong et al. (2018), Eq. 6, with the mean instead of the sum of absolute values, as their release
  has it: units near one, so that the look-ahead of Lin et al. moves by whole steps. What is NaN in
  a gradient counts as zero.
  """
  gradients = jnp.where(jnp.isnan(gradients), 0.0, gradients)
  scale = jnp.mean(jnp.abs(gradients), axis=(1, 2, 3), keepdims=True)
  return momentum * velocity + gradients / jnp.where(scale > 0, scale, 1.0)


def _gaussian_matrix(size: int, side: int) -> Array:
  """The convolution along one axis as a banded matrix: fast on every device, and exact."""
  place = np.linspace(-3.0, 3.0, side)
  kernel = np.exp(-(place**2) / 2)
  kernel /= kernel.sum()
  offset = np.arange(size)[:, None] - np.arange(size)[None, :] + side // 2
  inside = (offset >= 0) & (offset < side)
  return jnp.asarray(np.where(inside, kernel[np.clip(offset, 0, side - 1)], 0.0), jnp.float32)
