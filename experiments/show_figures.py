"""The figures of the paper from the rows of a study, and Table IV, which is one."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import (
  plots_boxes,
  plots_examples,
  plots_maps,
  plots_rates,
  plots_sweep,
  timing,
  variants,
)
from experiments.lineup import ORIGINAL, Contender
from experiments.photo_facts import GAMMAS
from experiments.plots import Estimate
from experiments.results import TRUE, Results
from experiments.variants import Setup
from rpfgsm_jax import data
from rpfgsm_jax.evaluation import Rate

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# In the order of the paper.
_FIGURE_1 = ("jsma", "cw", "deepfool", "sparsefool", "eot", "di-fgsm", "e-fgsm", "rp-fgsm")
_TABLE_IV = (
  "cw",
  "deepfool",
  "sparsefool",
  "u-fgsm",
  "p-fgsm",
  "eot",
  "di-fgsm",
  "e-fgsm",
  "rp-fgsm",
)
_BEST_PSNR = 60.0
"""dB that count as 100 %; 0 dB, the largest change there can be, as 0 %."""


def table4(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Table IV: one photograph after each attack and what every network makes of it."""
  attacks = variants.by_plain_name(setup)
  titles = {ORIGINAL: ORIGINAL} | {attacks[name].name: attacks[name].title for name in _TABLE_IV}
  wanted = [name for name in titles if name in results.outcomes]
  photo = next(iter(_examples(results, wanted, folder)), None)
  if photo is None:
    return None
  entries = []
  for name in wanted:
    extra = results.outcomes[name].extra[photo]
    entries.append(
      plots_examples.Example(
        title=titles[name],
        image=data.read_image(image_path(results, folder, name, photo)),
        predictions=tuple(
          tuple(_predictions(results, extra, photo, network))
          for network in range(len(results.titles))
        ),
      )
    )
  marked = "the true class" if results.scene == TRUE else "the answer on the original"
  return plots_examples.examples(entries, results.titles, marked=marked)


def _predictions(
  results: Results, extra: dict, photo: str, network: int
) -> Iterable[plots_examples.Prediction]:
  names = results.header["class_names"]
  label = extra["label"]
  if results.scene != TRUE:
    label = results.outcomes[ORIGINAL].extra[photo]["classes"][network][0]
  for place, probability in zip(
    extra["classes"][network], extra["probabilities"][network], strict=True
  ):
    yield plots_examples.Prediction(
      name=names[place].replace("_", " "), probability=probability, is_marked=place == label
    )


def _examples(results: Results, names: Sequence[str], folder: pathlib.Path) -> list[str]:
  """The photographs whose images of all these attacks are kept, best known scene first.

  Chosen by the clean photograph alone: the probability that all networks give to their answers.
  """
  kept = [
    photo
    for photo, extra in results.outcomes[ORIGINAL].extra.items()
    if "classes" in extra
    and all(photo in results.outcomes[name].extra for name in names)
    and all(image_path(results, folder, name, photo).is_file() for name in names)
  ]

  def confidence(photo: str) -> float:
    extra = results.outcomes[ORIGINAL].extra[photo]
    return float(np.mean([each[0] for each in extra["probabilities"]]))

  return sorted(kept, key=confidence, reverse=True)


def image_path(results: Results, folder: pathlib.Path, attack: str, photo: str) -> pathlib.Path:
  """Returns where the image of a kept photograph lies, or would if the folder has none."""
  return folder / "images" / attack / results.outcomes[attack].extra[photo]["png"]


