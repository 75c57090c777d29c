"""What a job would do, with nothing written and nothing computed."""

import os
import pathlib
from typing import Literal, NamedTuple

from rpfgsm_jax.data import images
from rpfgsm_jax.jobs import headers, record
from rpfgsm_jax.jobs import settings as told
from rpfgsm_jax.jobs.engines import LocalEngine
from rpfgsm_jax.jobs.order import Job, Order
from rpfgsm_jax.jobs.plan import STATE, Task
from rpfgsm_jax.jobs.survey import (
  choose_working_size,
  describe,
  make_order,
  occupied,
  stand,
  survey,
)


class Preview(NamedTuple):
  """What would become of one photo."""

  relative: str  # its name in the job
  output: pathlib.Path | None  # the file it is or would be; None: it has none
  standing: Literal["to do", "done", "refused"]
  reason: str  # of a refusal, or what would be replaced


def preview(job: Job) -> list[Preview]:
  """Returns what a job would do; headers of photos are read, nothing is made.

  Args:
    job: what is to be done.

  Returns:
    One entry a photo of the share, and one a folder that must be left out.

  Raises:
    SettingsError: `open_job` would refuse it.
  """
  plans = survey(job)
  photo = choose_working_size(job, lambda: LocalEngine().platform())
  settings = describe(job, plans, photo)
  overwrite = None if photo is None else job.overwrite
  seed = record.look(plans.out / STATE, settings, seed=job.seed, overwrite=overwrite)
  foreign = occupied(plans.tasks) if photo is None and seed is None else None
  if foreign is not None:
    raise record.occupied_by(foreign, plans.out / STATE)
  # Without a record nothing is done, and no seed is needed.
  decided = "" if seed is None else told.digest(settings, seed)
  order = make_order(job, plans, photo, decided, seed or 0)
  refused = [Preview(name, None, "refused", reason) for name, reason in plans.failures]
  return refused + [_preview(order, task) for task in plans.own]


def _preview(order: Order, task: Task) -> Preview:
  relative, standing = task.record.relative, stand(order, task)
  if standing.facts is not None:
    return Preview(relative, task.output, "done", "")
  reason = standing.refusal or _unreadable(order, task)
  if reason:
    return Preview(relative, task.output, "refused", reason)
  there = os.path.lexists(task.output)
  return Preview(relative, task.output, "to do", "replaces what is there" if there else "")


def _unreadable(order: Order, task: Task) -> str | None:
  try:
    if order.photo is None:
      images.open_image(task.record.path)
    else:
      headers.size_of(task.record.path, order.max_pixels)
  except images.ImageError as error:
    return str(error)
  return None
