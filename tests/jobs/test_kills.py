"""Real processes: killed at any moment, sharing a folder, started together. `make test-jobs`."""

import hashlib
import os
import random
import signal
import socket
import time

import pytest
from jobs.small_job import PHOTOS

from rpfgsm_jax.jobs import photo_records

pytestmark = pytest.mark.jobs

KILLS, PHOTO_KILLS = 20, 6


def png_count(job, out):
  return sum(1 for _ in (job.folder / out).rglob("[!.]*.png"))


def wait_for_news(job, out, process):
  before = png_count(job, out)
  while png_count(job, out) == before and process.poll() is None:
    time.sleep(0.005)


def test_killed_at_twenty_moments_it_ends_with_the_same_bytes(job):
  chance = random.Random(5)
  counts, starting = [], 0.0
  for kill in range(KILLS):
    process = job.start("killed", "--seed", 7)
    if kill % 2 == 0:  # while it works
      started = time.monotonic()
      wait_for_news(job, "killed", process)
      starting = time.monotonic() - started
      time.sleep(chance.uniform(0, 0.1))
    else:  # while it starts: loads, reads its record, compiles; sometimes it starts faster
      ends, before = time.monotonic() + chance.uniform(0, starting), png_count(job, "killed")
      while time.monotonic() < ends and png_count(job, "killed") < before + 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended by itself: more photos are needed"
    counts.append(png_count(job, "killed"))
    whole = job.results("whole")
    found = job.results("killed")
    # Whole files only; what the kill cut off has a name that nobody takes for a photo.
    assert all(found[name] == whole[name] for name in found if ".partial." not in name)
  assert counts == sorted(counts)
  assert len(set(counts)) > KILLS // 3
  assert counts[-1] < PHOTOS
  last = job.run("killed", "--seed", 7)
  assert last.startswith(f"{PHOTOS - counts[-1]} done, 0 failed, {counts[-1]} skipped")
  assert job.results("killed") == job.results("whole")
  assert not list((job.folder / "killed" / ".rpfgsm").glob("*.partial.*"))


def test_photos_at_their_own_size_survive_kills_with_their_records(photos_job):
  chance, counts = random.Random(6), []
  for _ in range(PHOTO_KILLS):
    process = photos_job.start("killed", "--seed", 7)
    wait_for_news(photos_job, "killed", process)
    time.sleep(chance.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended by itself: more photos are needed"
    counts.append(png_count(photos_job, "killed"))
    out, whole = photos_job.folder / "killed", photos_job.results("whole")
    for name, content in photos_job.results("killed").items():
      if ".partial." not in name:
        assert content == whole[name]
        facts = photo_records.read(photo_records.path_of(out, name))
        assert facts["output_sha256"] == hashlib.sha256(content).hexdigest()
  assert counts == sorted(counts)
  last = photos_job.run("killed", "--seed", 7)
  assert last.startswith(f"{PHOTOS - counts[-1]} done (")
  assert f"0 failed, {counts[-1]} skipped" in last
  assert photos_job.results("killed") == photos_job.results("whole")
  assert not list((photos_job.folder / "killed" / ".rpfgsm").rglob("*.partial.*"))


def test_a_kill_while_results_are_replaced_leaves_none_that_is_taken_for_another(photos_job):
  photos_job.run("replaced", "--seed", 8)
  process = photos_job.start("replaced", "--seed", 7, "--overwrite")
  old = photos_job.results("replaced")
  while photos_job.results("replaced") == old and process.poll() is None:
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  photos_job.run("replaced", "--seed", 7, "--overwrite")
  assert photos_job.results("replaced") == photos_job.results("whole")


def test_a_drawn_seed_survives_a_kill(job):
  process = job.start("drawn")
  wait_for_news(job, "drawn", process)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  before = job.results("drawn")
  job.run("drawn")
  after = job.results("drawn")
  assert len(after) == PHOTOS
  assert all(after[name] == before[name] for name in before if ".partial." not in name)
  assert after != job.results("whole")


def finish(processes):
  """Waits for all; returns how many photos each has done."""
  done = []
  for process in processes:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr.decode()
    done.append(int(stdout.split()[0]))
  return done


def test_three_shards_at_once_are_one_run_byte_by_byte(job):
  # No seed is given: whoever is first draws it, and all take that one.
  done = finish([job.start("shards", "--shard", f"{index}/3") for index in range(3)])
  assert sum(done) == PHOTOS
  assert min(done) > PHOTOS // 6
  assert job.run("shards").startswith(f"0 done, 0 failed, {PHOTOS} skipped")
  done = finish([job.start("seeded", "--seed", 7, "--shard", f"{i}/3") for i in range(3)])
  assert sum(done) == PHOTOS
  assert job.results("seeded") == job.results("whole")


def test_processes_started_together_find_their_share_themselves(job, monkeypatch):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", f"127.0.0.1:{port}")
  monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
  processes = []
  for index in range(2):
    monkeypatch.setenv("JAX_PROCESS_ID", str(index))
    processes.append(job.start("together", "--seed", 7, "--distributed"))
  done = finish(processes)
  assert sum(done) == PHOTOS
  assert min(done) > PHOTOS // 3
  assert job.results("together") == job.results("whole")


def test_without_a_cluster_distributed_says_what_it_needs(job):
  assert not {"JAX_COORDINATOR_ADDRESS", "SLURM_JOB_ID"} & set(os.environ)
  process = job.start("alone", "--distributed")
  _, stderr = process.communicate(timeout=60)
  assert process.returncode == 2
  assert "--shard I/N needs none of it" in " ".join(stderr.decode().split())
