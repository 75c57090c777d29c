"""RP-FGSM in JAX."""
