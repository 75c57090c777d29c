"""Tables I, II and III: what each attack is, how good the networks are, and all attacks."""

from collections.abc import Iterator, Sequence

import numpy as np

from experiments import variants
from experiments.lineup import ORIGINAL, Contender
from experiments.results import OWN, TOPS, TRUE, Results
from experiments.tables import NOTHING, percent_cell
from experiments.variants import Setup
from rpfgsm_jax.evaluation import Rate, misleading_rate
from rpfgsm_jax.report import Cell, Table
from rpfgsm_jax.report.cells import NOT_AVAILABLE, number_cell, rate_cell

_INTERVAL = (
  "In brackets: 95 % Wilson interval over photos, a photo's defenses averaged first. Top-1 and "
  "top-5, in %."
)
_DENSE = 0.05
"""Share of changed values from which a perturbation is called dense."""


def table1(results: Results, setup: Setup) -> list[Table]:
  """Table I, measured: nobody wrote the marks down, they follow from the rows and the settings."""
  lines = []
  for contender in variants.paper_attacks(setup):
    if contender.name not in results.outcomes:
      continue
    outcome = results.outcomes[contender.name]
    height, width = results.header["image_size"]
    density = outcome.numbers["l0"].mean() / (3 * height * width)
    largest = outcome.numbers["linf"].max()
    epsilon = getattr(contender.config, "epsilon", None)
    bounded = epsilon is not None and largest <= epsilon
    lines.append(
      [
        contender.title,
        "L∞" if bounded else "L0 or L1" if density < _DENSE else "L2",
        Cell(f"{'dense' if density >= _DENSE else 'sparse'} ({100 * density:.1f} %)", density),
        number_cell(float(largest), 0),
        "targeted" if outcome.targeted else "untargeted",
        "✓" if len(contender.networks) > 1 else "",
        "✓" if contender.transforms else "",
      ]
    )
  columns = ("attack", "bounds", "values changed", "largest change", "type", "several networks")
  note = (
    "Measured on the 8-bit images: an attack whose largest change stays within its epsilon bounds "
    f"L∞; one that changes under {100 * _DENSE:.0f} % of the values is sparse. Targeted: its rows "
    "have a target. Transformations: its settings hold a set of them, or it draws its own."
  )
  return [Table("What each attack is", (*columns, "transformations"), lines, note)]


def table2(results: Results, setup: Setup) -> list[Table]:
  """Table II: clean accuracy; over photos, and as the mean over classes."""
  del setup
  outcome = results.outcomes[ORIGINAL]
  if not results.labeled:
    note = "No photo has a true class: name a folder with class sub-folders."
    return [Table("Accuracy on clean photos", ("network",), [], note)]
  labels = outcome.labels
  lines = []
  for place, network in enumerate(results.header["networks"]):
    ranks = outcome.label_ranks[:, place, 0]
    cells: list[Cell] = []
    for top in TOPS:
      right = ranks < top
      by_class = [right[labels == label].mean() for label in np.unique(labels)]
      cells += [rate_cell(misleading_rate(right)), number_cell(100 * float(np.mean(by_class)))]
    lines.append([network["title"], "seen" if network["seen"] else "unseen", *cells])
  columns = ("network", "", "top-1", "top-1, mean of classes", "top-5", "top-5, mean of classes")
  note = (
    f"{len(outcome.photos)} photos of {len(np.unique(labels))} classes, in %; in brackets: 95 % "
    "Wilson interval."
  )
  return [Table("Accuracy on clean photos", columns, lines, note)]


def table3(results: Results, setup: Setup) -> list[Table]:
  """Table III: misleading rates, families of defenses, detectability, quality and cost."""
  epsilons = (setup.epsilon, setup.epsilon / 2)
  lists = [
    (*variants.baselines(setup, epsilon), *variants.paper_attacks(setup, given))
    for epsilon, given in zip(epsilons, (None, epsilons[1]), strict=True)
  ]
  tables = []
  for epsilon, contenders in zip(epsilons, lists, strict=True):
    groups = list(_groups(results, contenders))
    if len(groups[0][1]) < 2:
      continue
    at = f"eps {epsilon:g}"
    tables.append(_in_short(results, groups, f"In short, {at}"))
    scenes = ((TRUE, "the true scene"),) if results.labeled else ()
    for field, scene in (*scenes, (OWN, "each network's own answer on the clean photo")):
      tables.append(_misleading(results, groups, field, f"Misled about {scene}, {at}"))
    tables.append(_by_family(results, groups, f"Unseen, by family of defenses, {at}"))
    tables.append(_detectability(results, groups, f"Detectability, {at}"))
    tables.append(_quality(results, groups, f"Image quality, {at}"))
    tables.append(_cost(results, groups, f"Goal and cost, {at}"))
  return tables


