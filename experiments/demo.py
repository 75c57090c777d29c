"""The default experiment: photographs, protected, and what seen and unseen networks make of them.

Writes a folder with `rows.jsonl` (the numbers), `report.md` and `figure.png` (made from the rows),
`original/` and `protected/ATTACK/` (PNGs at the networks' size) and `run.json` (the private record:
whoever has its seed can compute the targets).

Kinds of rows: one `run` (everything a report needs to know), then for each photograph one `photo`
an attack, `failure` and `note` where a file was at fault, and one `end`. In a `photo` row, `ranks`
has for each network, for each setting, how many classes stand before the class that this network
predicted on the clean photograph (0: still predicted; 5 or more: not among the first five);
`label_ranks` likewise for the true class (null if unknown); `classes` and `probabilities` are each
network's most likely classes of the image without a defense.
"""

import contextlib
import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import figures, folder, lineup, photos, report, rows, runtime, verify
from experiments.lineup import Contender, Network
from experiments.options import check_options, even_size
from rpfgsm_jax import atomic, data
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.quality import perturbation_norms, psnr

NAME = "demo"
CONFIDENT = 0.5
"""Probability from which a network counts as sure of a scene; a photo without is no scene to it."""

ENTRIES = ("rows.jsonl", "report.md", "figure.png", "run.json", "original", "protected")
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
  """`python experiments/run.py`: 24 views of six photographs, under 3 minutes on two cores.

  Expected: random noise misleads few networks, U-FGSM mostly the one it saw, RP-FGSM nearly always
  all of them, the unseen one and behind every defense too.
  """

  data: pathlib.Path | None = None  # a folder of images; None: scikit-image's photographs
  out: pathlib.Path = pathlib.Path("results/demo")
  seed: int | None = None  # None: from the system's entropy, so that nobody can guess the targets
  limit: int | None = None  # photographs at most
  epsilon: float = 16.0  # gray levels
  batch_size: int = 8  # photographs on the device at once
  seen: tuple[str, ...] = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
  unseen: tuple[str, ...] = ("scenes25/densenet161",)
  reference: str | None = None  # the one network U-FGSM attacks; None: ResNet50, else the first
  bank: rp.defenses.DefenseBank = dataclasses.field(default_factory=rp.defenses.paper_bank)
  command: str = "python experiments/run.py"  # for the report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A checked config with everything loaded that can be wrong."""

  config: DemoConfig
  place: pathlib.Path
  seed: int
  networks: tuple[Network, ...]
  contenders: tuple[Contender, ...]
  source: photos.Source
  size: int  # photographs computed together

  @property
  def classifiers(self) -> tuple[Classifier, ...]:
    return tuple(network.classifier for network in self.networks)


def prepare(config: DemoConfig, *, load: Callable[[str], Classifier] = rp.load_classifier) -> Plan:
  """Checks the config, loads the networks and lists the photographs; writes nothing.

  Args:
    config: what to run.
    load: name to network.

  Returns:
    The plan for `run`.

  Raises:
    ValueError: something in the config cannot be used; the message names it.
  """
  place = check_options(config, NAME, ENTRIES)
  networks = lineup.load_networks(config.seen, config.unseen, load)
  reference = lineup.reference_network(networks, config.reference)
  contenders = lineup.demo_contenders(networks, reference, config.epsilon, config.bank)
  first = networks[0].classifier
  choice = photos.Choice(data=config.data, limit=config.limit)
  source = photos.open_source(choice, first.class_names, first.image_size)
  return Plan(
    config=config,
    place=place,
    seed=secrets.randbits(32) if config.seed is None else config.seed,
    networks=networks,
    contenders=contenders,
    source=source,
    size=even_size(len(source.photos), config.batch_size),
  )


