"""What all figures share: canvas, colors, titles, legend, and the PNG.

No setting of Matplotlib is changed, and pyplot, which keeps figures alive, is not used.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rpfgsm_jax import atomic

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DPI = 110
# Okabe and Ito (2008), made for color-blind readers; wine for their yellow, which is lost on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#000000")
GRAY = "#666666"  # of what is said in passing
_MARKERS = "osD^vPX*"
Style = dict[str, Any]  # options of a Matplotlib line


def new_figure(width: float, height: float, *, arranged: bool = True) -> "Figure":
  """Returns an empty figure, in inches; if `arranged`, Matplotlib finds room for titles."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if arranged else "none")
  FigureCanvasAgg(figure)
  return figure


def save(figure: "Figure", path: atomic.PathLike) -> None:
  """Writes a figure as PNG in one step; the same figure gives the same bytes."""
  with atomic.replacing(path) as temporary:
    # Without a name for it, Matplotlib writes its version, and other versions other bytes.
    figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})


def dress(axes: "Axes", title: str, better: str | None = None, *, grid: str = "both") -> None:
  """Gives a chart its title, the direction that is better, and a grid instead of a frame."""
  axes.set_title(title, fontsize=10, loc="left", parse_math=False)
  if better is not None:
    axes.set_title(better, fontsize=9, loc="right", color=GRAY)
  axes.grid(axis=grid, color="#dddddd", linewidth=0.6)
  axes.spines[["top", "right"]].set_visible(False)


def line_styles(titles: Sequence[str]) -> dict[str, Style]:
  """Returns a color and a marker for each line of a chart, for at most eight."""
  if len(titles) > len(COLORS):
    raise ValueError(f"a chart can show {len(COLORS)} lines apart, got {len(titles)}: {titles}.")
  return {
    title: {"color": color, "marker": marker, "markersize": 5}
    for title, color, marker in zip(titles, COLORS, _MARKERS, strict=False)
  }


def use_base_2(axes: "Axes", ticks: Sequence[float]) -> None:
  """Makes the x-axis logarithmic, with a label at each of these values."""
  axes.set_xscale("log", base=2)
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.set_xticks([], minor=True)


def add_legend(figure: "Figure", styles: Mapping[str, Style], *, columns: int = 4) -> None:
  """Puts one legend beneath all charts, from titles and how their lines look."""
  from matplotlib.lines import Line2D

  legend = figure.legend(
    handles=[Line2D([], [], label=title, **style) for title, style in styles.items()],
    loc="outside lower center",
    ncols=min(columns, len(styles)),
    fontsize=9,
    frameon=False,
  )
  for text in legend.get_texts():
    text.set_parse_math(False)
