"""How much a protected image differs from its original, and how natural it looks."""

from rpfgsm_jax.quality.brisque import (
  BrisqueModel,
  ModelNotFoundError,
  brisque,
  load_brisque_model,
)
from rpfgsm_jax.quality.ciede2000 import ciede2000
from rpfgsm_jax.quality.mad import mad
from rpfgsm_jax.quality.norms import PerturbationNorms, perturbation_norms
from rpfgsm_jax.quality.psnr import psnr
from rpfgsm_jax.quality.scielab import scielab, scielab_map
from rpfgsm_jax.quality.ssim import ssim

__all__ = [
  "BrisqueModel",
  "ModelNotFoundError",
  "PerturbationNorms",
  "brisque",
  "ciede2000",
  "load_brisque_model",
  "mad",
  "perturbation_norms",
  "psnr",
  "scielab",
  "scielab_map",
  "ssim",
]
