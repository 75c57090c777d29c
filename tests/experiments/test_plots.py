"""What all figures share: the file, titles, styles and the legend."""

import pytest
from matplotlib.text import Text
from PIL import Image

from experiments import plots


def chart():
  figure = plots.new_figure(4, 3)
  axes = figure.subplots()
  styles = plots.line_styles(["a_$1", "b"])
  for title, style in styles.items():
    axes.plot([1, 4, 16], [2, 3, 1], label=title, **style)
  plots.dress(axes, "rate_$", "better ↑")
  plots.use_base_2(axes, [1, 4, 16])
  plots.add_legend(figure, styles)
  return figure


def test_a_figure_drawn_again_is_the_same_file(tmp_path):
  figure = chart()
  for name, each in (("first", figure), ("again", figure), ("anew", chart())):
    plots.save(each, tmp_path / "new" / name)
  assert len({path.read_bytes() for path in (tmp_path / "new").iterdir()}) == 1


def test_the_file_is_a_png_of_known_size_that_says_nothing_of_its_maker(tmp_path):
  plots.save(plots.new_figure(2, 1), tmp_path / "figure.png")
  with Image.open(tmp_path / "figure.png") as image:
    assert (image.format, image.size) == ("PNG", (220, 110))
    assert set(image.info) == {"dpi"}


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path, monkeypatch):
  figure = plots.new_figure(2, 1)
  plots.save(figure, tmp_path / "figure.png")
  old = (tmp_path / "figure.png").read_bytes()

  def fail(file, **_):
    file.write_bytes(b"half")
    raise MemoryError

  monkeypatch.setattr(figure, "savefig", fail)
  with pytest.raises(MemoryError):
    plots.save(figure, tmp_path / "figure.png")
  assert [path.read_bytes() for path in tmp_path.iterdir()] == [old]


def test_a_chart_has_its_titles_a_labeled_base_2_axis_and_a_legend_of_its_lines():
  figure = chart()
  (axes,) = figure.axes
  assert (axes.get_title(loc="left"), axes.get_title(loc="right")) == ("rate_$", "better ↑")
  assert axes.xaxis.get_scale() == "log"
  assert axes.xaxis.get_transform().base == 2
  assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "4", "16"]
  assert not len(axes.xaxis.get_minorticklocs())
  for line, handle in zip(axes.lines, figure.legends[0].legend_handles, strict=True):
    assert handle.get_label() == line.get_label()
    assert (handle.get_marker(), handle.get_color()) == (line.get_marker(), line.get_color())
  assert figure.canvas.manager is None  # pyplot knows nothing of it
  assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


def test_eight_lines_are_told_apart_and_nine_are_refused():
  styles = plots.line_styles(list("abcdefgh")).values()
  assert len({style["color"] for style in styles}) == 8
  assert len({style["marker"] for style in styles}) == 8
  with pytest.raises(ValueError, match="can show 8 lines apart, got 9"):
    plots.line_styles(list("abcdefghi"))
