"""Fig. 1 and Table IV of the paper: kept photographs after each attack, from a results folder.

Each function returns a figure, or None where the folder keeps no photograph after all attacks.
"""

import pathlib
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots, variants
from experiments.lineup import ORIGINAL
from experiments.results import TRUE, Results
from rpfgsm_jax import data

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# In the order of the paper.
_FIGURE_1 = ("jsma", "cw", "deepfool", "sparsefool", "eot", "di-fgsm", "e-fgsm", "rp-fgsm")
_TABLE_IV = ("cw", "deepfool", "sparsefool", "u-fgsm", "p-fgsm", *_FIGURE_1[4:])
_MARGIN, _HEAD = 8, 56  # pixels around the panels of Fig. 1 and above them
_NEARLY_ALL, _NEARLY_NONE = 0.9995, 0.0005  # probabilities beyond which Table IV has a triangle
_BLUE = "#a8d1f0"
_LONGEST = 25  # letters of a class name that fit beside its probability
# Inches of Table IV: columns, a line, the head, the edge.
_NAME, _PHOTO, _CELL, _LINE, _TOP, _EDGE = 1.25, 1.0, 2.55, 0.185, 0.62, 0.12


def image_path(results: Results, attack: str, photo: str) -> pathlib.Path:
  """Returns where the image of a kept photograph lies, or would if the folder has none."""
  return results.folder / "images" / attack / results.outcomes[attack].extra[photo]["png"]


def _kept(results: Results, attacks: Sequence[str]) -> tuple[dict[str, str], list[str]]:
  """Returns name -> title of the original and the attacks, and the photographs kept of all."""
  found = variants.by_plain_name(results.setup)
  titles = {ORIGINAL: ORIGINAL} | {found[name].name: found[name].title for name in attacks}
  titles = {name: title for name, title in titles.items() if name in results.outcomes}
  if len(titles) < 2:
    return titles, []
  clean = results.outcomes[ORIGINAL].extra
  photos = [
    photo
    for photo, extra in clean.items()
    if "classes" in extra
    and all(photo in results.outcomes[name].extra for name in titles)
    and all(image_path(results, name, photo).is_file() for name in titles)
  ]

  # The best known scene first, chosen by the clean photograph alone.
  def confidence(photo: str) -> float:
    return float(np.mean([each[0] for each in clean[photo]["probabilities"]]))

  return titles, sorted(photos, key=confidence, reverse=True)


def figure1(results: Results) -> "Figure | None":
  """Fig. 1: absolute change of every pixel, summed over channels, on one scale for all panels."""
  from matplotlib.cm import ScalarMappable
  from matplotlib.colors import Normalize

  titles, photos = _kept(results, _FIGURE_1)
  if not photos:
    return None
  panels = [
    [data.read_image(image_path(results, name, photo)) for name in titles] for photo in photos[:3]
  ]
  maps = [[_change(image, original) for image in others] for original, *others in panels]
  # Sparse attacks change few pixels by hundreds of levels; of three channels eps = 16 is 48.
  limit = 3 * results.header["epsilon"]
  scale = ScalarMappable(Normalize(0, limit), cmap="magma")
  figure, grid, beside = _lay_out([original for original, *_ in panels], len(titles))
  for line, (original, *_), sums in zip(grid, panels, maps, strict=True):
    line[0].imshow(original)
    for axes, each in zip(line[1:], sums, strict=True):
      axes.imshow(each, cmap=scale.cmap, norm=scale.norm)
  for axes, title in zip(grid[0], titles.values(), strict=True):
    axes.set_title(title, fontsize=10, parse_math=False)
  beyond = any(each.max() > limit for sums in maps for each in sums)
  bar = figure.colorbar(scale, cax=beside, extend="max" if beyond else "neither")
  bar.set_label("gray levels", fontsize=9)
  return figure


def _change(image: np.ndarray, original: np.ndarray) -> np.ndarray:
  """Returns `(H, W)` in 0..765."""
  if image.shape != original.shape:
    raise ValueError(
      f"kept images must have the original's shape {original.shape}, got {image.shape}."
    )
  change = image.astype(np.int16) - original.astype(np.int16)  # uint8 would wrap around
  return np.abs(change).sum(axis=2, dtype=np.int16)


