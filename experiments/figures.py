"""The demo's figure, made from its rows and PNGs."""

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots, rows
from experiments.lineup import ORIGINAL
from experiments.results import class_names_of
from rpfgsm_jax import data

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_SHOWN = "rp-fgsm"
_EXAMPLES = 3
_BEFORE, _OTHER = "#c44e52", "#9fb4d0"  # the scene predicted before, and every other


def draw_figure(folder: pathlib.Path) -> pathlib.Path:
  """Draws a few photos before and after RP-FGSM and what an unseen network makes of them."""
  header, examples = _choose(folder)
  network = _shown_network(header)
  figure = plots.new_figure(13, 2.9 * len(examples) + 0.5)
  grid = figure.subplots(len(examples), 5, squeeze=False, width_ratios=(1.15, 1.15, 1.15, 1, 1))
  amplification = max(round(127 / max(header["epsilon"], 1)), 1)
  for axes, (clean, protected) in zip(grid, examples, strict=True):
    original = data.read_image(folder / clean["png"])
    changed = data.read_image(folder / protected["png"])
    difference = changed.astype(np.float32) - original
    amplified = np.clip(128 + amplification * difference, 0, 255).astype(np.uint8)
    psnr = "identical" if protected["psnr"] is None else f"{protected['psnr']:.1f} dB"
    _show(axes[0], original, "original")
    _show(axes[1], changed, f"protected ({psnr})")
    _show(axes[2], amplified, f"difference × {amplification}")
    scene = clean["classes"][network][0]
    for place, row, when in ((3, clean, "before"), (4, protected, "after")):
      classes, probabilities = row["classes"][network], row["probabilities"][network]
      names = [class_names_of(header, network)[index].replace("_", " ") for index in classes]
      colors = [_BEFORE if index == scene else _OTHER for index in classes]
      _draw_classes(axes[place], names, probabilities, colors)
      title = f"{header['networks'][network]['title']} {when}"
      axes[place].set_title(title, fontsize=10, parse_math=False)
  path = folder / "figure.png"
  plots.save(figure, path)
  return path


def _shown_network(header: rows.Row) -> int:
  return next(i for i, network in enumerate(header["networks"]) if not network["seen"])


def _choose(folder: pathlib.Path) -> tuple[rows.Row, list[tuple[rows.Row, rows.Row]]]:
  """The header, and (clean, protected row) of each group's surest clean photo of each scene.

  Never by success.
  """
  path = rows.find_rows(folder)
  header, found = rows.read_run(path)
  network = _shown_network(header)
  # (group, scene) -> its surest photograph, a tie by its name.
  best: dict[tuple[str, int], tuple[float, str]] = {}
  for row in found:
    if row["kind"] == "photo" and row["attack"] == ORIGINAL:
      one = (-row["probabilities"][network][0], row["photo"])
      which = row["group"], row["classes"][network][0]
      best[which] = min(one, best.get(which, one))
  examples = {photo: {} for _, photo in sorted(best.values())[:_EXAMPLES]}
  for row in rows.read_rows(path):
    if row["kind"] == "photo" and row["photo"] in examples:
      examples[row["photo"]][row["attack"]] = row
  return header, [(each[ORIGINAL], each[_SHOWN]) for each in examples.values()]


def _show(axes: "Axes", image: np.ndarray, title: str) -> None:
  axes.imshow(image, interpolation="nearest")
  axes.set_title(title, fontsize=10)
  axes.set_axis_off()


def _draw_classes(
  axes: "Axes", names: Sequence[str], probabilities: Sequence[float], colors: Sequence[str]
) -> None:
  axes.barh(range(len(names)), probabilities, color=colors, height=0.55)
  for place, name in enumerate(names):
    axes.text(0.02, place - 0.4, name, fontsize=8, va="center", parse_math=False)
  axes.set_xlim(0, 1)
  axes.set_ylim(len(names) - 0.5, -0.7)  # the most likely on top
  axes.set_yticks([])
  axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=8)
  axes.spines[["top", "right", "left"]].set_visible(False)
