"""Photographs after each attack and what networks make of them (Table IV)."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

NEARLY_ALL, NEARLY_NONE = 0.9995, 0.0005
"""Probabilities above and below which Table IV has a triangle."""
TOP = 5
"""Classes of each network in Table IV."""
_BLUE = "#a8d1f0"
_LONGEST = 25  # letters of a class name that fit beside its probability
# Inches of Table IV.
_NAME, _PHOTO, _CELL, _LINE, _HEAD, _EDGE = 1.25, 1.0, 2.55, 0.185, 0.62, 0.12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """One class of a network's top 5.

  Attributes:
    name: of the class.
    probability: [0, 1].
    is_marked: whether to shade it blue: the true class, or the one predicted for the original.
  """

  name: str
  probability: float
  is_marked: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
  """One row of Table IV.

  Attributes:
    title: the attack.
    image: its photograph, `(H, W, 3)` uint8.
    predictions: for each network 1 to 5 classes, the most probable first.
  """

  title: str
  image: np.ndarray
  predictions: tuple[tuple[Prediction, ...], ...]


def percent(probability: float) -> str:
  """Returns a probability as Table IV writes it.

  △ stands before what is higher than 99.95 %, ▽ before what is lower than 0.05 %; a probability of
  exactly that has none.

  Args:
    probability: [0, 1].
  """
  sign = "△ " if probability > NEARLY_ALL else "▽ " if probability < NEARLY_NONE else ""
  return f"{sign}{100 * probability:.1f}"


def examples(
  entries: Sequence[Example], networks: Sequence[str], *, marked: str = "the true class"
) -> "Figure":
  """Draws photographs after each attack and what every network makes of them.

  Sanchez-Matilla et al. (2020), Table IV: top-5 classes, probabilities in per cent, the true class
  shaded blue, △ above 99.95 % and ▽ below 0.05 %.

  Args:
    entries: the rows, from the top; about eight fill a page.
    networks: titles of the columns.
    marked: what the blue classes are, for the line above the table.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, an image that is not `(H, W, 3)` uint8, predictions that are not
      for each network, not 1 to 5, not sorted, or whose probability is outside [0, 1].
  """
  plots.require_some("entries", entries)
  plots.require_some("networks", networks)
  for entry in entries:
    _check_example(entry, len(networks))
  row_height = TOP * _LINE + 0.16
  left = _EDGE + _NAME + _PHOTO + 0.15  # of the first network
  width = max(left + _CELL * len(networks), 8.4)  # the line above fits
  height = _HEAD + row_height * len(entries) + _EDGE
  figure = plots.new_figure(width, height, arranged=False)
  axes = figure.add_axes((0, 0, 1, 1))  # in inches, from the top left
  axes.set_axis_off()
  axes.text(
    _EDGE,
    0.17,
    f"Five most probable classes in %. Blue: {marked}; better without it. "
    "△ above 99.95, ▽ below 0.05.",
    fontsize=9,
    va="center",
    color=plots.GRAY,
    parse_math=False,
  )
  for place, network in enumerate(networks):
    where = left + _CELL * place
    axes.text(where, 0.47, network, fontsize=10, weight="bold", va="center", parse_math=False)
  for index, entry in enumerate(entries):
    top = _HEAD + row_height * index
    axes.plot([_EDGE, width - _EDGE], [top, top], color="#cccccc", linewidth=0.8)
    middle = top + row_height / 2
    title = textwrap.fill(entry.title, 13)
    axes.text(_EDGE, middle, title, fontsize=10, va="center", parse_math=False)
    _draw_photo(axes, entry.image, _EDGE + _NAME, middle, row_height - 0.1)
    for place, classes in enumerate(entry.predictions):
      _write_cell(axes, classes, left + _CELL * place, top + 0.08)
  axes.set_xlim(0, width)
  axes.set_ylim(height, 0)
  axes.set_aspect("auto")  # imshow set it; inches are square anyway
  return figure


def _check_example(entry: Example, num_networks: int) -> None:
  plots.require_image("image", entry.image)
  if len(entry.predictions) != num_networks:
    raise ValueError(
      f"predictions of {entry.title} must be one for each of {num_networks} networks, got "
      f"{len(entry.predictions)}."
    )
  for classes in entry.predictions:
    if not 1 <= len(classes) <= TOP:
      raise ValueError(f"predictions of {entry.title} must be 1..{TOP}, got {len(classes)}.")
    probabilities = [prediction.probability for prediction in classes]
    if not all(0 <= each <= 1 + 1e-6 for each in probabilities):  # a float32 softmax passes 1
      raise ValueError(f"probability of {entry.title} must be in 0..1, got {probabilities}.")
    if sorted(probabilities, reverse=True) != probabilities:
      raise ValueError(
        f"predictions of {entry.title} must have the most probable first, got {probabilities}."
      )


def _draw_photo(axes: "Axes", image: np.ndarray, left: float, middle: float, tall: float) -> None:
  """Fits an image of any shape into its place, `tall` inches high and `_PHOTO` wide at most."""
  height, width = image.shape[:2]
  scale = min(_PHOTO / width, tall / height)
  half = scale * height / 2
  axes.imshow(image, extent=(left, left + scale * width, middle + half, middle - half))


def _write_cell(axes: "Axes", classes: Sequence[Prediction], left: float, top: float) -> None:
  from matplotlib.patches import Rectangle

  for rank, prediction in enumerate(classes):
    line = top + _LINE * rank
    if prediction.is_marked:
      corner = (left - 0.04, line)
      axes.add_patch(Rectangle(corner, _CELL - 0.12, _LINE, facecolor=_BLUE, linewidth=0))
    name = prediction.name
    if len(name) > _LONGEST:
      name = name[: _LONGEST - 1] + "…"
    number, middle = percent(prediction.probability), line + _LINE / 2
    axes.text(left, middle, name, fontsize=8.5, va="center", parse_math=False)
    axes.text(left + _CELL - 0.22, middle, number, fontsize=8.5, va="center", ha="right")
