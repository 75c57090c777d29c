"""Protection a gradient pass: settings, equal PSNR and verdicts on planted rows, and the figure."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import synthetic_rows as synthetic

from experiments import catalog, passes, show_passes, variants
from experiments.passes import Blend, Compared
from rpfgsm_jax.evaluation import Difference, paired_difference

SETUP = synthetic.paper_setup()
PHOTOS = synthetic.names(40)
SETTINGS = {each.contender.name: each for each in passes.settings(SETUP)}
PAPER, FEW, HALF = "rp-fgsm", "rp-fgsm+n20", "rp-fgsm+n30"
STRONG = SETTINGS["rp-fgsm+n20+momentum"]
WITHOUT_SMALLER = "rp-fgsm+n20+step2"
PSNR = {PAPER: 27.0, STRONG.contender.name: 25.0, STRONG.smaller.name: 27.5, WITHOUT_SMALLER: 25.0}


def make_facts(share, psnr, seed, photos=PHOTOS):
  """An attack that misleads DenseNet161, top-5, behind all defenses, on so many photographs."""
  generator = np.random.default_rng(seed)
  facts = synthetic.random_facts(generator, photos, 4, ["resnet18", "resnet50", "alexnet"])
  hit = np.arange(len(photos)) < len(photos) * share
  facts.label_ranks[:, 3] = np.where(hit, 6, 0)[:, None]
  facts.numbers["psnr"] = np.round(psnr + generator.normal(0, 0.4, len(photos)), 3)
  facts.numbers["psnr"] += psnr - facts.numbers["psnr"].mean()
  return facts


@pytest.fixture
def planted(tmp_path):
  """Makes results in which some attacks mislead on a share of 40 photographs; others on 0.3."""

  def make(shares, names=None, photos=None):
    names = [each.name for each in passes.contenders(SETUP)] if names is None else names
    attacks = {
      name: make_facts(
        shares.get(name, 0.3), PSNR.get(name, 30.0), seed, (photos or {}).get(name, PHOTOS)
      )
      for seed, name in enumerate(names)
    }
    return synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks), attacks

  return make


# Settings


def test_passes_of_the_plain_attack_are_a_sixth_to_twice_the_papers():
  plain = [each.contender for each in SETTINGS.values() if each.option == "one level a step"]
  assert [each.passes for each in plain] == [10, 15, 20, 30, 45, 60, 90, 120]
  assert passes.reference(SETUP).name == PAPER
  assert PAPER in SETTINGS


def test_options_that_cost_no_pass_are_tried_with_fewer_passes_than_the_papers():
  others = [each for each in SETTINGS.values() if each.option != "one level a step"]
  assert len({each.option for each in others}) == len(passes.OPTIONS) - 1
  assert all(each.contender.config.transfer.scale_copies == 1 for each in others)
  assert all(each.contender.passes == each.contender.config.num_steps for each in others
             if each.contender.config.num_steps is not None)  # fmt: skip


def test_a_smaller_epsilon_is_the_same_setting_otherwise():
  found = [each for each in SETTINGS.values() if each.smaller]
  assert found
  for setting in found:
    config = setting.contender.config
    assert setting.smaller.passes == setting.contender.passes
    assert setting.smaller.config.epsilon == 0.75 * config.epsilon
    same = {"epsilon": config.epsilon, "num_steps": config.num_steps}
    assert dataclasses.replace(setting.smaller.config, **same) == config


def test_there_are_not_too_many_and_rows_are_shared_with_other_tables():
  names = {each.name for each in passes.contenders(SETUP)}
  assert len(names) <= 33
  others = [each for pair in variants.iteration_pairs(SETUP) for each in pair]
  assert {"original", "sign-noise", PAPER, FEW} <= names
  assert {PAPER, FEW} <= {each.name for each in others}


@pytest.mark.parametrize("epsilon", [16.0, 1.0], ids="{:g}".format)
def test_of_one_network_passes_that_round_to_one_number_come_once(epsilon):
  networks = synthetic.networks(["a"], ["b"])
  setup = synthetic.paper_setup(networks=networks, reference=networks[0], epsilon=epsilon)
  found = [each.contender for each in passes.settings(setup)]
  assert len({each.name for each in found}) == len(found)
  assert min(each.passes for each in found) == max(1, round(found_paper(setup) / 6))


def found_paper(setup):
  return passes.reference(setup).passes


# Equal PSNR


def test_a_lower_psnr_is_interpolated_between_two_epsilons(planted):
  large, small = (each.name for each in STRONG.members)
  results, attacks = planted({large: 0.8, small: 0.4})
  blend = passes.at_psnr(results, STRONG, PHOTOS, 25.5)
  # A fifth of the way from 25.0 at eps 16 to 27.5 at eps 12.
  assert blend.weights == pytest.approx({large: 0.8, small: 0.2})
  assert blend.epsilon == pytest.approx(0.8 * 16 + 0.2 * 12)
  assert blend.psnr == 25.5
  found = passes.misled(results, blend, PHOTOS, defended=True, top=5)
  one, other = ((attacks[name].label_ranks[:, 3, 1:] >= 5).mean(axis=1) for name in (large, small))
  np.testing.assert_allclose(found, 0.8 * one + 0.2 * other, atol=1e-12)
  assert found.mean() == pytest.approx(0.8 * 0.8 + 0.2 * 0.4)


@pytest.mark.parametrize(
  ("name", "psnr", "expected"),
  [
    (FEW, 27.0, {FEW: 1.0}),
    (STRONG.contender.name, 24.9, {STRONG.contender.name: 1.0}),
    (STRONG.contender.name, 27.6, None),
    (WITHOUT_SMALLER, 27.0, None),
  ],
  ids=["higher", "barely higher", "beyond", "no smaller"],
)
def test_a_higher_psnr_stands_as_it_is_and_one_out_of_reach_is_none(planted, name, psnr, expected):
  results, _ = planted({})
  blend = passes.at_psnr(results, SETTINGS[name], PHOTOS, psnr)
  assert (blend and blend.weights) == expected


def test_a_smaller_epsilon_without_rows_cannot_stand_in(planted):
  results, _ = planted({}, [PAPER, STRONG.contender.name])
  assert passes.at_psnr(results, STRONG, PHOTOS, 27.0) is None


# Verdicts


def verdicts(results):
  """Setting and passes, at equal eps and at equal PSNR."""
  table = show_passes.tables(results)[0]
  return [(row[1], row[3].value if row[3] else None) for row in table.rows]


def test_the_fewest_passes_win_at_equal_eps_and_at_equal_psnr(planted):
  """Momentum reaches the paper's rate with a third of its passes, but not at its PSNR."""
  results, _ = planted({PAPER: 0.8, HALF: 0.8, STRONG.contender.name: 0.8})
  assert verdicts(results) == [("momentum", 20), ("one level a step", 30)]


