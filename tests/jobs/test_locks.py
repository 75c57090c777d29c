"""Locks: another process that really holds one is respected, and named; a killed one is not."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import rpfgsm_jax
from rpfgsm_jax.jobs import locks
from rpfgsm_jax.jobs.spec import JobError, Shard

ROOT = pathlib.Path(rpfgsm_jax.__file__).parents[1]
HOLDER = """
import pathlib, sys
from rpfgsm_jax.jobs import locks
from rpfgsm_jax.jobs.spec import Shard
shard = Shard.parse(sys.argv[2]) if len(sys.argv) > 2 else None
with locks.hold(pathlib.Path(sys.argv[1]), shard):
  print("held", flush=True)
  sys.stdin.read()
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory):
  """Two folders of locks and the process that holds each: all of one, shard 1 of 3 of another."""
  with contextlib.ExitStack() as stack:
    found = {}
    for name, arguments in (("whole", []), ("shard", ["1/3"])):
      folder = tmp_path_factory.mktemp(name)
      process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
      )
      stack.callback(process.wait)
      stack.callback(process.stdout.close)
      stack.callback(process.stdin.close)
      found[name] = folder, process
    for _, process in found.values():
      assert process.stdout.readline() == "held\n"
    yield found


REFUSED = {
  "whole, whole": ("whole", None, "the whole folder"),
  "whole, shard": ("whole", Shard(0, 2), "the whole folder"),
  "shard, whole": ("shard", None, "shard 1/3"),
  "shard, itself": ("shard", Shard(1, 3), "shard 1/3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_work_that_another_process_does_is_refused(states, name, monkeypatch):
  monkeypatch.setattr(locks, "_PATIENCE", 0.05)
  where, shard, work = REFUSED[name]
  folder, process = states[where]
  expected = rf"is in use: {work}, by process {process.pid} on \S+ since \d{{4}}-.*another --out"
  with pytest.raises(JobError, match=expected), locks.hold(folder, shard):
    pass


def test_another_shard_is_let_in(states):
  folder, _ = states["shard"]
  with locks.hold(folder, Shard(0, 3)), locks.hold(folder, Shard(2, 3)):
    assert "shard 2/3" in (folder / "shard-2-of-3.lock").read_text()


def test_locks_end_with_the_block_whatever_ends_it(tmp_path):
  with contextlib.suppress(ZeroDivisionError), locks.hold(tmp_path, None):
    raise ZeroDivisionError
  with locks.hold(tmp_path, Shard(0, 2)):
    assert "shard 0/2" in (tmp_path / "shard-0-of-2.lock").read_text()
  with locks.hold(tmp_path, None):
    assert "the whole folder" in (tmp_path / "lock").read_text()


def test_a_killed_process_holds_nothing(states):
  # Last in this file: the process is gone afterwards.
  folder, process = states["whole"]
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  with locks.hold(folder, None):
    assert f'"pid": {os.getpid()}' in (folder / "lock").read_text()


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
  def refuse(file, flags):
    raise locks.portalocker.LockException("No locks available")

  monkeypatch.setattr(locks.portalocker, "lock", refuse)
  unlockable = pytest.raises(JobError, match=r"cannot be locked \(No locks available\)")
  with unlockable, locks.hold(tmp_path, None):
    pass
