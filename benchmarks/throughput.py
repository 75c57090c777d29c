"""RP-FGSM on this machine beside PyTorch: the whole attack, its gradients, its defenses.

Sides run in processes of their own and take turns; a row holds medians and the range of the
pairwise ratios. Networks have the paper's size (224 x 224 pixels, 365 classes) and random weights,
both sides the same defenses and 60 iterations; each chooses its batch.

- `authors`: PyTorch one image at a time with the gradients of all weights, as the paper's code;
- `torch`: the best PyTorch we could write: all images at once, grouped by the network they drew,
  batch-norm folded, channels last, no weight gradients.

  make bench                                              (installs torch; about half an hour)
  python benchmarks/throughput.py attack --rounds 3
  python benchmarks/throughput.py gradients defenses compile

Bars: the attack at most 1.15 times `torch` and at least 2.5 times as fast as `authors`; no
network's input gradient above 1.25 times torch's; compiling at most 12 s, 3 s from the cache; at
most 2.5 GB.
"""

import contextlib
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import click
import records
from sides import Side, interleaved, side

from rpfgsm_jax import defenses

NAME = "throughput"
NETWORKS = ("resnet18", "resnet50", "alexnet", "densenet161")
GFLOP = {"resnet18": 7.25, "resnet50": 16.35, "alexnet": 2.85, "densenet161": 30.9}
"""Of one input gradient at 224 x 224 with 365 classes: twice the products of the forward pass."""


@click.command()
@click.argument(
  "parts", nargs=-1, type=click.Choice(["attack", "gradients", "defenses", "compile"])
)
@click.option(
  "--network",
  "networks",
  type=click.Choice(NETWORKS),
  multiple=True,
  default=NETWORKS,
  help="Whose gradients; may be repeated.  [default: all]",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--images", type=click.IntRange(1), default=32, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=60, show_default=True)
@click.option("--micro-batch", type=click.IntRange(1), default=8, show_default=True, help="Ours.")
def main(
  parts: tuple[str, ...],
  networks: tuple[str, ...],
  rounds: int,
  images: int,
  steps: int,
  micro_batch: int,
) -> None:
  """Prints and appends the rows of the named PARTS; of all when none is named."""
  parts = parts or ("compile", "gradients", "defenses", "attack")
  common = {"images": images, "steps": steps, "micro_batch": micro_batch}
  if "compile" in parts:
    measure_compilation(common, rounds)
  if set(parts) == {"compile"}:
    return
  with side("side_jax.py") as ours, side("side_torch.py") as theirs:
    theirs.ask("setup")
    peak = statistics.median(
      max(each.ask("peak", size=3072)["gflops"] for each in (ours, theirs)) for _ in range(3)
    )
    records.append(NAME, {"part": "peak", "gflops": round(peak, 1)})
    if "gradients" in parts:
      measure_gradients(ours, theirs, networks, rounds, peak)
    if "defenses" in parts:
      measure_defenses(ours, theirs, rounds)
  if "attack" in parts:
    measure_attack(common, rounds, peak)


def measure_compilation(common: dict[str, int], rounds: int) -> None:
  """What compiling costs with an empty cache, and with the one that this filled."""
  cold, cached = [], []
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as folder:
      cold.append(_cost_of_the_first_call(folder, common))
      cached.append(_cost_of_the_first_call(folder, common))
  seconds = {
    "cold": round(statistics.median(cold), 2),
    "cached": round(statistics.median(cached), 2),
  }
  records.append(NAME, {"part": "compile", "seconds": seconds, **common, "steps": 3})


def _cost_of_the_first_call(cache: str, common: dict[str, int]) -> float:
  """Seconds that a new process's first call of the whole attack takes more than its second."""
  with side("side_jax.py", {"JAX_COMPILATION_CACHE_DIR": cache}) as ours:
    ours.ask("setup")
    what = {"batch": common["images"], "steps": 3, "micro_batch": common["micro_batch"]}
    first, second = (ours.ask("attack", **what)["seconds"] for _ in range(2))
  return first - second


def measure_gradients(
  ours: Side, theirs: Side, networks: Sequence[str], rounds: int, peak: float
) -> None:
  """Each network's input gradient at three batch sizes, two of them in a row."""
  for name in networks:
    for batch in (1, 8, 32):
      seconds, ratios = interleaved(
        {
          "torch": lambda n=name, b=batch: theirs.ask("gradient", name=n, batch=b, repeats=2)[
            "seconds"
          ],
          "jax": lambda n=name, b=batch: ours.ask("gradient", name=n, batch=b, repeats=2)[
            "seconds"
          ],
        },
        rounds,
      )
      shares = {who: round(GFLOP[name] * batch / spent / peak, 3) for who, spent in seconds.items()}
      row = {"part": "gradient", "network": name, "batch": batch, "median_s": seconds}
      records.append(NAME, {**row, "ratio": ratios["jax"], "share_of_peak": shares})


def measure_defenses(ours: Side, theirs: Side, rounds: int) -> None:
  """Each defense with its gradient, eight images."""
  for family in defenses.paper_bank().families[1:]:
    for parameter in family.parameters[:: 3 if family.name != "median" else 1]:
      what = {"family": family.name, "parameter": parameter, "batch": 8}
      seconds, ratios = interleaved(
        {
          "torch": lambda w=what: theirs.ask("defense", **w)["seconds"],
          "jax": lambda w=what: ours.ask("defense", **w)["seconds"],
        },
        rounds,
      )
      records.append(NAME, {"part": "defense", **what, "median_s": seconds, "ratio": ratios["jax"]})


def measure_attack(common: dict[str, int], rounds: int, peak: float) -> None:
  """The whole attack: ours, the best PyTorch, and PyTorch as its authors run it, one image."""
  work = common["steps"] * sum(GFLOP[name] for name in NETWORKS[:3]) / 3  # GFLOP an image
  with contextlib.ExitStack() as stack:
    ours = stack.enter_context(side("side_jax.py"))
    best, authors = (stack.enter_context(side("side_torch.py")) for _ in range(2))
    count, steps = common["images"], common["steps"]
    peaks = {}

    def ask(who: str, one: Side, batch: int, **options: object) -> float:
      answer = one.ask("attack", batch=batch, steps=steps, **options)
      peaks[who] = answer["peak_gb"]
      return answer["seconds"] / batch

    for one in (best, authors):
      one.ask("setup")
    seconds, ratios = interleaved(
      {
        "jax": lambda: ask("jax", ours, count, micro_batch=common["micro_batch"]),
        "torch": lambda: ask("torch", best, count, best=True),
        "authors": lambda: ask("authors", authors, 1, best=False),
      },
      rounds,
    )
  shares = {who: round(work / spent / peak, 3) for who, spent in seconds.items()}
  row = {"part": "attack", **common, "median_s_per_image": seconds, "ratio_to_jax": ratios}
  records.append(NAME, {**row, "share_of_peak": shares, "peak_gb": peaks})


if __name__ == "__main__":
  main()
