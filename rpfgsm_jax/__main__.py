"""`python -m rpfgsm_jax`: the command `rpfgsm`."""

from rpfgsm_jax.cli import main

if __name__ == "__main__":
  main()
