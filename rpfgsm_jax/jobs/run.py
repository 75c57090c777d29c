"""A job from its request to its outcomes: photos, protected, under the same names elsewhere.

`open_job` makes sure that nobody else does the same work, begins the job or goes on with it, and
gives a `RunningJob`, which yields an outcome a photo. `preview` says what it would do.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rpfgsm_jax import atomic
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import open_photo
from rpfgsm_jax.jobs import ledger, locks, photo_records, plan, record
from rpfgsm_jax.jobs.engines import LocalEngine
from rpfgsm_jax.jobs.messages import IN_WORDS, Outcome, judges_of, one_line, photo_entry
from rpfgsm_jax.jobs.photo_records import Facts, output_state
from rpfgsm_jax.jobs.plan import Task, make_plan
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import (
  Job,
  JobError,
  SettingsError,
  describe_settings,
  identified,
  settings_digest,
)
from rpfgsm_jax.photos.config import default_micro_batch, default_working_pixels
from rpfgsm_jax.photos.verdict import STATUSES, Status, judged_by

if TYPE_CHECKING:
  from rpfgsm_jax.jobs.ray_engine import RayEngine

_NAMED = 20  # failures that the end of a run repeats


@contextlib.contextmanager
def open_job(job: Job, engine: "LocalEngine | RayEngine | None" = None) -> Iterator["RunningJob"]:
  """Begins a job or goes on with it, and keeps other runs of the same work away meanwhile."""
  job, planned = _prepared(job), make_plan(job)
  state = _make_state(job.out)
  with locks.hold(state, job.shard), LocalEngine() if engine is None else engine as engine:
    job = _suited(job, engine.platform)
    settings = describe_settings(job)
    seed, notes = record.open_or_create(
      state, settings, engine.environment(), seed=job.seed, overwrite=job.overwrite
    )
    job = dataclasses.replace(job, seed=seed, settings=settings_digest(settings, seed))
    own = _clean(job, planned.tasks, state)
    refused = [Outcome(*failure) for failure in planned.failures]
    done, waiting = {}, []
    for task in own:
      found = output_state(job, task)
      if found.facts is not None:
        done[task] = found.facts
      elif found.refusal is not None:
        refused.append(Outcome(task.relative, found.refusal))
      else:
        waiting.append(task)
    plan.check_outputs_writable(waiting)
    notes = [*planned.notes, *notes]
    unwritable = ledger.remember()
    if unwritable is not None:
      notes.append(f"{unwritable}: what is protected now will be recognized in this folder only.")
    yield RunningJob(engine, job, waiting, done, refused, notes)


class RunningJob:
  """A job that holds its locks and has its record; iterate to do the work.

  Attributes:
    total: photos that were not done when it started.
    to_do: those of them that will be tried; the others are known to fail.
    skipped: photos that were done before.
    notes: sentences for the user.
    statuses: the verdict on each photo that is done, by name, those of earlier runs first; grows
      with the work. None where nobody judges.
    failures: name of each photo that could not be done, and why; grows with the work.
  """

  def __init__(
    self,
    engine: "LocalEngine | RayEngine",
    job: Job,
    tasks: Sequence[Task],
    done: dict[Task, Facts],
    refused: Sequence[Outcome],
    notes: Sequence[str],
  ):
    self.total, self.to_do, self.skipped = len(tasks) + len(refused), len(tasks), len(done)
    self.notes, self.failures = notes, []
    self.statuses = {task.relative: photo_records.status_of(facts) for task, facts in done.items()}
    self._engine, self._job, self._refused, self._seconds = engine, job, refused, 0.0
    self._all = sorted((*tasks, *done), key=lambda task: task.relative)
    self._tasks = {task.relative: task for task in tasks}
    self._judges = {}
    for facts in done.values():
      self._judges |= judges_of(facts)

  def __iter__(self) -> Iterator[Outcome]:
    """Yields one outcome a photo, as soon as it is known."""
    for outcome in self._refused:
      self.failures.append((outcome.relative, outcome.failure))
      yield outcome
    if not self._tasks:
      return
    started, tasks = time.perf_counter(), list(self._tasks.values())
    try:
      with contextlib.closing(self._engine.run(self._job, tasks)) as outcomes:
        for outcome in outcomes:
          self._count(outcome)
          yield outcome
    finally:
      self._seconds = time.perf_counter() - started
      # Some were written after the last outcome, where somebody ended the work.
      for task in list(self._tasks.values()):
        facts = output_state(self._job, task).facts
        if facts is not None:
          self._count(Outcome(task.relative, None, facts=facts))

  def _count(self, outcome: Outcome) -> None:
    del self._tasks[outcome.relative]
    if outcome.failure is None:
      self.statuses[outcome.relative] = photo_records.status_of(outcome.facts)
      self._judges |= judges_of(outcome.facts)
    else:
      self.failures.append((outcome.relative, outcome.failure))

  @property
  def done(self) -> int:
    """How many photos this run has written."""
    return len(self.statuses) - self.skipped

  @property
  def left(self) -> int:
    """How many photos this run has not come to."""
    return self.total - self.done - len(self.failures)

  @property
  def rate(self) -> float:
    """Photos a second, from the first one's reading to the last one's writing."""
    return self.done / self._seconds if self._seconds else 0.0

  @property
  def verdicts(self) -> dict[Status, int]:
    """How often this run has given each verdict; none that was never given."""
    counts = collections.Counter(list(self.statuses.values())[self.skipped :])
    return {status: counts[status] for status in STATUSES if counts[status]}

  @property
  def judged_by(self) -> str:
    """Who judged what is done, this time and before, in words."""
    return judged_by(judge["kind"] for judge in self._judges.values())

  def _judged(self) -> str:
    """Says how many of the photos with a scene this run has protected, and who says so."""
    scenes = sum(self.verdicts.values()) - self.verdicts.get("no scene", 0)
    found = f"{self.verdicts.get('protected', 0)} of {scenes} scenes" if scenes else "nothing to be"
    return f"{found} protected, judged by {self.judged_by}"

  def records(self) -> Iterator[tuple[Task, Facts]]:
    """Yields each photo that is done, by name, and its record."""
    for task in self._all:
      if task.relative in self.statuses:
        facts = output_state(self._job, task).facts
        if facts is not None:
          yield task, facts

  def to_text(self) -> str:
    """Returns lines for people: what has been done so far."""
    found = ", ".join(f"{count} {IN_WORDS[status]}" for status, count in self.verdicts.items())
    counts = [f"{self.done} done" + (f" ({found})" if found else "")]
    counts += [f"{len(self.failures)} failed", f"{self.skipped} skipped"]
    counts += [f"{self.left} left"] if self.left else []
    facts = [", ".join(counts)]
    if self.done:
      facts.append(f"{self._seconds:.1f} s, {self.rate:.2f} photos/s")
    if self._engine.idle_share is not None:
      facts.append(f"devices idle {100 * self._engine.idle_share:.1f} %")
    lines = ["; ".join(facts), *([f"{self._judged()}."] if self.verdicts else [])]
    lines += [f"failed: {one_line(reason)}" for _, reason in self.failures[:_NAMED]]
    if len(self.failures) > _NAMED:
      lines.append(f"and {len(self.failures) - _NAMED} more, named above")
    return "\n".join(lines)

  def to_json(self) -> dict[str, Any]:
    """Returns the same and each photo, done ones first, as JSON values."""
    idle = self._engine.idle_share
    failures = [{"photo": photo, "reason": reason} for photo, reason in self.failures]
    photos = [photo_entry(task, facts) for task, facts in self.records()]
    photos += [{"photo": each["photo"], "status": "failed", **each} for each in failures]
    return {
      "done": self.done,
      "failed": len(failures),
      "skipped": self.skipped,
      "left": self.left,
      "seconds": round(self._seconds, 3),
      "photos_per_second": round(self.rate, 3),
      "idle_share": None if idle is None else round(idle, 4),
      "failures": failures,
      "verdicts": self.verdicts,
      "judges": list(self._judges.values()),
      "judged_by": self.judged_by,
      "photos": photos,
    }


class Preview(NamedTuple):
  """What would become of one photo."""

  relative: str  # its name in the job
  output: pathlib.Path | None  # the file it is or would be; None: it has none
  standing: Literal["to do", "done", "refused"]
  reason: str  # of a refusal, or what would be replaced


def preview(job: Job) -> list[Preview]:
  """Returns what a job would do; headers of photos are read, nothing is made."""
  job, planned = _prepared(job), make_plan(job)
  job = _suited(job, lambda: LocalEngine().platform())
  settings = describe_settings(job)
  seed = record.read_seed(job.out / STATE, settings, seed=job.seed, overwrite=job.overwrite)
  # Without a record nothing is done, and no seed is needed.
  job = dataclasses.replace(job, settings="" if seed is None else settings_digest(settings, seed))
  refused = [Preview(name, None, "refused", reason) for name, reason in planned.failures]
  return refused + [_preview(job, task) for task in plan.share(planned.tasks, job.shard, job.only)]


def _preview(job: Job, task: Task) -> Preview:
  relative, found = task.relative, output_state(job, task)
  if found.facts is not None:
    return Preview(relative, task.output, "done", "")
  reason = found.refusal
  if reason is None:
    try:
      open_photo(task.path, max_pixels=job.max_pixels, limits=job.photos.limits)
    except ImageError as error:
      reason = str(error)
  if reason is not None:
    return Preview(relative, task.output, "refused", reason)
  there = os.path.lexists(task.output)
  return Preview(relative, task.output, "to do", "replaces what is there" if there else "")


def _prepared(job: Job) -> Job:
  out = pathlib.Path(os.path.abspath(job.out))
  return dataclasses.replace(identified(job), out=out)


def _suited(job: Job, platform: Callable[[], str]) -> Job:
  """Chooses what the user left to the devices: as the job was begun, else what suits them."""
  recorded = record.read(job.out / STATE) if job.by_device else None
  settings, photos = recorded["settings"] if recorded else {}, job.photos
  begun = settings.get("photo", {}) | settings.get("attack", {})
  # What is recorded needs no platform, which would start JAX's devices.
  if "working_pixels" in job.by_device:
    known = "working_pixels" in begun
    pixels = begun["working_pixels"] if known else default_working_pixels(platform())
    photos = dataclasses.replace(photos, working_pixels=pixels)
  if "micro_batch" in job.by_device:
    count = begun.get("micro_batch") or default_micro_batch(platform(), photos.size)
    attack = dataclasses.replace(photos.attack, micro_batch=count)
    photos = dataclasses.replace(photos, attack=attack)
  return dataclasses.replace(job, photos=photos)


def _clean(job: Job, tasks: Sequence[Task], state: pathlib.Path) -> list[Task]:
  """Checks the names of all results, and removes what killed runs have left of the share's."""
  if (state / record.RECORD.upper()).exists():  # the file system ignores case
    plan.check_names_differ(tasks)
  own = plan.share(tasks, job.shard, job.only)
  folders = {state, state / photo_records.FOLDER, *(task.output.parent for task in own)}
  atomic.remove_leftovers(folders, alone=job.shard is None, now=_clock_of(state))
  return own


def _make_state(out: pathlib.Path) -> pathlib.Path:
  state = out / STATE
  try:
    out.mkdir(parents=True, exist_ok=True)
    state.mkdir(mode=0o700, exist_ok=True)
    _clock_of(state)
  except (FileExistsError, NotADirectoryError) as error:
    raise SettingsError(
      f"--out must be a folder, got {out}, where a file is in the way; name another one."
    ) from error
  except OSError as error:
    raise JobError(
      f"--out cannot be written to, got {out} ({error.strerror or error}); change its permissions, "
      "make room, or name another folder."
    ) from error
  return state


def _clock_of(state: pathlib.Path) -> float:
  """Returns the time as the file system of a folder knows it, which may be another machine's."""
  touched = state / "clock"
  touched.touch()
  return touched.stat().st_mtime
