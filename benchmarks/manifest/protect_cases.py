"""`rpfgsm protect`: every form of output, whole, in shares and killed; its options; old folders."""

import functools
import json
import re
import shutil
from collections.abc import Callable
from typing import Any

import pictures
from running import Place

Case = Callable[[Place], dict[str, Any]]
NETWORKS = "--network scenes25/resnet18 --network scenes25/alexnet"
CHEAP = "--network scenes25/alexnet --steps 1 --seed 7"
FORMS = {
  "png": "--format png",
  "webp": "--format webp",
  "jpeg": "--format jpeg",
  "network": "--size network",
}
AIMS = {"untargeted": "", "targeted": "--targeted"}
COUNTS = (
  (re.compile(r"^\d+ done( \([^)]*\))?"), "<some> done"),
  (re.compile(r"\b\d+ skipped"), "<others> skipped"),
  (re.compile(r"^\d+ to do;"), "<some> to do;"),
)


def _command(form: str, aim: str) -> str:
  command = f"rpfgsm protect in --out out --steps 4 --seed 7 {NETWORKS} {FORMS[form]} {AIMS[aim]}"
  return " ".join(command.split())


def _whole(place: Place, form: str, aim: str) -> None:
  place.run(_command(form, aim))


def _shards(place: Place, form: str, aim: str) -> None:
  for shard in ("0/2", "1/2"):
    place.run(f"{_command(form, aim)} --shard {shard}")


def _killed(place: Place, form: str, aim: str) -> None:
  command = _command(form, aim)
  if form == "network":
    command += " --batch-size 2"  # else all files come at once
  for _ in range(5):
    shutil.rmtree(place.root / "out", ignore_errors=True)
    place.kill(command, "out")
    step = place.run(command, keep=False)
    if not any(line.endswith("6 skipped") for line in step["stdout"]):
      break  # else all was done before the kill
  for stream in ("stdout", "stderr"):
    step[stream] = [_without_counts(line) for line in step[stream] if "protected: " not in line]
  place.steps.append(step)


def _without_counts(line: str) -> str:
  for pattern, replacement in COUNTS:
    line = pattern.sub(replacement, line)
  return line


def _form(place: Place, way: Callable[[Place, str, str], None], form: str, aim: str):
  pictures.make_photos(place.root / "in")
  way(place, form, aim)
  return place.outputs("out")


def _options(place: Place) -> dict[str, Any]:
  """One run after the other, each with some options of its own."""
  pictures.make_photos(place.root / "in")
  pictures.make_photos(place.root / "again" / "in")
  place.write("in/notes.txt")
  place.write("in/broken.jpg")
  run = "rpfgsm protect"
  place.run(f"{run} in --out all --steps 2 --seed 7 --dry-run")
  place.run(f"{run} in --out all --steps 2 --seed 7 --json --report --strict")
  place.run(f"{run} in --out all --steps 2 --seed 7 --dry-run --json")
  (place.root / "in/broken.jpg").unlink()
  place.run(f"{run} in --out all --steps 2 --json --strict --report")
  place.run(f"{run} in/coffee.jpg again/in 'in/s*/*.jpg' --out several {CHEAP}")
  place.run(f"{run} in again/in --out two {CHEAP} --dry-run")
  one = f"{run} in/turned.jpg in/clear.png in/gray.jpg"
  place.run(
    f"{one} --out metadata {CHEAP} --keep-metadata --strength strong --held-out scenes25/resnet18"
  )
  place.run(f"{one} --out texture {CHEAP} --texture --epsilon 12 --working-megapixels 0.01")
  place.run(
    f"{one} --out jpeg {CHEAP} --format jpeg --quality 70 --subsampling 4:4:4 --strength gentle "
    "--working-megapixels own"
  )  # fmt: skip
  place.run(f"{run} in --out crop {CHEAP} --size network --preprocess places365 --epsilon 6 --json")
  place.run(
    f"{run} in --out crop {CHEAP} --size network --preprocess places365 --epsilon 6 --dry-run"
  )
  page = place.known.file(place.root / "all-report.html")
  return place.outputs("all", "several", "metadata", "texture", "jpeg", "crop") | {"page": page}


def _bad_photos(place: Place) -> dict[str, Any]:
  pictures.make_bad(place.root / "bad")
  run = "rpfgsm protect bad --out"
  place.run(f"{run} out {CHEAP} --format webp --max-megapixels 0.6 --dry-run")
  place.run(f"{run} out {CHEAP} --format webp --max-megapixels 0.1 --json --strict")
  place.run(f"{run} jpeg {CHEAP} --format jpeg --max-megapixels 0.1 --report")
  place.run(f"{run} network {CHEAP} --size network --dry-run")
  place.run(f"{run} network {CHEAP} --size network")
  return place.outputs("out", "jpeg", "network")


