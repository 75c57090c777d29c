"""The rows of a study's folder: what is there already, and appending what is not."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import rpfgsm_jax as rp
from experiments import rows
from experiments.lineup import Contender

Say = Callable[[str], None]


class Journal:
  """The rows of a folder: what is there already, and appending what is not."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.attacks: dict[str, rows.Row] = {}
    self.commands: set[str] = set()
    self.training: set[str] = set()
    self.timed: set[tuple[str, str]] = set()
    self._photos: dict[str, set[str]] = {}
    self._failed: set[str] = set()
    for row in rows.read_rows(path):
      self._remember(row)

  def _remember(self, row: rows.Row) -> None:
    kind = row["kind"]
    if kind == "photo":
      self._photos.setdefault(row["attack"], set()).add(row["photo"])
    elif kind == "attack":
      self.attacks[row["name"]] = row
    elif kind == "command":
      self.commands.add(row["command"])
    elif kind == "training":
      self.training.add(row["photo"])
    elif kind == "timing":
      self.timed.add((row["attack"], row["photo"]))
    elif kind == "failure":
      self._failed.add(row["photo"])

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
      self.append([attack_row(contender)])

  def note_failure(self, name: str, reason: str, say: Say) -> None:
    """Says that a file cannot be read, and writes it once in the life of a folder."""
    say(f"left out: {reason}")
    if name not in self._failed:
      self.append([{"kind": "failure", "photo": name, "message": reason}])


def attack_row(contender: Contender) -> rows.Row:
  """Returns the row that says what a contender is."""
  return {
    "kind": "attack",
    **contender.describe(),
    "networks": [network.title for network in contender.networks],
    "config": describe(contender.config),
  }


def describe(config: Any) -> Any:
  """Returns a config as JSON holds it, the same in every process."""
  if isinstance(config, rp.defenses.DefenseBank):
    return [[family.name, *family.parameters] for family in config.families]
  if dataclasses.is_dataclass(config):
    return {
      field.name: describe(getattr(config, field.name)) for field in dataclasses.fields(config)
    }
  return config


def check_same(known: dict[str, rows.Row], contenders: Sequence[Contender]) -> None:
  """Refuses a contender whose rows in the folder were made with another config."""
  for contender in contenders:
    now = json.loads(json.dumps(attack_row(contender)))
    earlier = known.get(contender.name, now)
    differs = [name for name in ("networks", "config") if earlier[name] != now[name]]
    if differs:
      raise ValueError(
        f"--out holds rows of {contender.name} with another {' and another '.join(differs)}; name "
        "another folder."
      )
