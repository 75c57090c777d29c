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
_PROTECT = "rpfgsm protect in --out out"
_NETWORK = f"{_PROTECT} --size network"


def _results(place: Place) -> None:
  place.write("old/.rpfgsm/job.json", "{}")
  place.copy("in/coffee.jpg", "old/coffee.jpg")
  place.copy("old", "photos/old")
  place.copy("in/coffee.jpg", "photos/coffee.jpg")


def _network(place: Place, **changes: Any) -> None:
  folder = CHECKOUT / "rpfgsm_jax" / "bundled" / "scenes25" / "alexnet"
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


_PLACES = (
  "rpfgsm protect --out out", "rpfgsm protect in", "rpfgsm protect absent.jpg --out out",
  "rpfgsm protect 'in/*.tif' --out out", "rpfgsm protect in --out in/out",
  "rpfgsm protect in/sub --out in", "rpfgsm protect in --out in", "rpfgsm protect in --out texts/notes.txt",
  "rpfgsm protect in --out texts/notes.txt/out", "rpfgsm protect empty --out out",
  "rpfgsm protect texts --out out", "rpfgsm protect '' --out out", "rpfgsm protect in in --out out --dry-run",
)  # fmt: skip
_OPTIONS = (
  "--size network --format png", "--size network --overwrite", "--size network --texture",
  "--size network --held-out scenes25/densenet161", "--size network --keep-metadata",
  "--size network --report", "--size network --strict", "--size network --working-megapixels 1",
  "--size network --max-megapixels 1", "--size network --quality 80",
  "--size network --subsampling 4:2:0", "--size middle", "--preprocess places365", "--batch-size 4",
  "--batch-size auto --dry-run", "--size network --batch-size 0", "--strength medium --epsilon 8",
  "--strength huge", "--strength 0.5", "--epsilon 0", "--epsilon 300", "--quality 80",
  "--format webp --subsampling 4:4:4", "--format jpeg --quality 0", "--format jpeg --subsampling 4:1:1",
  "--format gif", "--shard 2/2", "--shard 0/0", "--shard one", "--shard 0/2 --distributed",
  "--distributed", "--engine ray --shard 0/2", "--engine ray --distributed", "--address 127.0.0.1:1",
  "--engine cloud", "--network nonsense", "--network in", "--held-out nonsense",
  "--held-out scenes25/alexnet", "--network scenes25/resnet9", "--steps 0", "--seed -1",
  "--seed 18446744073709551616", "--devices 0", "--devices 99", "--working-megapixels nonsense",
  "--working-megapixels 0.001", "--max-megapixels 0", "--max-megapixels 0.001 --dry-run", "--nonsense",
)  # fmt: skip
_EVALUATE = (
  "in absent", "absent changed", "in in", "in others", "in empty", "in empty.txt",
  "in changed --out in/found", "in changed --out changed", "in changed --out .", "in changed --out foreign",
  "in changed --out empty.txt", "in changed --train in", "in changed --train absent",
  "in changed --train empty", "in changed --train-limit 0", "in changed --network nonsense",
  "in changed --network in", "in changed --preprocess crop", "in", "in in/sub", "in/sub in",
)  # fmt: skip
_CONVERT = (
  "convert text.pth --arch resnet18 --out net", "convert empty.pth --arch alexnet --out net",
  "convert absent.pth --arch alexnet --out net", "convert text.pth --arch vgg --out net",
  "convert text.pth --arch alexnet", "convert text.pth --arch alexnet --out two.txt",
  "convert text.pth --arch alexnet --out net --classes one.txt",
  "convert text.pth --arch alexnet --out net --classes twice.txt",
  "convert text.pth --arch alexnet --out net --classes latin.txt",
  "convert text.pth --arch alexnet --out net --classes two.txt",
  "convert text.pth --arch alexnet --out net --classes absent.txt",
  "weights list", "weights fetch", "weights fetch nonsense", "weights fetch brisque --arch alexnet",
  "weights fetch places365 --arch vgg", "weights nonsense", "nonsense", "--version",
)  # fmt: skip
_EXPERIMENTS = (
  "nonsense", "demo --data in --out in/demo", "demo --data in/sub --out in", "demo --data absent --out out",
  "demo --data empty --out out", "demo --out file.txt", "demo --out other", "demo --out foreign",
  "demo --out demo", "demo --limit 0", "demo --epsilon 300 --out out", "demo --seed -1",
  "demo --seen nonsense --out out", "demo --reference densenet161 --out out",
  "demo --seen scenes25/alexnet --seen scenes25/alexnet --out out", "table3 --data in --out in",
  "table3 --data absent --out out", "table3 --data empty --out out", "table3 --out other",
  "table3 --out foreign", "table3 --out demo", "table3 --set nonsense=1 --out out",
  "table3 --set limit --out out", "table3 --set limit=x --out out", "table3 --set timed=0 --out out",
  "table3 --set command=x --out out", "table3 --keep -2", "table3 --epsilon -1 --out out",
  "table3 --budget huge", "table3 --mepp18 --data in --out out", "table3 --labels file.txt --out out",
  "table3 --data tfds:empty --out out", "table3 --data file.txt --out out",
  "table3 --train absent --out out", "table3 --train empty --out out",
  "table3 --classifiers places365 --out out", "table3 --classifiers in --out out",
  "table3 --reference densenet161 --out out", "table3 --seen scenes25/densenet161 --out out",
  "fullsize --setting nonsense --out out", "fullsize --data empty --out out", "fullsize --megapixels 0",
  "fullsize --together 0", "fullsize --out file.txt", "report absent", "report empty", "report rows",
  "report cut", "report kind", "fill absent.md", "fill document.md", "fill file.txt",
)  # fmt: skip
_HELP = (
  "rpfgsm", "rpfgsm --help", "rpfgsm protect --help", "rpfgsm evaluate --help", "rpfgsm convert --help",
  "rpfgsm weights", "rpfgsm weights --help", "rpfgsm weights list --help", "rpfgsm weights fetch --help",
  "run.py --help", "run.py demo --help", "run.py table3 --help", "run.py fullsize --help",
  "run.py report --help", "run.py fill --help",
)  # fmt: skip
_PREPARED: dict[str, tuple[Setup, tuple[str, ...]]] = {
  "results as sources": (
    _results,
    ("rpfgsm protect old --out out", "rpfgsm protect old/coffee.jpg --out out",
     "rpfgsm protect photos --out out --dry-run", "rpfgsm protect old --out out --size network"),
  ),
  "one folder at networks' size": (
    lambda place: place.copy("in", "more"),
    ("rpfgsm protect in more --out out --size network",
     "rpfgsm protect in/coffee.jpg --out out --size network",
     "rpfgsm protect absent --out out --size network", "rpfgsm protect in --out in/x --size network"),
  ),
  "foreign files in out": (
    _in_the_way,
    (f"{_PROTECT} --dry-run", f"{_PROTECT} --dry-run --overwrite", _NETWORK, f"{_NETWORK} --dry-run"),
  ),
  "a file where a folder belongs": (
    lambda place: place.write("out/sub"),
    (_PROTECT, f"{_PROTECT} --dry-run", _NETWORK),
  ),
  "another page": (lambda place: place.write("out-report.html"), (f"{_PROTECT} --report",)),
  "a damaged network": (
    lambda place: _network(place, sha256="0" * 64),
    (f"{_PROTECT} --network net", "rpfgsm evaluate in in/sub --network net"),
  ),
  "a network of another format": (
    lambda place: _network(place, format=9), (f"{_PROTECT} --network net",),
  ),
  "a network held out under another name": (
    _network, (f"{_PROTECT} --network net --held-out scenes25/alexnet",),
  ),
  "networks of other classes": (
    lambda place: _network(place, class_names=[f"scene {each}" for each in range(25)]),
    (f"{_PROTECT} --network net --network scenes25/resnet18", f"{_PROTECT} --held-out net",
     f"{_NETWORK} --network net --network scenes25/resnet18"),
  ),
  "a file that cannot be listed": (
    lambda place: (place.root / "in/loop").symlink_to("../in"), (f"{_PROTECT} --dry-run",),
  ),
}  # fmt: skip


