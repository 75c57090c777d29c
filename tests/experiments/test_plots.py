"""Plots: what is drawn is read back and compared with the numbers given."""

import math

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle
from matplotlib.text import Text
from PIL import Image

from experiments import plots, plots_boxes, plots_examples, plots_maps, plots_rates, plots_sweep
from experiments.plots import Estimate
from experiments.plots_boxes import RuntimeGroup
from experiments.plots_examples import Example, Prediction
from experiments.plots_maps import PerturbationPanels
from experiments.plots_rates import TradeOff
from experiments.plots_sweep import Band, Sweep

RANDOM = np.random.default_rng(20)
ORIGINAL, CHANGED, OTHER = RANDOM.integers(0, 256, (3, 11, 17, 3), dtype=np.uint8)
GAMMAS = (0.1, 0.5, 0.9, 0.99)
COUNTS = np.stack(
  [
    np.full(200, 24),
    RANDOM.integers(20, 25, 200),
    np.minimum(24, RANDOM.poisson(14, 200)),
    np.maximum(24 - RANDOM.geometric(0.2, 200), 0),
  ],
  axis=1,
)
FAST, SLOW = RANDOM.lognormal(-2, 0.4, 31), RANDOM.lognormal(3, 0.9, 30)
EPSILONS = (1, 4, 16, 64)


def rate(value, low=None, high=None):
  return Estimate(value=value, low=low, high=high)


POINTS = (
  TradeOff(attack="original", targeted=None, seen=rate(0), unseen=rate(7)),
  TradeOff(
    attack="RP $ FGSM",
    targeted=False,
    seen=rate(91, 85, 95),
    unseen=rate(76),
    seen_defended=rate(88),
    unseen_defended=rate(77, 70.5, 81),
    undetectability=rate(55),
    brisque=rate(66),
    psnr=rate(40, 38, 41),
  ),
  TradeOff(attack="RP $ FGSM", targeted=True, seen=rate(97), unseen=rate(64), psnr=rate(41)),
)
CURVES = (
  Sweep(
    title="A_$1",
    epsilons=EPSILONS,
    seen=Band(values=np.array([10, 20, np.nan, 99.5])),
    psnr=Band(values=np.array([50, 40, 30, 20.0]), low=[48, 39, 29, 19], high=[51, 42, 31, 22]),
  ),
  Sweep(title="B", epsilons=EPSILONS[1:], seen=Band(values=[1, 0, 100]), detectability=None),
)
BARS = [("one_$1", rate(40, 30, 55)), ("two", rate(100)), ("three", rate(0, 0, 3.5))]


def groups():
  return (
    RuntimeGroup(title="(a)", names=("F$GSM", "JSMA"), seconds=(FAST, SLOW)),
    RuntimeGroup(title="(b) $", names=("R18",), seconds=(FAST[:7],)),
  )


def entries(probability=0.7, name="$jacuzzi"):
  one = (Prediction(name=name, probability=probability, is_marked=True),)
  two = (Prediction(name="hot spring", probability=0.9996), Prediction(name="x", probability=4e-4))
  return [
    Example(title="Original", image=ORIGINAL, predictions=(one, two)),
    Example(title="RP-FGSM targeted", image=CHANGED, predictions=(two[:1], (*two[1:], *one)[:1])),
  ]


def rows_of_panels():
  return [
    PerturbationPanels(original=ORIGINAL, adversarials=(CHANGED, None)),
    PerturbationPanels(original=OTHER, adversarials=(OTHER, CHANGED)),
  ]


