"""What the rows of a study say, as arrays and as the rates that tables are made of."""

import collections
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from experiments import lineup, rows
from experiments.lineup import Contender
from experiments.variants import Setup
from rpfgsm_jax import defenses
from rpfgsm_jax.evaluation import (
  Difference,
  Rate,
  detection_threshold,
  is_detected,
  joint_distance,
  misleading_rate,
  paired_difference,
)

TRUE, OWN = "label_ranks", "ranks"
"""Misled about the true class, as in the paper; about the network's own answer before."""

TOPS = (1, 5)
"""Ranks of the paper's misleading rates."""

_NUMBERS = (
  "l0", "l2", "linf", "psnr", "ssim", "mad", "scielab", "brisque", "seconds", "compiled",
  "evaluations", "success", "written_success", "target", "label", "image_id", "largest_change",
  "confident",
)  # fmt: skip
_EXTRAS = ("png", "classes", "probabilities", "candidates", "label")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackOutcome:
  """The rows of one attack; one entry a photograph, in the order of the rows."""

  attack: rows.Row  # its row `attack`
  photos: tuple[str, ...]  # names
  ranks: np.ndarray  # (N, networks, settings) int16
  label_ranks: np.ndarray  # likewise; -1 where there is no label, or the network lacks the class
  distances: np.ndarray  # (N, networks, defenses) float32; of the demo's rows (N, 0)
  numbers: dict[str, np.ndarray]  # name -> (N,) float; NaN where a row has none
  # Photograph -> what only kept ones have: classes, probabilities; of the original candidates.
  extra: dict[str, rows.Row]

  @property
  def labels(self) -> np.ndarray:
    """`(N,)` float, the true classes; NaN where unknown."""
    return self.numbers["label"]

  @property
  def targeted(self) -> bool:
    """Whether the attack aims at a class on every photograph."""
    return bool(np.isfinite(self.numbers["target"]).all())

  @property
  def ids(self) -> np.ndarray:
    """`(N,)` int, stable ids of the photographs."""
    return self.numbers["image_id"].astype(np.int64)

  @functools.cached_property
  def places(self) -> dict[str, int]:
    """Photograph -> its place."""
    return {name: place for place, name in enumerate(self.photos)}

  def at(self, photos: Sequence[str]) -> np.ndarray:
    """Returns the places of some photographs."""
    return np.asarray([self.places[name] for name in photos], np.int64)