def test_of_equally_many_passes_the_one_ahead_wins(planted):
  names = ["rp-fgsm+n20+cosine4", "rp-fgsm+n20+linear4"]
  results, _ = planted({PAPER: 0.8} | dict(zip(names, (0.85, 0.9), strict=True)))
  assert verdicts(results) == [("linear decay", 20)] * 2


def test_none_is_said_where_none_protects_as_well(planted):
  results, _ = planted({PAPER: 0.8, "rp-fgsm+n90": 0.9, "rp-fgsm+n45": 0.75})
  fewer = [each for each in SETTINGS.values() if each.contender.passes < 60]
  table = show_passes.tables(results)[0]
  assert table.rows[0][1] == f"none of {len(fewer)}; 1 not clear"
  assert verdicts(results)[1][1] is None


@pytest.mark.parametrize(
  ("intervals", "verdict"),
  [
    (((-0.03, 0.1), (-0.03, 0.1)), "yes"),
    (((-0.02, -0.01), (0.1, 0.2)), "yes"),  # surely less, and surely not much
    (((-0.031, 0.1), (-0.03, 0.1)), "not clear"),
    (((0.1, 0.2), (-0.1, 0.1)), "not clear"),
    (((0.1, 0.2), (-0.1, -0.01)), "no"),
    (((-0.1, -0.01), (0.1, 0.2)), "no"),
  ],
)
def test_both_intervals_must_lie_above_the_margin(intervals, verdict):
  found = Compared(
    setting=STRONG,
    blend=Blend(weights={}, epsilon=16.0, psnr=27.0),
    differences=tuple(
      Difference(value=(low + high) / 2, low=low, high=high, count=40) for low, high in intervals
    ),
  )
  assert found.as_well == verdict
  assert passes.cheapest([found], 60) == (found if verdict == "yes" else None)
  assert passes.cheapest([found], 20) is None  # not fewer than the paper's


# Tables