def _refuse(place: Place, setup: Setup, commands: tuple[str, ...]) -> dict[str, Any]:
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


def _empty_and_texts(place: Place) -> None:
  (place.root / "empty").mkdir()
  place.write("texts/notes.txt")


def cases() -> dict[str, Case]:
  """Returns all cases by name."""
  options = [f"{_PROTECT} {each}" for each in _OPTIONS]
  groups: dict[str, tuple[Setup, tuple[str, ...]]] = {
    "places": (_empty_and_texts, _PLACES),
    "options 1": (_nothing, tuple(options[:25])),
    "options 2": (_nothing, tuple(options[25:])),
    "evaluate": (_folders, tuple(f"rpfgsm evaluate {each}" for each in _EVALUATE)),
    "convert and weights": (_checkpoints, tuple(f"rpfgsm {each}" for each in _CONVERT)),
    "experiments 1": (_other_experiments, tuple(f"run.py {each}" for each in _EXPERIMENTS[:26])),
    "experiments 2": (_other_experiments, tuple(f"run.py {each}" for each in _EXPERIMENTS[26:])),
    "help": (_nothing, _HELP),
    **_PREPARED,
  }
  return {
    f"refusals/{name}": functools.partial(_refuse, setup=setup, commands=commands)
    for name, (setup, commands) in groups.items()
  }
