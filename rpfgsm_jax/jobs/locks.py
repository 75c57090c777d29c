"""Who works on a folder: locks of the operating system, which a killed process cannot leave behind.

A run of the whole folder holds `lock` alone. Shards hold it together, and each its own file alone.
What the files say is for people; only the locks count.
"""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import time
from collections.abc import Iterator, Sequence
from typing import IO

import portalocker

from rpfgsm_jax.atomic import strict_json
from rpfgsm_jax.jobs.spec import JobError, Shard

_PATIENCE = 0.5  # seconds; a refused run looks for a moment at the locks of those in its way


@contextlib.contextmanager
def hold(state: pathlib.Path, shard: Shard | None) -> Iterator[None]:
  """Keeps other runs of the same work away while the block runs."""
  wanted = [(state / "lock", shard is None)]
  if shard is not None:
    wanted.append((state / f"shard-{shard.index}-of-{shard.count}.lock", True))
  with contextlib.ExitStack() as held:
    for path, exclusive in wanted:
      file = _take(path, exclusive=exclusive, patience=_PATIENCE)
      if file is None:
        raise _in_use(state, sorted(state.glob("*lock")) if path.name == "lock" else [path])
      held.enter_context(file)
    _sign(file, shard)
    yield


@contextlib.contextmanager
def briefly(path: pathlib.Path) -> Iterator[None]:
  """Lets one process at a time through the block; the others wait."""
  file = _take(path, exclusive=True, patience=60.0)
  if file is None:
    raise JobError(f"{path} has been locked for a minute; {_describe(path)}. Try again.")
  with file:
    yield


def _take(path: pathlib.Path, *, exclusive: bool, patience: float) -> IO[str] | None:
  """Opens and locks a file; None when somebody else has it."""
  file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  the caller holds it
  kind = portalocker.LockFlags.EXCLUSIVE if exclusive else portalocker.LockFlags.SHARED
  deadline = time.monotonic() + patience
  while True:
    try:
      portalocker.lock(file, kind | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
      if time.monotonic() >= deadline:
        file.close()
        return None
      time.sleep(0.05)
    except portalocker.LockException as error:
      file.close()
      raise JobError(
        f"{path} cannot be locked ({error}): two runs could not be told apart; name an --out on a "
        "file system with locks."
      ) from error
    else:
      return file


def _sign(file: IO[str], shard: Shard | None) -> None:
  """Writes who holds a lock into its file."""
  facts = {
    "pid": os.getpid(),
    "host": platform.node(),
    "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    "work": "the whole folder" if shard is None else f"shard {shard}",
  }
  file.truncate(0)
  file.write(strict_json(facts))
  file.flush()


def _in_use(state: pathlib.Path, paths: Sequence[pathlib.Path]) -> JobError:
  """Says which of the locks are held, and by whom, as far as can be known."""
  holders = []
  for path in paths:
    file = _take(path, exclusive=False, patience=0.0)
    if file is None:
      holders.append(_describe(path))
    else:
      file.close()
  who = "; ".join(holders) or "another run has just ended"
  return JobError(
    f"{state.parent} is in use: {who}. Wait for the end of that run, or name another --out."
  )


def _describe(path: pathlib.Path) -> str:
  try:
    facts = json.loads(path.read_text(encoding="utf-8"))
    return "{work}, by process {pid} on {host} since {since}".format(**facts)
  except (OSError, ValueError, KeyError, TypeError):
    return "a run that has not said who it is"
