"""A program of a test's own in a real process, interrupted by a real signal when it says so."""

import os
import pathlib
import signal
import subprocess
import sys
from typing import NamedTuple

TESTS = pathlib.Path(__file__).resolve().parents[1]

# A parent may ignore the signal, as nohup does, and its children inherit that.
_LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


class Ended(NamedTuple):
  """How a process ended, and what it printed after it said "waiting"."""

  exit_code: int
  stdout: str
  stderr: str


def interrupt(program: str, *arguments: str, cache: pathlib.Path) -> Ended:
  """Runs a program that prints "waiting", and sends it Ctrl-C there."""
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    "RPFGSM_CACHE": str(cache),
  }
  with subprocess.Popen(
    [sys.executable, "-c", _LISTEN + program, *arguments],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as started:
    try:
      assert started.stdout.readline() == "waiting\n"
      started.send_signal(signal.SIGINT)
      stdout, stderr = started.communicate(timeout=30)
    finally:
      started.kill()  # one that does not listen; of one that has ended nothing is left to kill
  return Ended(started.returncode, stdout, stderr)