Group = tuple[list[str], list[Contender]]


def _groups(results: Results, contenders: Sequence[Contender]) -> Iterator[Group]:
  """Yields (photos, attacks): those on all photos, then the slow ones with their own baseline.

  Fewer photos may be easier or harder ones, so they are never compared with the others' rates.
  """
  there = [each for each in contenders if each.name in results.outcomes]
  fast, slow = ([each for each in there if each.slow == kind] for kind in (False, True))
  yield results.shared(each.name for each in fast), fast
  if slow:
    original = next(each for each in there if each.name == ORIGINAL)
    yield results.shared(each.name for each in (original, *slow)), [original, *slow]


def _lines(groups: Sequence[Group]) -> Iterator[tuple[Contender, list[str], list[str | Cell]]]:
  """Yields (attack, its photos, the first cells of its line)."""
  for part, (photos, contenders) in enumerate(groups):
    for contender in contenders:
      title = contender.title
      if part and contender.name == ORIGINAL:
        title = f"{title}, of these"
      used = [network.title for network in contender.networks]
      on = "" if not used else used[0] if len(used) == 1 else f"{len(used)} networks"
      yield contender, photos, [title, on, number_cell(float(len(photos)), 0)]


_FIRST = ("attack", "on", "photos")


def _in_short(results: Results, groups: Sequence[Group], title: str) -> Table:
  """The columns that a reader with one minute needs, without their intervals."""
  reference, unseen = [results.reference], results.networks(seen=False)
  lines = []
  for contender, photos, first in _lines(groups):
    name = contender.name
    psnr = results.mean(name, "psnr", photos)
    goals = (results.mean(name, column, photos) for column in ("success", "written_success"))
    cells = [
      Cell("", None) if psnr is None else Cell(f"{psnr:.1f} dB", psnr),
      _pair([results.detection(name, photos, reference)]),
      *(
        _pair([results.rate(name, photos, networks=unseen, defended=kind, top=top) for top in TOPS])
        for kind in (False, True)
      ),
      *(percent_cell(goal) for goal in goals),
    ]
    lines.append([*first[:2], *cells])
  note = (
    f"Misleading rates of {_join(results, unseen)}, which no attack saw, in %, top-1 / top-5, "
    f"{'the true scene' if results.labeled else 'its own answer on the clean photo'}; defended: "
    f"mean over {len(results.header['settings']) - 1} defenses. Detected by "
    f"{_join(results, reference)}. Intervals and everything else in the tables below."
  )
  columns = ("PSNR", "detected", "unseen", "unseen, defended", "goal reached", "in 8 bits")
  return Table(title, (*_FIRST[:2], *columns), lines, note)


def _pair(rates: Sequence[Rate | None]) -> Cell:
  if rates[0] is None:
    return NOT_AVAILABLE
  return Cell(" / ".join(f"{100 * rate.value:.0f}" for rate in rates), rates[0].value)


def _misleading(results: Results, groups: Sequence[Group], field: str, title: str) -> Table:
  reference, unseen = [results.reference], results.networks(seen=False)
  lines = []
  for contender, photos, first in _lines(groups):
    cells = [
      rate_cell(
        results.rate(
          contender.name, photos, networks=networks, defended=defended, top=top, field=field
        )
      )
      for networks in (reference, unseen)
      for defended in (False, True)
      for top in TOPS
    ]
    lines.append([*first, *cells])
  settings = ("seen", "seen, defended", "unseen", "unseen, defended")
  columns = [f"{each}, top-{top}" for each in settings for top in TOPS]
  note = (
    f"Seen is {results.header['reference']}, which every attack uses; unseen is "
    f"{_join(results, unseen)}. Defended: mean over {len(results.header['settings']) - 1} defenses "
    f"of the 8-bit image. {_INTERVAL}"
  )
  return Table(title, (*_FIRST, *columns), lines, note)


