"""`experiments/run.py`: the demo, tables of a study in one folder, full size, passes."""

import shutil
from typing import Any

import pictures
from protect_cases import Case
from running import Place

TWO = "--seen scenes25/alexnet --seen scenes25/resnet18 --unseen scenes25/resnet50"
STUDY = (
  f"--data in --train train --train-limit 3 --limit 2 --slow-limit 1 --seed 3 --epsilon 4 "
  f"--batch-size 2 --keep 1 {TWO} --reference alexnet"
)


def _demo(place: Place) -> dict[str, Any]:
  pictures.make_classes(place.root / "in")
  place.write("in/sky/broken.jpg")
  sizes = "--limit 4 --epsilon 4 --batch-size 2"
  place.run(f"run.py demo --data in --out demo --seed 3 {sizes} {TWO}", timed=True)
  found = place.outputs("demo")
  place.run("run.py report demo", timed=True)
  place.run("run.py --data in --out demo --seed 4 --limit 1 --epsilon 2 --seen scenes25/alexnet "
            "--unseen scenes25/resnet18", timed=True)  # fmt: skip
  return found | {"made anew": place.outputs("demo")}


def _sample_demo(place: Place) -> dict[str, Any]:
  place.run(
    "run.py --out demo --seed 3 --limit 2 --epsilon 2 --seen scenes25/alexnet "
    "--unseen scenes25/resnet18", timed=True
  )  # fmt: skip
  return place.outputs("demo")


def _study(place: Place) -> dict[str, Any]:
  """Tables in one folder: what one has computed serves the next."""
  pictures.make_classes(place.root / "in")
  pictures.make_photos(place.root / "train")
  for name in ("table3", "table5", "claims"):
    place.run(f"run.py {name} --out study {STUDY}", timed=True)
  shutil.copytree(place.root / "study", place.root / "first")
  again = f"run.py table5 --out study {STUDY}"
  for old, new in (
    ("", ""), ("--seed 3", "--seed 4"), ("--epsilon 4", "--epsilon 5"),
    ("--data in", "--data train"), ("--limit 2", "--limit 1"),
    ("--reference alexnet", "--reference resnet18"),
    ("--unseen scenes25/resnet50", "--unseen scenes25/densenet161"),
    ("--keep 1", "--set budget=paper"), ("--train train", "--preprocess places365"),
  ):  # fmt: skip
    place.run(again.replace(old, new) if old else again, timed=True)
  place.run(f"run.py demo --out study --data in {TWO}")
  place.run("run.py fullsize --out study --data in --limit 1")
  report = place.root / "report"
  shutil.copytree(place.root / "study", report)
  place.run("run.py report report", timed=True)
  made = sorted(path.name for path in report.iterdir())
  return place.outputs("first") | {"files after report": made}


def _passes(place: Place) -> dict[str, Any]:
  pictures.make_classes(place.root / "in")
  chosen = "--seen scenes25/alexnet --unseen scenes25/resnet18 --keep 0"
  place.run(
    f"run.py passes --data in --out passes --limit 1 --seed 3 --epsilon 4 {chosen}", timed=True
  )  # fmt: skip
  return place.outputs("passes")


def _fullsize(place: Place) -> dict[str, Any]:
  pictures.make_photos(place.root / "in")
  settings = ("photo itself", "random noise, eps 8", "even, eps 4", "at the networks' size, eps 4")
  chosen = " ".join(f'--setting "{each}"' for each in settings)
  base = f"run.py fullsize --data in --out full --limit 2 --megapixels 0.02 {chosen}"
  place.run(base, timed=True)
  found = place.outputs("full")
  place.run(base, timed=True)
  place.run(base.replace("0.02", "0.03"), timed=True)
  place.run(f"{base} --seed 2", timed=True)
  place.run("run.py report full", timed=True)
  return found


def cases() -> dict[str, Case]:
  """Returns all cases by name, the longest first."""
  return {
    "experiments/study": _study,
    "experiments/passes": _passes,
    "experiments/demo": _demo,
    "experiments/demo on samples": _sample_demo,
    "experiments/fullsize": _fullsize,
  }
