"""The names, numbers of iterations and pairs of variants, and what both of a pair draw."""

import collections
import dataclasses
import itertools

import jax
import numpy as np
import pytest
import synthetic_rows as synthetic
import toy_classifiers as toys

import rpfgsm_jax as rp
from experiments import catalog, timing, variants
from experiments.lineup import StudyNetwork
from experiments.variants import SWEEP, Setup, rp_variant
from rpfgsm_jax.attacks.steps import iterations_for

SETUP = synthetic.paper_setup()
R18, R50, ALEXNET = SETUP.seen
ONE, TWO, THREE = (R50,), (R18, ALEXNET), SETUP.seen
TABLES = {
  "V": variants.transformation_pairs,
  "VI": variants.choice_pairs,
  "VII": variants.iteration_pairs,
  "defaults": variants.default_pairs,
}


def everything(setup):
  for experiment in catalog.EXPERIMENTS.values():
    yield from experiment.contenders(setup)
  yield from itertools.chain(*timing.timed_contenders(setup))


def meaning(contender):
  return contender.attack, contender.networks, contender.config


def steps(contender):
  """N of an RP-FGSM variant, by the paper's rule where the config leaves it open."""
  config, count = contender.config, len(contender.networks)
  if config.num_steps is not None:
    return config.num_steps
  return iterations_for(config.epsilon) * (1 if config.classifier_choice == "ensemble" else count)


def differences(first, second):
  """The config's fields that differ, the number of iterations as it comes out."""
  fields = [field.name for field in dataclasses.fields(first.config)]
  configs = [dataclasses.replace(each.config, num_steps=steps(each)) for each in (first, second)]
  return {name for name in fields if getattr(configs[0], name) != getattr(configs[1], name)}


# Names


@pytest.mark.parametrize("epsilon", [16.0, 8.0, 5.5], ids="{:g}".format)
def test_a_name_means_one_thing_in_the_whole_catalog(epsilon):
  found = collections.defaultdict(set)
  for contender in everything(synthetic.paper_setup(epsilon=epsilon)):
    found[contender.name].add(meaning(contender))
  assert {name: some for name, some in found.items() if len(some) > 1} == {}


@pytest.mark.parametrize("epsilon", [16.0, 8.0, 5.5], ids="{:g}".format)
def test_one_thing_has_one_name_in_the_whole_catalog(epsilon):
  found = collections.defaultdict(set)
  for contender in everything(synthetic.paper_setup(epsilon=epsilon)):
    if contender.attack is not None:
      found[meaning(contender)].add(contender.name)
  assert {names for names in map(frozenset, found.values()) if len(names) > 1} == set()


@pytest.mark.parametrize("epsilon", [16.0, 8.0], ids="{:g}".format)
def test_a_name_says_the_same_whatever_the_runs_epsilon(epsilon):
  """So that eps 16 within a run at eps 8 has the name it has in a run at eps 16."""
  setup = synthetic.paper_setup(epsilon=epsilon)
  assert rp_variant(setup, epsilon=16.0) == rp_variant(SETUP, epsilon=16.0)
  assert rp_variant(setup, epsilon=8.0).name == "rp-fgsm+eps8"
  assert [each.name for each in variants.baselines(setup, 8.0)] == ["original", "sign-noise+eps8"]


def test_titles_tell_all_contenders_apart():
  titles = {contender.name: contender.title for contender in everything(SETUP)}
  assert len(set(titles.values())) == len(titles)


def test_names_are_good_for_folders():
  names = {contender.name for contender in everything(SETUP)}
  assert len({name.lower() for name in names}) == len(names)
  assert not set("".join(names)) & set('\\/:*?"<>| ')


