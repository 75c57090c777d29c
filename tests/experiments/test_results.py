"""Rows into arrays and rates: against loops over what was written."""

import itertools

import numpy as np
import pytest
import synthetic_rows as synthetic

from experiments import rows
from experiments.results import OWN, TRUE, Results
from experiments.variants import Setup
from rpfgsm_jax.evaluation import misleading_rate

NETWORKS = synthetic.networks(("alexnet", "resnet50"), ("densenet161",))
SETUP = Setup(networks=NETWORKS, reference=NETWORKS[1], bank=synthetic.BANK)
PHOTOS = synthetic.names(12)
# Settings: 0 no defense, 1 and 2 re-quantization, 3 median, 4 and 5 JPEG.
FAMILIES = {"requantize": [1, 2], "median": [3], "jpeg": [4, 5]}
FEW = ["photo04.jpg", "photo01.jpg", "photo11.jpg", "photo00.jpg"]
KEPT = {"png": "a.png", "classes": [[1, 2]] * 3, "probabilities": [[0.5, 0.2]] * 3}


def make_attacks():
  generator = np.random.default_rng(0)
  attacks = {
    "original": synthetic.random_facts(generator, PHOTOS, 3),
    "one": synthetic.random_facts(generator, PHOTOS, 3, ("resnet50",)),
    "both": synthetic.random_facts(generator, PHOTOS, 3, ("resnet50", "alexnet")),
    "few": synthetic.random_facts(generator, FEW, 3, ("resnet50",)),
  }
  # Easy to fool without a defense, so that some photographs mislead both networks.
  attacks["both"].label_ranks[:, :, 0] = generator.integers(0, 3, (12, 3))
  return attacks


ATTACKS = make_attacks()
TRAINING = synthetic.training_distances(np.random.default_rng(1), 41, 3)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  path = tmp_path_factory.mktemp("study") / "rows.jsonl"
  return synthetic.read(path, SETUP, ATTACKS, training=TRAINING)


def places(name, photos):
  return [ATTACKS[name].photos.index(photo) for photo in photos]


# The same, slowly


def slow_misled(name, photos, networks, settings, top, field=TRUE):
  ranks = getattr(ATTACKS[name], field)
  shares = []
  for place in places(name, photos):
    pairs = list(itertools.product(networks, settings))
    shares.append(sum(ranks[place][n][s] >= top for n, s in pairs) / len(pairs))
  return shares


def slow_threshold(network, group):
  """The smallest distance that at most 5 % of clean training photographs exceed."""
  largest = [max(each[network][s - 1] for s in group) for each in TRAINING]
  return min(tau for tau in largest if sum(d > tau for d in largest) <= 0.05 * len(largest))


def slow_detected(name, photos, networks, groups):
  distances = ATTACKS[name].distances
  shares = []
  for place in places(name, photos):
    flags = [
      max(distances[place][n][s - 1] for s in group) > slow_threshold(n, group)
      for n in networks
      for group in groups
    ]
    shares.append(sum(flags) / len(flags))
  return shares


# Reading


@pytest.mark.parametrize("name", ATTACKS)
def test_outcomes_hold_what_was_written_in_the_order_of_the_rows(results, name):
  outcome, facts = results.outcomes[name], ATTACKS[name]
  assert list(outcome.photos) == facts.photos
  np.testing.assert_array_equal(outcome.ranks, facts.ranks)
  np.testing.assert_array_equal(outcome.label_ranks, facts.label_ranks)
  np.testing.assert_array_equal(outcome.distances, facts.distances.astype(np.float32))
  for column, values in facts.numbers.items():
    np.testing.assert_array_equal(outcome.numbers[column], values)


def test_labels_ids_and_places_are_the_photographs(results):
  outcome = results.outcomes["few"]
  assert outcome.labels.tolist() == [synthetic.label_of(photo) for photo in FEW]
  assert outcome.ids.tolist() == [synthetic.photo_id(photo) for photo in FEW]
  assert outcome.at([FEW[2], FEW[0]]).tolist() == [2, 0]


def test_networks_are_told_apart_by_the_header(results):
  assert results.titles == ["alexnet", "resnet50", "densenet161"]
  assert results.networks(seen=True) == [0, 1]
  assert results.networks(seen=False) == [2]
  assert results.reference == 1


