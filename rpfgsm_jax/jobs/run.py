"""A job from its request to its outcomes: photos, protected, under the same names elsewhere.

`open_job` makes sure that nobody else does the same work, begins the job or goes on with it, and
gives a `RunningJob`, which yields an outcome a photo. `preview` says what it would do.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rpfgsm_jax import atomic
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import open_photo
from rpfgsm_jax.jobs import ledger, locks, photo_records, plan, record
from rpfgsm_jax.jobs.engines import Engine, LocalEngine
from rpfgsm_jax.jobs.messages import Outcome, Summary, judges_of, photo_entry
from rpfgsm_jax.jobs.photo_records import Facts, output_state
from rpfgsm_jax.jobs.plan import Task, make_plan
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import (
  Job,
  JobError,
  SettingsError,
  describe_settings,
  identify_networks,
  settings_digest,
)
from rpfgsm_jax.photos.config import default_micro_batch, default_working_pixels


@contextlib.contextmanager
def open_job(job: Job, engine: Engine | None = None) -> Iterator["RunningJob"]:
  """Begins a job or goes on with it, and keeps other runs of the same work away meanwhile."""
  job, planned = _identified(job), make_plan(job)
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
        refused.append(Outcome(task.record.relative, found.refusal))
      else:
        waiting.append(task)
    plan.check_outputs_writable(waiting)
    yield RunningJob(engine, job, waiting, done, refused, [*planned.notes, *notes, *_forgetful()])


class RunningJob:
  """A job that holds its locks and has its record; iterate to do the work.

  Attributes:
    total: photos that were not done when it started.
    to_do: those of them that will be tried; the others are known to fail.
    notes: sentences for the user.
    statuses: the verdict on each photo that is done, by name, those of earlier runs first; grows
      with the work. None where nobody judges.
  """

  def __init__(
    self,
    engine: Engine,
    job: Job,
    tasks: Sequence[Task],
    done: dict[Task, Facts],
    refused: Sequence[Outcome] = (),
    notes: Sequence[str] = (),
  ):
    self.total, self.to_do, self.notes = len(tasks) + len(refused), len(tasks), list(notes)
    self.statuses = {
      task.record.relative: photo_records.status_of(facts) for task, facts in done.items()
    }
    self._engine, self._job, self._refused = engine, job, refused
    self._all = sorted((*tasks, *done), key=lambda task: task.record.relative)
    self._tasks = {task.record.relative: task for task in tasks}
    self._judges = {}
    for facts in done.values():
      self._judges |= judges_of(facts)
    self._skipped, self._failures, self._seconds = len(done), [], 0.0

  def __iter__(self) -> Iterator[Outcome]:
    """Yields one outcome a photo, as soon as it is known."""
    for outcome in self._refused:
      self._failures.append((outcome.relative, outcome.failure))
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
      self._count_the_unseen()

  def _count(self, outcome: Outcome) -> None:
    del self._tasks[outcome.relative]
    if outcome.failure is None:
      self.statuses[outcome.relative] = photo_records.status_of(outcome.facts)
      self._judges |= judges_of(outcome.facts)
    else:
      self._failures.append((outcome.relative, outcome.failure))

  def _count_the_unseen(self) -> None:
    """Some were written after the last outcome, where somebody ended the work."""
    for relative, task in list(self._tasks.items()):
      facts = output_state(self._job, task).facts
      if facts is not None:
        self._count(Outcome(relative, None, facts=facts))

  def records(self) -> Iterator[tuple[Task, Facts]]:
    """Yields each photo that is done, by name, and its record."""
    for task in self._all:
      if task.record.relative in self.statuses:
        facts = output_state(self._job, task).facts
        if facts is not None:
          yield task, facts

  def summary(self) -> Summary:
    """Returns what has been done so far."""
    done = list(self.statuses.values())[self._skipped :]
    return Summary(
      done=len(done),
      skipped=self._skipped,
      failures=tuple(self._failures),
      left=self.total - len(done) - len(self._failures),
      seconds=self._seconds,
      idle_share=self._engine.idle_share,
      statuses=tuple(status for status in done if status is not None),
      judges=tuple(self._judges.values()),
    )

  def to_json(self) -> dict[str, Any]:
    """Returns the summary and each photo, done ones first, as JSON values."""
    summary = self.summary()
    entries = [photo_entry(task, facts) for task, facts in self.records()]
    entries += [
      {"photo": photo, "status": "failed", "reason": reason} for photo, reason in summary.failures
    ]
    return summary.to_json() | {"photos": entries}


class Preview(NamedTuple):
  """What would become of one photo."""

  relative: str  # its name in the job
  output: pathlib.Path | None  # the file it is or would be; None: it has none
  standing: Literal["to do", "done", "refused"]
  reason: str  # of a refusal, or what would be replaced


def preview(job: Job) -> list[Preview]:
  """Returns what a job would do; headers of photos are read, nothing is made."""
  job, planned = _identified(job), make_plan(job)
  job = _suited(job, lambda: LocalEngine().platform())
  settings = describe_settings(job)
  seed = record.read_seed(job.out / STATE, settings, seed=job.seed, overwrite=job.overwrite)
  # Without a record nothing is done, and no seed is needed.
  job = dataclasses.replace(job, settings="" if seed is None else settings_digest(settings, seed))
  refused = [Preview(name, None, "refused", reason) for name, reason in planned.failures]
  return refused + [_preview(job, task) for task in plan.share(planned.tasks, job.shard)]


def _preview(job: Job, task: Task) -> Preview:
  relative, found = task.record.relative, output_state(job, task)
  if found.facts is not None:
    return Preview(relative, task.output, "done", "")
  reason = found.refusal
  if reason is None:
    try:
      open_photo(task.record.path, max_pixels=job.max_pixels, limits=job.photos.limits)
    except ImageError as error:
      reason = str(error)
  if reason is not None:
    return Preview(relative, task.output, "refused", reason)
  there = os.path.lexists(task.output)
  return Preview(relative, task.output, "to do", "replaces what is there" if there else "")


def _identified(job: Job) -> Job:
  out = pathlib.Path(os.path.abspath(job.out))
  return dataclasses.replace(job, out=out, identities=identify_networks(job))


def _suited(job: Job, platform: Callable[[], str]) -> Job:
  """Chooses what the user left to the devices: as the job was begun, else what suits them."""
  recorded, photos = record.read_settings(job.out / STATE) if job.by_device else {}, job.photos

  def begun_with(part: str, name: str, default: Callable[[], int]) -> int | None:
    begun = recorded.get(part, {})
    return begun[name] if name in begun else default()  # which starts JAX's devices

  if "working_pixels" in job.by_device:
    pixels = begun_with("photo", "working_pixels", lambda: default_working_pixels(platform()))
    photos = dataclasses.replace(photos, working_pixels=pixels)
  if "micro_batch" in job.by_device:
    count = begun_with(
      "attack", "micro_batch", lambda: default_micro_batch(platform(), photos.size)
    )
    photos = dataclasses.replace(
      photos, attack=dataclasses.replace(photos.attack, micro_batch=count)
    )
  return dataclasses.replace(job, photos=photos)


def _clean(job: Job, tasks: Sequence[Task], state: pathlib.Path) -> list[Task]:
  """Checks the names of all results, and removes what killed runs have left of the share's."""
  if (state / record.RECORD.upper()).exists():  # the file system ignores case
    plan.check_names_differ(tasks)
  own = plan.share(tasks, job.shard)
  folders = {state, state / photo_records.FOLDER, *(task.output.parent for task in own)}
  atomic.remove_leftovers(folders, alone=job.shard is None, now=_clock_of(state))
  return own


def _forgetful() -> Iterator[str]:
  reason = ledger.remember()
  if reason is not None:
    yield f"{reason}: what is protected now will be recognized in this folder only."


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
