"""Which work ended the process that did it, so that what always does is given up.

A try leaves a mark when it begins and takes it away when it ends, well or with an error; only a
process that dies leaves it. Marks are bytes in files beside the results, for workers anywhere.
"""

import contextlib
import hashlib
import pathlib
import shutil
from collections.abc import Iterator

from rpfgsm_jax.jobs.plan import STATE

_FOLDER = "tries"


@contextlib.contextmanager
def trying(out: pathlib.Path, work: str) -> Iterator[int]:
  """Marks work as begun while the block runs.

  Args:
    out: the folder of results.
    work: what tells it from other work.

  Yields:
    How many processes have died of it so far, one after the other.

  Raises:
    OSError: it could not be marked.
  """
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
  """Takes all marks away: a new run tries everything anew.

  Args:
    out: the folder of results.
  """
  shutil.rmtree(out / STATE / _FOLDER, ignore_errors=True)
