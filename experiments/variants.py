"""Everything an experiment may run, under names that mean the same in every results folder.

A name is an attack and what differs from the paper's settings: `rp-fgsm` is untargeted RP-FGSM on
all seen networks, eps 16; `rp-fgsm-targeted+resnet18+alexnet+plain+eps8` is targeted, on two of
them, without transformations, eps 8. So the rows of one table serve another.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import rpfgsm_jax as rp
from experiments import lineup
from experiments.lineup import ORIGINAL, Contender, StudyNetwork
from experiments.options import PAPER_EPSILON
from rpfgsm_jax.attacks.minimal import Budget
from rpfgsm_jax.attacks.schedule import Draw
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.attacks.transfer import StepSchedule
from rpfgsm_jax.rounding import Rounding

SWEEP = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""The epsilons of Fig. 5, gray levels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
  """What all variants of a run share."""

  networks: tuple[StudyNetwork, ...]
  reference: StudyNetwork  # of the attacks on a single network
  epsilon: float = PAPER_EPSILON  # gray levels
  budget: Budget = "quick"  # of JSMA, CW and SparseFool
  bank: rp.defenses.DefenseBank = dataclasses.field(default_factory=rp.defenses.paper_bank)

  @property
  def seen(self) -> tuple[StudyNetwork, ...]:
    """Those that attacks may use."""
    return tuple(network for network in self.networks if network.seen)

  @property
  def combinations(self) -> tuple[tuple[StudyNetwork, ...], ...]:
    """Every choice of two or more seen networks, pairs first."""
    sizes = range(2, len(self.seen) + 1)
    return tuple(some for size in sizes for some in itertools.combinations(self.seen, size))


def baselines(setup: Setup, epsilon: float | None = None) -> tuple[Contender, Contender]:
  """Returns the unchanged photographs, and random sign noise of the same epsilon."""
  epsilon = setup.epsilon if epsilon is None else epsilon
  suffix, title = _epsilon_suffix(epsilon)
  return (
    Contender(
      name=ORIGINAL,
      title="original",
      note="the photograph itself: what the defenses alone change",
      change=lambda images, ids, seed: images,
    ),
    Contender(
      name="sign-noise" + suffix,
      title="random noise" + title,
      note=f"every value {epsilon:g} up or down at random: what any attack must beat",
      change=lambda images, ids, seed: lineup.sign_noise(images, ids, seed, epsilon),
    ),
  )


def rp_variant(
  setup: Setup,
  *,
  networks: Sequence[StudyNetwork] | None = None,
  targeted: bool = False,
  choice: Literal["random", "ensemble"] = "random",
  transformed: bool = True,
  num_steps: int | None = None,
  epsilon: float | None = None,
  rounding: Rounding = "straight_through",
  draw: Draw = "balanced",
  uniform: bool = False,
  momentum: float = 0.0,
  nesterov: bool = False,
  step_size: float = 1.0,
  step_schedule: StepSchedule = "constant",
) -> Contender:
  """Returns RP-FGSM with some things done otherwise; calls that mean the same give one name."""
  networks = setup.seen if networks is None else tuple(networks)
  epsilon = setup.epsilon if epsilon is None else epsilon
  ensemble = choice == "ensemble" and len(networks) > 1  # of one network both choices are the same
  if not transformed:  # then nothing is rounded, and there is nothing to draw from
    rounding, uniform = "straight_through", False
  usual = iterations_for(epsilon) * (1 if ensemble else len(networks))
  bank = rp.defenses.uniform_bank(setup.bank) if uniform else setup.bank
  config = rp.RPFGSMConfig(
    epsilon=epsilon,
    step_size=step_size,
    targeted=targeted,
    num_steps=None if num_steps == usual else num_steps,
    draw=draw,
    classifier_choice="ensemble" if ensemble else "random",
    defenses=bank if transformed else rp.defenses.no_defenses(),
    rounding=rounding,
    transfer=rp.TransferOptions(momentum=momentum, nesterov=nesterov, step_schedule=step_schedule),
  )
  name, title = ("rp-fgsm-targeted", "RP-FGSM targeted") if targeted else ("rp-fgsm", "RP-FGSM")
  if networks != setup.seen:
    titles = [network.title for network in networks]
    # A title may be a path; a name is also a folder's.
    name = "+".join([name, *(each.replace("/", "-") for each in titles)])
    title = f"{title} on {' + '.join(titles)}"
  changes = list(_changes(config, transformed=transformed, uniform=uniform))
  notes = [note for _, note in changes]
  suffix, epsilon_title = _epsilon_suffix(epsilon)
  return Contender(
    name="+".join([name, *(word for word, _ in changes)]) + suffix,
    title=", ".join([title, *notes]) + epsilon_title,
    note=", ".join(notes) or "a random network and a random defense each iteration",
    passes=(usual if num_steps is None else num_steps) * (len(networks) if ensemble else 1),
    attack=rp.rp_fgsm,
    config=config,
    networks=networks,
    transforms=transformed and len(bank.families) > 1,
  )


def choice_of(contender: Contender) -> str:
  """Returns `one` of an attack on one network, else how an iteration chooses among several."""
  return "one" if len(contender.networks) == 1 else contender.config.classifier_choice


def _changes(
  config: rp.RPFGSMConfig, *, transformed: bool, uniform: bool
) -> Iterator[tuple[str, str]]:
  """Yields a word for the name and a note for the title of all that is not the paper's."""
  step, schedule, steps = config.step_size, config.transfer.step_schedule, config.num_steps
  momentum, constant = config.transfer.momentum, schedule == "constant"
  for differs, word, note in (
    (config.classifier_choice == "ensemble", "ensemble", "all networks each iteration"),
    (not transformed, "plain", "no transformations"),
    (steps is not None, f"n{steps}", f"{steps} iterations"),
    (momentum > 0, "momentum" if momentum == 1 else f"momentum{momentum:g}", "momentum"),
    (config.transfer.nesterov, "nesterov", "look-ahead"),
    (constant and step != 1, f"step{step:g}", f"steps of {step:g}"),
    (not constant, f"{schedule}{step:g}", f"{schedule} steps {step:g} to 1"),
    (
      config.rounding != "straight_through",
      config.rounding,
      f"{config.rounding} rounding gradient",
    ),
    (config.draw != "balanced", config.draw, "independent draws"),
    (uniform, "uniform", "defenses drawn uniformly over parameters"),
  ):
    if differs:
      yield word, note


