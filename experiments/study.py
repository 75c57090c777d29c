"""The rows behind the paper's tables: every wanted attack on every photograph, measured.

A results folder has `rows.jsonl` (appended batch by batch), `run.json` (the private record with the
seed), `images/ATTACK/` (PNGs of the first photographs), and what `catalog.py` makes of the rows.
Run again, it goes on where it stopped; another table in the same folder shares the rows that it
needs too; more photographs (`limit`) are added. Other settings are refused.

Kinds of rows, after one `run` row with all that must be equal:
- `attack`: a contender, its networks and its config, before its first photograph;
- `training`: `distances` of a clean training photograph, for the detection thresholds;
- `photo`: a photograph behind an attack. `ranks`, for each network and setting, how many classes
  stand before the one that this network answered on the clean photograph (0: still its answer);
  `label_ranks` likewise for the true class (null if unknown); `distances`, for each network and
  defense, how far it moves the probabilities (0..2, Eq. 4); `classes` and `probabilities`, each
  network's five most likely classes without a defense, of kept photographs; `success`, by the
  attack's own goal as it was found (minimal-norm attacks: before rounding), `written_success`, the
  same of the 8-bit image, `reached`, network by network; `evaluations`, gradients counted;
  `seconds` a photograph of its batch, and `compiled`, whether that batch had to be compiled; sizes
  and quality of the 8-bit image; of `original` also `candidates`, the number of target classes
  left by Eq. 17 at each of `GAMMAS`;
- `timing`: seconds of one photograph alone, see `timing.py`;
- `failure`: a file that could not be read; `note`: what was lost in reading one;
- `command`: what was asked for, once each.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence

import jax
from tqdm import tqdm

import rpfgsm_jax as rp
from experiments import journal, lineup, photos, rows, runtime, study_plan
from experiments.journal import Journal, Say
from experiments.lineup import Contender
from experiments.options import StudyConfig
from experiments.photo_facts import GAMMAS, Measured, distances_of, study_facts
from experiments.study_plan import Clean, Kind, StudyPlan, header_of
from rpfgsm_jax import data
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.process import CompileCache

_AT_ONCE = 16
"""Contenders whose compiled programs are held at the same time."""


def _study_header(plan: StudyPlan) -> rows.Row:
  config = plan.config
  return {
    "data": None if config.data is None else str(config.data),
    "mepp18": config.mepp18,
    "preprocess": config.preprocess,
    "train": None if config.train is None else str(config.train),
    "budget": config.budget,
    "oracle_defenses": config.oracle_defenses,
    "reference": plan.setup.reference.title,
    "bank": journal.as_json(config.bank),
    "gammas": list(GAMMAS),
    "brisque": plan.brisque_model is not None,
  }


STUDY = Kind(
  name="study", header=_study_header, facts=study_facts, folder_of=lambda attack: f"images/{attack}"
)


def prepare(
  config: StudyConfig, *, load: Callable[[str], Classifier] = rp.load_classifier
) -> StudyPlan:
  """Checks the config and the folder, loads the networks, lists the photographs; writes nothing."""
  return study_plan.prepare(config, STUDY, load)


def run(
  plan: StudyPlan,
  contenders: Sequence[Contender],
  *,
  cache: CompileCache | None = None,
  say: Say = print,
) -> float | None:
  """Makes the rows that are missing; returns the seconds until the first attacked photographs."""
  contenders = tuple({each.name: each for each in contenders}.values())
  found = open_journal(plan, say)
  journal.check_same(found.attacks, contenders)
  if plan.training is not None:
    _measure_training(dataclasses.replace(plan, size=plan.config.batch_size), found, say)
  wanted = {each.name: _limit(plan, each) for each in contenders}
  total, done = sum(wanted.values()), found.count(wanted)
  say(f"{total - done} of {total} rows to make; {cache.describe() if cache else 'compiling'}")
  if total == done and not _lacks_images(plan, contenders):
    return None
  with tqdm(total=total, initial=done, unit="row", mininterval=0.5, smoothing=0.1) as bar:
    work = _Work(plan, wanted, found, bar, say)
    for first in range(0, len(contenders), _AT_ONCE):
      work.run(contenders[first : first + _AT_ONCE])
      if first + _AT_ONCE < len(contenders):
        # A process can hold only so many compiled programs: each maps pieces of memory, of which
        # systems allow 65,530. The next ones come from the disk, as far as they are kept there.
        jax.clear_caches()
  if found.empty:
    reasons = list(found.failures.values())
    raise ValueError(f"none of the {len(reasons)} images could be read; the first: {reasons[0]}")
  return work.first_result


def open_journal(plan: StudyPlan, say: Say) -> Journal:
  """Returns the rows of a study's folder."""
  return journal.open_journal(plan.place, header_of(plan), plan.seed, plan.config, say)