@pytest.mark.parametrize(
  ("options", "same"),
  [
    ({"networks": list(THREE)}, {}),
    ({"epsilon": 16.0}, {}),
    ({"num_steps": 60}, {}),
    ({"networks": TWO, "num_steps": 40}, {"networks": TWO}),
    ({"choice": "ensemble", "num_steps": 20}, {"choice": "ensemble"}),
    ({"networks": ONE, "choice": "ensemble"}, {"networks": ONE}),
    ({"epsilon": 8.0, "num_steps": 30}, {"epsilon": 8.0}),
    ({"choice": "random", "rounding": "straight_through", "draw": "balanced"}, {}),
  ],
  ids=lambda options: "+".join(options) or "default",
)
def test_calls_that_mean_the_same_give_the_same_contender(options, same):
  assert rp_variant(SETUP, **options) == rp_variant(SETUP, **same)


def test_without_transformations_it_does_not_matter_how_they_would_be_drawn():
  plain, uniform = (rp_variant(SETUP, transformed=False, uniform=each) for each in (False, True))
  assert uniform == plain


@pytest.mark.parametrize(
  ("change", "word"),
  [
    ({"targeted": True}, "rp-fgsm-targeted"),
    ({"networks": TWO}, "rp-fgsm+resnet18+alexnet"),
    ({"choice": "ensemble"}, "rp-fgsm+ensemble"),
    ({"transformed": False}, "rp-fgsm+plain"),
    ({"num_steps": 20}, "rp-fgsm+n20"),
    ({"choice": "ensemble", "num_steps": 60}, "rp-fgsm+ensemble+n60"),
    ({"epsilon": 8.0}, "rp-fgsm+eps8"),
    ({"epsilon": 0.5}, "rp-fgsm+eps0.5"),
    ({"rounding": "cubic"}, "rp-fgsm+cubic"),
    ({"draw": "iid"}, "rp-fgsm+iid"),
    ({"uniform": True}, "rp-fgsm+uniform"),
    ({"momentum": 1.0}, "rp-fgsm+momentum"),
    ({"momentum": 0.5, "nesterov": True}, "rp-fgsm+momentum0.5+nesterov"),
    ({"step_size": 2.0}, "rp-fgsm+step2"),
    ({"num_steps": 20, "step_size": 4.0, "step_schedule": "linear"}, "rp-fgsm+n20+linear4"),
    ({"step_size": 3.0, "step_schedule": "cosine", "epsilon": 8.0}, "rp-fgsm+cosine3+eps8"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_is_in_the_name_and_in_the_config(change, word):
  found, usual = rp_variant(SETUP, **change), rp_variant(SETUP)
  assert found.name == word
  assert meaning(found) != meaning(usual)


def test_the_modules_own_example_of_a_name():
  found = rp_variant(SETUP, networks=(R18, ALEXNET), targeted=True, transformed=False, epsilon=8.0)
  assert found.name == "rp-fgsm-targeted+resnet18+alexnet+plain+eps8"


# Iterations


@pytest.mark.parametrize(("networks", "count"), [(ONE, 20), (TWO, 40), (THREE, 60)])
def test_the_papers_numbers_of_iterations(networks, count):
  """Sec. V-B: 20 for each network; Table VII."""
  random = rp_variant(SETUP, networks=networks)
  assert (random.config.num_steps, steps(random), random.passes) == (None, count, count)


@pytest.mark.parametrize("networks", [TWO, THREE], ids=["two", "three"])
def test_all_networks_an_iteration_have_as_many_passes_in_fewer_iterations(networks):
  random, ensemble = (
    rp_variant(SETUP, networks=networks, choice=choice) for choice in ("random", "ensemble")
  )
  assert steps(ensemble) == 20
  assert ensemble.passes == random.passes


def test_passes_follow_the_iterations():
  assert rp_variant(SETUP, choice="ensemble", num_steps=60).passes == 180
  assert rp_variant(SETUP, num_steps=20).passes == 20


def test_attacks_on_several_networks_have_the_passes_of_rp_fgsm():
  """Sec. V-B: K times 20 passes for every attack on K networks."""
  passes = {each.name: each.passes for each in variants.paper_attacks(SETUP)}
  several = ("e-fgsm", "di-fgsm", "di-fgsm-targeted", "rp-fgsm", "rp-fgsm-targeted")
  assert {passes.pop(name) for name in several} == {60}
  assert set(passes.values()) == {20, None}


def test_the_papers_attacks_in_its_order():
  """Sec. V-A: eleven, DI-FGSM twice, and RP-FGSM twice."""
  names = [each.name for each in variants.paper_attacks(SETUP)]
  assert names == [
    "jsma", "cw", "deepfool", "sparsefool", "u-fgsm", "r-fgsm", "l-fgsm", "p-fgsm", "eot",
    "di-fgsm-targeted", "di-fgsm", "e-fgsm", "rp-fgsm-targeted", "rp-fgsm",
  ]  # fmt: skip


def test_at_another_epsilon_only_attacks_that_have_one():
  found = variants.paper_attacks(SETUP, 8.0)
  assert len(found) == 10
  assert {each.config.epsilon for each in found} == {8.0}
  assert all(each.name.endswith("+eps8") for each in found)


# Pairs


@pytest.mark.parametrize(("table", "count"), [("V", 22), ("VI", 16), ("VII", 18), ("defaults", 6)])
def test_tables_have_the_papers_lines(table, count):
  """V: 11 lines, VI: 8, of both variants; VII: 9 lines of the targeted one, and here of both."""
  pairs = list(TABLES[table](SETUP))
  assert len(pairs) == count
  assert len({(a.name, b.name) for a, b in pairs}) == count
  targeted = [pair for pair in pairs if pair[0].config.targeted]
  assert len(targeted) == count / 2


@pytest.mark.parametrize("table", TABLES)
def test_both_of_a_pair_use_the_same_networks(table):
  assert all(first.networks == second.networks for first, second in TABLES[table](SETUP))


def test_pairs_of_table_5_differ_in_the_transformations_alone():
  for random, none in variants.transformation_pairs(SETUP):
    assert differences(random, none) == {"defenses"}
    assert random.config.defenses == SETUP.bank
    assert none.config.defenses == rp.defenses.no_defenses()


def test_table_5_has_single_networks_then_ensembles_then_random_ones():
  pairs = list(variants.transformation_pairs(SETUP))[:11]
  assert [len(pair[0].networks) for pair in pairs] == [1, 1, 1, 2, 2, 2, 3, 2, 2, 2, 3]
  choices = [pair[0].config.classifier_choice for pair in pairs]
  assert choices == ["random"] * 3 + ["ensemble"] * 4 + ["random"] * 4


def test_pairs_of_table_6_differ_in_the_choice_at_an_equal_number_of_passes():
  for random, ensemble in variants.choice_pairs(SETUP):
    assert differences(random, ensemble) == {"classifier_choice", "num_steps"}
    assert random.config.classifier_choice == "random"
    assert ensemble.config.classifier_choice == "ensemble"
    assert random.passes == ensemble.passes


def test_table_6_is_without_transformations_then_with():
  banks = [pair[0].config.defenses for pair in variants.choice_pairs(SETUP)][:8]
  assert banks == [rp.defenses.no_defenses()] * 4 + [SETUP.bank] * 4


def test_pairs_of_table_7_differ_in_the_choice_at_the_papers_numbers_of_iterations():
  found = []
  for random, ensemble in list(variants.iteration_pairs(SETUP))[:9]:
    assert differences(random, ensemble) - {"num_steps"} == {"classifier_choice"}
    found.append((steps(ensemble), steps(random), len(random.networks)))
  assert found == [
    *((20, 20, count) for count in (2, 2, 2, 3)),
    *((20, 40, 2) for _ in range(3)),
    (20, 60, 3),
    (60, 60, 3),
  ]


def test_pairs_of_the_defaults_differ_in_one_thing_the_default_second():
  found = [differences(other, usual) for other, usual in variants.default_pairs(SETUP)]
  assert found == [{"rounding"}, {"draw"}, {"defenses"}] * 2
  names = {usual.name for _, usual in variants.default_pairs(SETUP)}
  assert names == {"rp-fgsm", "rp-fgsm-targeted"}


def test_the_sweep_is_targeted_at_the_papers_epsilons_on_each_network_and_on_all():
  """Fig. 5."""
  assert SWEEP == (1, 2, 4, 8, 16, 32, 64)
  groups = variants.epsilon_sweep(SETUP)
  assert list(groups) == ["resnet18", "resnet50", "alexnet", "3 networks"]
  for members, networks in zip(groups.values(), [(R18,), (R50,), (ALEXNET,), THREE], strict=True):
    assert [each.config.epsilon for each in members] == list(SWEEP)
    assert {each.networks for each in members} == {networks}
    assert all(each.config.targeted for each in members)
  expected = [each * 3 for each in (1, 2, 5, 10, 20, 36, 68)]  # min(1.25 eps, eps + 4)
  assert [steps(each) for each in groups["3 networks"]] == expected


def test_choices_of_networks_are_one_to_all():
  names = [[n.title for n in each.networks] for each in variants.network_counts(SETUP)]
  one_two = [["resnet18"], ["resnet50"], ["alexnet"], ["resnet18", "resnet50"]]
  rest = [["resnet18", "alexnet"], ["resnet50", "alexnet"], ["resnet18", "resnet50", "alexnet"]]
  assert names == one_two + rest


# What both of a pair draw. Sec. V-E: "the same sequence of transformations, classifiers and target
# class, whenever applicable".


@pytest.fixture(scope="module")
def toy_setup():
  networks = tuple(
    StudyNetwork(name=net.name, title=net.name.replace(" ", "-"), seen=True, classifier=net)
    for net in toys.three()
  )
  # Two families that compile in a moment.
  quick = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
  return Setup(networks=networks, reference=networks[0], epsilon=4.0, bank=quick)


def attack(contender):
  config = dataclasses.replace(contender.config, record_draws=True)
  classifiers = [network.classifier for network in contender.networks]
  return rp.rp_fgsm(jax.random.key(3), toys.images(8), classifiers, config)


@pytest.fixture(scope="module")
def drawn(toy_setup):
  def run(**options):
    return attack(rp_variant(toy_setup, targeted=True, **options))

  jax.config.update("jax_disable_most_optimizations", True)  # seconds less of compilation
  yield {
    "random": run(),
    "random, plain": run(transformed=False),
    "ensemble": run(choice="ensemble"),
    "ensemble, as many iterations": run(choice="ensemble", num_steps=15),
  }
  jax.config.update("jax_disable_most_optimizations", False)


def test_targets_are_drawn(drawn):
  assert len(np.unique(drawn["random"].target)) > 2


@pytest.mark.parametrize("name", ["random, plain", "ensemble", "ensemble, as many iterations"])
def test_targets_are_the_same_for_all_variants_on_the_same_networks(drawn, name):
  np.testing.assert_array_equal(drawn[name].target, drawn["random"].target)


def test_networks_are_the_same_with_and_without_transformations(drawn):
  with_them, without = drawn["random"].draws, drawn["random, plain"].draws
  np.testing.assert_array_equal(without.classifier, with_them.classifier)
  assert len(np.unique(with_them.classifier)) == 3


@pytest.mark.parametrize("field", ["family", "parameter"])
def test_transformations_are_the_same_for_one_and_all_networks_an_iteration(drawn, field):
  random, ensemble = drawn["random"].draws, drawn["ensemble, as many iterations"].draws
  np.testing.assert_array_equal(getattr(ensemble, field), getattr(random, field))
  assert len(np.unique(getattr(random, field))) > 1