EVERY_PLOT = {
  "perturbation_maps": lambda: plots_maps.perturbation_maps(rows_of_panels(), ("U", "V $")),
  "candidate_boxes": lambda: plots_boxes.candidate_boxes(GAMMAS, COUNTS, num_classes=25),
  "trade_offs": lambda: plots_rates.trade_offs(POINTS),
  "epsilon_sweep": lambda: plots_sweep.epsilon_sweep(CURVES),
  "runtime_boxes": lambda: plots_boxes.runtime_boxes(groups()),
  "examples": lambda: plots_examples.examples(entries(), ("ResNet_$18", "AlexNet")),
  "rate_bars": lambda: plots_rates.rate_bars(BARS, title="misled"),
}
NARROW = {
  "one map": lambda: maps(),
  "one gamma": lambda: plots_boxes.candidate_boxes([0.5], COUNTS[:, :1], num_classes=25),
  "one attack": lambda: plots_rates.trade_offs(POINTS[:1]),
  "one line": lambda: plots_sweep.epsilon_sweep(CURVES[1:]),
  "one runtime": lambda: runtime(FAST),
  "one network": lambda: plots_examples.examples(example(), ["A"]),
  "one bar": lambda: plots_rates.rate_bars(BARS[:1], title="misled"),
}
each_plot = pytest.mark.parametrize("draw", EVERY_PLOT.values(), ids=EVERY_PLOT.keys())


# The file.


@each_plot
def test_a_figure_drawn_again_is_the_same_file(tmp_path, draw):
  figure = draw()
  for name in ("first", "again"):
    plots.save(figure, tmp_path / "new" / name)
  plots.save(draw(), tmp_path / "new" / "anew")
  contents = {path.read_bytes() for path in (tmp_path / "new").iterdir()}
  assert len(list((tmp_path / "new").iterdir())) == 3
  assert len(contents) == 1


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


@pytest.mark.parametrize("draw", (EVERY_PLOT | NARROW).values(), ids=(EVERY_PLOT | NARROW).keys())
def test_nothing_is_cut_off_and_pyplot_is_not_used(draw):
  figure = draw()
  assert fits(figure)
  assert figure.canvas.manager is None


def fits(figure):
  figure.canvas.draw()
  bounds, page = figure.get_tightbbox(), figure.bbox_inches
  return (
    min(bounds.x0, bounds.y0) > -0.01
    and bounds.x1 < page.width + 0.01
    and bounds.y1 < page.height + 0.01
  )


@each_plot
def test_names_are_no_formulas(draw):
  texts = [text for text in draw().findobj(Text) if "$" in text.get_text()]
  assert not any(text.get_parse_math() for text in texts)


# Fig. 1


def test_maps_are_the_absolute_change_summed_over_channels_on_one_scale():
  figure = plots_maps.perturbation_maps(rows_of_panels(), ("U", "V_$"), limit=300)
  grid = np.reshape(figure.axes[:6], (2, 3))
  assert [axes.get_title() for axes in grid[0]] == ["original", "U", "V_$"]
  np.testing.assert_array_equal(grid[0, 0].images[0].get_array(), ORIGINAL)
  np.testing.assert_array_equal(grid[1, 0].images[0].get_array(), OTHER)
  wanted = {(0, 1): (CHANGED, ORIGINAL), (1, 1): (OTHER, OTHER), (1, 2): (CHANGED, OTHER)}
  for place, (adversarial, original) in wanted.items():
    (shown,) = grid[place].images
    expected = sum(abs(adversarial[..., c] * 1.0 - original[..., c]) for c in range(3))
    np.testing.assert_array_equal(shown.get_array(), expected)
    assert shown.get_clim() == (0, 300)
  assert not grid[0, 2].images
  assert grid[0, 2].texts[0].get_text() == "not run"
  bar = figure.axes[6]
  assert bar.get_ylim() == (0, 300)
  assert bar.get_ylabel() == "gray levels"


def test_photographs_of_common_sizes_keep_their_pixels(tmp_path):
  photo, changed = RANDOM.integers(0, 256, (2, 150, 224, 3), dtype=np.uint8)
  panel = PerturbationPanels(original=photo, adversarials=(changed,))
  plots.save(plots_maps.perturbation_maps([panel], ["U"]), tmp_path / "figure.png")
  with Image.open(tmp_path / "figure.png") as image:
    drawn = np.asarray(image.convert("RGB"))
  np.testing.assert_array_equal(drawn[56:206, 8:232], photo)


def test_the_scale_ends_at_the_largest_sum_unless_told():
  figure = plots_maps.perturbation_maps(rows_of_panels(), ("U", "V"))
  largest = max(np.abs(CHANGED * 1.0 - before).sum(-1).max() for before in (ORIGINAL, OTHER))
  assert largest > 255
  assert figure.axes[1].images[0].get_clim() == (0, largest)