def test_every_line_has_the_rates_and_differences_of_its_rows(tmp_path):
  generator = np.random.default_rng(3)
  names = [each.name for each in passes.contenders(SETUP)]
  attacks = {
    name: synthetic.random_facts(generator, PHOTOS, 4, ["resnet18", "resnet50", "alexnet"])
    for name in names
  }
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  _, table, _ = show_passes.tables(results)
  assert table.note.startswith("40 photos. ")

  def columns(name):
    ranks = attacks[name].label_ranks[:, 3]
    return [(ranks[:, part] >= top).mean(axis=1) for part in ([0], range(1, 6)) for top in (1, 5)]

  assert len(table.rows) == len(SETTINGS)
  for row, (name, setting) in zip(table.rows, SETTINGS.items(), strict=True):
    assert row[0] == setting.option
    psnr = attacks[name].numbers["psnr"].mean()
    first = setting.contender.config.step_size
    expected = [
      first,
      setting.contender.passes,
      16.0,
      psnr,
      *(each.mean() for each in columns(name)),
    ]
    pairs = list(zip(columns(name), columns(PAPER), strict=True))[2:]
    found = [paired_difference(*pair) for pair in pairs]
    expected += [each.value for each in found]
    np.testing.assert_allclose([cell.value for cell in row[1:-1]], expected, atol=1e-12)
    assert (row[-1] == "yes") == all(each.low >= -0.03 for each in found)
    low = f"[{100 * found[0].low:+.1f}, {100 * found[0].high:+.1f}]"
    assert row[-3].text.endswith(low)


def test_photos_that_one_setting_lacks_are_left_out_of_all(planted):
  short = {STRONG.smaller.name: PHOTOS[3:20]}
  results, _ = planted({}, photos=short)
  assert passes.shared_photos(results) == PHOTOS[3:20]
  assert all("17 photos. " in each.note for each in show_passes.tables(results))


@pytest.mark.parametrize(
  "names",
  [["original", FEW, HALF, STRONG.contender.name], ["original", PAPER, FEW]],
  ids=["no reference", "rows of Table VII"],
)
def test_without_the_papers_passes_or_a_comparison_nothing_is_shown(planted, tmp_path, names):
  results, _ = planted({}, names)
  assert show_passes.tables(results) == []
  assert show_passes.figure(results) is None


def test_the_catalog_shows_them(planted):
  results, _ = planted({PAPER: 0.8})
  tables = catalog.EXPERIMENTS["passes"].tables(results)
  assert [table.title for table in tables] == [
    "The fewest passes that protect as well as the paper's",
    "RP-FGSM by passes, at equal eps",
    "RP-FGSM by passes, at equal PSNR",
  ]


# The figure


def test_the_figure_has_a_line_an_option_and_a_joined_point_a_setting(planted, tmp_path):
  results, _ = planted({PAPER: 0.8, FEW: 0.4, STRONG.contender.name: 0.7})
  figure = show_passes.figure(results)
  top_1, _, top_5, quality = figure.axes
  plain, momentum = top_5.lines[:2]
  assert plain.get_xdata().tolist() == [10, 15, 20, 30, 45, 60, 90, 120]
  assert plain.get_ydata()[[2, 5]] == pytest.approx([40, 80])
  assert momentum.get_ydata()[0] == pytest.approx(70)
  titles = [text.get_text() for text in figure.legends[0].get_texts()]
  assert titles == [option.title for option in passes.OPTIONS]
  trail = next(line for line in quality.lines if len(line.get_xdata()) == 2)
  np.testing.assert_allclose(trail.get_xdata(), [25.0, 27.5], atol=1e-6)
  paper = [line for line in (*top_1.lines, *quality.lines) if line.get_linestyle() == ":"]
  assert sorted(line.get_xdata()[0] for line in paper) == pytest.approx([0, 0, 27.0, 60])


def test_a_setting_that_changed_nothing_has_no_place_against_psnr(planted, tmp_path):
  results, _ = planted({PAPER: 0.8, FEW: 0.4})
  results.outcomes[FEW].numbers["psnr"][:] = np.nan
  top_1, quality, *_ = show_passes.figure(results).axes
  assert top_1.lines[0].get_ydata()[2] == pytest.approx(40)
  plain = [line for line in quality.lines if line.get_color() == top_1.lines[0].get_color()]
  assert [len(line.get_xdata()) for line in plain] == [1, 1, 0, 1, 1, 1, 1, 1]


def test_the_first_option_has_its_wilson_intervals_shaded(planted, tmp_path):
  figure = show_passes.figure(planted({FEW: 0.4})[0])
  corners = figure.axes[0].collections[0].get_paths()[0].vertices
  expected = scipy.stats.binomtest(16, 40).proportion_ci(method="wilson")
  found = sorted(set(corners[corners[:, 0] == 20, 1].round(6)))
  np.testing.assert_allclose(found, [100 * expected.low, 100 * expected.high], atol=1e-5)