def test_families_have_their_settings_and_no_defense_has_none(results):
  assert results.families == FAMILIES


@pytest.mark.parametrize(("name", "expected"), [("original", [1]), ("one", [1]), ("both", [1, 0])])
def test_attacked_are_the_networks_used_and_of_a_baseline_the_reference(results, name, expected):
  assert results.attacked(name) == expected


def test_shared_photos_are_those_of_all_in_the_order_of_the_first(results):
  assert results.shared(["one", "few"]) == sorted(FEW)
  assert results.shared(["few", "one"]) == FEW
  assert results.shared(iter(["one", "both"])) == PHOTOS


def test_kept_photos_alone_have_extras(tmp_path):
  attacks = make_attacks()
  attacks["one"].extra = {PHOTOS[2]: KEPT}
  attacks["original"].extra = {photo: {"candidates": [3, 1]} for photo in PHOTOS}
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  label = {"label": synthetic.label_of(PHOTOS[2])}
  assert results.outcomes["one"].extra == {PHOTOS[2]: KEPT | label}
  assert list(results.outcomes["original"].extra) == PHOTOS
  assert results.outcomes["original"].extra[PHOTOS[2]] == {"candidates": [3, 1]} | label
  assert results.outcomes["both"].extra == {}


def test_other_rows_are_kept_apart(tmp_path):
  others = [
    {"kind": "timing", "attack": "one", "photo": PHOTOS[0], "seconds": 0.5},
    {"kind": "timing", "attack": "both", "photo": PHOTOS[0], "seconds": 1.5},
    {"kind": "timing", "attack": "one", "photo": PHOTOS[1], "seconds": 0.25},
    {"kind": "failure", "photo": "broken.jpg", "message": "broken.jpg: cut"},
    {"kind": "attack", "name": "announced", "networks": ["alexnet"], "config": None},
  ]
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, ATTACKS, others=others)
  assert results.timings == {"one": [0.5, 0.25], "both": [1.5]}
  assert results.failures == ["broken.jpg: cut"]
  assert list(results.outcomes) == list(ATTACKS)
  assert results.attacked("announced") == [0]


def test_a_file_of_something_else_is_refused(tmp_path):
  rows.append_rows(tmp_path / "rows.jsonl", [{"kind": "photo"}])
  with pytest.raises(rows.RowsError, match="must begin with a row of kind 'run'"):
    Results(tmp_path / "rows.jsonl")


# Misleading


@pytest.mark.parametrize("field", [TRUE, OWN])
@pytest.mark.parametrize("top", [1, 5])
@pytest.mark.parametrize(
  ("defended", "settings"),
  [(False, [0]), (True, [1, 2, 3, 4, 5]), ([0, 3], [0, 3]), ((4, 5), [4, 5])],
  ids=["undefended", "defended", "some", "family"],
)
@pytest.mark.parametrize("networks", [[2], [1, 0], [0, 1, 2]], ids=["unseen", "seen", "all"])
def test_misled_equals_the_loop(results, networks, defended, settings, top, field):
  found = results.misled("both", PHOTOS, networks=networks, defended=defended, top=top, field=field)
  np.testing.assert_allclose(
    found, slow_misled("both", PHOTOS, networks, settings, top, field), rtol=1e-15
  )


def test_misled_is_about_the_true_class_where_there_is_one(results):
  options = {"networks": [0, 1], "defended": True, "top": 2}
  assert results.scene == TRUE
  np.testing.assert_array_equal(
    results.misled("one", PHOTOS, **options), results.misled("one", PHOTOS, **options, field=TRUE)
  )


def test_misled_keeps_the_order_of_the_photos_asked_for(results):
  options = {"networks": [1], "defended": True, "top": 3}
  photos = [FEW[3], FEW[0], FEW[1]]
  np.testing.assert_array_equal(
    results.misled("few", photos, **options), slow_misled("few", photos, [1], range(1, 6), 3)
  )


def test_rate_is_the_mean_over_photos_and_its_interval_theirs(results):
  shares = slow_misled("one", PHOTOS[:9], [2], range(1, 6), 5)
  rate = results.rate("one", PHOTOS[:9], networks=[2], defended=True, top=5)
  assert rate.value == pytest.approx(np.mean(shares))
  assert rate.count == 9
  expected = misleading_rate(shares)
  np.testing.assert_allclose((rate.low, rate.high), (expected.low, expected.high), rtol=1e-12)


