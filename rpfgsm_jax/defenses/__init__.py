"""The defenses an attacked image may meet, differentiable, and the bank attacks draw them from."""

from rpfgsm_jax.defenses.bank import (
  IDENTITY,
  JPEG,
  MEDIAN,
  REQUANTIZE,
  Defense,
  DefenseBank,
  no_defenses,
  paper_bank,
  uniform_bank,
)
from rpfgsm_jax.defenses.jpeg import jpeg
from rpfgsm_jax.defenses.median import median
from rpfgsm_jax.defenses.platform import (
  UPLOAD,
  encoded_bank,
  platform_bank,
  shrunk_bank,
  upload_size,
)
from rpfgsm_jax.defenses.requantize import requantize
from rpfgsm_jax.defenses.resize import resize
from rpfgsm_jax.defenses.transforms import (
  DARKEN,
  GAUSSIAN_NOISE,
  INPUT_DIVERSITY,
  LIGHTEN,
  ROTATE,
  SCALE,
  TRANSLATE,
  add_levels,
  eot_bank,
  resize_and_pad,
  rotate,
  scale,
  translate,
  views_bank,
)

__all__ = [
  "DARKEN",
  "GAUSSIAN_NOISE",
  "IDENTITY",
  "INPUT_DIVERSITY",
  "JPEG",
  "LIGHTEN",
  "MEDIAN",
  "REQUANTIZE",
  "ROTATE",
  "SCALE",
  "TRANSLATE",
  "UPLOAD",
  "Defense",
  "DefenseBank",
  "add_levels",
  "encoded_bank",
  "eot_bank",
  "jpeg",
  "median",
  "no_defenses",
  "paper_bank",
  "platform_bank",
  "requantize",
  "resize",
  "resize_and_pad",
  "rotate",
  "scale",
  "shrunk_bank",
  "translate",
  "uniform_bank",
  "upload_size",
  "views_bank",
]
