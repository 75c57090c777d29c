"""Fig. 3 to 6 on planted rows: what is drawn is read back and compared with numbers by hand."""

import numpy as np
import pytest
import scipy.stats
import synthetic_rows as synthetic
from matplotlib.colors import to_hex
from matplotlib.text import Text

from experiments import show_figures, variants

NETWORKS = synthetic.networks(("res_$18", "resnet50", "alexnet"), ("dense$161",))
SETUP = synthetic.paper_setup(networks=NETWORKS, reference=NETWORKS[1])
SEEN = [network.title for network in NETWORKS[:3]]
ATTACKS = {each.name: each for each in variants.paper_attacks(SETUP)}
TRAINING = synthetic.training_distances(np.random.default_rng(1), 60, 4)  # below 1.6


def make_facts(count=10, used=SEEN, **numbers):
  """An attack that misleads nobody and that no detector flags."""
  facts = synthetic.random_facts(np.random.default_rng(0), synthetic.names(count), 4, used)
  facts.ranks[:] = facts.label_ranks[:] = 0
  facts.distances[:] = 0
  facts.numbers["target"] = np.full(count, np.nan)
  for name, value in numbers.items():
    facts.numbers[name] = np.full(count, float(value))
  return facts


def mislead(facts, network, *, plain=0, defended=0):
  """Misleads a network on the first photographs, so many without and behind every defense."""
  facts.label_ranks[:plain, network, 0] = 1
  facts.label_ranks[:defended, network, 1:] = 1


def wilson(hits, count=10):
  """(value, low, high) in per cent, by SciPy."""
  found = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
  return np.multiply(100, (hits / count, found.low, found.high))


def read(tmp_path, attacks, **options):
  attacks = {"original": make_facts()} | attacks
  return synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, **options)


def check_page(figure):
  """Nothing is cut off, and no name is taken for a formula."""
  figure.canvas.draw()
  bounds, page = figure.get_tightbbox(), figure.bbox_inches
  assert min(bounds.x0, bounds.y0) > -0.01
  assert bounds.x1 < page.width + 0.01
  assert bounds.y1 < page.height + 0.01
  assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


