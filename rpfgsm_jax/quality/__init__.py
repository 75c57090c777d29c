"""How much a protected image differs from its original."""

from rpfgsm_jax.quality.norms import PerturbationNorms, perturbation_norms
from rpfgsm_jax.quality.psnr import psnr

__all__ = ["PerturbationNorms", "perturbation_norms", "psnr"]
