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

from rpfgsm_jax import atomic
from rpfgsm_jax.jobs import locks
from rpfgsm_jax.jobs.errors import SettingsError
from rpfgsm_jax.protector import MAX_SEED

FORMAT = 1
RECORD = "job.json"
_ABSENT = "nothing"
_SIZE = {"size": "network"}  # what records without a size mean


def settle(
  state: pathlib.Path,
  settings: Mapping[str, Any],
  environment: Mapping[str, str],
  *,
  seed: int | None,
  occupied: Callable[[], str | None] = lambda: None,
  overwrite: bool | None = None,
) -> tuple[int, list[str]]:
  """Begins a job, or checks that this run goes on with the one that was begun.

  Args:
    state: the folder of the record; it exists.
    settings: what decides the results; JSON values, mappings may be nested.
    environment: what may decide last bits: versions, the kind of device.
    seed: what the user asked for; None: the recorded one, or a new one from the system's entropy.
    occupied: names a file that stands where a result belongs, if there is one.
    overwrite: other settings than the recorded ones take their place; None: there is no such option
      to be named.

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
      raise occupied_by(foreign, state)
    drawn = secrets.randbits(MAX_SEED.bit_length()) if seed is None else seed
    _create(path, _content(drawn, settings, environment))
  recorded = _read(path)
  try:
    _compare(path, recorded, settings, seed, overwrite)
  except SettingsError:
    if not overwrite:
      raise
    # Shards that are told the same at once all write the same.
    kept = recorded["seed"] if seed is None else seed
    atomic.write_text(path, _content(kept, settings, environment))
    return kept, ["the settings are new: what was done with other ones is done again."]
  return recorded["seed"], _notes(recorded["environment"], environment)


def look(
  state: pathlib.Path,
  settings: Mapping[str, Any],
  *,
  seed: int | None,
  overwrite: bool | None = None,
) -> int | None:
  """Returns the seed that `settle` would find or keep, and writes nothing.

  See `settle` for the arguments.

  Returns:
    The seed; None where there is no record.

  Raises:
    SettingsError: `settle` would refuse.
  """
  path = state / RECORD
  if not path.exists():
    return None
  recorded = _read(path)
  if not overwrite:
    _compare(path, recorded, json.loads(json.dumps(settings)), seed, overwrite)
  return recorded["seed"] if seed is None else seed


def occupied_by(foreign: str, state: pathlib.Path) -> SettingsError:
  """Returns the refusal of a folder without a record, where a file stands in a result's place.

  Args:
    foreign: the file.
    state: the folder of the record.

  Returns:
    The error.
  """
  return SettingsError(
    f"--out must be new, or hold the results of this job, got {foreign} without {state / RECORD}; "
    "such a file would be taken for a protected photo: name another folder."
  )


def recorded_settings(state: pathlib.Path) -> dict[str, Any]:
  """Returns the settings that a job was begun with; none where there is no record.

  Args:
    state: the folder of the record; need not exist.

  Returns:
    JSON values, mappings may be nested.

  Raises:
    SettingsError: the record is unusable.
  """
  path = state / RECORD
  return _read(path)["settings"] if path.exists() else {}


def _content(seed: int, settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
  content = {
    "format": FORMAT,
    "seed": seed,
    "settings": settings,
    "environment": dict(environment),
  }
  return json.dumps(content, indent=2) + "\n"


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
  path: pathlib.Path,
  recorded: Mapping[str, Any],
  settings: Mapping[str, Any],
  seed: int | None,
  overwrite: bool | None,
) -> None:
  there, here = (dict(_fields({**_SIZE, **each})) for each in (recorded["settings"], settings))
  again = "" if overwrite is None else "--overwrite to do all again with these, "
  for field in [*there, *(name for name in here if name not in there)]:
    if there.get(field, _ABSENT) != here.get(field, _ABSENT):
      raise SettingsError(
        f"{path.parent.parent} was begun with {field} = {there.get(field, _ABSENT)}, got "
        f"{here.get(field, _ABSENT)}; give the options of the first run, {again}or another --out."
      )
  if seed is not None and seed != recorded["seed"]:
    raise SettingsError(
      f"{path.parent.parent} was begun with another seed than --seed {seed}; leave --seed out (the "
      f"recorded one is used), {again}or name another --out."
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
