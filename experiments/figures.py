"""Figures of an experiment, made from its rows and PNGs."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import rows
from rpfgsm_jax import atomic, data

if TYPE_CHECKING:
  from matplotlib.axes import Axes

SHOWN = "rp-fgsm"
_EXAMPLES = 3
_ASKED, _OTHER = "#c44e52", "#9fb4d0"  # the scene predicted before, and every other


def draw_figure(folder: pathlib.Path) -> pathlib.Path:
  """Draws a few photographs before and after RP-FGSM and what an unseen network makes of them.

  Original, protected, the difference amplified, and the five most likely classes before and after.
  Shown are the photographs whose scene the unseen network was surest of, one of each group: chosen
  by the clean photograph alone, never by success.

  Args:
    folder: the results folder with `rows.jsonl` and the PNGs.

  Returns:
    The path of `figure.png`.

  Raises:
    RowsError: the rows cannot be read.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  header, examples = _choose(folder)
  network = _shown_network(header)
  figure = Figure(figsize=(13, 2.9 * len(examples) + 0.5), layout="constrained")
  FigureCanvasAgg(figure)
  grid = figure.subplots(len(examples), 5, squeeze=False, width_ratios=(1.15, 1.15, 1.15, 1, 1))
  amplification = max(round(127 / max(header["epsilon"], 1)), 1)
  for axes, (clean, protected) in zip(grid, examples, strict=True):
    original = data.read_image(folder / clean["png"])
    changed = data.read_image(folder / protected["png"])
    difference = changed.astype(np.float32) - original
    amplified = np.clip(128 + amplification * difference, 0, 255).astype(np.uint8)
    _show(axes[0], original, "original")
    psnr = "identical" if protected["psnr"] is None else f"{protected['psnr']:.1f} dB"
    _show(axes[1], changed, f"protected ({psnr})")
    _show(axes[2], amplified, f"difference × {amplification}")
    names = header["class_names"]
    title = header["networks"][network]["title"]
    asked = clean["classes"][network][0]
    _bars(axes[3], clean, network, names, asked, f"{title} before")
    _bars(axes[4], protected, network, names, asked, f"{title} after")
  path = folder / "figure.png"
  with atomic.replacing(path) as temporary:
    figure.savefig(temporary, dpi=110, format="png")
  return path


def _shown_network(header: rows.Row) -> int:
  return next(i for i, network in enumerate(header["networks"]) if not network["seen"])


def _choose(folder: pathlib.Path) -> tuple[rows.Row, list[tuple[rows.Row, rows.Row]]]:
  """The header, and (clean row, protected row) of the examples, surest first."""
  found = rows.read_rows(folder / "rows.jsonl")
  header = next(found)
  network = _shown_network(header)
  best: dict[str, rows.Row] = {}
  for row in found:
    if row["kind"] != "photo" or row["attack"] != "original":
      continue
    other = best.get(row["group"])
    if other is None or _surety(row, network) > _surety(other, network):
      best[row["group"]] = row
      if len(best) > 64 * _EXAMPLES:  # of a large folder only the surest need to be remembered
        best = {each["group"]: each for each in _surest(best.values(), network)}
  clean = _surest(best.values(), network)
  wanted = {row["photo"]: row for row in clean}
  protected = {
    row["photo"]: row
    for row in rows.read_rows(folder / "rows.jsonl")
    if row["kind"] == "photo" and row["attack"] == SHOWN and row["photo"] in wanted
  }
  return header, [(row, protected[row["photo"]]) for row in clean]


def _surety(row: rows.Row, network: int) -> float:
  return row["probabilities"][network][0]


def _surest(some: Sequence[rows.Row], network: int) -> list[rows.Row]:
  return sorted(some, key=lambda row: (-_surety(row, network), row["photo"]))[:_EXAMPLES]


def _show(axes: "Axes", image: np.ndarray, title: str) -> None:
  axes.imshow(image, interpolation="nearest")
  axes.set_title(title, fontsize=10)
  axes.set_axis_off()


def _bars(
  axes: "Axes", row: rows.Row, network: int, names: Sequence[str], asked: int, title: str
) -> None:
  classes, probabilities = row["classes"][network], row["probabilities"][network]
  places = range(len(classes))
  colors = [_ASKED if index == asked else _OTHER for index in classes]
  axes.barh(places, probabilities, color=colors, height=0.55)
  for place, index in enumerate(classes):
    label = names[index].replace("_", " ")
    axes.text(0.02, place - 0.4, label, fontsize=8, va="center", parse_math=False)
  axes.set_xlim(0, 1)
  axes.set_ylim(len(classes) - 0.5, -0.7)  # the most likely on top
  axes.set_yticks([])
  axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
  axes.set_title(title, fontsize=10, parse_math=False)
  axes.spines[["top", "right", "left"]].set_visible(False)
