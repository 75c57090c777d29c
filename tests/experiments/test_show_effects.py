"""Tables V to VII and the defaults on drawn rows: against loops over photographs and pairs."""

import re

import numpy as np
import pytest
import synthetic_rows as synthetic

from experiments import show_effects, variants
from rpfgsm_jax.evaluation import paired_difference

SETUP = synthetic.paper_setup()
PHOTOS = synthetic.names(12)
TITLES = ["resnet18", "resnet50", "alexnet", "densenet161"]
FAMILIES = ([1, 2], [3], [4, 5])
TABLES = {
  "table5": (show_effects.table5, variants.transformation_pairs),
  "table6": (show_effects.table6, variants.choice_pairs),
  "table7": (show_effects.table7, variants.iteration_pairs),
}
# For each variant: the groups in order, and the networks of their pairs.
PAIRS, ALL = [(0, 1), (0, 2), (1, 2)], [(0, 1), (0, 2), (1, 2), (0, 1, 2)]
GROUPS = {
  "table5": [("one network", [(0,), (1,), (2,)]), ("ensemble", ALL), ("random", ALL)],
  "table6": [("none", ALL), ("random transformation", ALL)],
  "table7": [
    ("20 iterations minus 20", ALL),
    ("40 iterations minus 20", PAIRS),
    ("60 iterations minus 20", [(0, 1, 2)]),
    ("60 iterations minus 60", [(0, 1, 2)]),
  ],
}
TRAINING = synthetic.training_distances(np.random.default_rng(1), 60, 4)


def make_attacks(pairs, photos=PHOTOS):
  generator = np.random.default_rng(0)
  attacks = {"original": synthetic.random_facts(generator, photos, 4)}
  for contender in (each for pair in pairs for each in pair):
    used = [network.title for network in contender.networks]
    attacks[contender.name] = synthetic.random_facts(generator, photos, 4, used)
  return attacks


def slow_columns(facts, training):
  """One attack's columns of the tables: lists of one number a photograph."""
  columns = []
  for settings in ([0], range(1, 6)):
    for network in range(4):
      for top in (1, 5):
        columns.append(
          [np.mean([ranks[network][s] >= top for s in settings]) for ranks in facts.label_ranks]
        )
  if training is None:
    return columns
  shares = np.zeros(len(facts.photos))
  used = [TITLES.index(title) for title in facts.used]
  for network in used:
    for family in FAMILIES:
      places = [s - 1 for s in family]
      clean = np.sort(training[:, network, places].max(axis=1))
      tau = clean[len(clean) - len(clean) // 20 - 1]  # 5 % lie above
      shares += facts.distances[:, network, places].max(axis=1) > tau
  return [*columns, shares / len(used) / len(FAMILIES)]


def slow_differences(pair, attacks, training):
  """`(columns, photos)` of a pair."""
  first, second = (np.asarray(slow_columns(attacks[each.name], training)) for each in pair)
  return first - second


@pytest.fixture(scope="module", params=TABLES)
def shown(request, tmp_path_factory):
  """A table's name, its two tables, and the differences of its pairs."""
  table, pairs = TABLES[request.param]
  attacks = make_attacks(pairs(SETUP))
  path = tmp_path_factory.mktemp("study") / "rows.jsonl"
  results = synthetic.read(path, SETUP, attacks, training=TRAINING)
  found = {}
  for targeted in (True, False):
    kept = [pair for pair in pairs(SETUP) if pair[0].config.targeted == targeted]
    found[targeted] = np.stack([slow_differences(pair, attacks, TRAINING) for pair in kept])
  return request.param, table(results, SETUP), found


def values(row):
  return [cell.value for cell in row[2:]]


def lines_of(name, differences):
  """The expected lines: (group, on, `(columns, photos)`)."""
  lines, start = [], 0
  for group, choices in GROUPS[name]:
    members = differences[start : start + len(choices)]
    for choice, each in zip(choices, members, strict=True):
      lines.append((group, " + ".join(TITLES[place] for place in choice), each))
    if len(choices) > 1:
      lines.append((group, "average", members.mean(axis=0)))
    start += len(choices)
  assert start == len(differences)
  return lines


def test_one_table_a_variant_targeted_first(shown):
  _, tables, _ = shown
  kinds = [table.title.rpartition(", ")[2] for table in tables]
  assert kinds == ["targeted", "untargeted"]
  assert all(table.note.startswith("12 photos. ") for table in tables)


def test_columns_are_settings_then_networks_then_top_1_and_5(shown):
  columns = shown[1][0].columns
  expected = [f"{t}{d} top-{k}" for d in ("", " +D") for t in TITLES for k in (1, 5)]
  assert columns == ["", "on", *expected, "detection"]


@pytest.mark.parametrize("place", [0, 1], ids=["targeted", "untargeted"])
def test_lines_are_the_pairs_in_their_groups_and_a_groups_average(shown, place):
  name, tables, found = shown
  expected = [line[:2] for line in lines_of(name, found[place == 0])]
  assert [tuple(row[:2]) for row in tables[place].rows] == expected


@pytest.mark.parametrize("place", [0, 1], ids=["targeted", "untargeted"])
def test_cells_are_the_mean_differences_over_photos(shown, place):
  name, tables, found = shown
  expected = [each.mean(axis=1) for _, _, each in lines_of(name, found[place == 0])]
  np.testing.assert_allclose([values(row) for row in tables[place].rows], expected, atol=1e-12)


@pytest.mark.parametrize("place", [0, 1], ids=["targeted", "untargeted"])
def test_stars_stand_where_the_interval_over_photos_leaves_out_zero(shown, place):
  name, tables, found = shown
  stars = [[cell.text.endswith("*") for cell in row[2:]] for row in tables[place].rows]
  expected = [
    [bool(paired_difference(column, np.zeros(12)).sign) for column in each.round(12)]
    for _, _, each in lines_of(name, found[place == 0])
  ]
  # Rounding may part two equal levels and draw other resamples: a few ends are too near to zero.
  assert np.mean(np.asarray(stars) != np.asarray(expected)) < 0.02
  assert 0 < np.mean(stars) < 0.5


@pytest.fixture
def planted(tmp_path):
  """Random networks beat ensembles on DenseNet161 behind defenses, and are detected less."""
  pairs = list(variants.choice_pairs(SETUP))
  attacks = make_attacks(pairs)
  for random, ensemble in pairs:
    one, other = attacks[random.name], attacks[ensemble.name]
    one.label_ranks[:] = other.label_ranks
    one.label_ranks[:, 3, 1:] = 6
    other.label_ranks[:, 3, 1:] = 3
    one.distances[:], other.distances[:] = 0.0, 2.0
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, training=TRAINING)
  return show_effects.table6(results, SETUP)


