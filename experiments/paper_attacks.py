"""RP-FGSM and the eleven attacks it is compared with, with the settings of the paper."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import rpfgsm_jax as rp
from experiments import lineup
from experiments.lineup import Contender, Network
from rpfgsm_jax.attacks.minimal import Budget
from rpfgsm_jax.attacks.steps import iterations_for

SLOW = ("jsma", "cw", "sparsefool")
"""Names of those that have a budget, and get fewer photographs."""


def paper_attacks(
  networks: Sequence[Network],
  reference: Network,
  epsilon: float,
  budget: Budget,
  bank: rp.defenses.DefenseBank,
) -> tuple[Contender, ...]:
  """Returns the eleven attacks, both variants of DI-FGSM and RP-FGSM, and the two baselines.

  Args:
    networks: of the experiment.
    reference: the network of the attacks on one.
    epsilon: grey levels.
    budget: of JSMA, CW and SparseFool.
    bank: the defenses that RP-FGSM draws from.

  Returns:
    The contenders in the order of the paper's tables, the unchanged photographs first.
  """
  seen = tuple(network for network in networks if network.seen)
  passes, fgsm = iterations_for(epsilon), rp.FGSMConfig(epsilon=epsilon)
  diverse = rp.DIFGSMConfig(epsilon=epsilon)

  def one(name: str, title: str, note: str, attack: Any, config: Any, passes: int | None = None):
    return Contender(
      name=name,
      title=title,
      note=note,
      passes=passes,
      attack=attack,
      config=config,
      networks=(reference,),
    )

  def several(name: str, title: str, note: str, attack: Any, config: Any):
    return dataclasses.replace(
      one(name, title, note, attack, config, passes * len(seen)), networks=seen
    )

  return (
    *lineup.baselines(epsilon),
    one("jsma", "JSMA", "two values a step", rp.jsma, rp.JSMAConfig(budget=budget)),
    one("cw", "CW", "smallest L2", rp.cw, rp.CWConfig(budget=budget, quantize=False)),
    one("deepfool", "DeepFool", "smallest L2", rp.deepfool, rp.DeepFoolConfig(quantize=False)),
    one(
      "sparsefool",
      "SparseFool",
      "few values",
      rp.sparsefool,
      rp.SparseFoolConfig(budget=budget, quantize=False),
    ),
    one("u-fgsm", "U-FGSM", "away from the prediction", rp.u_fgsm, fgsm, passes),
    one("r-fgsm", "R-FGSM", "a random class", rp.r_fgsm, fgsm, passes),
    one("l-fgsm", "L-FGSM", "the least likely class", rp.l_fgsm, fgsm, passes),
    one("p-fgsm", "P-FGSM", "a class drawn by Eq. 17", rp.p_fgsm, fgsm, passes),
    one("eot", "EOT", "a random class", rp.eot, rp.EOTConfig(epsilon=epsilon), passes),
    several(
      "di-fgsm-targeted",
      "DI-FGSM targeted",
      "a random class",
      rp.di_fgsm,
      dataclasses.replace(diverse, targeted=True),
    ),
    several("di-fgsm", "DI-FGSM", "away from the predictions", rp.di_fgsm, diverse),
    several("e-fgsm", "E-FGSM", "a random class", rp.e_fgsm, fgsm),
    *lineup.rp_contenders(networks, epsilon, bank)[::-1],
  )
