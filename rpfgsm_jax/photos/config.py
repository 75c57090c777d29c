"""How photos are protected and written: the settings, and what suits the devices."""

import dataclasses
from typing import Literal

import numpy as np

from rpfgsm_jax.attacks import inputs
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.data import images
from rpfgsm_jax.data.photo_files import Encoding, SideLimits
from rpfgsm_jax.photos.strength import photo_attack

Size = Literal["photo", "network"]

WORKING_PIXELS = 2**18
"""Pixels at which photos are attacked on a CPU: as good as more, see docs/PHOTOS.md."""

_OWN_SIZE_PIXELS = 2**24
# Images computed together, on a CPU and elsewhere. One photo fills a CPU; 256 images of the
# networks' size were the fastest on a GPU (docs/PERFORMANCE.md).
_MICRO_BATCHES: dict[Size, tuple[int, int]] = {"photo": (1, 16), "network": (4, 256)}
# A micro-batch of every network is always full when so many times as many images are at hand.
_MICRO_BATCHES_AT_ONCE: dict[Size, tuple[int, int]] = {"photo": (1, 3), "network": (8, 3)}


def default_working_pixels(platform: str) -> int:
  """Returns the pixels above which photos are attacked at a working size.

  Args:
    platform: of the devices: "cpu", "gpu" or "tpu".

  Returns:
    2^18 on a CPU; elsewhere 2^24: photos of up to 16 megapixels are attacked at their own size.
  """
  return WORKING_PIXELS if platform == "cpu" else _OWN_SIZE_PIXELS


def default_micro_batch(platform: str, size: Size = "photo") -> int:
  """Returns how many images are computed together.

  Args:
    platform: of the devices: "cpu", "gpu" or "tpu".
    size: of the results, see `PhotoConfig`.

  Returns:
    On a CPU 1 photo, or 4 images of the networks' size; on an accelerator 16, or 256.
  """
  return _MICRO_BATCHES[size][platform != "cpu"]


def default_batch_size(platform: str, size: Size, micro_batch: int) -> int:
  """Returns the images attacked in one call on each device."""
  return _MICRO_BATCHES_AT_ONCE[size][platform != "cpu"] * micro_batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoConfig:
  """How photos are protected and written; static.

  Attributes:
    attack: RP-FGSM's own settings; `epsilon` one number, which `masking` may spread by texture.
      `micro_batch` is how many photos of one
      working size are computed together; fewer where they are large, so that a micro-batch has at
      most 2^24 pixels. More than one is for accelerators and `attack_together`.
    size: "photo": each photo is written at its own size; "network": at the networks' input size,
      as data sets are.
    preprocess: how photos come to the networks' size, see `rpfgsm_jax.data.preprocess`; only
      "paper" (resized) with `size="photo"`.
    shrink: the attack's defenses, the identity aside, act on a thumbnail of so many times the
      networks' largest side, see `rpfgsm_jax.defenses.shrunk_bank`; None: on the photo itself. At
      the networks' size they always act on the photo itself.
    working_pixels: photos of more pixels are attacked at a working size of about so many; None:
      every photo at its own size.
    encoding: how they are written. A JPEG encoder becomes part of the attack.
    scene: what the photos show, a class of the attacked networks by name (case aside, `-` and ` `
      read as `_`): they leave it, also where they see another, instead of what each sees. Those
      with classes must have the same ones; only when untargeted. Judges that know it are asked
      for it, too. None: what each sees.
    keep_metadata: keep the EXIF fields that show no picture; else nothing is kept.
  """

  attack: RPFGSMConfig = dataclasses.field(default_factory=photo_attack)
  size: Size = "photo"
  preprocess: str = "paper"
  shrink: float | None = 1.25
  working_pixels: int | None = WORKING_PIXELS
  encoding: Encoding = dataclasses.field(default_factory=Encoding)
  scene: str | None = None
  keep_metadata: bool = False

  def __post_init__(self) -> None:
    if self.size not in ("photo", "network"):
      raise ValueError(f'size must be "photo" or "network", got {self.size!r}; pick one.')
    images.check_how(self.preprocess)
    if self.size == "photo" and self.preprocess != "paper":
      raise ValueError(
        f'preprocess must be "paper" where photos keep their size, got {self.preprocess!r}; leave '
        'it out, or take size="network".'
      )
    if self.working_pixels is not None:
      pixels = as_int(self.working_pixels)
      if pixels is None or pixels < 2**12:
        raise ValueError(
          f"working_pixels must be an integer of at least {2**12}, or None for each photo's own "
          f"size, got {self.working_pixels!r}."
        )
      object.__setattr__(self, "working_pixels", pixels)  # of whatever kind it was given
    if self.shrink is not None and not 0.1 <= self.shrink <= 100:
      raise ValueError(
        f"shrink must be in 0.1..100 times the networks' side, or None, got {self.shrink!r}."
      )
    inputs.check_config("attack", self.attack, RPFGSMConfig)
    if self.scene is not None and (self.attack.targeted or not isinstance(self.scene, str)):
      raise ValueError(
        "scene must be a class's name and the attack untargeted, or None, got "
        f"scene={self.scene!r} and targeted={self.attack.targeted}; leave one of them out."
      )
    if np.ndim(self.attack.epsilon):
      raise ValueError(
        f"attack.epsilon must be one number, got shape {np.shape(self.attack.epsilon)}; "
        "attack.masking spreads it over the pixels."
      )
    if not 0 <= float(np.asarray(self.attack.epsilon)) < float("inf"):
      raise ValueError(
        f"attack.epsilon must be >= 0 gray levels and finite, got {self.attack.epsilon}."
      )

  @property
  def limits(self) -> SideLimits:
    """What is asked of a photo's sides."""
    return SideLimits(format=self.encoding.format) if self.size == "photo" else SideLimits(1)
