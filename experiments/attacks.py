"""All attacks of the paper side by side: cost, success by their own goal, transfer, sizes.

Writes a folder with `rows.jsonl` (one row a photograph and attack, appended batch by batch),
`table.md` (made from the rows) and `run.json` (the private record with the seed). Run again with
the same settings, it goes on where it stopped; other settings need another folder.

A `photo` row has what the demo's has (`ranks`, `label_ranks`: see `demo.py`), and: `success`, by
the attack's own goal as it was found (minimal-norm attacks: before rounding), `written_success`,
the same of the 8-bit image; `evaluations`, gradients counted; `seconds` a photograph of its batch,
and `compiled`, whether that batch had to be compiled; `l0`, `l2`, `linf`, `psnr` of the 8-bit
image.
"""

import dataclasses
import json
import pathlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import attack_table, folder, lineup, measure, photos, rows, runtime
from experiments.lineup import Contender, Network
from experiments.options import check_counts, check_options, even_size
from experiments.paper_attacks import SLOW, paper_attacks
from rpfgsm_jax.attacks.minimal import Budget, check_budget
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.quality import perturbation_norms, psnr

NAME = "attacks"
ENTRIES = ("rows.jsonl", "table.md", "run.json")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttacksConfig:
  """`python experiments/run.py attacks --data FOLDER`: about 40 minutes on two cores.

  Expected: attacks that look for the smallest change reach their goal and lose it by 8-bit rounding
  and defenses; of the others RP-FGSM misleads the unseen network behind defenses most.
  """

  data: pathlib.Path | None = None  # a folder of images; None: scikit-image's photographs
  out: pathlib.Path = pathlib.Path("results/attacks")
  seed: int | None = None  # None: from the system's entropy
  limit: int | None = 100  # photographs at most
  slow_limit: int | None = 50  # of these, for JSMA, CW and SparseFool
  epsilon: float = 16.0  # grey levels
  budget: Budget = "quick"  # of the slow attacks
  batch_size: int = 25  # photographs on the device at once
  seen: tuple[str, ...] = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
  unseen: tuple[str, ...] = ("scenes25/densenet161",)
  reference: str | None = None  # the one network of single-network attacks; None: ResNet50
  attacks: tuple[str, ...] = ()  # names of those to run; none: all
  bank: rp.defenses.DefenseBank = dataclasses.field(default_factory=rp.defenses.paper_bank)
  command: str = "python experiments/run.py attacks"  # for the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
  """Some attacks on the same photographs."""

  contenders: tuple[Contender, ...]
  source: photos.Source
  size: int  # photographs computed together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A checked config with everything loaded that can be wrong."""

  config: AttacksConfig
  place: pathlib.Path
  seed: int
  networks: tuple[Network, ...]
  rounds: tuple[Round, ...]
  header: rows.Row

  @property
  def classifiers(self) -> tuple[Classifier, ...]:
    return tuple(network.classifier for network in self.networks)


def prepare(
  config: AttacksConfig, *, load: Callable[[str], Classifier] = rp.load_classifier
) -> Plan:
  """Checks the config, loads the networks and lists the photographs; writes nothing.

  Args:
    config: what to run.
    load: name to network.

  Returns:
    The plan for `run`.

  Raises:
    ValueError: something in the config cannot be used; the message names it.
  """
  check_budget(config.budget)
  check_counts(slow_limit=config.slow_limit)
  place = check_options(config, NAME, ENTRIES)
  networks = lineup.load_networks(config.seen, config.unseen, load)
  reference = lineup.reference_network(networks, config.reference)
  contenders = paper_attacks(networks, reference, config.epsilon, config.budget, config.bank)
  contenders = _wanted(contenders, config.attacks)
  rounds = _rounds(config, contenders, networks[0].classifier)
  plan = Plan(config=config, place=place, seed=0, networks=networks, rounds=rounds, header={})
  plan = dataclasses.replace(plan, header=_header(plan, reference))
  return dataclasses.replace(plan, seed=_seed(plan))