def legend_of(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


# Boxes: Fig. 3 and Fig. 6


def boxes(axes):
  """(first quartile, median, third, whisker ends, dots...) of each box."""
  found = []
  # Matplotlib adds two whiskers, two caps, the median and the dots of each box, in this order.
  for place, patch in enumerate(axes.patches):
    low, high, _, _, median, dots = axes.lines[6 * place : 6 * place + 6]
    corners = patch.get_path().vertices[:, 1]
    ends = low.get_ydata()[1], high.get_ydata()[1]
    middle = median.get_ydata()[0]
    found.append((corners.min(), middle, corners.max(), *ends, *sorted(dots.get_ydata())))
  return found


def test_candidates_have_dots_beyond_2_7_standard_deviations(tmp_path):
  columns = [
    (np.arange(1, 41), (10.75, 20.5, 30.25, 1, 40)),
    (np.repeat(5, 40), (5, 5, 5, 5, 5)),
    # Four of forty lie 3 deviations above the average, five of forty 2.65, although 1.5 times the
    # distance between the quartiles is 0.
    (np.repeat([0, 10], [36, 4]), (0, 0, 0, 0, 0, 10, 10, 10, 10)),
    (np.repeat([0, 10], [35, 5]), (0, 0, 0, 0, 10)),
  ]
  counts = np.stack([column for column, _ in columns] + [columns[1][0]] * 6, axis=1)
  original = make_facts(40)
  original.extra = {
    photo: {"candidates": row.tolist()} for photo, row in zip(original.photos, counts, strict=True)
  }
  figure = show_figures.figure3(read(tmp_path, {"original": original}))
  (axes,) = figure.axes
  for found, (_, expected) in zip(boxes(axes), columns, strict=False):
    assert found == pytest.approx(expected)
  assert axes.get_xticklabels()[-1].get_text() == "0.99"
  assert axes.get_ylabel() == "classes, of 12"
  assert axes.get_ylim() == pytest.approx((-0.24, 12.24))
  assert axes.get_title(loc="left") == "Candidate target classes of 40 photos"
  check_page(figure)


def timings(seconds):
  return [
    {"kind": "timing", "attack": name, "photo": "x", "seconds": each}
    for name, some in seconds.items()
    for each in some
  ]


def test_runtimes_have_whiskers_to_the_smallest_and_the_largest(tmp_path):
  counts = [each.name for each in variants.network_counts(SETUP)]
  seconds = {name: [3.0] for name in counts} | {"jsma": [1, 2, 3, 40], "u-fgsm": [0.2]}
  others = timings(seconds | {"rp-fgsm": [0.5, 0.7]})
  figure = show_figures.figure6(read(tmp_path, {}, others=others))
  first, second = figure.axes
  expected = [(1.75, 2.5, 12.25, 1, 40), (0.2,) * 5, (0.55, 0.6, 0.65, 0.5, 0.7)]
  np.testing.assert_allclose(boxes(first), expected)
  np.testing.assert_allclose(boxes(second), [(3,) * 5] * 6 + expected[2:])
  first_labels, second_labels = (
    [label.get_text() for label in axes.get_xticklabels()] for axes in (first, second)
  )
  assert first_labels == ["JSMA", "U-FGSM", "RP-FGSM"]
  assert (second_labels[0], second_labels[-1]) == ("res_$18", "res_$18 + resnet50 + alexnet")
  titles = [axes.get_title(loc="left") for axes in (first, second)]
  assert titles == ["(a) the attacks", "(b) RP-FGSM on one to all networks"]
  assert first.get_yscale() == "log"
  assert first.get_ylim() == pytest.approx((0.1, 48))
  check_page(figure)


def test_runtimes_alike_still_have_two_labeled_ticks(tmp_path):
  results = read(tmp_path, {}, others=timings({"jsma": [1, 1, 1]}))
  (axes,) = show_figures.figure6(results).axes
  axes.figure.canvas.draw()
  assert axes.get_ylim() == (1, 10)
  assert {"1", "10"} <= {label.get_text() for label in axes.get_yticklabels()}


# Fig. 4


def points(axes):
  """Title -> (x, y) of the marks, and the ends of all error bars that have a length."""
  marks = [each for each in axes.collections if not each.get_label().startswith("_")]
  bars = [
    segment
    for each in axes.collections
    if each.get_label().startswith("_")
    for segment in each.get_segments()
    if np.ptp(segment, axis=0).any()
  ]
  return {mark.get_label(): tuple(mark.get_offsets()[0]) for mark in marks}, bars


@pytest.fixture
def trade_offs(tmp_path):
  """RP-FGSM misleads and is flagged on so many of ten photographs, its targeted variant less."""
  noise, untargeted, targeted = make_facts(used=[]), make_facts(psnr=30, brisque=40), make_facts()
  mislead(untargeted, 1, plain=9, defended=5)
  mislead(untargeted, 3, plain=7, defended=4)
  untargeted.distances[:3] = 2
  mislead(targeted, 1, plain=2)
  targeted.numbers["target"] = np.arange(10.0)
  attacks = {"sign-noise": noise, "rp-fgsm-targeted": targeted, "rp-fgsm": untargeted}

  def draw(**options):
    results = read(tmp_path, attacks, **options)
    return show_figures.figure4(results)

  return draw


TARGETED, UNTARGETED = "RP-FGSM (targeted)", "RP-FGSM (untargeted)"


def test_trade_offs_lie_where_the_rates_are(trade_offs):
  figure = trade_offs(training=TRAINING)
  plain, defended, brisque, psnr = (points(axes)[0] for axes in figure.axes)
  assert plain == {
    "random noise": (0, 0),
    TARGETED: pytest.approx((20, 0)),
    UNTARGETED: pytest.approx((90, 70)),
  }
  assert defended[UNTARGETED] == pytest.approx((50, 40))
  assert brisque[UNTARGETED] == pytest.approx((60, 70))  # BRISQUE 40, flagged on three of ten
  assert psnr[UNTARGETED] == pytest.approx((50, 70))  # 30 dB of 60
  assert legend_of(figure) == ["random noise", TARGETED, UNTARGETED]
  labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
  assert labels[1] == (
    "MSwD: seen network with defense misled",
    "MUwD: unseen network with defense misled",
  )
  assert {axes.get_title(loc="right") for axes in figure.axes} == {"better ↗"}
  assert {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes} == {((0, 100), (0, 100))}
  check_page(figure)


def test_trade_offs_have_wilson_intervals_as_error_bars(trade_offs):
  figure = trade_offs(training=TRAINING)
  (_, left, right), (_, low, high) = wilson(9), wilson(7)
  plain = points(figure.axes[0])[1][-2:]
  np.testing.assert_allclose(plain, [[[left, 70], [right, 70]], [[90, low], [90, high]]])
  _, low, high = 100 - wilson(3)[[0, 2, 1]]
  np.testing.assert_allclose(points(figure.axes[3])[1][-1], [[50, low], [50, high]])


def test_without_training_photos_there_is_no_undetectability(trade_offs):
  figure = trade_offs()
  assert [len(points(axes)[0]) for axes in figure.axes] == [3, 3, 0, 0]


def test_attacks_are_told_apart_by_color_fill_and_the_papers_shapes(tmp_path):
  attacks = {name: make_facts() for name in ATTACKS}
  for name in ("di-fgsm-targeted", "rp-fgsm-targeted"):
    attacks[name].numbers["target"] = np.zeros(10)
  figure = show_figures.figure4(read(tmp_path, {"sign-noise": make_facts(used=[])} | attacks))
  shown = {
    handle.get_label(): (
      handle.get_marker(),
      to_hex(handle.get_markerfacecolor()),
      to_hex(handle.get_markeredgecolor()),
    )
    for handle in figure.legends[0].legend_handles
  }
  assert len(shown) == len(set(shown.values())) == 1 + len(ATTACKS)
  assert shown["random noise"][0] == "D"
  assert [shown[title][0] for title in (TARGETED, UNTARGETED)] == ["o", "s"]
  assert shown[TARGETED][1:] == shown[UNTARGETED][1:]
  marks = [each for each in figure.axes[0].collections if each.get_label() in shown]
  for mark in marks:
    colors = to_hex(mark.get_facecolor()[0]), to_hex(mark.get_edgecolor()[0])
    assert colors == shown[mark.get_label()][1:]
  assert len(marks) == len(shown)


# Fig. 5


@pytest.fixture
def sweep(tmp_path):
  """On one network at eps 2, 8, 32 and on three at eps 8 and 16."""
  names = {
    title: {each.config.epsilon: each.name for each in members}
    for title, members in variants.epsilon_sweep(SETUP).items()
  }
  attacks = {}
  for epsilon, hits, psnr in ((2, 1, 50), (8, 4, 40), (32, 10, np.nan)):
    facts = attacks[names["res_$18"][epsilon]] = make_facts(used=SEEN[:1], psnr=psnr)
    mislead(facts, 0, plain=hits, defended=hits - 1)
    mislead(facts, 3, plain=hits - 1)
    facts.distances[:hits] = 2
  for epsilon, hits in ((8, 6), (16, 8)):
    facts = attacks[names["3 networks"][epsilon]] = make_facts()
    mislead(facts, 1, plain=hits)
  attacks[names["alexnet"][8]] = make_facts(used=SEEN[2:])  # a single point is no line
  return read(tmp_path, attacks, training=TRAINING)


def test_a_sweep_has_the_rates_of_the_attacked_network_or_of_the_reference(sweep, tmp_path):
  figure = show_figures.figure5(sweep)
  seen, unseen, defended, _, detected, psnr = figure.axes
  lines = {line.get_label(): line.get_xydata() for line in seen.lines}
  np.testing.assert_allclose(lines["res_$18"], [[2, 10], [8, 40], [32, 100]])
  np.testing.assert_allclose(lines["3 networks"], [[8, 60], [16, 80]])
  for axes, expected in ((unseen, [0, 30, 90]), (defended, [0, 30, 90]), (detected, [10, 40, 100])):
    np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
  np.testing.assert_array_equal(psnr.lines[0].get_ydata(), [50, 40, np.nan])
  assert legend_of(figure) == ["res_$18", "3 networks"]
  titles = [axes.get_title(loc="left").split(":")[0] for axes in figure.axes]
  assert titles == ["MS", "MU", "MSwD", "MUwD", "Detectability", "Image quality, PSNR"]
  assert [axes.get_title(loc="right")[-1] for axes in figure.axes] == list("↑↑↑↑↓↑")
  ticks = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
  assert ticks == ["2", "8", "16", "32"]
  assert len({line.get_linestyle() for line in seen.lines}) == 2
  check_page(figure)


def test_a_sweep_shades_wilson_intervals(sweep, tmp_path):
  figure = show_figures.figure5(sweep)
  corners = figure.axes[0].collections[0].get_paths()[0].vertices
  for epsilon, hits in ((2, 1), (8, 4), (32, 10)):
    found = sorted(set(corners[corners[:, 0] == epsilon, 1].round(6)))
    np.testing.assert_allclose(found, wilson(hits)[1:], atol=1e-6)
  assert not figure.axes[-1].collections  # PSNR has none


# Nothing to show


@pytest.mark.parametrize("number", [4, 5, 6])
def test_without_their_rows_there_is_no_figure(tmp_path, number):
  assert getattr(show_figures, f"figure{number}")(read(tmp_path, {})) is None
