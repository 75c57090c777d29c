"""What a job amounts to and how its photos stand, before anything is made."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rpfgsm_jax.data.folders import ImageRecord, list_images
from rpfgsm_jax.jobs import photo_records, plan, record, sources
from rpfgsm_jax.jobs import settings as told
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.jobs.order import Job, Order
from rpfgsm_jax.jobs.photo_records import Standing
from rpfgsm_jax.jobs.plan import STATE, Task
from rpfgsm_jax.jobs.settings import Network, identify_networks
from rpfgsm_jax.photos.protect import PhotoConfig
from rpfgsm_jax.photos.settings import default_working_pixels


class Plans(NamedTuple):
  """What a job amounts to, before anything is made."""

  out: pathlib.Path  # absolute
  networks: tuple[Network, ...]
  held_out: tuple[Network, ...]
  tasks: list[Task]  # of the whole job
  own: list[Task]  # of the share
  failures: list[tuple[str, str]]  # folders that must be left out, and why
  notes: list[str]


def survey(job: Job) -> Plans:
  """Looks at what a job means, and makes nothing.

  Args:
    job: what is to be done.

  Returns:
    Its photos, their results, its networks.

  Raises:
    SettingsError: it cannot be done as it was asked for.
  """
  networks = identify_networks(job.networks)
  out = pathlib.Path(os.path.abspath(job.out))
  if job.photo is None:
    found = sources.Found(_one_folder(job), [], [])
    held_out, suffix = (), ".png"
  else:
    found = sources.find(job.sources, job.out)
    held_out = identify_networks(job.held_out, "--held-out")
    told.check_held_out(networks, held_out)
    suffix = job.photo.encoding.suffix
  tasks = plan.plan(found.records, out, suffix)
  plan.check_originals(tasks)
  own = [task for task in tasks if not job.shard or job.shard.holds(task.record.image_id)]
  return Plans(out, networks, held_out, tasks, own, found.failures, found.notes)


def _one_folder(job: Job) -> list[ImageRecord]:
  if len(job.sources) != 1:
    raise SettingsError(
      f"SOURCE must be one folder at the networks' size, got {len(job.sources)}; do them one by "
      "one, or each photo at its own size."
    )
  sources.check_apart(job.sources, job.out)
  try:
    return list_images(job.sources[0])
  except ValueError as error:
    raise SettingsError(str(error)) from error


def choose_working_size(job: Job, platform: Callable[[], str]) -> PhotoConfig | None:
  """Returns how photos of their own size are protected, the working size chosen.

  Args:
    job: what is to be done.
    platform: tells the kind of the devices, where that must be known.

  Returns:
    The settings; None: the job is one at the networks' size.

  Raises:
    SettingsError: the job's record is unusable.
  """
  if job.photo is None or not job.fit_working_size:
    return job.photo
  recorded = record.recorded_settings(job.out / STATE).get("photo", {})
  if "working_pixels" in recorded:
    return dataclasses.replace(job.photo, working_pixels=recorded["working_pixels"])
  return dataclasses.replace(job.photo, working_pixels=default_working_pixels(platform()))


def describe(job: Job, plans: Plans, photo: PhotoConfig | None) -> dict[str, Any]:
  """Returns what decides the bytes of a job's results.

  Photos of their own size have records of their own: there the sources are no part of it.

  Args:
    job: what is to be done.
    plans: what it amounts to.
    photo: how photos of their own size are protected.

  Returns:
    JSON values, mappings may be nested.
  """
  networks = [network._asdict() for network in plans.networks]
  if photo is None:
    return {
      "source": str(pathlib.Path(job.sources[0]).resolve()),
      "networks": networks,
      "attack": told.describe_attack(job.config),
      "preprocessing": job.how,
    }
  return {
    "size": "photo",
    "networks": networks,
    "held_out": [network._asdict() for network in plans.held_out],
    "attack": told.describe_attack(photo.attack),
    "photo": told.describe_photos(photo),
  }


def make_order(job: Job, plans: Plans, photo: PhotoConfig | None, decided: str, seed: int) -> Order:
  """Returns what workers are told.

  Args:
    job: what is to be done.
    plans: what it amounts to.
    photo: how photos of their own size are protected.
    decided: digest of what decides the bytes of results.
    seed: of the job.

  Returns:
    The order.
  """
  return Order(
    networks=plans.networks,
    held_out=plans.held_out,
    config=job.config,
    photo=photo,
    how=job.how,
    seed=seed,
    batch_size=job.batch_size,
    devices=job.devices,
    out=plans.out,
    settings=decided,
    max_pixels=job.max_pixels,
    overwrite=job.overwrite,
  )


def stand(order: Order, task: Task) -> Standing:
  """Says whether a photo is done, to be done, or to be left alone.

  Args:
    order: what is to be done with each photo.
    task: the photo.

  Returns:
    Its standing; at the networks' size the record of one that is done is empty.
  """
  if order.photo is None:
    return Standing(facts={}) if os.path.exists(task.output) else Standing()
  return photo_records.stand(task, order.out, order.settings, overwrite=order.overwrite)


def occupied(tasks: Sequence[Task]) -> str | None:
  """Names a file that stands where a result belongs, if there is one."""
  return next((str(task.output) for task in tasks if task.output.exists()), None)