def paper_attacks(setup: Setup, epsilon: float | None = None) -> tuple[Contender, ...]:
  """Returns RP-FGSM and the attacks it is compared with, in the paper's order; Sec. V-A and V-B."""
  if epsilon is None:
    return (*_minimal_norm_attacks(setup), *_signed_attacks(setup, setup.epsilon))
  return tuple(_signed_attacks(setup, epsilon))


def by_plain_name(setup: Setup) -> dict[str, Contender]:
  """Returns the attacks of `paper_attacks` by their names without the epsilon."""
  return {each.name.split("+")[0]: each for each in paper_attacks(setup)}


def _minimal_norm_attacks(setup: Setup) -> Iterator[Contender]:
  """Those without an epsilon; CW, DeepFool and SparseFool show their optimum before rounding."""
  budget, raw = {"budget": setup.budget}, {"quantize": False}
  for name, title, note, attack, config in (
    ("jsma", "JSMA", "two values a step", rp.jsma, rp.JSMAConfig(**budget)),
    ("cw", "CW", "smallest L2", rp.cw, rp.CWConfig(**budget, **raw)),
    ("deepfool", "DeepFool", "smallest L2", rp.deepfool, rp.DeepFoolConfig(**raw)),
    ("sparsefool", "SparseFool", "few values", rp.sparsefool, rp.SparseFoolConfig(**budget, **raw)),
  ):
    yield Contender(
      name=name,
      title=title,
      note=note,
      passes=None,
      slow=name != "deepfool",
      attack=attack,
      config=config,
      networks=(setup.reference,),
    )


