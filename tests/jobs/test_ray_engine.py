"""Ray: the same bytes from two workers, also when one is killed. `make test-jobs`.

Those that start Ray fail where it is not installed, they are not skipped: they were asked for.
"""

import os
import pathlib
import signal
import socket
import threading
import time

import pytest
from jobs.small_job import PHOTOS

from rpfgsm_jax.jobs import ray_engine
from rpfgsm_jax.jobs.errors import JobError, SettingsError
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


@pytest.fixture
def listener():
  """A server that takes connections and may say something."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    yield server


def address_of(server) -> str:
  return f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_where_nobody_listens_is_named():
  with socket.create_server(("127.0.0.1", 0)) as server:
    address = address_of(server)
  with pytest.raises(JobError, match=f"no Ray cluster at {address} .*refused.*leave --address out"):
    ray_engine._check_answers(address)


def test_an_address_that_does_not_answer_is_given_up_in_time(listener, monkeypatch):
  monkeypatch.setattr(ray_engine, "ANSWER_WITHIN", 0.2)
  with pytest.raises(JobError, match="no answer within 0 s"):
    ray_engine._check_answers(address_of(listener))


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
      ray_engine._check_answers(address_of(listener))
    else:
      with pytest.raises(JobError, match="but something else"):
        ray_engine._check_answers(address_of(listener))
  finally:
    thread.join()


@pytest.mark.parametrize("address", ["", "auto", ":6379", "host:", "host:port"])
def test_an_address_is_host_and_port(address):
  with pytest.raises(SettingsError, match="--address must be HOST:PORT, got"):
    ray_engine._check_answers(address)


@pytest.mark.parametrize("stop", [JobError, SettingsError, WeightsError])
def test_what_stops_a_worker_stops_the_job_under_its_own_name(monkeypatch, stop):
  def refuse(order, count):
    raise stop("networks differ.")

  monkeypatch.setattr(ray_engine.process, "prepare", lambda: None)
  monkeypatch.setattr(ray_engine, "make_worker", refuse)
  (text,) = ray_engine._RayWorker(None, 1)({"task": []})["outcome"]
  with pytest.raises(stop, match="networks differ"):
    ray_engine._decode_outcome(text)


def test_names_that_are_not_unicode_travel():
  path = pathlib.Path(os.fsdecode(b"/in/caf\xe9.jpg"))
  record = ray_engine.ImageRecord(path, path.name, 7)
  task = ray_engine.Task(record, pathlib.Path(os.fsdecode(b"/out/caf\xe9.png")))
  text = ray_engine._encode(task)
  assert text.isascii()
  assert ray_engine._decode_task(text) == task
