"""The paper's statements: verdicts on planted effects, and the numbers that are quoted of it."""

import dataclasses
import re

import numpy as np
import pytest
import synthetic_rows as synthetic

from experiments import catalog, claims, claims_list
from experiments.claims import Claim

SETUP = synthetic.paper_setup()
PHOTOS = synthetic.names(40)
TRAINING = synthetic.training_distances(np.random.default_rng(1), 60, 4)
CLAIMS = list(claims_list.claims_of(SETUP))
UNSEEN = claims.misled(seen=False, defended=False, top=5)


def claim(**changes):
  return Claim(
    **{
      "where": "V-D",
      "text": "first minus second",
      "paper": "+6.6",
      "sign": 1,
      "unit": "pp",
      "first": ("first",),
      "second": ("second",),
      "value": UNSEEN,
    }
    | changes
  )


def make_facts(shares, seed=0):
  """An attack that misleads the unseen network, top-5, on the first photographs of 40."""
  facts = synthetic.random_facts(np.random.default_rng(seed), PHOTOS, 4, ("resnet50",))
  facts.label_ranks[:, 3, 0] = np.where(np.arange(40) < 40 * shares, 7, 4)
  return facts


@pytest.fixture
def judged(tmp_path):
  """Judges a claim about two attacks."""

  def run(facts, others, *, training=TRAINING, **changes):
    attacks = {"first": facts, "second": others}
    results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, training=training)
    return claims.judge(results, claim(**changes))

  return run


# Verdicts


@pytest.mark.parametrize(
  ("sign", "first", "second", "verdict"),
  [
    (1, 0.9, 0.3, "agrees"),
    (1, 0.3, 0.9, "opposite"),
    (-1, 0.3, 0.9, "agrees"),
    (-1, 0.9, 0.3, "opposite"),
    (1, 0.5, 0.475, "not clear"),
    (-1, 0.5, 0.475, "not clear"),
    (0, 0.5, 0.5, "agrees"),
    (0, 0.525, 0.5, "agrees"),  # one of 40 photographs: 0 to 7.5 points
    (0, 0.55, 0.5, "not clear"),  # two: 0 to 12.5 points
    (0, 0.9, 0.3, "opposite"),
    (0, 0.3, 0.9, "opposite"),
  ],
)
def test_the_verdict_on_a_planted_effect(judged, sign, first, second, verdict):
  effect, found = judged(make_facts(first), make_facts(second), sign=sign)
  assert found == verdict
  assert effect.value == pytest.approx(first - second)
  assert effect.count == 40


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_is_not_clear(judged, sign):
  generator = np.random.default_rng(2)
  first, second = (make_facts(0.5) for _ in range(2))
  for facts in (first, second):
    facts.label_ranks[:, 3, 0] = generator.permutation(facts.label_ranks[:, 3, 0])
  assert judged(first, second, sign=sign)[1] == "not clear"


@pytest.mark.parametrize(("defenses", "verdict"), [(1, "agrees"), (2, "not clear")])
def test_alike_needs_the_whole_interval_within_ten_points(judged, defenses, verdict):
  """Half of the photographs up, half down: the mean is 0, the interval +-6 or +-12 points."""
  first, second = make_facts(0.5), make_facts(0.5)
  for facts, half in ((first, slice(0, 40, 2)), (second, slice(1, 40, 2))):
    facts.label_ranks[:, 3, 1:] = 4
    facts.label_ranks[half, 3, 1 : 1 + defenses] = 7  # of five defenses
  defended = claims.misled(seen=False, defended=True, top=5)
  effect, found = judged(first, second, sign=0, value=defended)
  assert abs(effect.value) < 1e-12
  assert found == verdict


@pytest.mark.parametrize("missing", ["first", "second"])
def test_a_claim_about_an_attack_that_was_not_run(judged, missing):
  there = make_facts(0.5)
  assert judged(there, there, **{missing: (missing, "absent")}) == (None, "not run")


def test_a_claim_about_detection_without_training_photos(judged):
  there = make_facts(0.5)
  assert judged(there, there, training=None, value=claims.detected) == (None, "not run")


def test_a_claim_about_numbers_that_no_row_has(judged):
  there = make_facts(0.5)
  there.numbers["brisque"][:] = np.nan
  value = claims.measured("brisque")
  assert judged(there, there, value=value, unit="BRISQUE") == (None, "not run")


def test_attacks_without_a_photo_in_common(judged):
  first, second = make_facts(0.5), make_facts(0.5)
  first.photos, second.photos = [f"photo{i:02}a" for i in range(40)], second.photos
  assert judged(first, second) == (None, "not run")


# What is measured


@pytest.mark.parametrize(("seen", "network"), [(True, 1), (False, 3)], ids=["seen", "unseen"])
@pytest.mark.parametrize("defended", [False, True], ids=["undefended", "defended"])
def test_misled_is_about_the_reference_or_the_unseen_network(judged, seen, network, defended):
  first, second = make_facts(0.5, seed=1), make_facts(0.5, seed=2)
  settings = slice(1, None) if defended else slice(0, 1)
  shares = [
    (facts.label_ranks[:, network, settings] >= 5).mean(axis=1) for facts in (first, second)
  ]
  value = claims.misled(seen=seen, defended=defended, top=5)
  effect, _ = judged(first, second, value=value)
  assert effect.value == pytest.approx((shares[0] - shares[1]).mean())


