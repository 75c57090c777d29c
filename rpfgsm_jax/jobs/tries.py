"""Which work ended the process that did it, so that what always does is given up.

A try leaves a mark when it begins and takes it away when it ends, well or with an error; only a
process that dies leaves it. Marks are bytes in files beside the results, for workers anywhere.
"""

import contextlib
import hashlib
import pathlib
import shutil
from collections.abc import Iterator

from rpfgsm_jax.jobs.record import STATE

_FOLDER = "tries"


@contextlib.contextmanager
def trying(out: pathlib.Path, work: str) -> Iterator[int]:
  """Marks work as begun while the block runs; yields how many processes have died of it so far."""
  digest = hashlib.sha256(work.encode("utf-8", "surrogateescape")).hexdigest()
  mark = out / STATE / _FOLDER / digest[:32]
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


def forget(out: pathlib.Path) -> None:
  """Takes all marks away: a new run tries everything anew."""
  shutil.rmtree(out / STATE / _FOLDER, ignore_errors=True)
