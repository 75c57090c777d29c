"""A job: photos, protected, under the same names in another folder.

`open_job` makes sure that nobody else does the same work, begins the job or goes on with it, and
gives a `RunningJob`, which yields an outcome a photo. At the networks' size a photo is done when
its file exists; at its own size, when its record says so too.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from rpfgsm_jax.jobs import locks, photo_records, plan, record, results
from rpfgsm_jax.jobs import settings as told
from rpfgsm_jax.jobs.engines import Engine, LocalEngine
from rpfgsm_jax.jobs.errors import JobError, SettingsError
from rpfgsm_jax.jobs.order import Job
from rpfgsm_jax.jobs.pipeline import Outcome
from rpfgsm_jax.jobs.plan import STATE
from rpfgsm_jax.jobs.running import RunningJob
from rpfgsm_jax.jobs.survey import (
  choose_working_size,
  describe,
  make_order,
  occupied,
  stand,
  survey,
)
from rpfgsm_jax.photos.protect import PhotoConfig


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
  plans = survey(job)
  state = _make_state(job.out)
  with locks.hold(state, job.shard), LocalEngine() if engine is None else engine as engine:
    photo = choose_working_size(job, engine.platform)
    settings = describe(job, plans, photo)
    seed, notes = record.settle(
      state,
      settings,
      engine.environment(),
      seed=job.seed,
      occupied=lambda: occupied(plans.tasks) if photo is None else None,
      overwrite=None if photo is None else job.overwrite,
    )
    ignores_case = (state / record.RECORD.upper()).exists()
    plan.check_names_differ(plans.tasks, ignores_case=ignores_case)
    folders = {state, state / photo_records.FOLDER, *(task.output.parent for task in plans.own)}
    plan.remove_leftovers(folders, alone=job.shard is None, now=_clock_of(state))
    order = make_order(job, plans, photo, told.digest(settings, seed), seed)
    waiting, done, refused = [], [], [Outcome(*failure) for failure in plans.failures]
    for task in plans.own:
      standing = stand(order, task)
      if standing.facts is not None:
        done.append((task, photo_records.status_of(standing.facts)))
      elif standing.refusal is not None:
        refused.append(Outcome(task.record.relative, standing.refusal))
      else:
        waiting.append(task)
    plan.check_writable(waiting)
    yield RunningJob(
      engine,
      order,
      waiting,
      done=done,
      refused=refused,
      notes=[*plans.notes, *notes, *_forgetful(photo)],
      look=lambda task: stand(order, task).facts,
    )


def _forgetful(photo: PhotoConfig | None) -> Iterator[str]:
  reason = None if photo is None else results.remember()
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
