"""Two sides of a comparison, each in a process of its own, taking turns.

In one process their thread pools would disturb each other and share one peak of memory. A side
answers each command, one JSON object a line, with one JSON line.
"""

import contextlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

OURS_BESIDE = pathlib.Path(__file__).resolve().parents[1]
SEEN = ("resnet18", "resnet50", "alexnet")
_PAUSE = 0.3  # seconds; threads of the side that had its turn stop spinning


class Side:
  """A process that runs a script of this folder and measures on command."""

  def __init__(self, script: str, environment: dict[str, str] | None = None):
    self.name = script.removeprefix("side_").removesuffix(".py")
    self._process = subprocess.Popen(
      [sys.executable, str(pathlib.Path(__file__).with_name(script))],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, **(environment or {})},
    )

  def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
    """Returns the answer to one command; a side that failed said why on stderr."""
    self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
    self._process.stdin.flush()
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"{self.name} ended at {command} {arguments}.")
    time.sleep(_PAUSE)
    return json.loads(line)

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait(60)


@contextlib.contextmanager
def side(script: str, environment: dict[str, str] | None = None) -> Iterator[Side]:
  """Starts a side and ends it."""
  started = Side(script, environment)
  try:
    yield started
  finally:
    started.close()


def serve(commands: dict[str, Callable[..., dict[str, Any]]]) -> None:
  """Answers commands from stdin until it ends; every answer carries the peak memory so far."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # what libraries print must not reach the one who asks
  for line in sys.stdin:
    request = json.loads(line)
    answer = commands[request.pop("command")](**request)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    answers.write(json.dumps({**answer, "peak_gb": round(peak, 3)}) + "\n")
    answers.flush()


def interleaved(
  asks: dict[str, Callable[[], float]], rounds: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
  """Runs several measurements in turn, after one round that does not count.

  Returns median seconds by name, and (least, median, most) of the pairwise ratios to the first.
  """
  for ask in asks.values():
    ask()
  seconds: dict[str, list[float]] = {name: [] for name in asks}
  for _ in range(rounds):
    for name, ask in asks.items():
      seconds[name].append(ask())
  base = seconds[next(iter(asks))]
  ratios = {}
  for name, values in seconds.items():
    pairs = sorted(value / other for value, other in zip(values, base, strict=True))
    ratios[name] = [round(each, 3) for each in (pairs[0], statistics.median(pairs), pairs[-1])]
  return {name: round(statistics.median(v), 4) for name, v in seconds.items()}, ratios