def test_detected_is_about_the_networks_that_each_attack_used(judged):
  first, second = make_facts(0.5), make_facts(0.5)
  first.used, second.used = ("alexnet", "resnet18"), ("resnet50",)
  for facts, flagged in ((first, [0, 2]), (second, [])):
    facts.distances[:] = 0
    facts.distances[:, flagged] = 2
  effect, verdict = judged(first, second, value=claims.detected)
  assert (effect.value, verdict) == (1.0, "agrees")


def test_measured_leaves_out_photos_without_the_number(judged):
  first, second = make_facts(0.5), make_facts(0.5)
  first.numbers["psnr"] = second.numbers["psnr"] + 3
  first.numbers["psnr"][:10] = np.nan
  second.numbers["psnr"][8:15] = np.nan
  effect, verdict = judged(first, second, value=claims.measured("psnr"), unit="dB")
  assert effect.value == pytest.approx(3)
  assert (effect.count, verdict) == (25, "agrees")


def test_several_attacks_are_averaged_on_either_side(tmp_path):
  shares = {"a": 0.9, "b": 0.5, "c": 0.3, "d": 0.2, "e": 0.1}
  attacks = {name: make_facts(share) for name, share in shares.items()}
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  effect, _ = claims.judge(results, claim(first=("a", "b"), second=("c", "d", "e")))
  assert effect.value == pytest.approx(0.7 - 0.2)


def test_one_attack_may_be_measured_in_two_ways(judged):
  facts = make_facts(0.25)
  facts.label_ranks[:, 3, 1:] = 7
  value = claims.misled(seen=False, defended=True, top=5)
  effect, _ = judged(facts, facts, second=("first",), value=value, second_value=UNSEEN)
  assert effect.value == pytest.approx(0.75)


def test_the_table_shows_effects_in_their_unit_and_counts_verdicts(tmp_path):
  attacks = {"first": make_facts(0.9), "second": make_facts(0.3)}
  for name, psnr in (("first", 30.0), ("second", 33.5)):
    attacks[name].numbers["psnr"][:] = psnr
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  table = claims.table(
    results,
    [
      claim(),
      claim(sign=-1, value=claims.measured("psnr"), unit="dB"),
      claim(first=("absent",)),
      claim(sign=-1),
    ],
  )
  assert table.note.startswith("2 agrees, 1 not run, 1 opposite. ")
  shown = [[getattr(cell, "text", cell) for cell in row] for row in table.rows]
  first, interval = shown[0][3].split(" ", 1)
  assert first == "+60.0"
  assert re.fullmatch(r"\[\+4\d\.\d, \+7\d\.\d\] pp", interval)
  assert table.rows[0][3].value == pytest.approx(60)
  assert shown[0][:3] + shown[0][4:] == ["V-D", "first minus second", "+6.6", "40", "agrees"]
  assert shown[1][3:] == ["-3.5 [-3.5, -3.5] dB", "40", "agrees"]
  assert shown[2][3:] == ["n/a", "", "not run"]
  assert shown[3][5] == "opposite"


# The list


def test_every_claim_is_about_attacks_that_its_experiment_runs():
  run = {each.name for each in catalog.EXPERIMENTS["claims"].contenders(SETUP)}
  assert {name for each in CLAIMS for name in (*each.first, *each.second)} <= run


def test_every_claim_compares_something():
  assert all(each.first and each.second for each in CLAIMS)
  assert all(each.first != each.second or each.second_value for each in CLAIMS)


def test_no_claim_comes_twice():
  assert len({(each.where, each.text, each.unit) for each in CLAIMS}) == len(CLAIMS)


def test_every_claim_can_be_judged(tmp_path):
  used = {name: () for each in CLAIMS for name in (*each.first, *each.second)}
  for contender in catalog.EXPERIMENTS["claims"].contenders(SETUP):
    if contender.name in used:
      used[contender.name] = [network.title for network in contender.networks]
  generator = np.random.default_rng(0)
  attacks = {
    name: synthetic.random_facts(generator, PHOTOS, 4, titles) for name, titles in used.items()
  }
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, training=TRAINING)
  verdicts = [claims.judge(results, each)[1] for each in CLAIMS]
  assert "not run" not in verdicts
  assert verdicts.count("not clear") > 0.8 * len(verdicts)  # nothing but noise


def test_at_another_epsilon_too_every_claim_is_about_attacks_that_are_run():
  setup = synthetic.paper_setup(epsilon=8.0)
  run = {each.name for each in catalog.EXPERIMENTS["claims"].contenders(setup)}
  found = list(claims_list.claims_of(setup))
  assert {name for each in found for name in (*each.first, *each.second)} <= run