def test_an_effect_on_every_photo_has_a_star_and_no_other_cell_has(planted):
  for table in planted:
    for row in table.rows:
      found = dict(zip(table.columns, row, strict=True))
      assert found["densenet161 +D top-5"].text == "+100.0*"
      assert found["detection"].text == "-100.0*"
      others = set(table.columns[2:]) - {"densenet161 +D top-5", "detection"}
      assert {found[each].text for each in others} == {"+0.0"}


def test_without_training_photos_there_is_no_detection(tmp_path):
  attacks = make_attacks(variants.choice_pairs(SETUP))
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  table = show_effects.table6(results, SETUP)[0]
  assert len(table.columns) == 18
  assert table.columns[-1] == "densenet161 +D top-5"


def test_photos_that_one_attack_lacks_are_left_out_of_all(tmp_path):
  pairs = list(variants.choice_pairs(SETUP))
  attacks = make_attacks(pairs)
  short = pairs[3][1].name
  attacks[short] = synthetic.random_facts(np.random.default_rng(5), PHOTOS[2:9], 4, TITLES[:3])
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  table = show_effects.table6(results, SETUP)[0]
  assert table.note.startswith("7 photos. ")
  first, second = (np.asarray(slow_columns(attacks[each.name], None)) for each in pairs[0])
  expected = (first - second)[:, 2:9].mean(axis=1)
  np.testing.assert_allclose(values(table.rows[0]), expected, atol=1e-12)


def test_pairs_that_are_not_there_are_left_out_and_no_pair_is_no_table(tmp_path):
  pairs = list(variants.choice_pairs(SETUP))
  attacks = make_attacks(pairs[:1])
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  targeted, untargeted = show_effects.table6(results, SETUP)
  assert [row[:2] for row in targeted.rows] == [["none", "resnet18 + resnet50"]]
  assert untargeted.rows == []
  assert show_effects.table7(results, SETUP) == []
  assert show_effects.defaults(results, SETUP) == []


# What the paper leaves open


@pytest.fixture(scope="module")
def choices(tmp_path_factory):
  pairs = list(variants.default_pairs(SETUP))
  attacks = make_attacks(pairs)
  path = tmp_path_factory.mktemp("study") / "rows.jsonl"
  (table,) = show_effects.defaults(synthetic.read(path, SETUP, attacks), SETUP)
  return table, pairs, attacks


def test_every_choice_is_decided_on_one_half_and_reported_on_the_other(choices):
  table, pairs, _ = choices
  halves = [sum(synthetic.photo_id(photo) % 2 == parity for photo in PHOTOS) for parity in (0, 1)]
  assert min(halves) > 0
  assert halves[0] != halves[1]
  expected = [
    [other.note, "targeted" if other.config.targeted else "untargeted", half, str(count)]
    for other, _ in pairs
    for half, count in zip(("decided on", "reported"), halves, strict=True)
  ]
  assert [row[:4] for row in table.rows] == expected


def test_halves_are_even_and_odd_ids(choices):
  table, pairs, attacks = choices
  expected = []
  for other, usual in pairs:
    first, second = (np.asarray(slow_columns(attacks[each.name], None)) for each in (other, usual))
    unseen = (first - second)[[14, 15, 6, 7]]  # DenseNet161: defended top-1, top-5, undefended
    for parity in (0, 1):
      kept = [synthetic.photo_id(photo) % 2 == parity for photo in PHOTOS]
      expected.append(unseen[:, kept].mean(axis=1))
  found = [[cell.value for cell in row[4:]] for row in table.rows]
  np.testing.assert_allclose(found, expected, atol=1e-12)


def test_intervals_of_choices_hold_their_value(choices):
  for row in choices[0].rows:
    for cell in row[4:]:
      value, low, high = map(float, re.findall(r"[-+][\d.]+", cell.text))
      assert low <= value <= high
      assert value == round(100 * cell.value, 1)


def test_a_half_without_photos_is_not_available(tmp_path):
  pairs = list(variants.default_pairs(SETUP))
  attacks = make_attacks(pairs, PHOTOS[:1])
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  (table,) = show_effects.defaults(results, SETUP)
  assert [row[3] for row in table.rows[:2]] == ["1", "0"]
  assert {cell.text for cell in table.rows[1][4:]} == {"n/a"}
