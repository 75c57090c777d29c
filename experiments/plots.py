"""What all plots share: canvas, colors, rates with an interval, checks, and the PNG.

The plots themselves are in `plots_*.py`: plain values in, a `matplotlib.figure.Figure` out. They
read no rows, files or networks, and change no setting of Matplotlib.
Rates are per cent in [0, 100], images `(H, W, 3)` uint8.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rpfgsm_jax import atomic

if TYPE_CHECKING:
  from matplotlib.artist import Artist
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DPI = 110
# Okabe and Ito (2008), made for color-blind readers; wine for their yellow, which is lost on white.
COLORS = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#882255",
  "#000000",
)
GRAY = "#666666"  # of what is said in passing
SLACK = 1e-6  # an interval's end may miss its own value by rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A rate and, where it is known, its interval.

  Attributes:
    value: per cent, [0, 100].
    low: lower end of the interval, at most `value`; None: no interval.
    high: upper end, at least `value`; None: no interval.

  Raises:
    ValueError: a number outside [0, 100], one end without the other, or ends on the wrong side.
  """

  value: float
  low: float | None = None
  high: float | None = None

  def __post_init__(self) -> None:
    if (self.low is None) != (self.high is None):
      raise ValueError(f"low and high must come together, got {self.low} and {self.high}.")
    for name in ("value", "low", "high"):
      number = getattr(self, name)
      if number is not None and not -SLACK <= number <= 100 + SLACK:
        raise ValueError(f"{name} must be per cent, 0..100, got {number}.")
    if self.low is not None and not self.low - SLACK <= self.value <= self.high + SLACK:
      raise ValueError(f"low..high must hold value {self.value}, got {self.low}..{self.high}.")

  def reach(self) -> np.ndarray:
    """Returns how far the interval goes down and up from the value, `(2, 1)`, per cent; 0: none."""
    if self.low is None:
      return np.zeros((2, 1))
    # Matplotlib refuses a negative length, which rounding alone can make.
    return np.maximum([[self.value - self.low], [self.high - self.value]], 0.0)


def new_figure(width: float, height: float, *, arranged: bool = True) -> "Figure":
  """Returns an empty figure on an Agg canvas.

  Args:
    width: inches; `DPI` pixels each.
    height: inches.
    arranged: whether Matplotlib finds room for titles and labels; False: every place is given.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if arranged else "none")
  FigureCanvasAgg(figure)
  return figure


def save(figure: "Figure", path: atomic.PathLike) -> None:
  """Writes a figure as PNG in one step; the same figure gives the same bytes.

  Args:
    figure: of one of the plots.
    path: the file to create or replace; missing parent folders are created.

  Raises:
    OSError: it could not be written; an older file of that name is untouched.
  """
  with atomic.replacing(path) as temporary:
    # Without a name for it, Matplotlib writes its version, and other versions other bytes.
    figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})


def entitle(axes: "Axes", title: str, better: str | None = None) -> None:
  """Puts above a plot what it shows and, in gray on the right, which direction is better.

  Args:
    axes: the plot.
    title: taken as it is, `$` and `_` included.
    better: "better ↗" or the like; None: neither is.
  """
  axes.set_title(title, fontsize=10, loc="left", parse_math=False)
  if better is not None:
    axes.set_title(better, fontsize=9, loc="right", color=GRAY)


def add_legend(figure: "Figure", handles: "Sequence[Artist]", *, columns: int) -> None:
  """Puts one legend beneath all plots.

  Args:
    figure: an arranged figure.
    handles: labeled artists.
    columns: entries beside each other.
  """
  legend = figure.legend(
    handles=handles,
    loc="outside lower center",
    ncols=columns,
    fontsize=9,
    frameon=False,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)


def despine(axes: "Axes") -> None:
  """Takes away the frame above and on the right."""
  axes.spines[["top", "right"]].set_visible(False)


def require_some(name: str, values: Sequence[object]) -> None:
  """Raises ValueError where there is nothing to draw.

  Args:
    name: of the argument.
    values: its value.
  """
  if not len(values):
    raise ValueError(f"{name} must have at least one entry, got none.")


def require_titles(name: str, titles: Sequence[str], most: int) -> None:
  """Raises ValueError unless there are at most so many entries, each with a title of its own.

  Args:
    name: of the argument.
    titles: of its entries.
    most: how many can be told apart.
  """
  if len(titles) > most:
    raise ValueError(f"{name} must be at most {most}, got {len(titles)}.")
  if len(set(titles)) != len(titles):
    raise ValueError(f"{name} must have a title each, got {titles}.")


def require_image(name: str, image: np.ndarray) -> None:
  """Raises ValueError unless `image` is a non-empty `(H, W, 3)` uint8 array.

  Args:
    name: of the argument.
    image: its value.
  """
  shape, dtype = np.shape(image), getattr(image, "dtype", type(image).__name__)
  if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
    raise ValueError(f"{name} must be (H, W, 3) uint8, got {shape} {dtype}.")