def run(plan: Plan, *, cache: runtime.CompileCache | None = None, say: Say = print) -> pathlib.Path:
  """Runs the experiment and puts its results in place once they are complete and verified.

  Args:
    plan: from `prepare`.
    cache: where compiled programs are kept, for the message.
    say: receives a line now and then.

  Returns:
    The results folder.

  Raises:
    ValueError: not one photograph could be read.
    VerificationError: the files read back are not what was evaluated.
    OSError: the disk is full, or a folder cannot be written to.
  """
  started = time.perf_counter()
  temporary = folder.make_temporary(plan.place)
  try:
    _write_record(plan, temporary)
    rows.append_rows(temporary / "rows.jsonl", [_header(plan)])
    say(f"{len(plan.source.photos)} photographs: {plan.source.description}")
    say(cache.describe() if cache else "compiling")
    clock = _Clock()
    count = _measure_all(plan, temporary, clock, say)
    say("reading everything back to verify it")
    files = verify.verify(temporary, plan.classifiers, plan.size)
    end = {
      "kind": "end",
      "photos": count,
      "verified_files": files,
      "seconds": round(time.perf_counter() - started, 1),
      "first_result_seconds": clock.first_result,
      "attacks": clock.summary(),
    }
    rows.append_rows(temporary / "rows.jsonl", [end])
    figures.draw_figure(temporary)
    report.report_from_rows(temporary)
  except BaseException:
    _keep_what_is_done(temporary, say)
    raise
  atomic.replace_folder(temporary, plan.place)
  return plan.place


class _Clock:
  """Seconds spent in each attack; the first batch apart, since it compiles."""

  def __init__(self):
    self.first_result: float | None = None
    self._first: dict[str, tuple[float, int]] = {}
    self._rest: dict[str, tuple[float, int]] = {}

  @contextlib.contextmanager
  def batch(self, name: str, count: int) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent = time.perf_counter() - start
    if name not in self._first:
      self._first[name] = (spent, count)
    else:
      seconds, photos_done = self._rest.get(name, (0.0, 0))
      self._rest[name] = (seconds + spent, photos_done + count)

  def summary(self) -> dict[str, dict[str, float | None]]:
    found = {}
    for name, (first, _) in self._first.items():
      seconds, count = self._rest.get(name, (0.0, 0))
      found[name] = {
        "first_batch_seconds": round(first, 2),
        "photos_per_second": round(count / seconds, 3) if seconds else None,
      }
    return found


def _measure_all(plan: Plan, target: pathlib.Path, clock: _Clock, say: Say) -> int:
  """Protects, writes and evaluates batch after batch; returns how many photographs were done."""
  count, failures = 0, []
  total = len(plan.source.photos) * len(plan.contenders)
  with tqdm(total=total, unit="image", mininterval=0.5, smoothing=0.1) as bar:
    for batch in plan.source.batches(plan.size):
      lines = [{"kind": "note", "message": note} for note in batch.notes]
      for name, reason in batch.failures:
        failures.append(reason)
        lines.append({"kind": "failure", "photo": name, "message": reason})
        bar.total -= len(plan.contenders)
        say(f"left out: {reason}")
      if batch.photos:
        lines += _measure_batch(plan, batch, target, clock, bar, say)
        count += len(batch.photos)
      rows.append_rows(target / "rows.jsonl", lines)
  if not count:
    raise ValueError(f"none of the {len(failures)} images could be read; the first: {failures[0]}")
  return count


