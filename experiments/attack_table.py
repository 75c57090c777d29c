"""The table of all attacks, made from the rows of `attacks.py` and from nothing else."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator

import numpy as np

from experiments import rows
from rpfgsm_jax import atomic
from rpfgsm_jax.evaluation import Rate, misleading_rate

TOPS = (1, 5)
# Sanchez-Matilla et al. (2020), Sec. V-D: top-5 misleading rates in %, and PSNR in dB.
_PAPER = (
  ("JSMA, CW, DeepFool, SparseFool", "< 32.1", "< 21.2", "< 21.6", "< 21.2", "> 38.4 (sparse)"),
  ("EOT", "67.4 to 72.7", "19.8 to 53.4", "< 21.6", "< 27.1", "> 42.3"),
  ("R-, L-, P-, E-FGSM, one network", "> 95 (L, P)", "19.8 to 53.4", "15.5 to 88.7", "< 27.1", ""),
  ("U-FGSM", "> 83.4", "> 47.4", "", "", ""),
  ("E-FGSM, three networks", "96.8", "35.2", "", "", ""),
  ("DI-FGSM targeted, three networks", "", "", "65.0", "40.1", ""),
  ("DI-FGSM, three networks", "> 83.4", "> 59.3", "76.0", "53.7", ""),
  ("RP-FGSM targeted, three networks", "> 97.8", "59.6 to 88.0", "64.6", "55.1", ""),
  ("RP-FGSM, three networks", "91.0", "87.7", "82.6", "77.0", ""),
)
_COLUMNS = (
  "attack",
  "on",
  "photos",
  "gradients",
  "s a photo",
  "success",
  "in 8 bits",
  "seen",
  "seen, defended",
  "unseen",
  "unseen, defended",
  "values changed",
  "L2",
  "L∞",
  "PSNR",
)


@dataclasses.dataclass
class Outcome:
  """The rows of one attack as arrays, one entry a photograph."""

  found: list[rows.Row] = dataclasses.field(default_factory=list)

  def column(self, name: str) -> np.ndarray:
    """Returns one field of all rows; None becomes NaN."""
    values = [np.nan if row.get(name) is None else row[name] for row in self.found]
    return np.asarray(values, np.float64)

  def ranks(self, field: str) -> np.ndarray:
    """Returns `(N, networks, settings)` of the rows that have them."""
    return np.asarray([row[field] for row in self.found if row[field] is not None])

  def of(self, photos: set[str]) -> "Outcome":
    """Returns the outcome on some of the photographs."""
    return Outcome([row for row in self.found if row["photo"] in photos])

  @property
  def seconds(self) -> float | None:
    """Seconds a photograph in the batches that had nothing to compile; None if there are none."""
    steady = [row["seconds"] for row in self.found if not row["compiled"]]
    return float(np.mean(steady)) if steady else None


def read_outcomes(path: pathlib.Path) -> tuple[rows.Row, dict[str, Outcome]]:
  """Returns the header and the rows by attack, in the header's order.

  Args:
    path: of the rows.

  Returns:
    The row `run`; attack name -> outcome, without those that have no row.

  Raises:
    RowsError: the file cannot be read, or does not begin with a row `run`.
  """
  header, found = rows.read_run(path)
  outcomes = {attack["name"]: Outcome() for attack in header["attacks"]}
  for row in found:
    if row["kind"] == "photo":
      outcomes[row["attack"]].found.append(row)
  return header, {name: outcome for name, outcome in outcomes.items() if outcome.found}


def write_table(folder: pathlib.Path) -> str:
  """Writes `table.md` beside the rows, from them alone.

  Args:
    folder: the results folder.

  Returns:
    Its text.

  Raises:
    RowsError: the rows cannot be read.
  """
  header, outcomes = read_outcomes(rows.find_rows(folder))
  text = "\n".join(_lines(header, outcomes)) + "\n"
  atomic.write_text(folder / "table.md", text)
  return text


def _lines(header: rows.Row, outcomes: dict[str, Outcome]) -> Iterator[str]:
  unseen = [network["title"] for network in header["networks"] if not network["seen"]]
  labeled = all(row["label"] is not None for each in outcomes.values() for row in each.found)
  yield "# The attacks side by side"
  yield ""
  yield (
    f"Command: `{header['command']}`. {_join(header['sources'])}; "
    f"{header['image_size'][0]} x {header['image_size'][1]} pixels, "
    f"{header['num_classes']} classes, eps = {header['epsilon']:g} of 255 levels; on "
    f"{header['device']}, jax {header['versions']['jax']}. "
    f"Budget of the slow attacks: **{header['budget']}**."
  )
  yield ""
  yield (
    f"Seen is {header['reference']}, which every attack uses; unseen is {_join(unseen)}. Defended: "
    f"mean over {len(header['settings']) - 1} defenses. Pairs are top-1 / top-5. `success`: the "
    "attack's own goal, before rounding; then the same of the 8-bit image, of which everything to "
    "the right speaks. Gradients, seconds and sizes are means over photos; seconds are left out "
    "where one batch was all and had to be compiled."
  )
  if labeled:
    yield from _table(header, outcomes, "label_ranks", "the true scene")
  yield from _table(header, outcomes, "ranks", "each network's own answer on the clean photo")
  yield from _order(header, outcomes, "label_ranks" if labeled else "ranks")
  yield from _paper()
  yield from ("", "## Settings", "")
  for attack in header["attacks"]:
    if attack["networks"]:
      yield f"- {attack['title']}: `{json.dumps(attack['config'])}`"


def _table(header: rows.Row, outcomes: dict[str, Outcome], field: str, scene: str) -> Iterator[str]:
  yield from ("", f"## Misleading rate against {scene}", "")
  yield f"| {' | '.join(_COLUMNS)} |"
  yield f"|{'---|' * len(_COLUMNS)}"
  baseline = outcomes.get("original")
  for attack in header["attacks"]:
    if attack["name"] not in outcomes:
      continue
    outcome = outcomes[attack["name"]]
    if baseline is not None and len(outcome.found) < len(baseline.found):
      # Fewer photos may be easier or harder ones: their own baseline stands before them, once.
      baseline = baseline.of({row["photo"] for row in outcome.found})
      original = {"title": "original, of these", "networks": []}
      yield f"| {' | '.join(_cells(header, original, baseline, field))} |"
    yield f"| {' | '.join(_cells(header, attack, outcome, field))} |"


def _cells(header: rows.Row, attack: rows.Row, outcome: Outcome, field: str) -> list[str]:
  is_attack = bool(attack["networks"])
  used = len(attack["networks"])
  seconds = outcome.seconds
  psnr = outcome.column("psnr")
  return [
    attack["title"],
    "" if not is_attack else attack["networks"][0] if used == 1 else f"{used} networks",
    str(len(outcome.found)),
    f"{outcome.column('evaluations').mean():.0f}" if is_attack else "",
    f"{seconds:.3g}" if is_attack and seconds is not None else "",
    f"{100 * outcome.column('success').mean():.0f} %" if is_attack else "",
    f"{100 * outcome.column('written_success').mean():.0f} %" if is_attack else "",
    *(
      " / ".join(
        f"{100 * rate_of(header, outcome, field, seen, defended, top).value:.0f}" for top in TOPS
      )
      for seen in (True, False)
      for defended in (False, True)
    ),
    f"{outcome.column('l0').mean():.0f}",
    f"{outcome.column('l2').mean():.0f}",
    f"{outcome.column('linf').mean():.0f}",
    f"{np.nanmean(psnr):.1f} dB" if np.isfinite(psnr).any() else "",
  ]


def rate_of(
  header: rows.Row, outcome: Outcome, field: str, seen: bool, defended: bool, top: int
) -> Rate:
  """Returns the misleading rate on the reference network or the unseen ones.

  Args:
    header: the row `run`.
    outcome: of one attack.
    field: "ranks" (clean prediction) or "label_ranks" (true class).
    seen: the reference network, else the mean of the unseen ones.
    defended: mean over all defenses, else none.
    top: k.

  Returns:
    The `Rate`.
  """
  networks = [
    place
    for place, network in enumerate(header["networks"])
    if (network["title"] == header["reference"] if seen else not network["seen"])
  ]
  settings = slice(1, None) if defended else slice(0, 1)
  ranks = outcome.ranks(field)[:, networks, settings]
  return misleading_rate((ranks >= top).reshape(len(ranks), -1))


def _order(header: rows.Row, outcomes: dict[str, Outcome], field: str) -> Iterator[str]:
  """The contenders on the same photos, by what the paper's Sec. V-D compares, with intervals."""
  titles = {attack["name"]: attack["title"] for attack in header["attacks"]}
  shared = set.intersection(*({row["photo"] for row in each.found} for each in outcomes.values()))
  if not shared:
    return
  yield from ("", "## In order of the unseen network behind defenses", "")
  yield (
    f"On the {len(shared)} photos that every attack had; in brackets: 95 % Wilson interval over "
    "photos, a photo's defenses averaged first."
  )
  yield ""
  yield "| attack | top-1 | top-5 |"
  yield "|---|---|---|"
  rates = {}
  for name, outcome in outcomes.items():
    some = outcome.of(shared)
    rates[name] = [rate_of(header, some, field, False, True, top) for top in TOPS]
  for name in sorted(rates, key=lambda name: -rates[name][0].value):
    cells = [
      f"{100 * rate.value:.1f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
      for rate in rates[name]
    ]
    yield f"| {titles[name]} | {' | '.join(cells)} |"


def _paper() -> Iterator[str]:
  yield from ("", "## What the paper reports", "")
  yield (
    "Top-5 misleading rates in % against the true scene, Sec. V-D; its Places365 networks, 224 x "
    "224 pixels, 365 classes, so that top-5 is a far smaller share of the classes than here."
  )
  yield ""
  yield "| attack | seen | seen, defended | unseen | unseen, defended | PSNR |"
  yield f"|{'---|' * 6}"
  for line in _PAPER:
    yield f"| {' | '.join(line)} |"


def _join(texts: list[str]) -> str:
  return "; ".join(dict.fromkeys(texts))