def run(plan: Plan, *, cache: runtime.CompileCache | None = None, say: Say = print) -> pathlib.Path:
  """Runs what the folder does not have yet, and makes the table.

  Args:
    plan: from `prepare`.
    cache: where compiled programs are kept, for the message.
    say: receives a line now and then.

  Returns:
    The results folder.

  Raises:
    OSError: the disk is full, or a folder cannot be written to.
  """
  path = plan.place / "rows.jsonl"
  repaired = rows.recover_rows(path)
  if repaired:
    say(repaired)
  if not path.exists() or not path.stat().st_size:
    rows.write_private(plan.place / folder.RECORD, {"experiment": NAME, "seed": plan.seed})
    rows.append_rows(path, [plan.header])
  done, failed = set(), set()
  for row in rows.read_rows(path):
    if row["kind"] == "photo":
      done.add((row["photo"], row["attack"]))
    elif row["kind"] == "failure":
      failed.add(row["photo"])
  total = sum(len(each.source.photos) * len(each.contenders) for each in plan.rounds)
  say(f"{total - len(done)} of {total} rows to make; {cache.describe() if cache else 'compiling'}")
  with tqdm(total=total, initial=len(done), unit="row", mininterval=0.5, smoothing=0.1) as bar:
    for part in plan.rounds:
      compiled: set[str] = set()
      for batch in part.source.batches(part.size):
        _note_failures(batch, path, failed, len(part.contenders), bar, say)
        _run_batch(plan, part, batch, path, done, compiled, bar)
  attack_table.write_table(plan.place)
  return plan.place


def _note_failures(
  batch: photos.Batch,
  path: pathlib.Path,
  failed: set[str],
  num_contenders: int,
  bar: tqdm,
  say: Say,
) -> None:
  """Writes a row for each file that could not be read, once in the life of a folder."""
  for name, reason in batch.failures:
    say(f"left out: {reason}")
    bar.total -= num_contenders
    if name not in failed:
      rows.append_rows(path, [{"kind": "failure", "photo": name, "message": reason}])
      failed.add(name)


def _run_batch(
  plan: Plan,
  part: Round,
  batch: photos.Batch,
  path: pathlib.Path,
  done: set[tuple[str, str]],
  compiled: set[str],
  bar: tqdm,
) -> None:
  missing = [
    contender
    for contender in part.contenders
    if any((photo.name, contender.name) not in done for photo in batch.photos)
  ]
  if not missing:
    return
  classes, _ = measure.predict(batch.images, plan.classifiers, part.size)
  ids = [photo.image_id for photo in batch.photos]
  for contender in missing:
    bar.set_description(contender.title)
    start = time.perf_counter()
    images, result = lineup.protect(contender, batch.images, ids, plan.seed, part.size)
    seconds = (time.perf_counter() - start) / len(batch.photos)
    facts = _facts(plan, contender, batch, classes[..., 0], images, result, part.size)
    timing = {"seconds": round(seconds, 4), "compiled": contender.name not in compiled}
    compiled.add(contender.name)
    fresh = [
      {"kind": "photo", "photo": photo.name, "attack": contender.name, **fact, **timing}
      for photo, fact in zip(batch.photos, facts, strict=True)
      if (photo.name, contender.name) not in done
    ]
    rows.append_rows(path, fresh)
    done |= {(row["photo"], row["attack"]) for row in fresh}
    bar.update(len(fresh))


