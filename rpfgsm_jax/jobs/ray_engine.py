"""The engine for clusters: Ray Data hands blocks of photos to one worker a device.

Everything of Ray is in this file and imported when it is used. The workers see the same folders as
the driver and read and write photos themselves; only names travel, as JSON, because file names need
not be Unicode. A worker that dies is started again and its block done again: photos that it had
written are skipped, and a file appears in one step, so nothing is lost and nothing half written.
The second time photos are done one by one, so that one which ends its worker is found; it is given
up when it has done so twice more.
"""

import contextlib
import json
import logging
import os
import pathlib
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from rpfgsm_jax import atomic, process
from rpfgsm_jax.data.folders import ImageRecord
from rpfgsm_jax.jobs import photo_records, ray_address, tries
from rpfgsm_jax.jobs.engines import describe_environment, make_worker
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.photo_records import output_state
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError
from rpfgsm_jax.jobs.worker import Worker
from rpfgsm_jax.models.weights import WeightsError

_DEATHS_ALONE = 2  # of a photo by itself, after which it is given up
_DEATHS_AT_START = 3  # of workers before their first photo
_BLOCKS_A_WORKER = 4  # at least, so that workers end together
_LARGEST_BLOCK = {"CPU": 64, "GPU": 1024}  # photos; what a death costs, and how often news comes
_STOPS = {each.__name__: each for each in (JobError, SettingsError, WeightsError)}


