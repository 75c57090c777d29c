"""A job: every photo below a folder, protected, under the same relative name in another folder.

`open_job` makes sure that nobody else does the same work, begins the job or goes on with it, and
gives a `RunningJob`, which yields an outcome a photo. A photo is done when its file exists.
"""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterator, Sequence

from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig
from rpfgsm_jax.data.folders import list_images
from rpfgsm_jax.jobs import locks, plan, record
from rpfgsm_jax.jobs.engines import Engine, LocalEngine, Order
from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.plan import Shard, Task
from rpfgsm_jax.jobs.settings import describe_attack, identify_networks
from rpfgsm_jax.jobs.summary import Summary
from rpfgsm_jax.jobs.worker import Outcome
from rpfgsm_jax.protect import BatchSize

STATE = ".rpfgsm"
"""The job's private folder inside the folder of results; nothing that lists images looks there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is to be done."""

  source: pathlib.Path  # the folder of photos
  out: pathlib.Path  # the folder of results; made if absent
  networks: Sequence[str]  # that are misled: known names or folders
  config: RPFGSMConfig = dataclasses.field(default_factory=RPFGSMConfig)  # the attack's settings
  how: str = "paper"  # preprocessing, see `rpfgsm_jax.data.preprocess`
  seed: int | None = None  # None: the job's recorded one, or a new one from the system's entropy
  batch_size: BatchSize = "auto"  # most images on each device at once
  devices: int | None = None  # the first so many; None: all
  shard: Shard | None = None  # one share of the photos; None: all of them


class RunningJob:
  """A job that holds its locks and has its record; iterate to do the work.

  Attributes:
    total: photos that were not done when it started.
    notes: sentences for the user.
  """

  def __init__(
    self, engine: Engine, order: Order, tasks: Sequence[Task], skipped: int, notes: Sequence[str]
  ):
    """Keeps what is to be done.

    Args:
      engine: that does it.
      order: what is to be done with each photo.
      tasks: the photos that are not done.
      skipped: how many others there are.
      notes: sentences for the user.

    Returns:
      Nothing.
    """
    self.total, self.notes = len(tasks), list(notes)
    self._engine, self._order, self._tasks = engine, order, tasks
    self._skipped, self._done, self._failures = skipped, 0, []
    self._seconds = 0.0

  def __iter__(self) -> Iterator[Outcome]:
    """Yields one outcome a photo, as soon as it is known."""
    if not self._tasks:
      return
    started = time.perf_counter()
    try:
      with contextlib.closing(self._engine.run(self._order, self._tasks)) as outcomes:
        for outcome in outcomes:
          if outcome.failure is None:
            self._done += 1
          else:
            self._failures.append((outcome.relative, outcome.failure))
          yield outcome
    finally:
      self._seconds = time.perf_counter() - started
      if self._done + len(self._failures) < self.total:  # some were written after the last outcome
        self._done = sum(os.path.exists(task.output) for task in self._tasks)

  def summary(self) -> Summary:
    """Returns what has been done so far."""
    return Summary(
      done=self._done,
      skipped=self._skipped,
      failures=tuple(self._failures),
      left=self.total - self._done - len(self._failures),
      seconds=self._seconds,
      idle_share=self._engine.idle_share,
    )


@contextlib.contextmanager
def open_job(job: Job, engine: Engine | None = None) -> Iterator[RunningJob]:
  """Begins a job or goes on with it, and keeps other runs of the same work away meanwhile.

  Args:
    job: what is to be done.
    engine: where; None: the devices of this process.

  Yields:
    The job, ready to do its work.

  Raises:
    SettingsError: the job cannot be done as it was asked for, or was begun with other settings.
    JobError: somebody else does it, or the folder of results cannot be written to.
  """
  check_apart(job.source, job.out)
  networks = identify_networks(job.networks)
  try:
    records = list_images(job.source)
  except ValueError as error:
    raise SettingsError(str(error)) from error
  tasks = plan.plan(records, job.out)
  state = _make_state(job.out)
  with locks.hold(state, job.shard), LocalEngine() if engine is None else engine as engine:
    settings = {
      "source": str(job.source.resolve()),
      "networks": [network._asdict() for network in networks],
      "attack": describe_attack(job.config),
      "preprocessing": job.how,
    }
    seed, notes = record.settle(
      state,
      settings,
      engine.environment(),
      seed=job.seed,
      occupied=lambda: next((str(each.output) for each in tasks if each.output.exists()), None),
    )
    plan.check_names_differ(tasks, ignores_case=(state / record.RECORD.upper()).exists())
    own = [task for task in tasks if not job.shard or job.shard.holds(task.record.image_id)]
    folders = {state, *(task.output.parent for task in tasks)}
    plan.remove_leftovers(folders, alone=job.shard is None, now=_clock_of(state))
    waiting = [task for task in own if not os.path.exists(task.output)]
    plan.check_writable(waiting)
    order = Order(
      networks=networks,
      config=job.config,
      how=job.how,
      seed=seed,
      batch_size=job.batch_size,
      devices=job.devices,
    )
    yield RunningJob(engine, order, waiting, len(own) - len(waiting), notes)


def check_apart(source: pathlib.Path, out: pathlib.Path) -> None:
  """Checks that photos and results do not lie in one another.

  Args:
    source: the folder of photos.
    out: the folder of results.

  Raises:
    SettingsError: they do; results inside would be taken for photos by the next run.
  """
  photos, results = source.resolve(), out.resolve()
  if photos == results or photos in results.parents or results in photos.parents:
    raise SettingsError(f"DIR and --out must lie apart, got {source} and {out}; change one.")


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