# Boxes: Fig. 3 and Fig. 6


def read_boxes(axes, values):
  """Compares the boxes with NumPy, and returns (whisker ends, dots) of each."""
  medians = [np.median(each) for each in values]
  # Matplotlib adds two whiskers, two caps, the median and the dots of each box, in this order.
  lines = [axes.lines[start : start + 6] for start in range(0, len(axes.lines), 6)]
  assert len(lines) == len(axes.patches) == len(values)
  np.testing.assert_allclose([each[4].get_ydata()[0] for each in lines], medians)
  for patch, each in zip(axes.patches, values, strict=True):
    corners = patch.get_path().vertices[:, 1]
    expected = [scipy.stats.scoreatpercentile(each, share) for share in (25, 75)]
    np.testing.assert_allclose([corners.min(), corners.max()], expected)
  return [
    ((each[0].get_ydata()[1], each[1].get_ydata()[1]), sorted(each[5].get_ydata()))
    for each in lines
  ]


def test_candidates_have_dots_beyond_2_7_standard_deviations():
  axes = plots_boxes.candidate_boxes(GAMMAS, COUNTS, num_classes=25).axes[0]
  num_dots = []
  columns = COUNTS.T.astype(float)
  for column, (whiskers, dots) in zip(columns, read_boxes(axes, columns), strict=True):
    is_far = np.abs(scipy.stats.zscore(column)) > 2.7 if np.ptp(column) else column > 99
    assert whiskers == (column[~is_far].min(), column[~is_far].max())
    assert dots == sorted(column[is_far])
    num_dots.append(len(dots))
  assert num_dots[0] == 0
  assert num_dots[3] > 2
  assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "0.5", "0.9", "0.99"]
  bottom, top = axes.get_ylim()
  assert -1 < bottom <= 0
  assert 25 <= top < 26


def test_runtimes_have_whiskers_to_the_smallest_and_the_largest():
  first, second = plots_boxes.runtime_boxes(groups()).axes
  for axes, values in ((first, (FAST, SLOW)), (second, (FAST[:7],))):
    for each, (whiskers, dots) in zip(values, read_boxes(axes, values), strict=True):
      assert whiskers == (each.min(), each.max())
      assert dots == []
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] <= FAST.min()
    assert axes.get_ylim()[1] >= SLOW.max()
  assert [label.get_text() for label in first.get_xticklabels()] == ["F$GSM", "JSMA"]
  assert [axes.get_title(loc="left") for axes in (first, second)] == ["(a)", "(b) $"]


def test_runtimes_alike_still_have_two_labeled_ticks():
  group = RuntimeGroup(title="", names=("a",), seconds=(np.full(3, 1.0),))
  figure = plots_boxes.runtime_boxes([group])
  figure.canvas.draw()
  assert figure.axes[0].get_ylim() == (1, 10)
  labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
  assert {"1", "10"} <= set(labels)


# Fig. 4


def offsets(axes):
  return {
    mark.get_label(): tuple(mark.get_offsets()[0])
    for mark in axes.collections
    if len(mark.get_offsets()) and not mark.get_label().startswith("_")
  }


UNTARGETED, TARGETED = "RP $ FGSM (untargeted)", "RP $ FGSM (targeted)"


def test_trade_offs_lie_where_their_values_are_and_missing_ones_nowhere():
  figure = plots_rates.trade_offs(POINTS)
  assert [offsets(axes) for axes in figure.axes] == [
    {"original": (0, 7), UNTARGETED: (91, 76), TARGETED: (97, 64)},
    {UNTARGETED: (88, 77)},
    {UNTARGETED: (66, 55)},
    {UNTARGETED: (40, 55)},
  ]
  for axes in figure.axes:
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 100), (0, 100))
    assert axes.get_title(loc="right") == "better ↗"
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == ["original", UNTARGETED, TARGETED]
  assert figure.axes[1].get_xlabel() == "MSwD: seen network with defense misled"