def _signed_attacks(setup: Setup, epsilon: float) -> Iterator[Contender]:
  one, passes = (setup.reference,), iterations_for(epsilon)
  fgsm, diverse = rp.FGSMConfig(epsilon=epsilon), rp.DIFGSMConfig(epsilon=epsilon)
  targeted, eot = dataclasses.replace(diverse, targeted=True), rp.EOTConfig(epsilon=epsilon)
  any_class, away = "a random class", "away from the prediction"
  suffix, epsilon_title = _epsilon_suffix(epsilon)
  for name, title, note, attack, config, networks in (
    ("u-fgsm", "U-FGSM", away, rp.u_fgsm, fgsm, one),
    ("r-fgsm", "R-FGSM", any_class, rp.r_fgsm, fgsm, one),
    ("l-fgsm", "L-FGSM", "the least likely class", rp.l_fgsm, fgsm, one),
    ("p-fgsm", "P-FGSM", "a class drawn by Eq. 17", rp.p_fgsm, fgsm, one),
    ("eot", "EOT", any_class, rp.eot, eot, one),
    ("di-fgsm-targeted", "DI-FGSM targeted", any_class, rp.di_fgsm, targeted, setup.seen),
    ("di-fgsm", "DI-FGSM", away, rp.di_fgsm, diverse, setup.seen),
    ("e-fgsm", "E-FGSM", any_class, rp.e_fgsm, fgsm, setup.seen),
  ):
    yield Contender(
      name=name + suffix,
      title=title + epsilon_title,
      note=note,
      passes=passes * len(networks),
      attack=attack,
      config=config,
      networks=networks,
      transforms=config is not fgsm,  # EOT and DI-FGSM draw from their own set
    )
  yield rp_variant(setup, targeted=True, epsilon=epsilon)
  yield rp_variant(setup, epsilon=epsilon)


def _epsilon_suffix(epsilon: float) -> tuple[str, str]:
  """What the name and the title say of an epsilon that is not the paper's."""
  return ("", "") if epsilon == PAPER_EPSILON else (f"+eps{epsilon:g}", f", eps {epsilon:g}")


def transformation_pairs(setup: Setup) -> Iterator[tuple[Contender, Contender]]:
  """Yields (with, without) random transformations: Table V."""
  kinds = [((network,), "random") for network in setup.seen]
  kinds += [(some, choice) for choice in ("ensemble", "random") for some in setup.combinations]
  for targeted in (True, False):
    for networks, choice in kinds:
      some = {"networks": networks, "targeted": targeted, "choice": choice}
      yield rp_variant(setup, **some), rp_variant(setup, **some, transformed=False)


def choice_pairs(setup: Setup) -> Iterator[tuple[Contender, Contender]]:
  """Yields (random network, all networks) an iteration: Table VI."""
  for targeted in (True, False):
    for transformed in (False, True):
      for networks in setup.combinations:
        some = {"networks": networks, "targeted": targeted, "transformed": transformed}
        yield rp_variant(setup, **some), rp_variant(setup, **some, choice="ensemble")


def iteration_pairs(setup: Setup) -> Iterator[tuple[Contender, Contender]]:
  """Yields (random network, all networks) an iteration, at several iteration counts: Table VII.

  Few iterations of both; as many passes of both; and as many iterations of both, K times the
  passes for all networks, for all seen networks together.
  """
  few = iterations_for(setup.epsilon)
  for targeted in (True, False):
    for steps, ensemble_steps, combinations in (
      (lambda count: few, lambda count: few, setup.combinations),
      (lambda count: few * count, lambda count: few, setup.combinations),
      (lambda count: few * count, lambda count: few * count, setup.combinations[-1:]),
    ):
      for networks in combinations:
        some = {"networks": networks, "targeted": targeted}
        count = len(networks)
        yield (
          rp_variant(setup, **some, num_steps=steps(count)),
          rp_variant(setup, **some, num_steps=ensemble_steps(count), choice="ensemble"),
        )


def epsilon_sweep(setup: Setup) -> dict[str, tuple[Contender, ...]]:
  """Returns targeted RP-FGSM at every epsilon of Fig. 5, on each seen network and on all."""
  groups = {network.title: (network,) for network in setup.seen}
  groups[f"{len(setup.seen)} networks"] = setup.seen
  return {
    title: tuple(
      rp_variant(setup, networks=networks, targeted=True, epsilon=epsilon) for epsilon in SWEEP
    )
    for title, networks in groups.items()
  }


def default_pairs(setup: Setup) -> Iterator[tuple[Contender, Contender]]:
  """Yields (another choice, the default) of what the paper leaves open."""
  for targeted in (False, True):
    usual = rp_variant(setup, targeted=targeted)
    for change in ({"rounding": "cubic"}, {"draw": "iid"}, {"uniform": True}):
      yield rp_variant(setup, targeted=targeted, **change), usual


def network_counts(setup: Setup) -> tuple[Contender, ...]:
  """Returns RP-FGSM on every choice of seen networks, one to all: Fig. 6 (b)."""
  singles = tuple((network,) for network in setup.seen)
  return tuple(rp_variant(setup, networks=some) for some in (*singles, *setup.combinations))