def figure1(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Fig. 1: the summed change of every pixel, for kept photographs."""
  attacks = variants.by_plain_name(setup)
  titles = {attacks[name].name: attacks[name].title for name in _FIGURE_1}
  wanted = [name for name in titles if name in results.outcomes]
  photos = _examples(results, [ORIGINAL, *wanted], folder)[:3]
  if not photos:
    return None

  def read(name: str, photo: str) -> np.ndarray:
    return data.read_image(image_path(results, folder, name, photo))

  panels = [
    plots_maps.PerturbationPanels(
      original=read(ORIGINAL, photo), adversarials=tuple(read(name, photo) for name in wanted)
    )
    for photo in photos
  ]
  # Sparse attacks change few pixels by hundreds of levels; of three channels eps = 16 is 48.
  limit = 3 * results.header["epsilon"]
  return plots_maps.perturbation_maps(panels, [titles[name] for name in wanted], limit=limit)


def figure3(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Fig. 3: the number of candidate targets for each gamma."""
  del setup, folder
  extra = results.outcomes[ORIGINAL].extra.values()
  counts = np.asarray([each["candidates"] for each in extra], np.int64)
  num_classes = len(results.header["class_names"])
  return plots_boxes.candidate_boxes(GAMMAS, counts, num_classes=num_classes)


def figure4(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Fig. 4: seen against unseen, without and with defenses; quality against undetectability.

  On the photographs that all attacks had. PSNR 0..60 dB is 0..100 %; BRISQUE 100..0 likewise.
  """
  del folder
  contenders = [
    each
    for each in (*variants.baselines(setup)[1:], *variants.paper_attacks(setup))
    if each.name in results.outcomes
  ]
  if not contenders:
    return None
  photos = results.shared([each.name for each in contenders])
  return plots_rates.trade_offs([_trade_off(results, each, photos) for each in contenders])


def _trade_off(
  results: Results, contender: Contender, photos: Sequence[str]
) -> plots_rates.TradeOff:
  name = contender.name

  def rate(networks: Sequence[int], defended: bool) -> Estimate:
    return _estimate(results.rate(name, photos, networks=networks, defended=defended, top=1))

  seen, unseen = [results.reference], results.networks(seen=False)
  detected = results.detection(name, photos, seen)
  psnr, brisque = (results.mean(name, column, photos) for column in ("psnr", "brisque"))
  return plots_rates.TradeOff(
    attack=contender.title.removesuffix(" targeted"),
    targeted=results.outcomes[name].targeted if contender.networks else None,
    seen=rate(seen, False),
    unseen=rate(unseen, False),
    seen_defended=rate(seen, True),
    unseen_defended=rate(unseen, True),
    undetectability=None if detected is None else _estimate(detected, inverse=True),
    psnr=None if psnr is None else _quality(psnr / _BEST_PSNR),
    brisque=None if brisque is None else _quality(1 - brisque / 100),
  )


def _estimate(rate: Rate, *, inverse: bool = False) -> Estimate:
  value, low, high = 100 * rate.value, 100 * rate.low, 100 * rate.high
  if inverse:
    value, low, high = 100 - value, 100 - high, 100 - low
  return Estimate(value=value, low=low, high=high)


def _quality(share: float) -> Estimate:
  return Estimate(value=float(np.clip(100 * share, 0, 100)))


def figure5(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Fig. 5: targeted RP-FGSM against epsilon, on each network and on all.

  An attack on one network is judged on it, the attack on several on the reference.
  """
  del folder
  curves = []
  for title, members in variants.epsilon_sweep(setup).items():
    there = [each for each in members if each.name in results.outcomes]
    if len(there) > 1:
      curves.append(_curve(results, title, there))
  return plots_sweep.epsilon_sweep(curves) if curves else None


def _curve(results: Results, title: str, members: Sequence[Contender]) -> plots_sweep.Sweep:
  photos = results.shared([each.name for each in members])
  attacked = results.attacked(members[0].name)
  seen = attacked if len(attacked) == 1 else [results.reference]

  def band(networks: Sequence[int], defended: bool) -> plots_sweep.Band:
    return _band(
      [
        results.rate(each.name, photos, networks=networks, defended=defended, top=1)
        for each in members
      ]
    )

  detected = [results.detection(each.name, photos, attacked) for each in members]
  unseen = results.networks(seen=False)
  return plots_sweep.Sweep(
    title=title,
    epsilons=tuple(float(each.config.epsilon) for each in members),
    seen=band(seen, False),
    unseen=band(unseen, False),
    seen_defended=band(seen, True),
    unseen_defended=band(unseen, True),
    detectability=None if None in detected else _band(detected),
    psnr=plots_sweep.Band(
      values=np.asarray([results.mean(each.name, "psnr", photos) for each in members])
    ),
  )


def _band(rates: Sequence[Rate]) -> plots_sweep.Band:
  return plots_sweep.Band(
    values=np.asarray([100 * rate.value for rate in rates]),
    low=np.asarray([100 * rate.low for rate in rates]),
    high=np.asarray([100 * rate.high for rate in rates]),
  )


def figure6(results: Results, setup: Setup, folder: pathlib.Path) -> "Figure | None":
  """Fig. 6: seconds of one photograph alone."""
  del folder
  groups = []
  titles = ("(a) the attacks", "(b) RP-FGSM on one to all networks")
  for title, members in zip(titles, timing.timed_contenders(setup), strict=True):
    there = [each for each in members if each.name in results.timings]
    if there:
      names = [_networks(each) for each in there] if title.startswith("(b)") else None
      groups.append(
        plots_boxes.RuntimeGroup(
          title=title,
          names=tuple(names or (each.title for each in there)),
          seconds=tuple(np.asarray(results.timings[each.name]) for each in there),
        )
      )
  return plots_boxes.runtime_boxes(groups) if groups else None


def _networks(contender: Contender) -> str:
  return " + ".join(network.title for network in contender.networks)