def _by_family(results: Results, groups: Sequence[Group], title: str) -> Table:
  unseen = results.networks(seen=False)
  lines = []
  for contender, photos, first in _lines(groups):
    cells = [
      rate_cell(results.rate(contender.name, photos, networks=unseen, defended=group, top=top))
      for group in ([0], *results.families.values())
      for top in TOPS
    ]
    lines.append([*first, *cells])
  families = ("no defense", *results.families)
  columns = [f"{family}, top-{top}" for family in families for top in TOPS]
  note = f"{_join(results, unseen)}; each family averaged over its parameters. {_INTERVAL}"
  return Table(title, (*_FIRST, *columns), lines, note)


def _detectability(results: Results, groups: Sequence[Group], title: str) -> Table:
  reference, unseen = [results.reference], results.networks(seen=False)
  lines = []
  for contender, photos, first in _lines(groups):
    cells = [
      rate_cell(results.detection(contender.name, photos, reference, [group]))
      for group in results.families.values()
    ]
    cells.append(rate_cell(results.detection(contender.name, photos, reference)))
    cells.append(rate_cell(results.detection(contender.name, photos, reference, successful=True)))
    cells.append(rate_cell(results.detection(contender.name, photos, unseen)))
    lines.append([*first, *cells])
  columns = (*results.families, "mean", "mean, of successful", "mean, unseen")
  note = (
    "Photos flagged as adversarial, in %, Eq. 4; lower is better. A detector is "
    f"{_join(results, reference)} and a family of defenses joined by the largest distance; its "
    f"threshold passes 95 % of {len(results.training):,} clean training photos and never saw an "
    "attack. Successful: misled about the scene without a defense. Last column: detectors of "
    f"{_join(results, unseen)}. The first line is the rate of false alarms. In brackets: 95 % "
    "Wilson interval."
  )
  return Table(title, (*_FIRST, *columns), lines, note)


def _quality(results: Results, groups: Sequence[Group], title: str) -> Table:
  height, width = results.header["image_size"]
  lines = []
  for contender, photos, first in _lines(groups):
    measures = (("psnr", 1), ("ssim", 3), ("mad", 1), ("brisque", 1))
    cells = [
      number_cell(results.mean(contender.name, column, photos), digits)
      for column, digits in (*measures, ("l0", 0), ("l2", 0), ("linf", 0))
    ]
    if contender.name == ORIGINAL:
      cells[0] = Cell("∞", None)
    lines.append([*first, *cells])
  note = (
    "Means over photos, of the 8-bit image. PSNR in dB and SSIM: higher is better. MAD and "
    f"BRISQUE: lower is better. Values changed (of {3 * height * width:,}), Euclidean and largest "
    "change in gray levels."
  )
  if not results.header["brisque"]:
    note += " BRISQUE is n/a: LIVE's model was not found (RPFGSM_BRISQUE names its folder)."
  columns = ("PSNR", "SSIM", "MAD", "BRISQUE", "values changed", "L2", "L∞")
  return Table(title, (*_FIRST, *columns), lines, note)


def _cost(results: Results, groups: Sequence[Group], title: str) -> Table:
  lines = []
  for contender, photos, first in _lines(groups):
    if contender.attack is None:
      continue
    name = contender.name
    seconds = results.seconds(name)
    lines.append(
      [
        *first,
        percent_cell(results.mean(name, "success", photos)),
        percent_cell(results.mean(name, "written_success", photos)),
        number_cell(results.mean(name, "evaluations", photos), 0),
        NOTHING if seconds is None else Cell(f"{seconds:.2g}", seconds),
      ]
    )
  note = (
    "Goal: the attack's own, on every network it used, as it was found (minimal-norm attacks: "
    "before rounding); then the same of the 8-bit image. Gradients counted; seconds a photo in the "
    f"batches that compiled nothing, on {results.header['device']}, whatever else ran there. "
    f"Budget of JSMA, CW and SparseFool: {results.header['budget']}."
  )
  columns = ("goal reached", "in 8 bits", "gradients", "seconds")
  return Table(title, (*_FIRST, *columns), lines, note)


def _join(results: Results, networks: Sequence[int]) -> str:
  return ", ".join(results.titles[place] for place in networks)