def test_trade_offs_of_other_measures():
  figure = plots_rates.trade_offs(POINTS, panels=[("seen", "seen_defended")])
  assert offsets(figure.axes[0]) == {UNTARGETED: (91, 88)}
  assert not figure.axes[1].axison


def test_trade_offs_have_error_bars_where_an_interval_is_known():
  def ends(axes):
    segments = [
      segment.tolist()
      for lines in axes.collections
      if lines.get_label().startswith("_")
      for segment in lines.get_segments()
    ]
    return segments

  figure = plots_rates.trade_offs(POINTS)
  assert ends(figure.axes[0]) == [[[85, 76], [95, 76]]]
  assert ends(figure.axes[1]) == [[[88, 70.5], [88, 81]]]
  assert ends(figure.axes[2]) == []


def test_sixteen_contenders_are_told_apart_by_color_fill_and_the_papers_shapes():
  variants = [(f"attack {index}", index % 3 == 0) for index in range(12)]
  variants += [("attack 0", False), ("attack 10", True), ("original", None), ("noise", None)]
  points = [
    TradeOff(attack=attack, targeted=targeted, seen=rate(1), unseen=rate(1))
    for attack, targeted in variants
  ]
  figure = plots_rates.trade_offs(points)
  styles = {}
  for (attack, targeted), mark in zip(variants, figure.axes[0].collections, strict=False):
    style = MarkerStyle({None: "D", True: "o", False: "s"}[targeted])
    expected = style.get_path().transformed(style.get_transform()).vertices
    np.testing.assert_allclose(mark.get_paths()[0].vertices, expected)
    face, edge = to_hex(mark.get_facecolor()[0]), to_hex(mark.get_edgecolor()[0])
    styles[attack, targeted] = (targeted, face, edge)
  assert len(styles) == len(set(styles.values())) == 16
  assert styles["attack 0", True][1:] == styles["attack 0", False][1:]
  handles = figure.legends[0].legend_handles
  shapes = [handle.get_marker() for handle in handles]
  assert shapes == [{None: "D", True: "o", False: "s"}[targeted] for _, targeted in variants]
  legend = [to_hex(handle.get_markerfacecolor()) for handle in handles]
  assert legend == [face for _, face, _ in styles.values()]
  assert fits(figure)


# Fig. 5


def test_a_sweep_draws_its_values_and_leaves_out_what_is_missing():
  figure = plots_sweep.epsilon_sweep(CURVES)
  seen, unseen, *_, detectability, psnr = figure.axes
  first, second = seen.lines
  np.testing.assert_array_equal(first.get_xydata()[:, 0], EPSILONS)
  np.testing.assert_array_equal(first.get_xydata()[:, 1], [10, 20, np.nan, 99.5])
  np.testing.assert_array_equal(second.get_xydata(), [[4, 1], [16, 0], [64, 100]])
  assert [len(axes.lines) for axes in (unseen, detectability)] == [0, 0]
  np.testing.assert_array_equal(psnr.lines[0].get_ydata(), [50, 40, 30, 20])
  titles = [axes.get_title(loc="left").split(":")[0] for axes in figure.axes]
  assert titles == ["MS", "MU", "MSwD", "MUwD", "Detectability", "Image quality, PSNR"]
  assert [axes.get_title(loc="right")[-1] for axes in figure.axes] == list("↑↑↑↑↓↑")
  assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A_$1", "B"]
  shapes = {(line.get_marker(), line.get_color(), line.get_linestyle()) for line in seen.lines}
  assert shapes == {("o", plots.COLORS[0], "-"), ("s", plots.COLORS[1], "--")}


def test_a_sweep_shades_the_interval_on_a_base_2_axis():
  figure = plots_sweep.epsilon_sweep(CURVES)
  assert not figure.axes[0].collections
  (band,) = figure.axes[5].collections
  corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
  assert corners == set(zip(EPSILONS * 2, [48, 39, 29, 19, 51, 42, 31, 22], strict=True))
  axis = figure.axes[5].xaxis
  assert axis.get_scale() == "log"
  assert axis.get_transform().base == 2
  assert [label.get_text() for label in axis.get_ticklabels()] == ["1", "4", "16", "64"]
  assert not len(axis.get_minorticklocs())


