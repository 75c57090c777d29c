"""What every benchmark's rows have in common, and where they go."""

import json
import pathlib
import platform
import subprocess
from typing import Any

import jax

FOLDER = pathlib.Path(__file__).with_name("rows")


def append(name: str, row: dict[str, Any]) -> None:
  """Prints a row and appends it to `rows/NAME.jsonl`, with what a reader needs to place it."""
  row = {"benchmark": name, **row, **versions()}
  print(json.dumps(row), flush=True)
  FOLDER.mkdir(exist_ok=True)
  with open(FOLDER / f"{name}.jsonl", "a", encoding="ascii") as file:
    file.write(json.dumps(row) + "\n")


def versions() -> dict[str, str]:
  """Returns the commit, the libraries and the device."""
  git = ["git", "rev-parse", "--short", "HEAD"]
  return {
    "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    "jax": jax.__version__,
    "device": jax.devices()[0].device_kind,
    "python": platform.python_version(),
  }
