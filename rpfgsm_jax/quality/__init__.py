"""How much a protected image differs from its original, and how natural it looks."""

from rpfgsm_jax.quality.mad import mad
from rpfgsm_jax.quality.norms import PerturbationNorms, perturbation_norms
from rpfgsm_jax.quality.psnr import psnr
from rpfgsm_jax.quality.ssim import ssim

__all__ = ["PerturbationNorms", "mad", "perturbation_norms", "psnr", "ssim"]