def _facts(
  plan: Plan,
  contender: Contender,
  batch: photos.Batch,
  clean: np.ndarray,
  images: np.ndarray,
  result: rp.AttackResult | None,
  size: int,
) -> list[rows.Row]:
  """Returns what a row says of each photograph of a batch."""
  labels = np.asarray([photo.label for photo in batch.photos])
  found = measure.evaluate(images, clean, labels, plan.classifiers, plan.config.bank, size)
  norms, quality = perturbation_norms(images, batch.images), psnr(images, batch.images)
  facts = []
  for place, photo in enumerate(batch.photos):
    fact = {
      "image_id": photo.image_id,
      "label": photo.label if photo.label >= 0 else None,
      "ranks": found.ranks[place].tolist(),
      "label_ranks": found.label_ranks[place].tolist() if photo.label >= 0 else None,
      "l0": int(norms.l0[place]),
      "l2": round(float(norms.l2[place]), 3),
      "linf": int(norms.linf[place]),
      "psnr": round(float(quality[place]), 3) if np.isfinite(quality[place]) else None,
    }
    if result is not None:
      attacked = [plan.networks.index(network) for network in contender.networks]
      target, predicted = int(result.target[place]), found.classes[place, attacked, 0]
      left = (predicted != clean[place, attacked]).all()
      hit = (predicted == target).all() and (clean[place, attacked] != target).all()
      fact |= {
        "target": target if target >= 0 else None,
        "success": bool(result.success[place]),
        "written_success": bool(left if target < 0 else hit),
        "evaluations": int(result.gradient_evaluations[place]),
      }
    facts.append(fact)
  return facts


def _wanted(contenders: Sequence[Contender], names: Sequence[str]) -> tuple[Contender, ...]:
  known = [contender.name for contender in contenders if contender.attack is not None]
  unknown = [name for name in names if name not in known]
  if unknown:
    raise ValueError(f"attacks must be some of {', '.join(known)}; got {', '.join(unknown)}.")
  return tuple(
    each for each in contenders if not names or each.name in names or each.attack is None
  )


def _rounds(
  config: AttacksConfig, contenders: Sequence[Contender], first: Classifier
) -> tuple[Round, ...]:
  """The fast attacks on all photographs, the slow ones on some of the same."""
  limits = [value for value in (config.limit, config.slow_limit) if value is not None]
  parts = (
    ([each for each in contenders if each.name not in SLOW], config.limit),
    ([each for each in contenders if each.name in SLOW], min(limits) if limits else None),
  )
  found = []
  for some, limit in parts:
    if not some:
      continue
    source = photos.open_source(config.data, first.class_names, first.image_size, limit)
    size = even_size(len(source.photos), config.batch_size)
    found.append(Round(contenders=tuple(some), source=source, size=size))
  return tuple(found)


def _header(plan: Plan, reference: Network) -> rows.Row:
  """All that must be the same for rows to belong together, and what the table needs."""
  config, first = plan.config, plan.networks[0].classifier
  return {
    "kind": "run",
    "experiment": NAME,
    "command": config.command,
    "sources": [part.source.description for part in plan.rounds],
    "photos": [len(part.source.photos) for part in plan.rounds],
    "seed_given": config.seed,
    "epsilon": config.epsilon,
    "budget": config.budget,
    "reference": reference.title,
    "image_size": list(first.image_size),
    "num_classes": len(first.class_names),
    "networks": [
      {"name": each.name, "title": each.title, "seen": each.seen} for each in plan.networks
    ],
    "settings": [each.name for each in measure.settings_of(config.bank)],
    "attacks": [
      {
        **contender.describe(),
        "networks": [network.title for network in contender.networks],
        "config": _describe(contender.config),
      }
      for part in plan.rounds
      for contender in part.contenders
    ],
    "device": jax.devices()[0].device_kind,
    "versions": runtime.versions(),
  }


def _describe(config: Any) -> Any:
  """Returns a config as JSON holds it, the same in every process."""
  if isinstance(config, rp.defenses.DefenseBank):
    return [[family.name, *family.parameters] for family in config.families]
  if dataclasses.is_dataclass(config):
    return {
      field.name: _describe(getattr(config, field.name)) for field in dataclasses.fields(config)
    }
  return config


def _seed(plan: Plan) -> int:
  """Returns the seed given, or that of the rows already there, or a new one.

  Raises:
    ValueError: the folder holds rows made with other settings.
  """
  path = plan.place / "rows.jsonl"
  if not path.is_file() or not _first_line(path).endswith(b"\n"):  # cut in its very first row
    return secrets.randbits(32) if plan.config.seed is None else plan.config.seed
  earlier, _ = rows.read_run(path)
  ignored = ("command", "seed_given")
  now = json.loads(json.dumps(plan.header))
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