# Bars


def test_bars_are_as_long_as_the_rates_and_in_the_order_given():
  axes = plots_rates.rate_bars(BARS, title="misled_$", better=None).axes[0]
  assert [bar.get_width() for bar in axes.patches] == [40, 100, 0]
  assert [label.get_text() for label in axes.get_yticklabels()] == ["one_$1", "two", "three"]
  middles = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
  assert middles == pytest.approx([0, 1, 2])
  bottom, top = axes.get_ylim()
  assert bottom > top  # the first on top
  segments = [lines.get_segments()[0].tolist() for lines in axes.collections]
  assert segments == [[[30, 0], [55, 0]], [[0, 2], [3.5, 2]]]
  assert [text.get_text() for text in axes.texts] == ["40.0 %", "100.0 %", "0.0 %"]
  assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("misled_$", "")


def test_an_interval_that_misses_its_value_by_rounding_is_drawn():
  near = Estimate(value=100.0, low=96.0, high=100.0 - 1e-14)
  assert near.reach().tolist() == [[4], [0]]
  plots_rates.rate_bars([("a", near)], title="misled")


# Table IV


@pytest.mark.parametrize(
  ("probability", "text"),
  [
    (1.0, "△ 100.0"),
    (math.nextafter(0.9995, 1), "△ 100.0"),
    (0.9995, "100.0"),  # exactly 99.95 %
    (0.9994, "99.9"),
    (0.5, "50.0"),
    (0.0006, "0.1"),
    (0.0005, "0.1"),  # exactly 0.05 %
    (math.nextafter(0.0005, 0), "▽ 0.0"),
    (0.0, "▽ 0.0"),
  ],
)
def test_triangles_stand_strictly_beyond_the_captions_bounds(probability, text):
  assert plots_examples.percent(probability) == text


def written(figure):
  """The texts of the table in reading order, as lines of (x, text)."""
  lines = {}
  for text in figure.axes[0].texts:
    lines.setdefault(round(text.get_position()[1], 3), []).append(text)
  return [
    [text.get_text() for text in sorted(lines[y], key=lambda text: text.get_position()[0])]
    for y in sorted(lines)
  ]


def test_examples_write_every_class_beside_its_probability_in_the_network_s_column():
  lines = written(plots_examples.examples(entries(), ("ResNet_$18", "AlexNet"), marked="the scene"))
  assert "Blue: the scene;" in lines[0][0]
  assert lines[1:] == [
    ["ResNet_$18", "AlexNet"],
    ["$jacuzzi", "70.0", "hot spring", "△ 100.0"],
    ["x", "▽ 0.0"],
    ["Original"],
    ["hot spring", "△ 100.0", "x", "▽ 0.0"],
    ["RP-FGSM\ntargeted"],
  ]


def test_examples_shade_marked_classes_alone():
  axes = plots_examples.examples(entries(), ("ResNet18", "AlexNet")).axes[0]
  (patch,) = axes.patches
  inside = [
    text.get_text()
    for text in axes.texts
    if patch.get_x() <= text.get_position()[0] <= patch.get_x() + patch.get_width()
    and patch.get_y() <= text.get_position()[1] <= patch.get_y() + patch.get_height()
  ]
  assert inside == ["$jacuzzi", "70.0"]


def test_examples_show_the_photographs_undistorted_and_from_the_top():
  wide, tall = ORIGINAL, CHANGED.transpose(1, 0, 2)
  figure = plots_examples.examples(example(image=wide) + example(image=tall), ["ResNet18"])
  figure.canvas.draw()
  first, second = figure.axes[0].images
  np.testing.assert_array_equal(first.get_array(), wide)
  np.testing.assert_array_equal(second.get_array(), tall)
  above, below = first.get_window_extent(), second.get_window_extent()
  assert above.width / above.height == pytest.approx(17 / 11)
  assert below.width / below.height == pytest.approx(11 / 17)
  assert above.width == pytest.approx(plots.DPI)  # an inch, up to the first network
  assert above.y0 > below.y1 > below.y0 > 0
  left, right, bottom, top = first.get_extent()
  assert left < right
  assert top < bottom  # the axis runs down


