"""Ray: the same bytes from two workers, also when one is killed. `make test-jobs`.

Those that start Ray fail where it is not installed, they are not skipped: they were asked for.
"""

import json
import os
import pathlib
import signal
import socket
import threading
import time

import pytest
from jobs.small_job import PHOTOS

from rpfgsm_jax.jobs import ray_engine
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.photo_records import OutputState
from rpfgsm_jax.jobs.plan import Task
from rpfgsm_jax.jobs.spec import Job, JobError, SettingsError
from rpfgsm_jax.models.weights import WeightsError

TWO = ("--seed", 7, "--engine", "ray", "--devices", 2)


@pytest.fixture(scope="module")
def ray_is_installed():
  try:
    import ray.data  # noqa: F401
  except ImportError as error:
    pytest.fail(f"Ray is not installed ({error}): pip install 'rpfgsm-jax[ray]'.")


def workers_of(driver: int) -> list[int]:
  """The processes of a driver's own cluster that protect photos, by their parents."""
  parents, found = {}, []
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      fields = (entry / "stat").read_text().rpartition(")")[2].split()
      parents[int(entry.name)] = int(fields[1])
      if b"_RayWorker" in (entry / "cmdline").read_bytes():
        found.append(int(entry.name))
    except (FileNotFoundError, ProcessLookupError):
      continue

  def ancestors(process):
    while process in parents:
      process = parents[process]
      yield process

  return [process for process in found if driver in ancestors(process)]


@pytest.mark.jobs
def test_two_workers_write_what_one_process_writes(job, ray_is_installed):
  assert job.run("ray", *TWO).startswith(f"{PHOTOS} done, 0 failed, 0 skipped")
  assert job.results("ray") == job.results("whole")
  # The record is the same job's: this process goes on with it, and there is nothing to do.
  assert job.run("ray").startswith(f"0 done, 0 failed, {PHOTOS} skipped")


@pytest.mark.jobs
def test_photos_at_their_own_size_come_back_with_their_records(photos_job, ray_is_installed):
  said = photos_job.run("ray", *TWO)
  assert said.partition(";")[0] == photos_job.run("local", "--seed", 7).partition(";")[0]
  assert photos_job.results("ray") == photos_job.results("whole")
  # Each photo's verdict came back from its worker, and is what its record says.
  assert photos_job.run("ray").startswith(f"0 done, 0 failed, {PHOTOS} skipped")


@pytest.mark.jobs
def test_a_killed_worker_loses_and_doubles_nothing(job, ray_is_installed):
  process = job.start("bereft", *TWO)
  out, killed = job.folder / "bereft", []
  while process.poll() is None and not killed:
    if sum(1 for _ in out.rglob("[!.]*.png")) > 10:
      killed = workers_of(process.pid)[:1]
      for worker in killed:
        os.kill(worker, signal.SIGKILL)
    time.sleep(0.01)
  stdout, stderr = process.communicate(timeout=200)
  assert killed, "no worker was found while the job ran"
  assert process.returncode == 0, stderr.decode()
  assert stdout.decode().startswith(f"{PHOTOS} done, 0 failed, 0 skipped")
  written = {
    name: content for name, content in job.results("bereft").items() if ".partial." not in name
  }
  assert written == job.results("whole")


@pytest.mark.jobs
def test_a_bad_photo_comes_back_from_a_worker_with_its_reason(job, ray_is_installed):
  bad = job.folder / "in" / "album 0" / "bad.jpg"
  bad.write_bytes(b"no picture")
  try:
    process = job.start("ray", *TWO)
    stdout, stderr = process.communicate(timeout=120)
  finally:
    bad.unlink()
  assert process.returncode == 1, stderr.decode()
  assert stdout.decode().startswith(f"0 done, 1 failed, {PHOTOS} skipped")
  assert b"bad.jpg must be a JPEG" in stderr


@pytest.mark.jobs
def test_a_photo_that_kills_every_worker_is_given_up_in_the_end(job, ray_is_installed, tmp_path):
  # Whoever opens it is killed outright, as by the system where memory ends; the driver never does.
  (tmp_path / "sitecustomize.py").write_text(
    "import os, signal, sys\n"
    "def watch(event, arguments):\n"
    "  if event == 'open' and str(arguments[0]).endswith('killer.jpg'):\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
    "sys.addaudithook(watch)\n"
  )
  killer = job.folder / "in" / "album 0" / "killer.jpg"
  killer.touch()
  try:
    process = job.start("given up", *TWO, path=tmp_path)
    stdout, stderr = process.communicate(timeout=240)
  finally:
    killer.unlink()
  assert process.returncode == 1, stderr.decode()
  assert stdout.decode().startswith(f"{PHOTOS} done, 1 failed, 0 skipped")
  assert b"killer.jpg has ended 3 workers" in stderr
  assert job.results("given up") == job.results("whole")