def test_with_one_seen_network_every_claim_compares_something():
  networks = synthetic.networks(("resnet50",), ("densenet161",))
  setup = dataclasses.replace(SETUP, networks=networks, reference=networks[0])
  assert all(each.first and each.second for each in claims_list.claims_of(setup))


# The paper's numbers

NUMBER = r"[-+]?\d+\.?\d*"
SUMS = [each for each in CLAIMS if re.fullmatch(rf"{NUMBER} - {NUMBER} = {NUMBER}", each.paper)]
BOUNDS = [each for each in CLAIMS if " against " in each.paper]
EFFECTS = [each for each in CLAIMS if re.match(r"[-+]\d", each.paper)]


def numbers(text):
  return [float(each) for each in re.findall(r"(?<![\d.])[-+]?\d+\.?\d*", text)]


def by_text(claims):
  return pytest.mark.parametrize("each", claims, ids=[f"{c.where}: {c.text}" for c in claims])


def test_every_size_in_the_paper_is_of_a_kind_that_is_checked_here():
  rest = [each.paper for each in CLAIMS if each not in (*SUMS, *BOUNDS, *EFFECTS)]
  words = {"more", "increases", "similar", "falls"}
  assert {each for each in rest if not each.startswith("about ")} == words


@by_text(SUMS)
def test_sums_add_up_and_have_the_sign(each):
  first, second, difference = (
    float(part)
    for part in re.fullmatch(rf"({NUMBER}) - ({NUMBER}) = ({NUMBER})", each.paper).groups()
  )
  assert first - second == pytest.approx(difference, abs=1e-9)
  assert each.sign == (np.sign(difference) if abs(difference) > 1 else 0)


@by_text(BOUNDS)
def test_bounds_have_the_sign(each):
  """Of one side against the other, by the ends or middles that the paper gives."""
  first, second = each.paper.split(" against ")
  if numbers(second):
    assert each.sign == np.sign(np.mean(numbers(first)) - np.mean(numbers(second)))
  else:
    assert each.sign == {"less": 1, "more": -1}[second]


@by_text(EFFECTS)
def test_effects_have_their_sign(each):
  assert each.sign == np.sign(numbers(each.paper)[0])


# Tables V to VII, column by column as printed: the lines, then the printed average.
TABLE_5 = {
  ("one network", "targeted", "detected"): ((-23.0, -17.8, -17.3), -19.4),
  ("one network", "untargeted", "detected"): ((-7.4, -8.8, -0.2), -5.5),
  ("all networks", "targeted", "detected"): ((-22.7, -18.7, -8.8, -12.6), -15.7),
  ("all networks", "untargeted", "detected"): ((9.0, 8.7, 10.1, 9.8), 9.5),
  ("random network", "targeted", "detected"): ((-14.0, -5.8, 0.1, -7.9), -6.9),
  # The printed averages of this block leave out its first line, ResNet18 + ResNet50.
  ("random network", "untargeted", "detected"): ((-2.8, -2.9, -3.1), -2.9),
  ("one network", "untargeted", "unseen, defended, top-1"): ((13.7, 14.5, -1.5), 8.9),
  ("random network", "targeted", "unseen, defended, top-1"): ((6.6, 2.4, 2.5, 4.0), 3.9),
  ("random network", "untargeted", "unseen, defended, top-1"): ((7.2, 8.3, 12.4), 9.3),
}
TABLE_6 = {
  ("targeted", "unseen, top-1"): ((8.7, 7.2, 8.7, 11.4), 9.0),
  ("untargeted", "unseen, top-1"): ((0.8, 0.4, 1.5, 0.0), 0.7),
  ("targeted", "detected"): ((-7.9, -3.4, -9.8, -28.7), -12.5),
  ("untargeted", "detected"): ((-10.0, -1.7, -3.2, -5.9), -5.2),
}
TABLE_7 = {  # single lines: 60 iterations against 20, and against 60
  ("passes", "unseen, top-5"): ((16.4,), 16.4),
  ("passes", "detected"): ((-28.7,), -28.7),
  ("iterations", "unseen, defended, top-1"): ((13.1,), 13.1),
  ("iterations", "detected"): ((-28.9,), -28.9),
}
PRINTED = {
  **{
    f"Random transformation minus none, {choice}, {kind}: {measure}": value
    for (choice, kind, measure), value in TABLE_5.items()
  },
  **{
    f"Random network minus all networks, {kind}: {measure}": value
    for (kind, measure), value in TABLE_6.items()
  },
  **{
    f"RP-FGSM targeted minus all networks, as many {equal}: {measure}": value
    for (equal, measure), value in TABLE_7.items()
  },
}


def test_claims_of_the_tables_are_the_printed_ones():
  assert {each.text for each in CLAIMS if "Table" in each.where} == set(PRINTED)


@by_text([each for each in CLAIMS if "Table" in each.where])
def test_effects_are_the_papers_averages(each):
  lines, average = PRINTED[each.text]
  assert numbers(each.paper)[0] == average
  assert np.mean(lines) == pytest.approx(average, abs=0.11)  # of lines rounded to tenths