def test_without_labels_rates_are_about_the_networks_own_answers(tmp_path):
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, ATTACKS, labeled=False)
  assert not results.labeled
  assert results.scene == OWN
  np.testing.assert_array_equal(
    results.misled("one", PHOTOS, networks=[2], defended=False, top=1),
    slow_misled("one", PHOTOS, [2], [0], 1, OWN),
  )
  assert (results.outcomes["one"].label_ranks == -1).all()
  assert np.isnan(results.outcomes["one"].labels).all()


def test_one_photo_without_label_leaves_all_without_true_scene(tmp_path):
  path = tmp_path / "rows.jsonl"
  synthetic.read(path, SETUP, ATTACKS)
  stray = synthetic.photo_rows("one", ATTACKS["few"], labeled=False)[0]
  rows.append_rows(path, [stray | {"photo": "stray.jpg"}])
  assert Results(path).scene == OWN


# Detection


@pytest.mark.parametrize("group", [(1, 2), (3,), (4, 5), (1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("network", [0, 1, 2])
def test_threshold_equals_the_loop(results, network, group):
  expected = slow_threshold(network, group)
  assert results.threshold(network, group) == pytest.approx(expected, rel=1e-6)  # float32


@pytest.mark.parametrize(
  ("detectors", "groups"),
  [(None, FAMILIES.values()), ([[3]], [[3]]), ([[1, 2], [4]], [[1, 2], [4]])],
  ids=["families", "one", "chosen"],
)
@pytest.mark.parametrize("networks", [[1], [2, 0]], ids=["one-network", "two-networks"])
def test_detected_equals_the_loop(results, networks, detectors, groups):
  found = results.detected("both", PHOTOS, networks, detectors)
  np.testing.assert_allclose(found, slow_detected("both", PHOTOS, networks, groups), rtol=1e-15)


def test_detection_is_the_mean_over_photos(results):
  expected = misleading_rate(slow_detected("few", FEW, [1], FAMILIES.values()))
  assert results.detection("few", FEW, [1]) == expected


def test_detection_of_successful_ones_counts_photos_that_mislead_all_networks(results):
  networks = [1, 0]
  fooled = slow_misled("both", PHOTOS, networks, [0], 1)
  assert len(set(fooled)) == 3  # none, one and both of the networks
  photos = [photo for photo, share in zip(PHOTOS, fooled, strict=True) if share == 1]
  found = results.detection("both", PHOTOS, networks, successful=True)
  assert found == misleading_rate(slow_detected("both", photos, networks, FAMILIES.values()))


def test_detection_of_successful_ones_is_unknown_when_there_are_none(tmp_path):
  attacks = make_attacks()
  attacks["one"].label_ranks[:] = 0
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks, training=TRAINING)
  assert results.detection("one", PHOTOS, [1], successful=True).count == 0


def test_without_training_photos_nothing_is_said_of_detection(tmp_path):
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, ATTACKS)
  assert results.training.shape == (0, 3, 5)
  assert results.detection("one", PHOTOS, [1]) is None
  assert results.detection("one", PHOTOS, [1], successful=True) is None


# Numbers


def test_mean_is_over_the_photos_asked_for_that_have_the_number(tmp_path):
  attacks = make_attacks()
  psnr = attacks["one"].numbers["psnr"]
  psnr[3] = np.nan
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  assert results.mean("one", "psnr", PHOTOS[2:5]) == pytest.approx((psnr[2] + psnr[4]) / 2)
  assert results.mean("one", "psnr", PHOTOS[3:4]) is None
  assert results.mean("one", "written_success", PHOTOS) is None


def test_seconds_are_those_of_batches_that_compiled_nothing(tmp_path):
  attacks = make_attacks()
  attacks["one"].numbers["compiled"] = np.asarray([1.0] * 5 + [0.0] * 7)
  attacks["both"].numbers["compiled"] = np.ones(12)
  results = synthetic.read(tmp_path / "rows.jsonl", SETUP, attacks)
  seconds = attacks["one"].numbers["seconds"]
  assert results.seconds("one") == pytest.approx(seconds[5:].mean())
  assert results.seconds("both") is None
