"""Commands that are refused, each in a folder of its own: exit codes and messages; all help."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pictures
from protect_cases import Case
from running import CHECKOUT, Place

Setup = Callable[[Place], object]
COMMANDS = pathlib.Path(__file__).with_name("refusals.txt")


def _results(place: Place) -> None:
  place.write("old/.rpfgsm/job.json", "{}")
  place.copy("in/coffee.jpg", "old/coffee.jpg")
  place.copy("old", "photos/old")
  place.copy("in/coffee.jpg", "photos/coffee.jpg")


def _network(place: Place, **changes: Any) -> None:
  folder = next((CHECKOUT / "rpfgsm_jax").rglob("scenes25/alexnet"))
  about = json.loads((folder / "config.json").read_bytes()) | changes
  place.write("net/config.json", json.dumps(about))
  place.write(f"net/{about['weights']}", (folder / about["weights"]).read_bytes())


def _in_the_way(place: Place) -> None:
  place.copy("in/gray.jpg", "out/coffee.png")
  (place.root / "out/gray.png").mkdir()
  (place.root / "out/turned.png").symlink_to("elsewhere.png")


def _folders(place: Place) -> None:
  pictures.make_changed(place.root / "in", place.root / "changed")
  place.write("foreign/mine.txt")
  place.write("empty.txt")
  (place.root / "empty").mkdir()
  place.write("others/nothing-alike.png", (place.root / "in/clear.png").read_bytes())


def _checkpoints(place: Place) -> None:
  place.write("text.pth", "these are no weights\n" * 9)
  place.write("empty.pth", b"")
  place.write("one.txt", "kitchen\n")
  place.write("twice.txt", "kitchen\nsky\nkitchen\n")
  place.write("latin.txt", b"caf\xe9\nsky\n")
  place.write("two.txt", "kitchen\nsky\n")


def _nothing(place: Place) -> None:
  """Six photos are enough."""


def _empty_and_texts(place: Place) -> None:
  (place.root / "empty").mkdir()
  place.write("texts/notes.txt")


def _other_experiments(place: Place) -> None:
  place.write("other/run.json", json.dumps({"experiment": "another", "seed": 1}))
  place.write("foreign/mine.txt")
  place.write("demo/run.json", json.dumps({"experiment": "demo", "seed": 1}))
  place.write("demo/mine.txt")
  place.write("rows/rows.jsonl", '{"kind": "photo"}\n')
  place.write("cut/rows.jsonl", '{"kind": "run", "experiment": "study"')
  place.write("kind/rows.jsonl", '{"kind": "run", "experiment": "another"}\n')
  place.write("file.txt")
  place.write("document.md", "<!-- table nothing -->\n")
  (place.root / "empty").mkdir()


_PREPARED: dict[str, Setup] = {
  "places": _empty_and_texts,
  "evaluate": _folders,
  "convert and weights": _checkpoints,
  "experiments 1": _other_experiments,
  "experiments 2": _other_experiments,
  "results as sources": _results,
  "one folder at networks' size": lambda place: place.copy("in", "more"),
  "foreign files in out": _in_the_way,
  "a file where a folder belongs": lambda place: place.write("out/sub"),
  "another page": lambda place: place.write("out-report.html"),
  "a damaged network": lambda place: _network(place, sha256="0" * 64),
  "a network of another format": lambda place: _network(place, format=9),
  "a network held out under another name": _network,
  "networks of other classes": lambda place: _network(
    place, class_names=[f"scene {each}" for each in range(25)]
  ),
  "a loop of folders": lambda place: (place.root / "in/loop").symlink_to("../in"),
}


def _refuse(place: Place, setup: Setup, commands: list[str]) -> dict[str, Any]:
  pictures.make_photos(place.root / "in")
  setup(place)
  for command in commands:
    before = _everything(place.root)
    step = place.run(command)
    made = sorted(_everything(place.root) - before)
    if made:
      step["made"] = made
    for name in reversed(made):
      path = place.root / name
      path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
  return {}


def _everything(root: pathlib.Path) -> set[str]:
  paths = {path.relative_to(root).as_posix() for path in root.rglob("*")}
  return {path for path in paths if not path.startswith(("home/", "ledger/"))}


def cases() -> dict[str, Case]:
  """Returns all cases by name."""
  found: dict[str, list[str]] = {}
  for line in COMMANDS.read_text(encoding="utf-8").splitlines():
    if line.startswith("["):
      commands = found.setdefault(line.strip("[]"), [])
    elif line and not line.startswith("#"):
      commands.append(line)
  return {
    f"refusals/{name}": functools.partial(
      _refuse, setup=_PREPARED.get(name, _nothing), commands=commands
    )
    for name, commands in found.items()
  }
