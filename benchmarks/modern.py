"""Input gradients of modern networks beside PyTorch's: ViT-S/14 and ConvNeXt-tiny.

Sides run in processes of their own and take turns; a row holds medians and the range of the
pairwise ratios. Both have random weights, 224 x 224 pixels, 365 classes, and no weight gradients;
PyTorch runs transformers' and torchvision's networks.

  python benchmarks/modern.py --rounds 5            (with torch, torchvision and transformers)

Bar: at most 1.15 times PyTorch's time.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import click
import records
from sides import interleaved, side

NAME = "modern"
NETWORKS = ("vit_s14", "convnext_tiny")


@click.command()
@click.option(
  "--network",
  "networks",
  type=click.Choice(NETWORKS),
  multiple=True,
  default=NETWORKS,
  help="Whose gradients; may be repeated.  [default: both]",
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(networks: tuple[str, ...], rounds: int) -> None:
  """Prints and appends a row for each network and batch size."""
  with side("side_jax.py") as ours, side("side_torch.py") as theirs:
    theirs.ask("setup")
    for name in networks:
      for batch in (1, 8):
        what = {"name": name, "batch": batch, "repeats": 3}
        seconds, ratios = interleaved(
          {
            "torch": lambda w=what: theirs.ask("gradient", **w)["seconds"],
            "jax": lambda w=what: ours.ask("gradient", **w)["seconds"],
          },
          rounds,
        )
        row = {"part": "gradient", "network": name, "batch": batch, "median_s": seconds}
        records.append(NAME, {**row, "ratio": ratios["jax"]})


if __name__ == "__main__":
  main()