class RayEngine:
  """The workers of a running Ray cluster, or of one that lasts as long as the job."""

  idle_share = None  # the workers' devices are not watched from here

  def __init__(self, address: str | None = None, workers: int | None = None):
    """Remembers where."""
    self._address, self._wanted = address, workers
    self._kind, self._workers = "CPU", 1

  def __enter__(self) -> Self:
    ray = _import_ray()
    if self._address is not None:
      ray_address.check_answers(self._address)
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if self._address is None:
      # Workers share processors on a machine of their own; on a cluster its owner says how many.
      processors = max(os.cpu_count() or 1, self._wanted or 1)
      options |= {"include_dashboard": False, "num_cpus": processors}
    try:
      ray.init(self._address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
      raise JobError(
        f"Ray did not let us in at {self._address or 'local'}: {error} A cluster with token "
        "authentication needs its RAY_AUTH_MODE and RAY_AUTH_TOKEN here too."
      ) from error
    try:
      self._count_workers(ray)
    except BaseException:
      ray.shutdown()
      raise
    return self

  def __exit__(self, *failure: object) -> None:
    import ray

    ray.shutdown()

  def _count_workers(self, ray: types.ModuleType) -> None:
    resources = ray.cluster_resources()
    self._kind = "GPU" if resources.get("GPU") else "CPU"
    most = int(resources.get(self._kind, 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    self._workers = self._wanted or (most if self._kind == "GPU" else min(machines, most))
    if not 1 <= self._workers <= most:
      raise SettingsError(
        f"--devices must be in 1..{most}, the {self._kind}s of the Ray cluster, got "
        f"{self._workers}; leave it out to use what there is."
      )

  def environment(self) -> dict[str, str]:
    """What last bits may depend on, on a machine of the cluster."""
    import ray

    # A process of its own, gone afterwards: it would keep a GPU's memory.
    task = ray.remote(max_calls=1, **self._device())(_prepared_environment)
    return ray.get(task.remote())

  def platform(self) -> str:
    """The kind of the workers' devices: "cpu" or "gpu"."""
    return self._kind.lower()

  def _device(self) -> dict[str, int]:
    return {"num_gpus": 1} if self._kind == "GPU" else {"num_cpus": 1}

  def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects the photos on the workers."""
    import ray

    tries.forget(job.out)
    block = min(-(-len(tasks) // (self._workers * _BLOCKS_A_WORKER)), _LARGEST_BLOCK[self._kind])
    rows = ray.data.from_items(
      [{"task": _encode(task)} for task in tasks], override_num_blocks=-(-len(tasks) // block)
    )
    outcomes = rows.map_batches(
      _RayWorker,
      batch_size=None,  # a block
      compute=ray.data.ActorPoolStrategy(size=self._workers),
      fn_constructor_args=(job, block),
      **self._device(),
    )
    try:
      # Ray tells of dead workers on the output, which is the summary's.
      with contextlib.redirect_stdout(sys.stderr):
        for row in outcomes.iter_rows():
          yield _decode_outcome(row["outcome"])
    except ray.exceptions.RayError as error:
      raise JobError(f"the workers of Ray cannot go on: {error}") from error
    # Workers that died have left temporary files; nobody writes any more.
    records = job.out / STATE / photo_records.FOLDER
    atomic.remove_leftovers({records, *(task.output.parent for task in tasks)}, alone=True, now=0.0)


class _RayWorker:
  """What each worker keeps from block to block. What stops the job comes back as an outcome too."""

  def __init__(self, job: Job, count: int):
    self._job, self._count = job, count
    self._worker: Worker | None = None

  def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, list[str]]:
    try:
      found = self._run([_decode_task(text) for text in rows["task"]])
    except tuple(_STOPS.values()) as error:
      return {"outcome": [atomic.strict_json([type(error).__name__, str(error)])]}
    return {"outcome": [atomic.strict_json(outcome) for outcome in found]}

  def _run(self, tasks: Sequence[Task]) -> list[Outcome]:
    out, names = self._job.out, [str(task.output) for task in tasks]
    with tries.trying(out, "\0".join(names)) as deaths:
      worker = self._started("\0".join(("start", *names)))
      # Those are a worker's that died in the middle of this block.
      standings = [(task, output_state(self._job, task).facts) for task in tasks]
      found = [
        Outcome(task.record.relative, None, (), facts)
        for task, facts in standings
        if facts is not None
      ]
      rest = [task for task, facts in standings if facts is None]
      if not deaths:
        return found + list(worker.run(rest))
      return found + [outcome for task in rest for outcome in _alone(worker, task, out)]

  def _started(self, name: str) -> Worker:
    if self._worker is None:
      with tries.trying(self._job.out, name) as deaths:
        if deaths >= _DEATHS_AT_START:
          raise JobError(
            f"workers of Ray end while they load the networks, {deaths} of them one after the "
            "other; look at their machines' memory and at Ray's own logs."
          )
        process.prepare()
        self._worker = make_worker(self._job, self._count)
    return self._worker


def _alone(worker: Worker, task: Task, out: pathlib.Path) -> Iterator[Outcome]:
  with tries.trying(out, str(task.output)) as deaths:
    if deaths < _DEATHS_ALONE:
      yield from worker.run([task])
    else:
      why = (
        f"{task.record.path} has ended {deaths + 1} workers, {deaths} of them while they did "
        "nothing else; it is given up. Without --engine ray it may say more."
      )
      yield Outcome(task.record.relative, why)


def _import_ray() -> types.ModuleType:
  os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
  # Ray's own processes write to their log files all the same.
  os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
  try:
    import ray
    import ray.data
  except ImportError as error:
    raise JobError("--engine ray needs Ray: pip install 'rpfgsm-jax[ray]'.") from error
  context = ray.data.DataContext.get_current()
  context.enable_progress_bars = context.print_on_execution_start = False
  logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors reach us as exceptions
  return ray


def _prepared_environment() -> dict[str, str]:
  process.prepare()
  return describe_environment()


def _encode(task: Task) -> str:
  record = task.record
  return atomic.strict_json(
    [str(record.path.absolute()), record.relative, record.image_id, str(task.output.absolute())]
  )


def _decode_task(text: str) -> Task:
  path, relative, image_id, output = json.loads(text)
  return Task(ImageRecord(pathlib.Path(path), relative, image_id), pathlib.Path(output))


def _decode_outcome(text: str) -> Outcome:
  values = json.loads(text)
  if len(values) == 2:
    raise _STOPS[values[0]](values[1])
  relative, failure, notes, facts = values
  return Outcome(relative, failure, tuple(notes), facts)
