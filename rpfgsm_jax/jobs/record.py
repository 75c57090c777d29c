"""The private record of a job: everything that decides the bytes of its results.

`job.json` is made once, complete or not at all, by whichever process is first; every later run
reads it, takes the seed from it, and refuses other settings. Whoever has the seed can compute the
targets and draws of every photo, so the record is for its owner alone.
"""

import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from rpfgsm_jax import atomic, result_folder
from rpfgsm_jax.engine import MAX_SEED
from rpfgsm_jax.jobs import locks
from rpfgsm_jax.jobs.spec import SettingsError
from rpfgsm_jax.result_folder import FolderError, Record

STATE = ".rpfgsm"
"""A job's private folder inside its folder of results; nothing that lists images looks there."""

FORMAT = 1
RECORD = "job.json"


def open_or_create(
  state: pathlib.Path,
  settings: Mapping[str, Any],
  environment: Mapping[str, str],
  *,
  seed: int | None,
  overwrite: bool,
) -> tuple[int, list[str]]:
  """Begins a job in its existing folder `state`, or goes on with the one that was begun.

  Returns the job's seed (recorded, else `seed`, else a new one from the system's entropy) and notes
  for the user. Other settings than the recorded ones are refused with a FolderError, or take their
  place with `overwrite`; a record that is damaged is refused with a SettingsError.
  """
  path = state / RECORD
  if not path.exists():
    drawn = secrets.randbits(MAX_SEED.bit_length()) if seed is None else seed
    _create(path, _content(drawn, settings, environment))
  recorded = _read(path)
  try:
    notes = _compare(path, recorded, Record(settings, environment), seed)
  except FolderError:
    if not overwrite:
      raise
    # Shards with the same new settings all write the same.
    kept = recorded["seed"] if seed is None else seed
    atomic.write_text(path, _content(kept, settings, environment))
    return kept, ["the settings are new: what was done with other ones is done again."]
  return recorded["seed"], notes


def read_seed(
  state: pathlib.Path, settings: Mapping[str, Any], *, seed: int | None, overwrite: bool
) -> int | None:
  """Returns the seed that `open_or_create` would find or keep, or None where there is no record.

  Refuses what it would refuse, and writes nothing.
  """
  path = state / RECORD
  if not path.exists():
    return None
  recorded = _read(path)
  if not overwrite:
    _compare(path, recorded, Record(settings, recorded["environment"]), seed)
  return recorded["seed"] if seed is None else seed


def read_settings(state: pathlib.Path) -> dict[str, Any]:
  """Returns the settings that a job was begun with; none where there is no record."""
  path = state / RECORD
  return _read(path)["settings"] if path.exists() else {}


def _content(seed: int, settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
  content = {"format": FORMAT, "seed": seed, "settings": settings, "environment": environment}
  return atomic.strict_json(content, indent=2) + "\n"


def _create(path: pathlib.Path, content: str) -> None:
  """Makes a file that only its owner can read, whole, unless there is one: one winner of many."""
  with locks.briefly(path.with_suffix(".lock")):
    if path.exists():
      return
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
      with open(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise


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
  path: pathlib.Path, recorded: Mapping[str, Any], current: Record, seed: int | None
) -> list[str]:
  out, again = path.parent.parent, "--overwrite to do all again with these, or"
  if "source" in recorded["settings"]:
    raise FolderError(
      f"{out} was begun at the networks' size by an older version, which kept no record of each "
      f"photo; go on with that version, {again} name another --out."
    )
  there = Record(recorded["settings"], recorded["environment"])
  remedy = f"give the options of the first run, {again} another --out"
  notes = result_folder.compare_records(out, there, current, remedy=remedy)
  if seed is not None and seed != recorded["seed"]:
    raise FolderError(
      f"{out} was begun with another seed than --seed {seed}; leave --seed out (the recorded one "
      f"is used), {again} name another --out."
    )
  return notes
