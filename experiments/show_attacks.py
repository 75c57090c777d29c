"""Tables I, II and III: what each attack is, how good the networks are, and all attacks."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from experiments import variants
from experiments.lineup import ORIGINAL, Contender
from experiments.results import OWN, TOPS, TRUE, Results
from experiments.tables import NOTHING, percent_cell
from rpfgsm_jax.evaluation import Rate, misleading_rate
from rpfgsm_jax.report import Cell, Table
from rpfgsm_jax.report.cells import NOT_AVAILABLE, number_cell, rate_cell

_INTERVAL = (
  "In brackets: 95 % Wilson interval over photos, a photo's defenses averaged first. Top-1 and "
  "top-5, in %."
)
_DENSE = 0.05
"""Share of changed values from which a perturbation is called dense."""


def table1(results: Results) -> list[Table]:
  """Table I, measured: nobody wrote the marks down, they follow from the rows and the settings."""
  lines = []
  for contender in results.present(variants.paper_attacks(results.setup)):
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


def table2(results: Results) -> list[Table]:
  """Table II: clean accuracy; over photos, and as the mean over classes."""
  outcome = results.outcomes[ORIGINAL]
  if not results.labeled:
    note = "No photo has a true class: name a folder with class sub-folders."
    return [Table("Accuracy on clean photos", ("network",), [], note)]
  labels = outcome.labels
  lines = []
  for place, network in enumerate(results.header["networks"]):
    ranks = outcome.label_ranks[:, place, 0]
    ranks, known = ranks[ranks >= 0], labels[ranks >= 0]
    cells: list[Cell] = []
    for top in TOPS:
      right = ranks < top
      by_class = [right[known == label].mean() for label in np.unique(known)]
      mean = 100 * float(np.mean(by_class)) if by_class else None
      cells += [rate_cell(misleading_rate(right)), number_cell(mean)]
    lines.append([network["title"], "seen" if network["seen"] else "unseen", *cells])
  columns = ("network", "", "top-1", "top-1, mean of classes", "top-5", "top-5, mean of classes")
  note = (
    f"{len(outcome.photos)} photos of {len(np.unique(labels))} classes, in %; in brackets: 95 % "
    f"Wilson interval.{results.about_classes}"
  )
  return [Table("Accuracy on clean photos", columns, lines, note)]


def table3(results: Results) -> list[Table]:
  """Table III: misleading rates, families of defenses, detectability, quality and cost."""
  setup, tables = results.setup, []
  for epsilon in (None, setup.epsilon / 2):
    attacks = (*variants.baselines(setup, epsilon), *variants.paper_attacks(setup, epsilon))
    groups = list(_groups(results, attacks))
    if len(groups[0][1]) < 2:
      continue
    at = f"eps {epsilon or setup.epsilon:g}"
    tables.append(_in_short(results, groups, f"In short, {at}"))
    scenes = ((TRUE, "the true scene"),) if results.labeled else ()
    for field, scene in (*scenes, (OWN, "each network's own answer on the clean photo")):
      tables.append(_misleading(results, groups, f"Misled about {scene}, {at}", field))
    tables.append(_by_family(results, groups, f"Unseen, by family of defenses, {at}"))
    tables.append(_detectability(results, groups, f"Detectability, {at}"))
    tables.append(_quality(results, groups, f"Image quality, {at}"))
    tables.append(_cost(results, groups, f"Goal and cost, {at}"))
  return tables


_Group = tuple[list[str], list[Contender]]
_CellsOf = Callable[[str, Sequence[str]], list[Cell]]
"""(name of an attack, photographs) -> the cells of its line."""


def _groups(results: Results, contenders: Sequence[Contender]) -> Iterator[_Group]:
  """Yields (photos, attacks): those on all photos, then the slow ones with their own baseline."""
  # Fewer photos may be easier or harder ones: never compared with the rates of the others.
  there = results.present(contenders)
  fast, slow = ([each for each in there if each.slow == kind] for kind in (False, True))
  yield results.shared(each.name for each in fast), fast
  if slow:
    original = next(each for each in there if each.name == ORIGINAL)
    yield results.shared(each.name for each in (original, *slow)), [original, *slow]


def _table(
  groups: Sequence[_Group], title: str, columns: Sequence[str], note: str, cells_of: _CellsOf
) -> Table:
  """Returns a table with a line for each attack: what it is, on how many photographs, and cells."""
  lines = []
  for part, (photos, contenders) in enumerate(groups):
    for each in contenders:
      first = f"{each.title}, of these" if part and each.name == ORIGINAL else each.title
      used = [network.title for network in each.networks]
      on = "" if not used else used[0] if len(used) == 1 else f"{len(used)} networks"
      count = number_cell(float(len(photos)), 0)
      lines.append([first, on, count, *cells_of(each.name, photos)])
  return Table(title, ("attack", "on", "photos", *columns), lines, note)


def _in_short(results: Results, groups: Sequence[_Group], title: str) -> Table:
  """The columns that a reader with one minute needs, without their intervals."""
  reference, unseen = [results.reference], results.unseen()

  def pair(rates: Sequence[Rate | None]) -> Cell:
    if rates[0] is None:
      return NOT_AVAILABLE
    return Cell(" / ".join(f"{100 * rate.value:.0f}" for rate in rates), rates[0].value)

  def cells(name: str, photos: Sequence[str]) -> list[Cell]:
    psnr = results.mean(name, "psnr", photos)
    misled = [
      [results.rate(name, photos, networks=places, defended=kind, top=top) for top in TOPS]
      for places in unseen.values()
      for kind in (False, True)
    ]
    return [
      NOTHING if psnr is None else Cell(f"{psnr:.1f} dB", psnr),
      pair([results.detection(name, photos, reference)]),
      *map(pair, misled),
      *(percent_cell(results.mean(name, goal, photos)) for goal in ("success", "written_success")),
    ]

  note = (
    f"Misleading rates of {_unseen(results)}, held out, in %, top-1 / top-5, "
    f"{'the true scene' if results.labeled else 'its own answer on the clean photo'}; defended: "
    f"mean over {len(results.header['settings']) - 1} defenses. Detected by "
    f"{_join(results, reference)}. Intervals and everything else in the tables below."
    f"{results.about_classes}"
  )
  misled = (each for title in unseen for each in (title, f"{title}, defended"))
  columns = ("PSNR", "detected", *misled, "goal reached", "in 8 bits")
  table = _table(groups, title, columns, note, cells)
  without_photos = [[*line[:2], *line[3:]] for line in table.rows]
  return Table(title, (*table.columns[:2], *columns), without_photos, note)


def _rates(
  results: Results,
  groups: Sequence[_Group],
  title: str,
  asked: dict[str, tuple[Sequence[int], bool | Sequence[int]]],
  note: str,
  field: str | None = None,
) -> Table:
  """Returns top-1 and top-5 rates of title -> (networks, settings); see `Results.misled`."""

  def cells(name: str, photos: Sequence[str]) -> list[Cell]:
    return [
      rate_cell(
        results.rate(name, photos, networks=networks, defended=defended, top=top, field=field)
      )
      for networks, defended in asked.values()
      for top in TOPS
    ]

  columns = [f"{each}, top-{top}" for each in asked for top in TOPS]
  return _table(groups, title, columns, f"{note} {_INTERVAL}", cells)


def _misleading(results: Results, groups: Sequence[_Group], title: str, field: str) -> Table:
  networks = {"seen": [results.reference]} | results.unseen()
  asked = {
    f"{title}{words}": (places, defended)
    for title, places in networks.items()
    for words, defended in (("", False), (", defended", True))
  }
  note = (
    f"Seen is {results.header['reference']}, which every attack uses; unseen is "
    f"{_unseen(results)}. Defended: mean over {len(results.header['settings']) - 1} defenses "
    f"of the 8-bit image.{results.about_classes if field == TRUE else ''}"
  )
  return _rates(results, groups, title, asked, note, field)


def _by_family(results: Results, groups: Sequence[_Group], title: str) -> Table:
  unseen, families = results.unseen(), {"no defense": [0]} | results.families
  asked = {
    family if len(unseen) == 1 else f"{title}, {family}": (places, settings)
    for title, places in unseen.items()
    for family, settings in families.items()
  }
  note = f"{_unseen(results)}; each family averaged over its parameters.{results.about_classes}"
  return _rates(results, groups, title, asked, note)


def _detectability(results: Results, groups: Sequence[_Group], title: str) -> Table:
  reference, unseen = [results.reference], results.unseen()

  def cells(name: str, photos: Sequence[str]) -> list[Cell]:
    detected = [
      *(results.detection(name, photos, reference, [each]) for each in results.families.values()),
      results.detection(name, photos, reference),
      results.detection(name, photos, reference, successful=True),
      *(results.detection(name, photos, places) for places in unseen.values()),
    ]
    return [rate_cell(each) for each in detected]

  last = (f"mean, {title}" for title in unseen)
  columns = (*results.families, "mean", "mean, of successful", *last)
  note = (
    "Photos flagged as adversarial, in %, Eq. 4; lower is better. A detector is "
    f"{_join(results, reference)} and a family of defenses joined by the largest distance; its "
    f"threshold passes 95 % of {len(results.training):,} clean training photos and was set "
    "without an attack. Successful: misled about the scene without a defense. Last "
    f"column{'s' if len(unseen) > 1 else ''}: detectors of {_unseen(results)}. The first line is "
    "the rate of false alarms. In brackets: 95 % Wilson interval."
  )
  return _table(groups, title, columns, note, cells)


def _quality(results: Results, groups: Sequence[_Group], title: str) -> Table:
  measures = {
    "psnr": ("PSNR", 1),
    "ssim": ("SSIM", 3),
    "mad": ("MAD", 1),
    "scielab": ("S-CIELAB", 2),
    "brisque": ("BRISQUE", 1),
    "l0": ("values changed", 0),
    "l2": ("L2", 0),
    "linf": ("L∞", 0),
  }
  names = [each.name for _, some in groups for each in some]
  measured = [np.isfinite(results.outcomes[name].numbers["scielab"]).any() for name in names]
  if not any(measured):  # rows of before do not have it
    del measures["scielab"]

  def cells(name: str, photos: Sequence[str]) -> list[Cell]:
    found = [
      number_cell(results.mean(name, column, photos), digits)
      for column, (_, digits) in measures.items()
    ]
    return [Cell("∞", None), *found[1:]] if name == ORIGINAL else found

  height, width = results.header["image_size"]
  lower = "BRISQUE, S-CIELAB in Delta E" if "scielab" in measures else "BRISQUE"
  note = (
    "Means over photos, of the 8-bit image. PSNR in dB and SSIM: higher is better. MAD and "
    f"{lower}: lower is better. Values changed (of {3 * height * width:,}), Euclidean and largest "
    "change in gray levels."
  )
  if not results.header["brisque"]:
    note += " BRISQUE is n/a: LIVE's model was not found (RPFGSM_BRISQUE names its folder)."
  return _table(groups, title, [column for column, _ in measures.values()], note, cells)


def _cost(results: Results, groups: Sequence[_Group], title: str) -> Table:
  def cells(name: str, photos: Sequence[str]) -> list[Cell]:
    seconds = results.seconds(name)
    return [
      percent_cell(results.mean(name, "success", photos)),
      percent_cell(results.mean(name, "written_success", photos)),
      number_cell(results.mean(name, "evaluations", photos), 0),
      NOTHING if seconds is None else Cell(f"{seconds:.2g}", seconds),
    ]

  attacks = [(photos, [each for each in some if each.attack]) for photos, some in groups]
  note = (
    "Goal: the attack's own, on every network it used, as it was found (minimal-norm attacks: "
    "before rounding); then the same of the 8-bit image. Gradients counted; seconds a photo in the "
    f"batches that compiled nothing, on {results.header['device']}, whatever else ran there. "
    f"Budget of JSMA, CW and SparseFool: {results.header['budget']}."
  )
  columns = ("goal reached", "in 8 bits", "gradients", "seconds")
  return _table(attacks, title, columns, note, cells)


def _unseen(results: Results) -> str:
  return _join(results, results.networks(seen=False))


def _join(results: Results, networks: Sequence[int]) -> str:
  return ", ".join(results.titles[place] for place in networks)
