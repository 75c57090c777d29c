"""A results folder: whose it is, which rows it has, and appending those that it has not.

`rows.jsonl` begins with all that must be equal for rows to belong together; `run.json` is the
private record: whoever has its seed can compute the targets.
"""

import dataclasses
import json
import pathlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import rpfgsm_jax as rp
from experiments import photos, rows
from experiments.lineup import Contender
from rpfgsm_jax import result_folder
from rpfgsm_jax.randomness import unusual_settings

ROWS, RECORD = "rows.jsonl", "run.json"
Say = Callable[[str], None]

# Of the first row: what decides no number, and what may decide the last bits.
_NO_SETTINGS = ("kind", "command", "photos", "seed_given")
_ENVIRONMENT = ("device", "versions")


class Journal:
  """The rows of a folder: what is there already, and appending what is not."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.attacks: dict[str, rows.Row] = {}
    self.training: set[str] = set()
    self.timed: set[tuple[str, str]] = set()
    self.failures: dict[str, str] = {}  # photograph -> why
    self._commands: set[str] = set()
    self._notes: set[str] = set()
    self._photos: dict[str, set[str]] = {}
    for row in rows.read_rows(path):
      self._remember(row)

  def _remember(self, row: rows.Row) -> None:
    kind = row["kind"]
    if kind == "photo":
      name = row["attack"] if "attack" in row else row["setting"]
      self._photos.setdefault(name, set()).add(row["photo"])
    elif kind == "attack":
      self.attacks[row["name"]] = row
    elif kind == "training":
      self.training.add(row["photo"])
    elif kind == "timing":
      self.timed.add((row["attack"], row["photo"]))
    elif kind == "failure":
      self.failures[row["photo"]] = row["message"]
    elif kind == "note":
      self._notes.add(row["message"])
    elif kind in ("run", "command"):
      self._commands.add(row.get("command"))

  @property
  def empty(self) -> bool:
    """Whether there is no row of any photograph."""
    return not self._photos

  def has(self, attack: str, photo: str) -> bool:
    """Returns whether there is a row of a photograph behind an attack."""
    return photo in self._photos.get(attack, ())

  def count(self, wanted: dict[str, int]) -> int:
    """Returns how many rows of the wanted attacks are there, of each at most as many as wanted."""
    return sum(min(len(self._photos.get(name, ())), limit) for name, limit in wanted.items())

  def append(self, lines: Sequence[rows.Row]) -> None:
    """Appends rows in one write."""
    rows.append_rows(self.path, lines)
    for line in lines:
      self._remember(line)

  def introduce(self, contender: Contender) -> None:
    """Writes the row of a contender before its first photograph."""
    if contender.name not in self.attacks:
      self.append([_attack_row(contender)])

  def note_command(self, command: str) -> None:
    """Writes a command once in the life of a folder."""
    if command not in self._commands:
      self.append([{"kind": "command", "command": command}])

  def note_batch(self, batch: photos.Batch, say: Say) -> None:
    """Says which files cannot be read, and writes that and what was lost in reading once."""
    lines = [{"kind": "note", "message": note} for note in batch.notes if note not in self._notes]
    for name, reason in batch.failures:
      say(f"left out: {reason}")
      if name not in self.failures:
        lines.append({"kind": "failure", "photo": name, "message": reason})
    if lines:
      self.append(lines)


def _with_jax_settings(header: rows.Row) -> rows.Row:
  """Returns a first row with JAX's settings that may change what is computed, where any is set."""
  unusual = unusual_settings()
  return header | ({"jax": unusual} if unusual else {})


def check_folder(place: pathlib.Path, header: rows.Row, seed: int | None) -> tuple[int, list[str]]:
  """Returns the seed to go on with and notes; refuses another experiment's or settings' folder."""
  name = header["experiment"]
  result_folder.check_place(place, f"'{name}'", lambda folder: made_by(folder) == name)
  earlier = _first_row(place)
  if earlier is None:
    return (secrets.randbits(32) if seed is None else seed), []
  begun = _read_record(place).get("seed", earlier.get("seed"))
  if begun is None:
    raise result_folder.FolderError(
      f"{place} must hold {RECORD} beside its rows, for it has their seed; name another --out."
    )
  if seed not in (None, begun):  # the message does not show a seed that is private
    raise result_folder.FolderError(
      f"the result in {place} was begun with another seed, which its {RECORD} has; give that one, "
      "or name another --out."
    )
  what = f"the result in {place}"
  return begun, result_folder.compare_records(
    what, _settings(earlier), _settings(_with_jax_settings(header))
  )


def made_by(place: pathlib.Path) -> str | None:
  """Returns the experiment whose result a folder is; None if it is none."""
  # `fullsize` kept no private record at first.
  return (_read_record(place) or _first_row(place) or {}).get("experiment")


def open_journal(
  place: pathlib.Path, header: rows.Row, seed: int, config: Any, say: Say
) -> Journal:
  """Returns a folder's rows, repaired if they were cut, begun if there were none."""
  path = place / ROWS
  _, notes = check_folder(place, header, seed)
  for note in filter(None, (rows.recover_rows(path), *notes)):
    say(note)
  if not path.exists() or not path.stat().st_size:
    record = {"experiment": header["experiment"], "seed": seed, "config": as_json(config)}
    rows.write_private(place / RECORD, record)
    rows.append_rows(path, [_with_jax_settings(header)])
  journal = Journal(path)
  journal.note_command(config.command)
  return journal


def check_same(known: dict[str, rows.Row], contenders: Sequence[Contender]) -> None:
  """Refuses a contender whose rows in the folder were made with another config."""
  for contender in contenders:
    now = json.loads(json.dumps(_attack_row(contender)))
    earlier = known.get(contender.name, now)
    differs = [name for name in ("networks", "config") if earlier[name] != now[name]]
    if differs:
      raise ValueError(
        f"--out holds rows of {contender.name} with another {' and another '.join(differs)}; name "
        "another folder."
      )


def as_json(config: Any) -> Any:
  """Returns a config as JSON holds it, the same in every process."""
  if isinstance(config, rp.defenses.DefenseBank):
    return [[family.name, *family.parameters] for family in config.families]
  if dataclasses.is_dataclass(config):
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if values.get("random_start") is False:  # rows of before do without, and mean this
      del values["random_start"]
    return {name: as_json(value) for name, value in values.items()}
  return str(config) if isinstance(config, pathlib.Path) else config


def _attack_row(contender: Contender) -> rows.Row:
  return {
    "kind": "attack",
    **contender.describe(),
    "networks": [network.title for network in contender.networks],
    "config": as_json(contender.config),
  }


def _settings(header: rows.Row) -> result_folder.Record:
  return result_folder.Record(
    settings={k: v for k, v in header.items() if k not in (*_NO_SETTINGS, *_ENVIRONMENT)},
    environment={name: header.get(name) for name in _ENVIRONMENT},
  )


def _read_record(place: pathlib.Path) -> rows.Row:
  """The private record; empty where there is none that can be read."""
  try:
    record = json.loads((place / RECORD).read_bytes())
  except (OSError, ValueError):
    return {}
  return record if isinstance(record, dict) else {}


def _first_row(place: pathlib.Path) -> rows.Row | None:
  """The first row; None where there is none or it was cut."""
  path = place / ROWS
  if not path.is_file() or not path.stat().st_size:
    return None
  with open(path, "rb") as file:
    whole = file.readline().endswith(b"\n")
  return rows.read_run(path)[0] if whole else None