def _old_photos(place: Place) -> dict[str, Any]:
  """What becomes of a folder of results when something is not as it was."""
  pictures.make_photos(place.root / "in")
  base = f"rpfgsm protect in/coffee.jpg --out out {CHEAP}"
  unseeded = base.replace(" --seed 7", "")
  place.run(base)
  shutil.move(place.root / "out", place.root / "base")
  job, (photo,) = (
    place.root / "base/.rpfgsm/job.json",
    (place.root / "base/.rpfgsm/photos").iterdir(),
  )

  def after(command: str, change: Callable[[], object] = lambda: None) -> None:
    place.copy("base", "out")
    change()
    place.run(command)

  for options in ("", " --strict", " --overwrite", " --dry-run"):
    after(unseeded + options)
  for options in (
    "--texture", "--keep-metadata", "--format jpeg", "--epsilon 4", "--targeted",
    "--held-out scenes25/resnet50", "--network scenes25/resnet18", "--working-megapixels own",
  ):  # fmt: skip
    after(f"{unseeded} {options}")
  after(f"{unseeded} --epsilon 4 --dry-run")
  after(f"{unseeded} --epsilon 4 --overwrite --dry-run")
  after(f"{unseeded} --epsilon 4 --overwrite")
  after(base.replace("--seed 7", "--seed 8"))
  after(base.replace("--seed 7", "--seed 8 --overwrite"))
  after(base.replace("--steps 1", "--steps 2"))
  after(f"rpfgsm protect in --out out {CHEAP} --size network")
  record = place.root / "out" / job.relative_to(place.root / "base")
  facts = place.root / "out" / photo.relative_to(place.root / "base")
  changed = json.dumps(json.loads(job.read_bytes()) | {"format": 2})
  for options in ("", " --dry-run", " --overwrite"):
    after(base + options, lambda: record.write_text("{"))
    after(base + options, lambda: record.write_text(changed))
    after(base + options, record.unlink)
    after(base + options, lambda: facts.write_text("{"))
    after(base + options, (place.root / "out/coffee.png").unlink)
    after(base + options, lambda: place.copy("in/astronaut.png", "out/coffee.png"))
  after(f"rpfgsm protect again/coffee.jpg --out out {CHEAP}", lambda: place.copy("in", "again"))
  place.copy("base/coffee.png", "protected/coffee.png")
  after(f"rpfgsm protect protected --out out {CHEAP}")
  after(f"rpfgsm protect protected --out other {CHEAP}")
  place.copy("in/gray.jpg", "in/coffee.jpg")
  for options in ("", " --dry-run", " --overwrite"):
    after(base + options)
  (place.root / "in/coffee.jpg").unlink()
  after(base)
  return place.outputs("base")


def _old_network(place: Place) -> dict[str, Any]:
  """The same at the networks' size."""
  pictures.make_photos(place.root / "in")
  base = f"rpfgsm protect in --out out {CHEAP} --size network"
  place.run(base)
  shutil.move(place.root / "out", place.root / "base")
  record = place.root / "out/.rpfgsm/job.json"

  def after(command: str, change: Callable[[], object] = lambda: None) -> None:
    place.copy("base", "out")
    change()
    place.run(command)

  for options in ("", " --dry-run", " --json", " --targeted", " --preprocess places365"):
    after(base + options)
  after(base.replace("--seed 7", "--seed 8"))
  after(base.replace("--steps 1", "--steps 2"))
  after(base.replace("alexnet", "resnet18"))
  after(base.replace(" --size network", ""))
  after(base, lambda: record.write_text("[]"))
  for options in ("", " --dry-run"):
    after(base + options, record.unlink)
  after(base, (place.root / "out/coffee.png").unlink)
  place.copy("in", "moved")
  after(base.replace("protect in", "protect moved"))
  place.copy("in/coffee.jpg", "in/new.jpg")
  after(base)
  return place.outputs("out")


def cases() -> dict[str, Case]:
  """Returns all cases by name."""
  ways = {"whole": _whole, "shards": _shards, "killed": _killed}
  matrix = {
    f"protect/{form}/{aim}/{name}": functools.partial(_form, way=way, form=form, aim=aim)
    for form in FORMS
    for aim in AIMS
    for name, way in ways.items()
  }
  return matrix | {
    "protect/options": _options,
    "protect/bad photos": _bad_photos,
    "protect/old folder of photos": _old_photos,
    "protect/old folder at networks' size": _old_network,
  }