def _limit(plan: StudyPlan, contender: Contender) -> int:
  limits = [len(plan.source.photos)]
  if contender.slow and plan.config.slow_limit is not None:
    limits.append(plan.config.slow_limit)
  return min(limits)


def _measure_training(plan: StudyPlan, found: Journal, say: Say) -> None:
  """Writes how far the defenses move what the networks answer on clean training photographs."""
  missing = len(plan.training.photos) - len(found.training)
  if missing <= 0:
    return
  description = "clean training photographs"
  with tqdm(total=missing, unit="photo", mininterval=0.5, desc=description) as bar:
    for batch in plan.training.batches(plan.size):
      found.note_batch(batch, say)
      if not batch.photos or all(photo.name in found.training for photo in batch.photos):
        continue
      fresh = [
        {"kind": "training", "photo": photo.name, "distances": distances}
        for photo, distances in zip(batch.photos, distances_of(batch.images, plan), strict=True)
        if photo.name not in found.training
      ]
      found.append(fresh)
      bar.update(len(fresh))


class _Work:
  """Attacks, keeps and measures photographs, a batch behind one contender after the other."""

  def __init__(self, plan: StudyPlan, wanted: dict[str, int], found: Journal, bar: tqdm, say: Say):
    self.plan, self.wanted, self.journal, self.bar, self.say = plan, wanted, found, bar, say
    self.first_result: float | None = None
    self._compiled: set[str] = set()

  def run(self, contenders: Sequence[Contender]) -> None:
    """Runs some contenders on all photographs, batch by batch."""
    start = 0
    for batch in self.plan.source.batches(self.plan.size):
      self.journal.note_batch(batch, self.say)
      if batch.failures:
        lost = sum(self.wanted[each.name] > start for each in contenders)
        self.bar.total -= lost * len(batch.failures)
      clean = None
      for contender in contenders:
        some = _first(batch, self.wanted[contender.name] - start)
        if self._is_done(contender, some, start):
          continue
        measured, timing = self._attack(contender, some, start)
        if clean is None:
          clean = self.plan.predict(batch.images)
        self._record(measured, tuple(part[: len(some.photos)] for part in clean), timing)
      start += len(batch.photos) + len(batch.failures)

  def _is_done(self, contender: Contender, some: photos.Batch, start: int) -> bool:
    return all(
      self.journal.has(contender.name, photo.name)
      and not (
        _keeps(self.plan, start + place)
        and not self.plan.image_path(contender.name, photo).exists()
      )
      for place, photo in enumerate(some.photos)
    )

  def _attack(
    self, contender: Contender, some: photos.Batch, start: int
  ) -> tuple[Measured, dict[str, float | bool]]:
    """Returns a batch behind a contender, written where it is kept, and how long it took."""
    plan, name = self.plan, contender.name
    self.bar.set_description(name)
    began = time.perf_counter()
    ids = [photo.image_id for photo in some.photos]
    images, result = lineup.protect(contender, some.images, ids, plan.seed, plan.size)
    seconds = (time.perf_counter() - began) / len(some.photos)
    kept = [_keeps(plan, start + place) for place in range(len(some.photos))]
    for photo, image, keep in zip(some.photos, images, kept, strict=True):
      if keep:
        data.write_png(plan.image_path(name, photo), image)
    if self.first_result is None and contender.attack is not None:
      self.first_result = round(time.perf_counter() - runtime.STARTED, 1)
      self.say(f"first protected photographs after {self.first_result} s")
    measured = Measured(contender=contender, batch=some, images=images, result=result, kept=kept)
    timing = {"seconds": round(seconds, 4), "compiled": name not in self._compiled}
    self._compiled.add(name)
    return measured, timing

  def _record(self, measured: Measured, clean: Clean, timing: dict[str, float | bool]) -> None:
    """Measures a batch behind a contender and appends the rows that are not there yet."""
    contender, batch = measured.contender, measured.batch
    facts = self.plan.kind.facts(self.plan, measured, clean)
    fresh = [
      {"kind": "photo", "photo": photo.name, "attack": contender.name, **fact, **timing}
      for photo, fact in zip(batch.photos, facts, strict=True)
      if not self.journal.has(contender.name, photo.name)
    ]
    self.journal.introduce(contender)
    self.journal.append(fresh)
    self.bar.update(len(fresh))


def _first(batch: photos.Batch, count: int) -> photos.Batch:
  count = max(count, 0)
  return dataclasses.replace(batch, images=batch.images[:count], photos=batch.photos[:count])


def _keeps(plan: StudyPlan, place: int) -> bool:
  return plan.config.keep < 0 or place < plan.config.keep


def _lacks_images(plan: StudyPlan, contenders: Iterable[Contender]) -> bool:
  return any(
    _keeps(plan, place) and not plan.image_path(contender.name, photo).exists()
    for contender in contenders
    for place, photo in enumerate(plan.source.photos[: _limit(plan, contender)])
  )