@pytest.mark.parametrize("name", ["archaeological excavation", "W" * 12, "a b " * 20])
def test_the_longest_names_end_before_their_probability(name):
  figure = plots_examples.examples(entries(0.9999, name), ("ResNet18", "AlexNet"))
  figure.canvas.draw()
  texts = figure.axes[0].texts
  word = next(text for text in texts if text.get_text().startswith(name[:6]))
  number = texts[texts.index(word) + 1]
  assert number.get_text() == "△ 100.0"
  assert word.get_window_extent().x1 < number.get_window_extent().x0
  assert (word.get_text() == name) == (len(name) <= 25)


# Refusals


def example(**changes):
  values = {
    "title": "t",
    "image": ORIGINAL,
    "predictions": ((Prediction(name="a", probability=1),),),
  }
  return [Example(**(values | changes))]


def predictions(*probabilities):
  return (tuple(Prediction(name="a", probability=each) for each in probabilities),)


def maps(original=ORIGINAL, adversarial=CHANGED, **options):
  panel = PerturbationPanels(original=original, adversarials=(adversarial,))
  return plots_maps.perturbation_maps([panel], ["U"], **options)


def candidates(gammas=GAMMAS, counts=COUNTS, num_classes=25):
  return plots_boxes.candidate_boxes(gammas, counts, num_classes=num_classes)


def runtime(*seconds, names=("a",)):
  return plots_boxes.runtime_boxes([RuntimeGroup(title="", names=names, seconds=seconds)])


def sweep(epsilons=(1, 2), **bands):
  bands = {name: Band(**band) for name, band in bands.items()}
  return plots_sweep.epsilon_sweep([Sweep(title="a", epsilons=epsilons, **bands)])


