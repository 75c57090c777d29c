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
- `failure`: a file that could not be read;
- `command`: what was asked for, once each.
"""

import dataclasses
import pathlib
import time
from collections.abc import Iterable, Sequence

import jax
from tqdm import tqdm

from experiments import folder, lineup, photos, rows, runtime
from experiments.journal import Journal, Say, check_same
from experiments.lineup import Contender
from experiments.photo_facts import Judge, distances_of, facts_of
from experiments.study_plan import NAME, Plan, header_of
from rpfgsm_jax import data

_NO_BRISQUE = (
  "BRISQUE will be n/a: LIVE's model is not here; run 'rpfgsm weights fetch brisque', or name the "
  "folder of its files allmodel and allrange in RPFGSM_BRISQUE."
)
_AT_ONCE = 16
"""Contenders whose compiled programs are held at the same time."""
_NO_TRAINING = (
  "detectability will be n/a: name a folder of clean training photographs with --train."
)


def run(
  plan: Plan,
  contenders: Sequence[Contender],
  *,
  cache: runtime.CompileCache | None = None,
  say: Say = print,
) -> None:
  """Makes the rows of some contenders that the folder does not have yet.

  Args:
    plan: from `study_plan.prepare`.
    contenders: whose rows are wanted; one that comes twice counts once.
    cache: where compiled programs are kept, for the message.
    say: receives a line now and then.

  Raises:
    ValueError: the folder holds an attack of the same name with other settings.
    OSError: the disk is full, or a folder cannot be written to.
  """
  contenders = tuple({each.name: each for each in contenders}.values())
  journal = open_journal(plan, say)
  check_same(journal.attacks, contenders)
  if plan.judge.brisque_model is None:
    say(_NO_BRISQUE)
  if plan.training is None:
    say(_NO_TRAINING)
  else:
    judge = dataclasses.replace(plan.judge, size=plan.config.batch_size)
    _measure_training(plan.training, judge, journal, say)
  wanted = {each.name: _limit(plan, each) for each in contenders}
  total, done = sum(wanted.values()), journal.count(wanted)
  say(f"{total - done} of {total} rows to make; {cache.describe() if cache else 'compiling'}")
  if total == done and not _lacks_images(plan, contenders):
    return
  with tqdm(total=total, initial=done, unit="row", mininterval=0.5, smoothing=0.1) as bar:
    for first in range(0, len(contenders), _AT_ONCE):
      _run_some(plan, contenders[first : first + _AT_ONCE], wanted, journal, bar, say)
      if first + _AT_ONCE < len(contenders):
        # A process can hold only so many compiled programs: each maps pieces of memory, of which
        # systems allow 65,530. The next ones come from the disk, as far as they are kept there.
        jax.clear_caches()


def open_journal(plan: Plan, say: Say) -> Journal:
  """Returns the folder's rows, repaired if they were cut, begun if there were none."""
  path = plan.place / "rows.jsonl"
  repaired = rows.recover_rows(path)
  if repaired:
    say(repaired)
  if not path.exists() or not path.stat().st_size:
    rows.write_private(plan.place / folder.RECORD, {"experiment": NAME, "seed": plan.seed})
    rows.append_rows(path, [header_of(plan)])
  journal = Journal(path)
  if plan.config.command not in journal.commands:
    journal.append([{"kind": "command", "command": plan.config.command}])
  return journal


def _limit(plan: Plan, contender: Contender) -> int:
  limits = [len(plan.source.photos)]
  if contender.slow and plan.config.slow_limit is not None:
    limits.append(plan.config.slow_limit)
  return min(limits)


def _measure_training(source: photos.Source, judge: Judge, journal: Journal, say: Say) -> None:
  """Writes how far the defenses move what the networks answer on clean training photographs."""
  missing = len(source.photos) - len(journal.training)
  if missing <= 0:
    return
  description = "clean training photographs"
  with tqdm(total=missing, unit="photo", mininterval=0.5, desc=description) as bar:
    for batch in source.batches(judge.size):
      for name, reason in batch.failures:
        journal.note_failure(name, reason, say)
      if not batch.photos or all(photo.name in journal.training for photo in batch.photos):
        continue
      fresh = [
        {"kind": "training", "photo": photo.name, "distances": distances}
        for photo, distances in zip(batch.photos, distances_of(batch.images, judge), strict=True)
        if photo.name not in journal.training
      ]
      journal.append(fresh)
      bar.update(len(fresh))


def _run_some(
  plan: Plan,
  contenders: Sequence[Contender],
  wanted: dict[str, int],
  journal: Journal,
  bar: tqdm,
  say: Say,
) -> None:
  """Runs some contenders on all photographs, batch by batch."""
  compiled: set[str] = set()
  start = 0
  for batch in plan.source.batches(plan.judge.size):
    for name, reason in batch.failures:
      journal.note_failure(name, reason, say)
      bar.total -= sum(wanted[each.name] > start for each in contenders)
    if batch.photos:
      _run_batch(plan, contenders, wanted, batch, start, journal, compiled, bar)
    start += len(batch.photos) + len(batch.failures)


def _run_batch(
  plan: Plan,
  contenders: Sequence[Contender],
  wanted: dict[str, int],
  batch: photos.Batch,
  start: int,
  journal: Journal,
  compiled: set[str],
  bar: tqdm,
) -> None:
  clean = None
  for contender in contenders:
    some = _first(batch, wanted[contender.name] - start)
    kept = [_keeps(plan, start + place) for place in range(len(some.photos))]
    if not some.photos or all(
      journal.has(contender.name, photo.name)
      and (not keep or _image_path(plan, contender, photo).exists())
      for photo, keep in zip(some.photos, kept, strict=True)
    ):
      continue
    if clean is None:
      clean = plan.judge.predict(batch.images)
    bar.set_description(contender.name)
    began = time.perf_counter()
    ids = [photo.image_id for photo in some.photos]
    images, result = lineup.protect(contender, some.images, ids, plan.seed, plan.judge.size)
    seconds = (time.perf_counter() - began) / len(some.photos)
    for photo, image, keep in zip(some.photos, images, kept, strict=True):
      if keep:
        data.write_png(_image_path(plan, contender, photo), image)
    here = clean[: len(some.photos)]
    facts = facts_of(plan.judge, contender, some, here, images, result, kept)
    timing = {"seconds": round(seconds, 4), "compiled": contender.name not in compiled}
    compiled.add(contender.name)
    fresh = [
      {"kind": "photo", "photo": photo.name, "attack": contender.name, **fact, **timing}
      for photo, fact in zip(some.photos, facts, strict=True)
      if not journal.has(contender.name, photo.name)
    ]
    journal.introduce(contender)
    journal.append(fresh)
    bar.update(len(fresh))


def _first(batch: photos.Batch, count: int) -> photos.Batch:
  count = max(count, 0)
  return dataclasses.replace(batch, images=batch.images[:count], photos=batch.photos[:count])


def _keeps(plan: Plan, place: int) -> bool:
  return plan.config.keep < 0 or place < plan.config.keep


def _image_path(plan: Plan, contender: Contender, photo: photos.Photo) -> pathlib.Path:
  return plan.place / "images" / contender.name / photo.png


def _lacks_images(plan: Plan, contenders: Iterable[Contender]) -> bool:
  return any(
    _keeps(plan, place) and not _image_path(plan, contender, photo).exists()
    for contender in contenders
    for place, photo in enumerate(plan.source.photos[: _limit(plan, contender)])
  )
