"""The engine for clusters: Ray Data hands blocks of photos to one worker a device.

Everything of Ray is in this file and imported when it is used. The workers see the same folders as
the driver and read and write photos themselves; only names travel, as JSON, because file names need
not be Unicode. A worker that dies is started again and its block done again: photos that it had
written are skipped, and a file appears in one step, so nothing is lost and nothing half written.
The second time photos are done one by one, so that one which ends its worker is found; it is given
up when it has done so twice more.
"""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
import socket
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from rpfgsm_jax import atomic, process
from rpfgsm_jax.jobs import photo_records
from rpfgsm_jax.jobs.engines import describe_environment, make_worker
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.record import STATE
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError
from rpfgsm_jax.jobs.worker import Worker
from rpfgsm_jax.models.weights import WeightsError

ANSWER_WITHIN = 10.0  # seconds for a cluster to answer
# HTTP/2's opening: the preface and an empty SETTINGS frame. A gRPC server answers with its own.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_SETTINGS_FRAME = b"\x04"
_TRIES = "tries"  # the folder of marks, see `trying`
_DEATHS_ALONE = 2  # of a photo by itself, after which it is given up
_DEATHS_AT_START = 3  # of workers before their first photo
_BLOCKS_A_WORKER = 4  # at least, so that workers end together
_LARGEST_BLOCK = {"cpu": 64, "gpu": 1024}  # photos; what a death costs, and how often news comes
_STOPS = {each.__name__: each for each in (JobError, SettingsError, WeightsError)}


class RayEngine:
  """The workers of a running Ray cluster, or of one that lasts as long as the job."""

  idle_share = None  # the workers' devices are not watched from here

  def __init__(self, address: str | None = None, workers: int | None = None):
    self._address, self._workers = address, workers
    self._kind = "cpu"

  def __enter__(self) -> Self:
    ray = _import_ray()
    if self._address is not None:
      check_answers(self._address)
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if self._address is None:
      # Workers share processors on a machine of their own; on a cluster its owner says how many.
      processors = max(os.cpu_count() or 1, self._workers or 1)
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
    self._kind = "gpu" if resources.get("GPU") else "cpu"
    kind = self._kind.upper()
    most = int(resources.get(kind, 0))
    if self._workers is None:
      machines = sum(node["Alive"] for node in ray.nodes())
      self._workers = most if self._kind == "gpu" else min(machines, most)
    if not 1 <= self._workers <= most:
      raise SettingsError(
        f"--devices must be in 1..{most}, the {kind}s of the Ray cluster, got {self._workers}; "
        "leave it out to use what there is."
      )

  def environment(self) -> dict[str, str]:
    """What last bits may depend on, on a machine of the cluster."""
    import ray

    # A process of its own, gone afterwards: it would keep a GPU's memory.
    task = ray.remote(max_calls=1, **self._device())(_prepared_environment)
    try:
      return ray.get(task.remote())
    except ray.exceptions.RayError as error:
      why = getattr(error, "cause", None) or error  # without it, the worker's whole traceback
      raise JobError(f"the workers of Ray cannot begin: {why}") from error

  def platform(self) -> str:
    """The kind of the workers' devices: "cpu" or "gpu"."""
    return self._kind

  def _device(self) -> dict[str, int]:
    return {f"num_{self._kind}s": 1}

  def run(self, job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Protects the photos on the workers."""
    import ray

    forget_tries(job.out)
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
    with trying(out, "\0".join(names)) as deaths:
      worker = self._started("\0".join(("start", *names)))
      found, rest = [], []
      for task in tasks:
        facts = photo_records.output_state(self._job, task).facts
        if facts is None:
          rest.append(task)
        else:  # a worker wrote it that died in the middle of this block
          found.append(Outcome(task.relative, None, (), facts))
      if not deaths:
        return found + list(worker.run(rest))
      return found + [outcome for task in rest for outcome in _alone(worker, task, out)]

  def _started(self, name: str) -> Worker:
    if self._worker is None:
      with trying(self._job.out, name) as deaths:
        if deaths >= _DEATHS_AT_START:
          raise JobError(
            f"workers of Ray end while they load the networks, {deaths} of them one after the "
            "other; look at their machines' memory and at Ray's own logs."
          )
        process.prepare()
        self._worker = make_worker(self._job, self._count)
    return self._worker


def _alone(worker: Worker, task: Task, out: pathlib.Path) -> Iterator[Outcome]:
  with trying(out, str(task.output)) as deaths:
    if deaths < _DEATHS_ALONE:
      yield from worker.run([task])
    else:
      why = (
        f"{task.path} has ended {deaths + 1} workers, {deaths} of them while they did nothing "
        "else; it is given up. Without --engine ray it may say more."
      )
      yield Outcome(task.relative, why)


@contextlib.contextmanager
def trying(out: pathlib.Path, work: str) -> Iterator[int]:
  """Marks work as begun while the block runs; yields how many processes have died of it so far.

  The mark goes when the block ends, well or with an error; only a process that dies leaves it.
  Marks are bytes in files beside the results, for workers anywhere.
  """
  digest = hashlib.sha256(work.encode("utf-8", "surrogateescape")).hexdigest()
  mark = out / STATE / _TRIES / digest[:32]
  mark.parent.mkdir(exist_ok=True)
  with open(mark, "ab") as file:
    before = file.tell()
    file.write(b".")
  try:
    yield before
  except Exception:
    mark.unlink(missing_ok=True)
    raise
  mark.unlink(missing_ok=True)


def forget_tries(out: pathlib.Path) -> None:
  """Takes all marks away: a new run tries everything anew."""
  shutil.rmtree(out / STATE / _TRIES, ignore_errors=True)


def check_answers(address: str) -> None:
  """Asks a cluster for a sign of life; Ray would wait two minutes and then end the process."""
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal():
    raise SettingsError(f"--address must be HOST:PORT, got {address!r}.")
  try:
    with socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN) as connection:
      if os.environ.get("RAY_USE_TLS") == "1":
        return
      connection.sendall(_GREETING)
      answer = connection.recv(4)
  except (OSError, OverflowError) as error:
    why = f"no answer within {ANSWER_WITHIN:.0f} s" if isinstance(error, TimeoutError) else error
    raise JobError(
      f"no Ray cluster at {address} ({why}); start one, or leave --address out."
    ) from error
  if answer[3:] != _SETTINGS_FRAME:
    raise JobError(
      f"no Ray cluster at {address}, but something else; check the port (6379 is usual)."
    )


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
  with process.absent_devices_named():
    return describe_environment()


def _encode(task: Task) -> str:
  paths = {"path": str(task.path.absolute()), "output": str(task.output)}
  return atomic.strict_json(task._asdict() | paths)


def _decode_task(text: str) -> Task:
  values = json.loads(text)
  return Task(**values | {name: pathlib.Path(values[name]) for name in ("path", "output")})


def _decode_outcome(text: str) -> Outcome:
  values = json.loads(text)
  if len(values) == 2:
    raise _STOPS[values[0]](values[1])
  relative, failure, notes, facts = values
  return Outcome(relative, failure, tuple(notes), facts)