def _lay_out(
  images: Sequence[np.ndarray], columns: int
) -> tuple["Figure", list[list["Axes"]], "Axes"]:
  """A page with axes for a row of panels for each image, and for the color bar beside them."""
  sides = np.max([image.shape[:2] for image in images], axis=0)
  # As many pixels as the largest image has, within reason.
  scale = np.clip(sides.max(), 130, 260) / sides.max()
  height, width = np.maximum(np.rint(sides * scale).astype(int), 1).tolist()
  right, bottom = (width + _MARGIN) * columns, (height + _MARGIN) * len(images)
  page_width, page_height = max(right + 100, 540), _HEAD + bottom + 4  # the line above fits
  figure = plots.new_figure(page_width / plots.DPI, page_height / plots.DPI, arranged=False)

  def place(left: int, top: int, wide: int, high: int) -> "Axes":
    """Axes at these pixels, counted from the top left panel."""
    lower = page_height - _HEAD - top - high
    return figure.add_axes(
      ((_MARGIN + left) / page_width, lower / page_height, wide / page_width, high / page_height)
    )

  grid = [
    [place(left, top, width, height) for left in range(0, right, width + _MARGIN)]
    for top in range(0, bottom, height + _MARGIN)
  ]
  for line in grid:
    for axes in line:
      axes.set_axis_off()
  figure.text(
    _MARGIN / page_width,
    1 - 16 / page_height,
    "Absolute change, sum over the three channels; the darker, the less visible",
    fontsize=9,
    va="center",
    color=plots.GRAY,
  )
  return figure, grid, place(right + 4, 0, 16, bottom - _MARGIN)


def table4(results: Results) -> "Figure | None":
  """Table IV: one photograph after each attack and every network's five most likely classes."""
  titles, photos = _kept(results, _TABLE_IV)
  if not photos:
    return None
  row_height = 5 * _LINE + 0.16
  left = _EDGE + _NAME + _PHOTO + 0.15  # of the first network
  width = max(left + _CELL * len(results.titles), 8.4)  # the line above fits
  height = _TOP + row_height * len(titles) + _EDGE
  figure = plots.new_figure(width, height, arranged=False)
  axes = figure.add_axes((0, 0, 1, 1))  # in inches, from the top left
  axes.set_axis_off()
  write = {"va": "center", "parse_math": False}
  marked = "the true class" if results.scene == TRUE else "the answer on the original"
  note = f"Five most probable classes in %. Blue: {marked}; better without it. "
  note += "△ above 99.95, ▽ below 0.05."
  axes.text(_EDGE, 0.17, note, fontsize=9, color=plots.GRAY, **write)
  for place, network in enumerate(results.titles):
    axes.text(left + _CELL * place, 0.47, network, fontsize=10, weight="bold", **write)
  for index, (name, title) in enumerate(titles.items()):
    top = _TOP + row_height * index
    axes.plot([_EDGE, width - _EDGE], [top, top], color="#cccccc", linewidth=0.8)
    middle = top + row_height / 2
    axes.text(_EDGE, middle, textwrap.fill(title, 13), fontsize=10, **write)
    image = data.read_image(image_path(results, name, photos[0]))
    _draw_photo(axes, image, _EDGE + _NAME, middle, row_height - 0.1)
    for place in range(len(results.titles)):
      classes = _classes(results, name, photos[0], place)
      _write_classes(axes, classes, left + _CELL * place, top + 0.08)
  axes.set_xlim(0, width)
  axes.set_ylim(height, 0)
  axes.set_aspect("auto")  # imshow set it; inches are square anyway
  return figure


def _classes(
  results: Results, name: str, photo: str, network: int
) -> Iterator[tuple[str, float, bool]]:
  """Yields (class, probability, whether it is marked), the most probable first."""
  extra = results.outcomes[name].extra[photo]
  wanted = extra["label"]
  if results.scene != TRUE:
    wanted = results.outcomes[ORIGINAL].extra[photo]["classes"][network][0]
  for place, probability in zip(
    extra["classes"][network], extra["probabilities"][network], strict=True
  ):
    class_name = results.header["class_names"][place].replace("_", " ")
    yield class_name, probability, place == wanted


def _draw_photo(axes: "Axes", image: np.ndarray, left: float, middle: float, tall: float) -> None:
  """Fits an image of any shape into its place, `tall` inches high and `_PHOTO` wide at most."""
  height, width = image.shape[:2]
  scale = min(_PHOTO / width, tall / height)
  half = scale * height / 2
  axes.imshow(image, extent=(left, left + scale * width, middle + half, middle - half))


def _write_classes(
  axes: "Axes", classes: Iterator[tuple[str, float, bool]], left: float, top: float
) -> None:
  from matplotlib.patches import Rectangle

  for rank, (name, probability, is_marked) in enumerate(classes):
    line = top + _LINE * rank
    if is_marked:
      corner = (left - 0.04, line)
      axes.add_patch(Rectangle(corner, _CELL - 0.12, _LINE, facecolor=_BLUE, linewidth=0))
    if len(name) > _LONGEST:
      name = name[: _LONGEST - 1] + "…"
    number, middle = _percent(probability), line + _LINE / 2
    axes.text(left, middle, name, fontsize=8.5, va="center", parse_math=False)
    axes.text(left + _CELL - 0.22, middle, number, fontsize=8.5, va="center", ha="right")


def _percent(probability: float) -> str:
  """Returns a probability with the triangles of Table IV's caption; at its bounds there is none."""
  sign = "△ " if probability > _NEARLY_ALL else "▽ " if probability < _NEARLY_NONE else ""
  return f"{sign}{100 * probability:.1f}"
