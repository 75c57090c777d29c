"""What a study runs, checked before anything is done: its config, networks and photographs."""

import dataclasses
import os
import pathlib
import secrets
from collections.abc import Callable, Sequence

import jax
import numpy as np

import rpfgsm_jax as rp
from experiments import journal, lineup, photos, rows, runtime
from experiments.options import StudyConfig
from experiments.variants import Setup
from rpfgsm_jax import quality, result_folder
from rpfgsm_jax.attacks.minimal import check_budget
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

Clean = tuple[np.ndarray, np.ndarray]
"""The most likely classes of photographs and their probabilities, `(N, networks, 5)` each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """What studies of one kind have in common; those of the tables and the demo differ in this."""

  name: str
  header: Callable[["StudyPlan"], rows.Row]  # what their first row says besides `header_of`
  # What a row says of each photograph: of a plan, a `photo_facts.Measured` and its `Clean`.
  facts: Callable[..., list[rows.Row]]
  folder_of: Callable[[str], str]  # where the images behind an attack are kept
  # All that a result holds, where a new one replaces it as a whole; None: rows are added to it.
  entries: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyPlan:
  """A checked config with everything loaded that can be wrong."""

  kind: Kind
  config: StudyConfig
  place: pathlib.Path
  seed: int
  setup: Setup
  source: photos.Source
  training: photos.Source | None
  size: int  # photographs computed together
  brisque_model: quality.BrisqueModel | None

  @property
  def classifiers(self) -> list[Classifier]:
    """All networks, seen ones first."""
    return [network.classifier for network in self.setup.networks]

  def image_path(self, attack: str, photo: photos.StudyPhoto) -> pathlib.Path:
    """Returns where a photograph behind an attack is kept."""
    return self.place / self.kind.folder_of(attack) / photo.png

  def predict(self, images: np.ndarray) -> Clean:
    """Returns what the networks make of images without a defense."""
    return measure.predict(images, self.classifiers, self.size)

  def labels_of(self, some: Sequence[photos.StudyPhoto]) -> np.ndarray:
    """Returns `(N, networks)`: each network's class of that name; -1 where it has none."""
    labels = np.asarray([photo.label for photo in some])
    known = photos.classes_by_name(self.classifiers[0].class_names, self.classifiers)
    return np.where(labels < 0, -1, known[:, labels]).T

  def evaluate(
    self, images: np.ndarray, asked: np.ndarray, labels: np.ndarray
  ) -> measure.Predictions:
    """Returns what the networks make of N images behind every defense; see `measure.evaluate`."""
    oracle, bank = self.config.oracle_defenses, self.setup.bank
    return measure.evaluate(images, asked, labels, self.classifiers, bank, self.size, oracle=oracle)


def prepare(config: StudyConfig, kind: Kind, load: Callable[[str], Classifier]) -> StudyPlan:
  """Checks the config and the folder, loads the networks, lists the photographs; writes nothing."""
  _check(config)
  if config.bank is None:
    config = dataclasses.replace(config, bank=rp.defenses.paper_bank())
  place = pathlib.Path(os.path.abspath(config.out))
  result_folder.check_place(
    place, f"'{kind.name}'", lambda each: journal.made_by(each) == kind.name, entries=kind.entries
  )
  if config.data is not None:
    result_folder.check_apart(place, config.data, "--out and --data")
  networks = lineup.load_networks(config.seen, config.unseen, load)
  setup = Setup(
    networks=networks,
    reference=lineup.reference_network(networks, config.reference),
    epsilon=config.epsilon,
    budget=config.budget,
    bank=config.bank,
  )
  classifiers, training = [network.classifier for network in networks], None
  source = photos.open_source(
    config.data,
    classifiers,
    labels=config.labels,
    mepp18=config.mepp18,
    preprocess=config.preprocess,
    limit=config.limit,
  )
  if config.train is not None:
    training = photos.open_source(
      config.train, classifiers, preprocess=config.preprocess, limit=config.train_limit
    )
  plan = StudyPlan(
    kind=kind,
    config=config,
    place=place,
    seed=secrets.randbits(32) if config.seed is None else config.seed,
    setup=setup,
    source=source,
    training=training,
    size=_even_size(len(source.photos), config.batch_size),
    brisque_model=_brisque_model(),
  )
  if kind.entries is not None:
    return plan
  seed, _ = journal.check_folder(place, header_of(plan), config.seed)
  return dataclasses.replace(plan, seed=seed)


def _check(config: StudyConfig) -> None:
  """Refuses a config that names something impossible."""
  check_budget(config.budget)
  for name in ("limit", "batch_size", "slow_limit", "train_limit", "timed"):
    value = getattr(config, name)
    if value is not None and value < 1:
      raise ValueError(f"{name} must be at least 1, got {value}.")
  if config.keep < -1:
    raise ValueError(f"keep must be -1 (all) or a number of photographs, got {config.keep}.")
  if config.seed is not None and not 0 <= config.seed < 2**32:
    raise ValueError(f"seed must be in 0..2^32-1, got {config.seed}.")
  if not 0 <= config.epsilon <= 255:
    raise ValueError(f"epsilon must be in 0..255 gray levels, got {config.epsilon}.")


def _even_size(count: int, batch_size: int) -> int:
  """The size of even batches: of 9 photographs by 8, two of 5, not 8 and 1 filled up."""
  return -(-count // -(-count // batch_size))


def _brisque_model() -> quality.BrisqueModel | None:
  try:
    return quality.load_brisque_model()
  except quality.ModelNotFoundError:
    return None


def header_of(plan: StudyPlan) -> rows.Row:
  """All that must be the same for rows to belong together, and what the tables need."""
  config, first = plan.config, plan.setup.networks[0].classifier
  return {
    "kind": "run",
    "experiment": plan.kind.name,
    "seed_given": config.seed,
    "epsilon": config.epsilon,
    "image_size": list(first.image_size),
    "class_names": list(first.class_names),
    "networks": [network.describe() for network in plan.setup.networks],
    "settings": describe_defenses(config.bank),
    "device": jax.devices()[0].device_kind,
    "versions": runtime.versions(),
  } | plan.kind.header(plan)


def describe_defenses(bank: rp.defenses.DefenseBank) -> list[rows.Row]:
  """Returns what rows say of the settings behind which photographs are judged."""
  return [
    {"name": each.name, "family": None if each.family is None else bank.names[each.family]}
    for each in measure.settings_of(bank)
  ]
