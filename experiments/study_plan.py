"""What a study runs, checked before anything is done: its config, networks and photographs."""

import dataclasses
import json
import pathlib
import secrets
from collections.abc import Callable

import jax

import rpfgsm_jax as rp
from experiments import folder, lineup, photos, rows, runtime
from experiments.journal import describe
from experiments.options import check_counts, check_options, even_size
from experiments.photo_facts import GAMMAS, Judge
from experiments.variants import PAPER_EPSILON, Setup
from rpfgsm_jax import quality
from rpfgsm_jax.attacks.minimal import Budget, check_budget
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

NAME = "study"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """What a run of any table or figure may be told; `run.py NAME --set FIELD=VALUE` sets any field.

  `limit` photographs for most attacks, `slow_limit` for JSMA, CW and SparseFool. Fields that change
  a row's numbers must stay the same within a results folder.
  """

  data: str | pathlib.Path | None = None  # see `photos.Choice`; None: scikit-image's photographs
  labels: pathlib.Path | None = None  # places365_val.txt
  mepp18: bool = False  # the paper's 3,000 test images out of `data`
  preprocess: str = "paper"  # or "places365"
  train: pathlib.Path | None = None  # clean training photographs for the detection thresholds
  train_limit: int = 1000  # of these
  out: pathlib.Path = pathlib.Path("results/study")
  seed: int | None = None  # None: from the system's entropy
  limit: int | None = 100  # photographs at most
  slow_limit: int | None = 50  # of these, for JSMA, CW and SparseFool
  epsilon: float = PAPER_EPSILON  # gray levels
  budget: Budget = "quick"  # of the slow attacks
  batch_size: int = 25  # photographs on the device at once
  keep: int = 3  # photographs whose images are kept; -1: all
  timed: int = 20  # photographs timed one at a time, for fig6
  oracle_defenses: bool = False  # evaluate behind Pillow and SciPy instead of our own defenses
  seen: tuple[str, ...] = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
  unseen: tuple[str, ...] = ("scenes25/densenet161",)
  reference: str | None = None  # the one network of single-network attacks; None: ResNet50
  bank: rp.defenses.DefenseBank = dataclasses.field(default_factory=rp.defenses.paper_bank)
  command: str = "python experiments/run.py"  # for the tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A checked config with everything loaded that can be wrong."""

  config: StudyConfig
  place: pathlib.Path
  seed: int
  judge: Judge
  source: photos.Source
  training: photos.Source | None

  @property
  def setup(self) -> Setup:
    """What all variants share."""
    return self.judge.setup


def prepare(config: StudyConfig, *, load: Callable[[str], Classifier] = rp.load_classifier) -> Plan:
  """Checks the config, loads the networks and lists the photographs; writes nothing.

  Args:
    config: what to run.
    load: name to network.

  Returns:
    The plan for `study.run`.

  Raises:
    ValueError: something in the config cannot be used, or the folder holds rows of other settings;
      the message names it.
  """
  check_budget(config.budget)
  check_counts(slow_limit=config.slow_limit, train_limit=config.train_limit, timed=config.timed)
  if config.keep < -1:
    raise ValueError(f"keep must be -1 (all) or a number of photographs, got {config.keep}.")
  place = check_options(config, NAME, None)
  networks = lineup.load_networks(config.seen, config.unseen, load)
  setup = Setup(
    networks=networks,
    reference=lineup.reference_network(networks, config.reference),
    epsilon=config.epsilon,
    budget=config.budget,
    bank=config.bank,
  )
  first = networks[0].classifier
  choice = photos.Choice(
    data=config.data,
    labels=config.labels,
    mepp18=config.mepp18,
    preprocess=config.preprocess,
    limit=config.limit,
  )
  source = photos.open_source(choice, first.class_names, first.image_size)
  training = None
  if config.train is not None:
    choice = photos.Choice(
      data=config.train, preprocess=config.preprocess, limit=config.train_limit
    )
    training = photos.open_source(choice, first.class_names, first.image_size)
  judge = Judge(
    setup=setup,
    size=even_size(len(source.photos), config.batch_size),
    oracle_defenses=config.oracle_defenses,
    brisque_model=_brisque_model(),
  )
  plan = Plan(config=config, place=place, seed=0, judge=judge, source=source, training=training)
  return dataclasses.replace(plan, seed=_seed(plan))


def _brisque_model() -> quality.BrisqueModel | None:
  try:
    return quality.load_brisque_model()
  except quality.ModelNotFoundError:
    return None


def header_of(plan: Plan) -> rows.Row:
  """All that must be the same for rows to belong together, and what the tables need."""
  config, first = plan.config, plan.setup.networks[0].classifier
  families = [family.name for family in config.bank.families]
  return {
    "kind": "run",
    "experiment": NAME,
    "data": None if config.data is None else str(config.data),
    "mepp18": config.mepp18,
    "preprocess": config.preprocess,
    "train": None if config.train is None else str(config.train),
    "seed_given": config.seed,
    "epsilon": config.epsilon,
    "budget": config.budget,
    "oracle_defenses": config.oracle_defenses,
    "reference": plan.setup.reference.title,
    "image_size": list(first.image_size),
    "class_names": list(first.class_names),
    "networks": [
      {"name": each.name, "title": each.title, "seen": each.seen} for each in plan.setup.networks
    ],
    "settings": [
      {"name": each.name, "family": None if each.family is None else families[each.family]}
      for each in measure.settings_of(config.bank)
    ],
    "bank": describe(config.bank),
    "gammas": list(GAMMAS),
    "brisque": plan.judge.brisque_model is not None,
    "device": jax.devices()[0].device_kind,
    "versions": runtime.versions(),
  }


def _seed(plan: Plan) -> int:
  """Returns the seed given, or that of the rows already there, or a new one.

  Raises:
    ValueError: the folder holds rows made with other settings.
  """
  path = plan.place / "rows.jsonl"
  if not path.is_file() or not _first_line(path).endswith(b"\n"):  # cut in its very first row
    return secrets.randbits(32) if plan.config.seed is None else plan.config.seed
  earlier, _ = rows.read_run(path)
  ignored = ("seed_given",)
  now = json.loads(json.dumps(header_of(plan)))
  differs = [
    name for name in now | earlier if name not in ignored and earlier.get(name) != now.get(name)
  ]
  seed = json.loads((plan.place / folder.RECORD).read_bytes())["seed"]
  if plan.config.seed not in (None, seed):
    differs.append("seed")
  if differs:
    raise ValueError(
      f"--out holds rows made with other settings ({plan.place}); they differ in "
      f"{', '.join(differs)}. Name another folder, or give the same settings to go on."
    )
  return seed


def _first_line(path: pathlib.Path) -> bytes:
  with open(path, "rb") as file:
    return file.readline()