@pytest.fixture
def listener():
  """A server that takes connections and may say something."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    yield server


def address_of(server) -> str:
  return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.jobs
def test_a_device_that_the_workers_lack_is_one_message(job, ray_is_installed, monkeypatch):
  monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
  process = job.start("absent", *TWO)
  said = process.communicate(timeout=240)[1].decode()
  assert process.returncode == 1
  assert "the workers of Ray cannot begin: JAX_PLATFORMS=nonsense names a device" in said
  assert "Traceback" not in said


def test_an_address_where_nobody_listens_is_named():
  with socket.create_server(("127.0.0.1", 0)) as server:
    address = address_of(server)
  with pytest.raises(JobError, match=f"no Ray cluster at {address} .*refused.*leave --address out"):
    ray_engine.check_answers(address)


def test_an_address_that_does_not_answer_is_given_up_in_time(listener, monkeypatch):
  monkeypatch.setattr(ray_engine, "ANSWER_WITHIN", 0.2)
  with pytest.raises(JobError, match="no answer within 0 s"):
    ray_engine.check_answers(address_of(listener))


@pytest.mark.parametrize(
  ("says", "is_ray"),
  [(bytes(3) + b"\x04" + bytes(5), True), (b"HTTP/1.1 400 Bad Request", False), (b"", False)],
  ids=["gRPC", "a web server", "hangs up"],
)
def test_a_server_is_known_by_its_first_word(listener, says, is_ray):
  def answer():
    connection, _ = listener.accept()
    with connection:
      connection.recv(1024)
      connection.sendall(says)

  thread = threading.Thread(target=answer)
  thread.start()
  try:
    if is_ray:
      ray_engine.check_answers(address_of(listener))
    else:
      with pytest.raises(JobError, match="but something else"):
        ray_engine.check_answers(address_of(listener))
  finally:
    thread.join()


@pytest.mark.parametrize("address", ["", "auto", ":6379", "host:", "host:port"])
def test_an_address_is_host_and_port(address):
  with pytest.raises(SettingsError, match="--address must be HOST:PORT, got"):
    ray_engine.check_answers(address)


def order(folder):
  (folder / ".rpfgsm").mkdir(exist_ok=True)
  return Job(sources=(), out=folder, networks=())


@pytest.mark.parametrize("stop", [JobError, SettingsError, WeightsError])
def test_what_stops_a_worker_stops_the_job_under_its_own_name(monkeypatch, tmp_path, stop):
  def refuse(order, count):
    raise stop("networks differ.")

  monkeypatch.setattr(ray_engine.process, "prepare", lambda: None)
  monkeypatch.setattr(ray_engine, "make_worker", refuse)
  (text,) = ray_engine._RayWorker(order(tmp_path), 1)({"task": []})["outcome"]
  with pytest.raises(stop, match="networks differ"):
    ray_engine._decode_outcome(text)


def test_names_that_are_not_unicode_travel():
  path = pathlib.Path(os.fsdecode(b"/in/caf\xe9.jpg"))
  task = Task(path, path.name, 7, pathlib.Path(os.fsdecode(b"/out/caf\xe9.png")))
  text = ray_engine._encode(task)
  assert text.isascii()
  assert ray_engine._decode_task(text) == task


def test_facts_travel():
  outcome = Outcome("a.jpg", None, ("a note",), {"verdict": {"psnr": None}})
  assert ray_engine._decode_outcome(json.dumps(outcome)) == outcome


class DiedError(BaseException):
  """Stands for the end of a process: marks stay."""


class Mortal:
  """A worker that one photo ends; others are written. A new one starts for every try."""

  def __init__(self):
    self.ran = []

  def run(self, tasks):
    self.ran.append([task.relative for task in tasks])
    for task in tasks:
      if "killer" in task.relative:
        raise DiedError
      task.output.touch()
      yield Outcome(task.relative, None)


def until_it_ends(monkeypatch, folder, make):
  """Does one block as Ray does: again and again, with a new worker each time."""
  names = ("a.jpg", "killer.jpg", "z.jpg")
  tasks = [Task(folder / name, name, 0, folder / f"{name}.png") for name in names]
  rows = {"task": [ray_engine._encode(task) for task in tasks]}
  monkeypatch.setattr(ray_engine.process, "prepare", lambda: None)
  monkeypatch.setattr(ray_engine, "make_worker", lambda order, count: make())
  monkeypatch.setattr(
    ray_engine.photo_records,
    "output_state",
    lambda job, task: OutputState({"verdict": None} if task.output.exists() else None),
  )
  for deaths in range(10):
    try:
      return deaths, ray_engine._RayWorker(order(folder), 3)(rows)["outcome"]
    except DiedError:
      continue
  raise AssertionError("it never ends")


def test_a_photo_that_ends_every_worker_is_given_up_and_the_others_are_done(monkeypatch, tmp_path):
  worker = Mortal()
  deaths, texts = until_it_ends(monkeypatch, tmp_path, lambda: worker)
  outcomes = {each.relative: each for each in map(ray_engine._decode_outcome, texts)}
  assert deaths == 3
  assert outcomes["a.jpg"].failure is outcomes["z.jpg"].failure is None
  assert "killer.jpg has ended 3 workers, 2 of them while" in outcomes["killer.jpg"].failure
  assert worker.ran == [["a.jpg", "killer.jpg", "z.jpg"], ["killer.jpg"], ["killer.jpg"], ["z.jpg"]]
  # The marks are gone; a new run begins anew.
  ray_engine.forget_tries(tmp_path)
  assert not list((tmp_path / ".rpfgsm").iterdir())


def test_workers_that_never_start_end_the_job(monkeypatch, tmp_path):
  def die():
    raise DiedError

  deaths, (text,) = until_it_ends(monkeypatch, tmp_path, die)
  assert deaths == 3
  with pytest.raises(JobError, match="end while they load the networks, 3 of them"):
    ray_engine._decode_outcome(text)


def test_an_error_is_no_death(monkeypatch, tmp_path):
  for _ in range(5):
    (tmp_path / ".rpfgsm").mkdir(exist_ok=True)
    with pytest.raises(ZeroDivisionError), ray_engine.trying(tmp_path, "work") as deaths:
      raise ZeroDivisionError
    assert deaths == 0
