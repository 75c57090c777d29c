"""Where and how much attacks change photographs (Fig. 1)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import plots

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.cm import ScalarMappable
  from matplotlib.figure import Figure

_MARGIN, _HEAD = 8, 56  # pixels around the panels and above them


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerturbationPanels:
  """One photograph of Fig. 1, a row of panels.

  Attributes:
    original: `(H, W, 3)` uint8.
    adversarials: one image for each attack, same shape; None: the attack did not run on it.
  """

  original: np.ndarray
  adversarials: tuple[np.ndarray | None, ...]


def perturbation_maps(
  panels: Sequence[PerturbationPanels], attacks: Sequence[str], *, limit: float | None = None
) -> "Figure":
  """Draws where and how much attacks changed photographs: absolute change, summed over channels.

  Sanchez-Matilla et al. (2020), Fig. 1; one scale for all panels.

  Args:
    panels: the photographs, from the top.
    attacks: titles of the columns, A of them.
    limit: gray levels at the end of the scale, where larger sums end too; None: the largest sum.

  Returns:
    The figure.

  Raises:
    ValueError: nothing to draw, an image that is not `(H, W, 3)` uint8 or not of its original's
      shape, another number of images than attacks, or a limit that is not positive.
  """
  from matplotlib.cm import ScalarMappable
  from matplotlib.colors import Normalize

  plots.require_some("panels", panels)
  plots.require_some("attacks", attacks)
  maps = [_perturbations(row, len(attacks)) for row in panels]
  drawn = [each for row in maps for each in row if each is not None]
  largest = max((int(each.max()) for each in drawn), default=0)
  if limit is None:
    limit = max(largest, 1)
  elif not 0 < limit < np.inf:
    raise ValueError(f"limit must be positive gray levels, got {limit}.")
  figure, grid, beside = _lay_out([row.original for row in panels], len(attacks) + 1)
  scale = ScalarMappable(Normalize(0, limit), cmap="magma")
  for axes, row, sums in zip(grid, panels, maps, strict=True):
    _show_row(axes, row, sums, scale)
  for axes, title in zip(grid[0], ("original", *attacks), strict=True):
    axes.set_title(title, fontsize=10, parse_math=False)
  bar = figure.colorbar(
    scale,
    cax=beside,
    extend="max" if largest > limit else "neither",
  )
  bar.set_label("gray levels", fontsize=9)
  return figure


def _lay_out(
  images: Sequence[np.ndarray], columns: int
) -> tuple["Figure", list[list["Axes"]], "Axes"]:
  """A page with axes for a row of panels for each image, and for the color bar beside them."""
  height, width = _panel_size(images)
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
  figure.text(
    _MARGIN / page_width,
    1 - 16 / page_height,
    "Absolute change, sum over the three channels; the darker, the less visible",
    fontsize=9,
    va="center",
    color=plots.GRAY,
  )
  return figure, grid, place(right + 4, 0, 16, bottom - _MARGIN)


def _panel_size(images: Sequence[np.ndarray]) -> tuple[int, int]:
  """Pixels of a panel, (high, wide): as many as the largest image has, within reason."""
  sides = np.max([image.shape[:2] for image in images], axis=0)
  high, wide = np.rint(sides * (np.clip(sides.max(), 130, 260) / sides.max())).astype(int).tolist()
  return max(high, 1), max(wide, 1)


def _show_row(
  grid: "Sequence[Axes]",
  row: PerturbationPanels,
  maps: Sequence[np.ndarray | None],
  scale: "ScalarMappable",
) -> None:
  for axes in grid:
    axes.set_axis_off()
  grid[0].imshow(row.original)
  for axes, sums in zip(grid[1:], maps, strict=True):
    if sums is None:
      axes.text(0.5, 0.5, "not run", ha="center", va="center", fontsize=9, color=plots.GRAY)
    else:
      axes.imshow(sums, cmap=scale.cmap, norm=scale.norm)


def _perturbations(row: PerturbationPanels, num_attacks: int) -> list[np.ndarray | None]:
  """The maps of a row, `(H, W)` int16 in 0..765."""
  plots.require_image("original", row.original)
  if len(row.adversarials) != num_attacks:
    raise ValueError(
      f"adversarials must be one for each of {num_attacks} attacks, got {len(row.adversarials)}."
    )
  maps: list[np.ndarray | None] = []
  for image in row.adversarials:
    if image is None:
      maps.append(None)
      continue
    plots.require_image("adversarials", image)
    if image.shape != row.original.shape:
      raise ValueError(
        f"adversarials must have the original's shape {row.original.shape}, got {image.shape}."
      )
    # uint8 would wrap around
    change = image.astype(np.int16) - row.original.astype(np.int16)
    maps.append(np.abs(change).sum(axis=2, dtype=np.int16))
  return maps
