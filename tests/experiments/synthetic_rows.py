"""Rows of a study that never ran: what its networks would have said is drawn or planted."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from experiments import journal, rows
from experiments.lineup import StudyNetwork
from experiments.results import Results
from experiments.variants import Setup
from rpfgsm_jax import defenses
from rpfgsm_jax.evaluation import measure

# Few defenses, lopsided: two families of two, one of one.
BANK = defenses.DefenseBank(
  (
    defenses.IDENTITY,
    dataclasses.replace(defenses.REQUANTIZE, parameters=(2.0, 5.0)),
    dataclasses.replace(defenses.MEDIAN, parameters=(3.0,)),
    dataclasses.replace(defenses.JPEG, parameters=(25.0, 75.0)),
  )
)
DEFENSES = 5
NUM_CLASSES = 12
NUMBERS = ("l0", "l2", "linf", "psnr", "ssim", "mad", "brisque", "seconds", "evaluations")


def networks(seen: Sequence[str], unseen: Sequence[str]) -> tuple[StudyNetwork, ...]:
  """Networks that have titles only."""
  return tuple(
    StudyNetwork(name=f"toy/{title}", title=title, seen=place < len(seen), classifier=None)
    for place, title in enumerate((*seen, *unseen))
  )


def paper_setup(**changes: object) -> Setup:
  """The paper's networks, without their weights."""
  found = networks(("resnet18", "resnet50", "alexnet"), ("densenet161",))
  return Setup(**{"networks": found, "reference": found[1], "bank": BANK} | changes)


@dataclasses.dataclass
class Facts:
  """What the rows of one attack say; one entry a photograph.

  Attributes:
    photos: N names.
    used: titles of the networks that the attack used.
    ranks: `(N, networks, settings)`.
    label_ranks: likewise.
    distances: `(N, networks, defenses)`, thousandths as in a row.
    numbers: `(N,)` by name.
    extra: further fields of some photographs.
  """

  photos: list[str]
  used: Sequence[str]
  ranks: np.ndarray
  label_ranks: np.ndarray
  distances: np.ndarray
  numbers: dict[str, np.ndarray]
  extra: dict[str, rows.Row] = dataclasses.field(default_factory=dict)


def photo_id(name: str) -> int:
  """Ids whose parity does not alternate with the names."""
  return int(name[5:7]) ** 2 // 5 + 10 * int(name[5:7])


def label_of(name: str) -> int:
  """The true class of a photograph."""
  return int(name[5:7]) * 5 % NUM_CLASSES


def names(count: int) -> list[str]:
  """Names of photographs."""
  return [f"photo{place:02}.jpg" for place in range(count)]


def random_facts(
  generator: np.random.Generator,
  photos: Sequence[str],
  num_networks: int,
  used: Sequence[str] = (),
) -> Facts:
  """Facts without any effect: ranks 0..7, distances 0..2."""
  count, settings = len(photos), 1 + DEFENSES
  return Facts(
    photos=list(photos),
    used=used,
    ranks=generator.integers(0, 8, (count, num_networks, settings)),
    label_ranks=generator.integers(0, 8, (count, num_networks, settings)),
    distances=np.round(generator.uniform(0, 2, (count, num_networks, DEFENSES)), 3),
    numbers={name: np.round(generator.uniform(1, 50, count), 3) for name in NUMBERS},
  )


def training_distances(generator: np.random.Generator, count: int, num_networks: int) -> np.ndarray:
  """`(count, networks, defenses)`, smaller ones than behind attacks."""
  return np.round(generator.uniform(0, 1.6, (count, num_networks, DEFENSES)), 3)


def header(setup: Setup, **changes: object) -> rows.Row:
  """The row `run`."""
  families = setup.bank.names
  return {
    "kind": "run",
    "reference": setup.reference.title,
    "epsilon": setup.epsilon,
    "budget": setup.budget,
    "bank": journal.as_json(setup.bank),
    "networks": [each.describe() for each in setup.networks],
    "settings": [
      {"name": each.name, "family": None if each.family is None else families[each.family]}
      for each in measure.settings_of(setup.bank)
    ],
    "class_names": [f"scene {place}" for place in range(NUM_CLASSES)],
  } | changes


def photo_rows(name: str, facts: Facts, *, labeled: bool = True) -> list[rows.Row]:
  """The rows of one attack's photographs."""
  return [
    {
      "kind": "photo",
      "photo": photo,
      "attack": name,
      "image_id": photo_id(photo),
      "label": label_of(photo) if labeled else None,
      "ranks": facts.ranks[place].tolist(),
      "label_ranks": facts.label_ranks[place].tolist() if labeled else None,
      "distances": facts.distances[place].tolist(),
      **{column: _number(values[place]) for column, values in facts.numbers.items()},
      **facts.extra.get(photo, {}),
    }
    for place, photo in enumerate(facts.photos)
  ]


def _number(value: float) -> float | None:
  return None if np.isnan(value) else float(value)


def attack_row(name: str, facts: Facts) -> rows.Row:
  """The row that introduces an attack."""
  return {"kind": "attack", "name": name, "networks": list(facts.used), "config": None}


def read(
  path: pathlib.Path,
  setup: Setup,
  attacks: dict[str, Facts],
  *,
  training: np.ndarray | None = None,
  labeled: bool = True,
  others: Iterable[rows.Row] = (),
) -> Results:
  """Writes the rows of a study, batches of five photographs as a run does, and reads them.

  Args:
    path: the file to write.
    setup: of the run.
    attacks: name -> facts.
    training: `(n, networks, defenses)`, of clean training photographs.
    labeled: whether the photographs have true classes.
    others: further rows.

  Returns:
    The results.
  """
  lines = [header(setup)]
  lines += [
    {"kind": "training", "photo": f"t{place}", "distances": distances.tolist()}
    for place, distances in enumerate([] if training is None else training)
  ]
  for start in range(0, max(len(facts.photos) for facts in attacks.values()), 5):
    for name, facts in attacks.items():
      batch = photo_rows(name, facts, labeled=labeled)[start : start + 5]
      if batch and not start:
        lines.append(attack_row(name, facts))
      lines += batch
  rows.append_rows(path, [*lines, *others])
  return Results(path)
