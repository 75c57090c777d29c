"""The private record of a job: everything that decides the bytes of its results.

`job.json` is made once, complete or not at all, by whichever process is first; every later run
reads it, takes the seed from it, and refuses other settings. Whoever has the seed can compute the
targets and draws of every photo, so the record is for its owner alone.
"""

import json
import os
import pathlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rpfgsm_jax.jobs import locks
from rpfgsm_jax.jobs.errors import SettingsError

FORMAT = 1
RECORD = "job.json"
MAX_SEED = 2**32 - 1  # JAX without 64-bit numbers takes no more from a seed
_ABSENT = "nothing"


def settle(
  state: pathlib.Path,
  settings: Mapping[str, Any],
  environment: Mapping[str, str],
  *,
  seed: int | None,
  occupied: Callable[[], str | None],
) -> tuple[int, list[str]]:
  """Begins a job, or checks that this run goes on with the one that was begun.

  Args:
    state: the folder of the record; it exists.
    settings: what decides the results; JSON values, mappings may be nested.
    environment: what may decide last bits: versions, the kind of device.
    seed: what the user asked for; None: the recorded one, or a new one from the system's entropy.
    occupied: names a file that stands where a result belongs, if there is one.

  Returns:
    The seed of the job, and notes for the user.

  Raises:
    SettingsError: the job was begun with other settings, its record is unusable, or there is none
      while files stand where results belong.
  """
  path = state / RECORD
  settings = json.loads(json.dumps(settings))  # as it will be read
  if not path.exists():
    # Asked in this order: a record that another process makes meanwhile comes before its results.
    foreign = occupied()
    if foreign is not None and not path.exists():
      raise SettingsError(
        f"--out must be new, or hold the results of this job, got {foreign} without {path}; such "
        "a file would be taken for a protected photo: name another folder."
      )
    content = {
      "format": FORMAT,
      "seed": secrets.randbits(32) if seed is None else seed,
      "settings": settings,
      "environment": dict(environment),
    }
    _create(path, json.dumps(content, indent=2) + "\n")
  recorded = _read(path)
  _compare(path, recorded, settings, seed)
  return recorded["seed"], _notes(recorded["environment"], environment)


def _create(path: pathlib.Path, content: str) -> None:
  """Makes a file that only its owner can read, whole, unless there is one: one winner of many."""
  temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")
  descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
  try:
    with open(descriptor, "w", encoding="utf-8") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    try:
      os.link(temporary, path)
    except FileExistsError:
      return
    except OSError:  # no hard links: FAT, some network shares
      with locks.briefly(path.with_suffix(".lock")):
        if not path.exists():
          os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _read(path: pathlib.Path) -> dict[str, Any]:
  remedy = "restore it, or name another --out"
  try:
    record = json.loads(path.read_bytes())
    whole = isinstance(record, dict) and isinstance(record.get("seed"), int)
    whole = whole and all(isinstance(record.get(k), dict) for k in ("settings", "environment"))
  except ValueError:
    whole = False
  if not whole:
    raise SettingsError(f"{path} must be the record of a job, but it is damaged; {remedy}.")
  if record.get("format") != FORMAT:
    raise SettingsError(
      f"{path} must have format {FORMAT}, got {record.get('format')!r}; go on with the version "
      "that began the job, or name another --out."
    )
  return record


def _compare(
  path: pathlib.Path, recorded: Mapping[str, Any], settings: Mapping[str, Any], seed: int | None
) -> None:
  there, here = dict(_fields(recorded["settings"])), dict(_fields(settings))
  for field in [*there, *(name for name in here if name not in there)]:
    if there.get(field, _ABSENT) != here.get(field, _ABSENT):
      raise SettingsError(
        f"{path.parent.parent} was begun with {field} = {there.get(field, _ABSENT)}, got "
        f"{here.get(field, _ABSENT)}; give the options of the first run, or another --out."
      )
  if seed is not None and seed != recorded["seed"]:
    raise SettingsError(
      f"{path.parent.parent} was begun with another seed than --seed {seed}; leave --seed out (the "
      "recorded one is used), or name another --out."
    )


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
  """Yields the leaves of nested mappings and lists with their dotted names."""
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
      yield from _fields(inner, f"{name}.{key}" if name else str(key))
  else:
    yield name, value


def _notes(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
  changed = [
    f"{name} {there.get(name, _ABSENT)} -> {here.get(name, _ABSENT)}"
    for name in [*there, *(name for name in here if name not in there)]
    if there.get(name) != here.get(name)
  ]
  if not changed:
    return []
  return [f"the job was begun elsewhere ({'; '.join(changed)}): last bits of results may differ."]