class Results:
  """All rows of a study."""

  def __init__(self, path: pathlib.Path, *, extras: Sequence[str] = _EXTRAS):
    self.folder = path.parent
    self.header, found = rows.read_run(path)
    photos: dict[str, _Collected] = {}
    others: dict[str, list[rows.Row]] = collections.defaultdict(list)
    for row in found:
      if row["kind"] == "photo":
        photos.setdefault(row["attack"], _Collected(extras)).add(row)
      else:
        others[row["kind"]].append(row)
    # The demo's first row names its attacks too, and rows of before have no others.
    known = (*self.header.get("attacks", ()), *others["attack"])
    self.attacks: dict[str, rows.Row] = {row["name"]: row for row in known}
    self.failures, self.notes = (  # what could not be read, and what was lost in reading
      [row["message"] for row in others[kind]] for kind in ("failure", "note")
    )
    self.timings: dict[str, list[float]] = {}  # attack -> seconds of single photographs
    for row in others["timing"]:
      self.timings.setdefault(row["attack"], []).append(row["seconds"])
    self.commands = [row["command"] for row in others["command"]]  # that made the rows, in order
    self.end: rows.Row = next(iter(others["end"]), {})  # the demo's; empty when it did not finish
    self._thresholds: dict[tuple[int, tuple[int, ...]], float] = {}
    self.outcomes = {
      name: photos[name].finish(row) for name, row in self.attacks.items() if name in photos
    }
    training = [row["distances"] for row in others["training"]]
    # (n, networks, defenses), distances of clean training photographs; n may be 0.
    shape = (-1, len(self.header["networks"]), len(self.header["settings"]) - 1)
    self.training = np.asarray(training, np.float32).reshape(shape)

  @functools.cached_property
  def setup(self) -> Setup:
    """The run's setup, of the networks' names without the networks."""
    networks = tuple(
      lineup.StudyNetwork(**each, classifier=None) for each in self.header["networks"]
    )
    families = {
      each.name: each for each in vars(defenses).values() if isinstance(each, defenses.Defense)
    }
    bank = defenses.DefenseBank(
      tuple(
        dataclasses.replace(families[name], parameters=tuple(parameters))
        for name, *parameters in self.header["bank"]
      )
    )
    return Setup(
      networks=networks,
      reference=lineup.reference_network(networks, self.header["reference"]),
      epsilon=self.header["epsilon"],
      budget=self.header["budget"],
      bank=bank,
    )

  @property
  def titles(self) -> list[str]:
    """The networks' titles, seen ones first."""
    return [network["title"] for network in self.header["networks"]]

  @functools.cached_property
  def labeled(self) -> bool:
    """Whether every photograph has a true class."""
    return all((outcome.label_ranks[:, 0] >= 0).all() for outcome in self.outcomes.values())

  @functools.cached_property
  def scene(self) -> str:
    """The field that rates speak of: the true class where there is one, as in the paper."""
    return TRUE if self.labeled else OWN

  @functools.cached_property
  def about_classes(self) -> str:
    """How many photographs do not count for a network that lacks their class; "" where all do."""
    ranks = np.concatenate([outcome.label_ranks[:, :, 0] for outcome in self.outcomes.values()])
    names = [name for outcome in self.outcomes.values() for name in outcome.photos]
    found = []
    for network, title in enumerate(self.titles if self.labeled else ()):
      lacking = {name for name, rank in zip(names, ranks[:, network], strict=True) if rank < 0}
      if lacking:
        total = len(set(names))
        found.append(f" {title} has no class for {len(lacking)} of {total} photos: not counted.")
    return "".join(found)

  def unseen(self) -> dict[str, list[int]]:
    """Returns the places of unseen networks under the words of tables: apart where several are."""
    places = self.networks(seen=False)
    if len(places) == 1:
      return {"unseen": places}
    return {self.titles[place]: [place] for place in places}

  def networks(self, *, seen: bool) -> list[int]:
    """Returns the places of the seen or of the unseen networks."""
    return [i for i, each in enumerate(self.header["networks"]) if each["seen"] == seen]

  @property
  def reference(self) -> int:
    """The place of the network that stands for the seen ones."""
    return self.titles.index(self.header["reference"])

  def attacked(self, name: str) -> list[int]:
    """Returns the places of the networks an attack used; of the baselines the reference."""
    titles = self.attacks[name]["networks"] or [self.header["reference"]]
    return [self.titles.index(title) for title in titles]

  def present(self, contenders: Iterable[Contender]) -> list[Contender]:
    """Returns those that have rows."""
    return [each for each in contenders if each.name in self.outcomes]

  def shared(self, names: Iterable[str]) -> list[str]:
    """Returns the photographs that all of some attacks had, in order."""
    names = list(names)
    common = set.intersection(*(set(self.outcomes[name].photos) for name in names))
    return [photo for photo in self.outcomes[names[0]].photos if photo in common]

  @functools.cached_property
  def families(self) -> dict[str, list[int]]:
    """Defense family -> its settings."""
    found: dict[str, list[int]] = {}
    for place, setting in enumerate(self.header["settings"]):
      if setting["family"] not in (None, "none"):  # the demo's word
        found.setdefault(setting["family"], []).append(place)
    return found

  def misled(
    self,
    name: str,
    photos: Sequence[str],
    *,
    networks: Sequence[int],
    defended: bool | Sequence[int],  # all defenses, none, or the settings named
    top: int,
    field: str | None = None,  # TRUE or OWN; None: `scene`
  ) -> np.ndarray:
    """Returns `(N,)`: the share of networks and settings that each photograph misled.

    A network that lacks the true class has no say; NaN where none has.
    """
    settings = defended
    if isinstance(defended, bool):
      settings = range(1, len(self.header["settings"])) if defended else [0]
    outcome = self.outcomes[name]
    ranks = getattr(outcome, field or self.scene)[outcome.at(photos)][:, networks]
    ranks = ranks[:, :, list(settings)]
    misled, asked = ((ranks >= least).sum(axis=(1, 2)) for least in (top, 0))
    return np.divide(misled, asked, where=asked > 0, out=np.full(len(ranks), np.nan))

  def rate(self, name: str, photos: Sequence[str], **options: object) -> Rate:
    """Returns the misleading rate; see `misled` for the options."""
    return counted_rate(self.misled(name, photos, **options))

  def detected(
    self,
    name: str,
    photos: Sequence[str],
    networks: Sequence[int],
    detectors: Iterable[Sequence[int]] | None = None,
  ) -> np.ndarray:
    """Returns `(N,)`: the share of detectors that flag each photograph, Eq. 4."""
    # A detector: a network and a group of settings, of which the largest distance counts.
    detectors = self.families.values() if detectors is None else detectors
    outcome = self.outcomes[name]
    distances = outcome.distances[outcome.at(photos)]
    flags = [
      is_detected(_joint(distances, network, group), self.threshold(network, tuple(group)))
      for network in networks
      for group in detectors
    ]
    return np.mean(flags, axis=0)

  def threshold(self, network: int, group: tuple[int, ...]) -> float:
    """Returns tau of a network and a group of settings: 95 % of clean training photos are below."""
    if (network, group) not in self._thresholds:
      distances = _joint(self.training, network, group)
      self._thresholds[network, group] = detection_threshold(distances)
    return self._thresholds[network, group]

  def detection(
    self,
    name: str,
    photos: Sequence[str],
    networks: Sequence[int],
    detectors: Iterable[Sequence[int]] | None = None,
    *,
    successful: bool = False,  # only of photos that, undefended, mislead all of these networks
  ) -> Rate | None:
    """Returns the share that is detected; None without training photographs."""
    if not len(self.training):
      return None
    if successful:
      misled = self.misled(name, photos, networks=networks, defended=False, top=1)
      photos = [photo for photo, hit in zip(photos, misled, strict=True) if hit == 1]
    return misleading_rate(self.detected(name, photos, networks, detectors))

  def numbers(self, name: str, column: str, photos: Sequence[str]) -> np.ndarray:
    """Returns `(N,)`: a number of photographs behind an attack; NaN where a row has none."""
    outcome = self.outcomes[name]
    return outcome.numbers[column][outcome.at(photos)]

  def mean(self, name: str, column: str, photos: Sequence[str]) -> float | None:
    """Returns the mean of a number over photographs; None where no row has it."""
    values = self.numbers(name, column, photos)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else None

  def seconds(self, name: str) -> float | None:
    """Returns seconds a photograph in the batches that had nothing to compile."""
    numbers = self.outcomes[name].numbers
    steady = numbers["seconds"][numbers["compiled"] == 0]
    return float(steady.mean()) if steady.size else None


