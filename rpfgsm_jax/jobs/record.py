"""The private record of a job: everything that decides the bytes of its results.

`job.json` is made once, complete or not at all, by whichever process is first; every later run
reads it, takes the seed from it, and refuses other settings. Whoever has the seed can compute the
targets and draws of every photo, so the record is for its owner alone.
"""

import json
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from rpfgsm_jax import atomic, result_folder
from rpfgsm_jax.engine.protector import MAX_SEED
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
  path, notes = state / RECORD, []
  with locks.briefly(path.with_suffix(".lock")):
    recorded = read(state)
    if recorded is not None:
      try:
        return recorded["seed"], _compare(state, recorded, settings, environment, seed)
      except FolderError:
        if not overwrite:
          raise
      seed = recorded["seed"] if seed is None else seed
      notes = ["the settings are new: what was done with other ones is done again."]
    elif seed is None:
      seed = secrets.randbits(MAX_SEED.bit_length())
    content = {"format": FORMAT, "seed": seed, "settings": settings, "environment": environment}
    with atomic.replacing(path) as temporary:
      temporary.chmod(0o600)
      temporary.write_text(atomic.strict_json(content, indent=2) + "\n", encoding="utf-8")
  return seed, notes


def read_seed(
  state: pathlib.Path, settings: Mapping[str, Any], *, seed: int | None, overwrite: bool
) -> int | None:
  """Returns the seed that `open_or_create` would find or keep, or None where there is no record.

  Refuses what it would refuse, and writes nothing.
  """
  recorded = read(state)
  if recorded is None:
    return None
  if not overwrite:
    _compare(state, recorded, settings, recorded["environment"], seed)
  return recorded["seed"] if seed is None else seed


def read(state: pathlib.Path) -> dict[str, Any] | None:
  """Returns what a job was begun with; None where there is no record."""
  path, remedy = state / RECORD, "restore it, or name another --out"
  try:
    record = json.loads(path.read_bytes())
    whole = isinstance(record, dict) and isinstance(record.get("seed"), int)
    whole = whole and all(isinstance(record.get(k), dict) for k in ("settings", "environment"))
  except (FileNotFoundError, NotADirectoryError):
    return None
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
  state: pathlib.Path,
  recorded: Mapping[str, Any],
  settings: Mapping[str, Any],
  environment: Mapping[str, str],
  seed: int | None,
) -> list[str]:
  out, again = state.parent, "--overwrite to do all again with these, or"
  if "source" in recorded["settings"]:
    raise FolderError(
      f"{out} was begun at the networks' size by an older version, which kept no record of each "
      f"photo; go on with that version, {again} name another --out."
    )
  there = Record(recorded["settings"], recorded["environment"])
  remedy = f"give the options of the first run, {again} another --out"
  notes = result_folder.compare_records(out, there, Record(settings, environment), remedy=remedy)
  if seed is not None and seed != recorded["seed"]:
    raise FolderError(
      f"{out} was begun with another seed than --seed {seed}; leave --seed out (the recorded one "
      f"is used), {again} name another --out."
    )
  return notes