REFUSALS = {
  "rate above": (lambda: rate(100.1), "value must be per cent, 0..100, got 100.1"),
  "rate NaN": (lambda: rate(math.nan), "value must be per cent"),
  "low below": (lambda: rate(1, -1, 2), "low must be per cent"),
  "one end": (lambda: rate(1, low=0), "low and high must come together, got 0 and None"),
  "wrong side": (lambda: rate(50, 51, 60), "must hold value 50, got 51..60"),
  "no panels": (lambda: plots_maps.perturbation_maps([], ["U"]), "panels must have at least one"),
  "no attacks": (lambda: plots_maps.perturbation_maps(rows_of_panels(), []), "attacks must have"),
  "float image": (lambda: maps(ORIGINAL / 255), r"original must be \(H, W, 3\) uint8, got .*float"),
  "gray image": (lambda: maps(ORIGINAL[..., 0]), r"original must be .*got \(11, 17\) uint8"),
  "image list": (lambda: maps([1]), "original must be .* list"),
  "empty image": (lambda: maps(ORIGINAL[:0]), r"original must be .*got \(0, 17, 3\)"),
  "other shape": (lambda: maps(adversarial=CHANGED[1:]), "must have the original's shape"),
  "float change": (lambda: maps(adversarial=CHANGED * 1.0), "adversarials must be .*float64"),
  "limit": (lambda: maps(limit=0), "limit must be positive gray levels, got 0"),
  "limit NaN": (lambda: maps(limit=math.nan), "limit must be positive"),
  "fewer images": (
    lambda: plots_maps.perturbation_maps(rows_of_panels(), ["U"]),
    "adversarials must be one for each of 1 attacks, got 2",
  ),
  "no gammas": (lambda: candidates([], COUNTS[:, :0]), "gammas must have at least one"),
  "gamma order": (lambda: candidates((0.1, 0.5, 0.5, 0.9)), "gammas must increase within 0..1"),
  "gamma NaN": (lambda: candidates([math.nan], COUNTS[:, :1]), "gammas must increase"),
  "gamma above": (lambda: candidates((0.1, 0.5, 0.9, 1.1)), "gammas must increase"),
  "counts shape": (lambda: candidates(counts=COUNTS.T), r"counts must be \(N, 4\)"),
  "no counts": (lambda: candidates(counts=COUNTS[:0]), r"counts must be .*got \(0, 4\)"),
  "counts float": (lambda: candidates(counts=COUNTS * 1.0), "integers, got float64"),
  "counts above": (lambda: candidates(num_classes=23), r"counts must be in 0..23, got 0..24"),
  "counts below": (lambda: candidates(counts=COUNTS - 1), r"counts must be in 0..25, got -1"),
  "no groups": (lambda: plots_boxes.runtime_boxes([]), "groups must have at least one"),
  "no names": (lambda: runtime(names=()), "names must have at least one"),
  "no seconds": (lambda: runtime(FAST[:0]), r"seconds of a must be \(N,\)"),
  "fewer seconds": (lambda: runtime(), "entry for each of 1 names, got 0"),
  "zero seconds": (lambda: runtime([0.0, 1]), "seconds of a must be positive and finite, got 0.0"),
  "NaN seconds": (lambda: runtime([math.nan, 1]), "positive and finite, got nan"),
  "no points": (lambda: plots_rates.trade_offs([]), "points must have at least one"),
  "twice": (lambda: plots_rates.trade_offs(POINTS[:1] * 2), "once, got .*original.* twice"),
  "too many": (
    lambda: plots_rates.trade_offs([TradeOff(attack=str(i), targeted=True) for i in range(17)]),
    "at most 16 attacks, got 17",
  ),
  "measure": (lambda: plots_rates.trade_offs(POINTS, panels=[("seen", "mad")]), "got 'mad'"),
  "no measures": (lambda: plots_rates.trade_offs(POINTS, panels=[]), "panels must have"),
  "no curves": (lambda: plots_sweep.epsilon_sweep([]), "curves must have at least one"),
  "same title": (lambda: plots_sweep.epsilon_sweep(CURVES[:1] * 2), "a title each"),
  "nine curves": (lambda: plots_sweep.epsilon_sweep(CURVES[:1] * 9), "at most 8, got 9"),
  "epsilon zero": (lambda: sweep((0, 1)), "epsilons must increase from above 0"),
  "epsilon NaN": (lambda: sweep((math.nan,)), "epsilons must increase"),
  "epsilon order": (lambda: sweep((2, 1)), "epsilons must increase"),
  "no epsilons": (lambda: sweep(()), "epsilons must have at least one"),
  "length": (lambda: sweep(seen={"values": [1]}), r"values of seen must be \(2,\)"),
  "percent": (lambda: sweep(seen={"values": [1, 101]}), "values of seen must be per cent"),
  "infinite": (lambda: sweep(psnr={"values": [1, math.inf]}), "must be finite or NaN"),
  "one band end": (lambda: sweep(psnr={"values": [1, 2], "low": [0, 1]}), "must come together"),
  "band aside": (
    lambda: sweep(psnr={"values": [1, 2], "low": [0, 3], "high": [3, 3]}),
    "low..high of psnr must hold values",
  ),
  "no bars": (lambda: plots_rates.rate_bars([], title=""), "bars must have at least one"),
  "no entries": (lambda: plots_examples.examples([], ["a"]), "entries must have at least one"),
  "no networks": (
    lambda: plots_examples.examples(example(), []),
    "networks must have at least one",
  ),
  "networks": (lambda: plots_examples.examples(example(), "ab"), "each of 2 networks, got 1"),
  "example image": (
    lambda: plots_examples.examples(example(image=ORIGINAL * 1.0), "a"),
    "image must be .*float64",
  ),
  "six": (
    lambda: plots_examples.examples(example(predictions=predictions(*[0.1] * 6)), "a"),
    "predictions of t must be 1..5, got 6",
  ),
  "unsorted": (
    lambda: plots_examples.examples(example(predictions=predictions(0.1, 0.2)), "a"),
    "most probable first",
  ),
  "per cent": (
    lambda: plots_examples.examples(example(predictions=predictions(87.2)), "a"),
    r"probability of t must be in 0..1, got \[87.2\]",
  ),
}


@pytest.mark.parametrize(("call", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_bad_input_is_refused_by_name(call, message):
  with pytest.raises(ValueError, match=message):
    call()
