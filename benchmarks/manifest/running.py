"""A folder of one's own for each case, in which the product's commands are run as a user would."""

import contextlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from normalize import Normalizer

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(
  os.environ.get("RPFGSM_MANIFEST_CACHE")
  or pathlib.Path(tempfile.gettempdir()) / "rpfgsm-manifest-cache"
)
_COMMANDS = {
  "rpfgsm": ["-m", "rpfgsm_jax.cli"],
  "run.py": [str(CHECKOUT / "experiments" / "run.py")],
}
_OTHERS = ("RPFGSM_", "JAX_", "XLA_", "MALLOC_", "XDG_", "MPL", "TF_", "PYTHON", "GLIBC_TUNABLES")
_LONGEST = 1800  # seconds of one command


class Place:
  """A temporary folder: commands run in it, `home` and the ledger of results are its own."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.known = Normalizer({"checkout": CHECKOUT, "cache": CACHE, "tmp": root})
    self.steps: list[dict[str, Any]] = []

  def run(self, command: str, *, timed: bool = False, keep: bool = True) -> dict[str, Any]:
    """Runs `rpfgsm ...` or `run.py ...`; returns and keeps what it printed, and its exit code."""
    ended = subprocess.run(self._arguments(command), **self._options(), timeout=_LONGEST)
    step = {
      "command": command,
      "exit": ended.returncode,
      "stdout": self._printed(ended.stdout, timed),
      "stderr": self.known.lines(ended.stderr, timed=timed),
    }
    if keep:
      self.steps.append(step)
    return step

  def kill(self, command: str, out: str) -> None:
    """Runs a command and kills it as soon as a finished result is there; `out` is where."""
    process = subprocess.Popen(self._arguments(command), **self._options())
    while process.poll() is None and not self._results(out):
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode != -signal.SIGKILL:
      raise RuntimeError(f"{command} ended by itself with {process.returncode} before its kill")

  def _results(self, out: str) -> list[pathlib.Path]:
    return [path for path in (self.root / out).rglob("[!.]*.*") if ".rpfgsm" not in path.parts]

  def _printed(self, text: str, timed: bool) -> Any:
    with contextlib.suppress(ValueError):
      found = json.loads(text)
      if isinstance(found, dict):
        for entries in (value for value in found.values() if isinstance(value, list)):
          entries.sort(key=json.dumps)
        return {"json": self.known.value(found)}
    return self.known.lines(text, timed=timed)

  def _arguments(self, command: str) -> list[str]:
    program, *rest = shlex.split(command)
    return [sys.executable, *_COMMANDS[program], *rest]

  def _options(self) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    ours = {
      "PYTHONPATH": str(CHECKOUT),
      "PYTHONDONTWRITEBYTECODE": "1",
      "HOME": str(self.root / "home"),
      "RPFGSM_CACHE": str(CACHE),
      "RPFGSM_STATE": str(self.root / "ledger"),
      "MPLCONFIGDIR": str(CACHE / "matplotlib"),
      "JAX_PLATFORMS": "cpu",
      "COLUMNS": "100",
      "LC_ALL": "C.UTF-8",
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return {
      **streams,
      "cwd": self.root,
      "env": kept | ours,
      "encoding": "utf-8",
      "errors": "backslashreplace",
    }

  def copy(self, source: str, target: str) -> None:
    """Puts a copy of a file or folder, times included, in the place of `target`."""
    there, here = self.root / source, self.root / target
    shutil.rmtree(here, ignore_errors=True)
    here.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if there.is_dir() else shutil.copy2)(there, here)

  def write(self, name: str, content: str | bytes = "somebody's") -> pathlib.Path:
    """Writes a file and returns its path."""
    path = self.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path

  def outputs(self, *folders: str) -> dict[str, Any]:
    """Returns what is in folders, and the records of those that are jobs' results."""
    found = {}
    for name in folders:
      found[f"{name}/"] = self.known.folder(self.root / name)
      state = self.known.state(self.root / name)
      if state:
        found[f"{name}/.rpfgsm"] = state
    return found


@contextlib.contextmanager
def place() -> Iterator[Place]:
  """Makes a place and removes it afterwards."""
  with tempfile.TemporaryDirectory(prefix="rpfgsm-manifest-") as root:
    for name in ("home", "ledger"):
      (pathlib.Path(root) / name).mkdir()
    yield Place(pathlib.Path(root))