def class_names_of(header: rows.Row, network: int) -> Sequence[str]:
  """Returns the names of a network's classes, of a study's first row."""
  return header["networks"][network].get("class_names") or header["class_names"]


def counted_rate(misled: np.ndarray) -> Rate:
  """Returns the rate over the photographs that have a number."""
  return misleading_rate(misled[np.isfinite(misled)])


def counted_difference(values: np.ndarray, others: np.ndarray) -> Difference:
  """Returns the paired difference over the photographs that have both numbers."""
  known = np.isfinite(values) & np.isfinite(others)
  return paired_difference(values[known], others[known])


def _joint(distances: np.ndarray, network: int, group: Sequence[int]) -> np.ndarray:
  """The largest distance of a network over a group of settings; setting 0 is no defense."""
  return joint_distance(distances[:, network][:, [place - 1 for place in group]])


class _Collected:
  """Rows of one attack on their way into arrays: a row as it is takes ten times the memory."""

  def __init__(self, extras: Sequence[str]):
    self._extras = extras
    self._entries: list[tuple] = []
    self._extra: dict[str, rows.Row] = {}

  def add(self, row: rows.Row) -> None:
    ranks, labels = np.asarray(row["ranks"], np.int16), row["label_ranks"]
    label_ranks = np.full_like(ranks, -1) if labels is None else np.asarray(labels, np.int16)
    distances = np.asarray(row.get("distances", ()), np.float32)
    numbers = [np.nan if row.get(name) is None else row[name] for name in _NUMBERS]
    self._entries.append((row["photo"], ranks, label_ranks, distances, numbers))
    extra = {name: row[name] for name in self._extras if name in row}
    if len(extra) > 1:
      self._extra[row["photo"]] = extra

  def finish(self, attack: rows.Row) -> AttackOutcome:
    photos, ranks, label_ranks, distances, numbers = zip(*self._entries, strict=True)
    columns = np.asarray(numbers, np.float64).T
    return AttackOutcome(
      attack=attack,
      photos=photos,
      ranks=np.stack(ranks),
      label_ranks=np.stack(label_ranks),
      distances=np.stack(distances),
      numbers=dict(zip(_NUMBERS, columns, strict=True)),
      extra=self._extra,
    )