def _measure_batch(
  plan: Plan, batch: photos.Batch, target: pathlib.Path, clock: _Clock, bar: tqdm, say: Say
) -> list[rows.Row]:
  changed = {}
  # RP-FGSM comes first: it is what one waits for.
  for contender in sorted(plan.contenders, key=lambda each: not each.name.startswith("rp")):
    bar.set_description(f"protecting: {contender.title}")
    with clock.batch(contender.name, len(batch.photos)):
      ids = [photo.image_id for photo in batch.photos]
      changed[contender.name] = lineup.protect(contender, batch.images, ids, plan.seed, plan.size)
    for photo, image in zip(batch.photos, changed[contender.name][0], strict=True):
      data.write_png(target / contender.folder / photo.png, image)
    if clock.first_result is None:
      clock.first_result = round(time.perf_counter() - runtime.STARTED, 1)
      say(f"first protected photographs after {clock.first_result} s")

  classifiers, bank = plan.classifiers, plan.config.bank
  bar.set_description("evaluating: clean photographs")
  classes, probabilities = measure.predict(batch.images, classifiers, plan.size)
  labels = np.asarray([photo.label for photo in batch.photos])
  confident = probabilities[..., 0].max(axis=1) >= CONFIDENT
  lines = []
  for contender in plan.contenders:
    bar.set_description(f"evaluating: {contender.title}")
    images, result = changed[contender.name]
    found = measure.evaluate(images, classes[..., 0], labels, classifiers, bank, plan.size)
    for place, photo in enumerate(batch.photos):
      line = _photo_row(plan, contender, photo, batch.images[place], images[place], found, place)
      line["confident"] = bool(confident[place])
      if result is not None and result.gamma is not None:
        line |= {"target": int(result.target[place]), "gamma": round(float(result.gamma[place]), 6)}
      lines.append(line)
    bar.update(len(batch.photos))
  return lines


def _photo_row(
  plan: Plan,
  contender: Contender,
  photo: photos.Photo,
  original: np.ndarray,
  image: np.ndarray,
  found: measure.Predictions,
  place: int,
) -> rows.Row:
  quality_db = float(psnr(image, original))
  return {
    "kind": "photo",
    "photo": photo.name,
    "group": photo.group,
    "image_id": photo.image_id,
    "attack": contender.name,
    "label": photo.label if photo.label >= 0 else None,
    "original": f"{plan.contenders[0].folder}/{photo.png}",
    "png": f"{contender.folder}/{photo.png}",
    "sha256": verify.pixel_digest(image),
    "psnr": round(quality_db, 3) if np.isfinite(quality_db) else None,  # None: infinite
    "largest_change": int(perturbation_norms(image, original).linf),
    "ranks": found.ranks[place].tolist(),
    "label_ranks": found.label_ranks[place].tolist() if photo.label >= 0 else None,
    "classes": found.classes[place].tolist(),
    "probabilities": np.round(found.probabilities[place].astype(float), 4).tolist(),
  }


def _header(plan: Plan) -> rows.Row:
  config, first = plan.config, plan.networks[0].classifier
  families = [family.name for family in config.bank.families]
  return {
    "kind": "run",
    "experiment": NAME,
    "command": config.command,
    "source": plan.source.description,
    "groups": len({photo.group for photo in plan.source.photos}),
    "seed_given": config.seed,
    "epsilon": config.epsilon,
    "confident": CONFIDENT,
    "image_size": list(first.image_size),
    "class_names": list(first.class_names),
    "networks": [
      {"name": network.name, "title": network.title, "seen": network.seen}
      for network in plan.networks
    ],
    "settings": [
      {"name": each.name, "family": "none" if each.family is None else families[each.family]}
      for each in measure.settings_of(config.bank)
    ],
    "attacks": [contender.describe() for contender in plan.contenders],
    "device": jax.devices()[0].device_kind,
    "versions": runtime.versions(),
  }


def _write_record(plan: Plan, target: pathlib.Path) -> None:
  config = dataclasses.asdict(dataclasses.replace(plan.config, bank=None))
  config |= {"data": config["data"] and str(config["data"]), "out": str(config["out"])}
  config["bank"] = [[family.name, *family.parameters] for family in plan.config.bank.families]
  rows.write_private(
    target / folder.RECORD,
    {
      "experiment": NAME,
      "seed": plan.seed,
      "config": config,
      "versions": runtime.versions(),
      "image_ids": {photo.name: photo.image_id for photo in plan.source.photos},
    },
  )


def _keep_what_is_done(temporary: pathlib.Path, say: Say) -> None:
  """Removes an unfinished result that has no photograph in it; names one that has."""
  if (temporary / "protected").exists():
    say(f"not finished; what was done is in {temporary}")
    return
  folder.remove(temporary)
