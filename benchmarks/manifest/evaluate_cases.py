"""`rpfgsm evaluate` on two folders, with and without classes, thresholds and a page."""

from typing import Any

import pictures
from protect_cases import NETWORKS, Case
from running import Place


def _outputs(place: Place) -> dict[str, Any]:
  """Photos and what `rpfgsm protect` made of them, judged by the bundled four."""
  pictures.make_photos(place.root / "in")
  place.run(f"rpfgsm protect in --out out --steps 4 --seed 7 {NETWORKS}")
  place.run("rpfgsm evaluate in out")
  place.run("rpfgsm evaluate in out --out found")
  return place.outputs("found")


def _changed(place: Place) -> dict[str, Any]:
  """Files of another tool: one smaller, one missing, one too many, one broken."""
  pictures.make_photos(place.root / "in")
  pictures.make_changed(place.root / "in", place.root / "changed")
  place.write("changed/astronaut.png", b"broken")
  pictures.make_classes(place.root / "train")
  judge = f"rpfgsm evaluate in changed {NETWORKS}"
  place.run(f"{judge} --train train --train-limit 3 --preprocess places365 --out found")
  place.run(f"{judge} --out found")  # in the place of the earlier one
  return place.outputs("found")


def _classes(place: Place) -> dict[str, Any]:
  """Sub-folders give true classes."""
  pictures.make_classes(place.root / "in")
  place.run(f"rpfgsm protect in --out out --steps 1 --seed 7 {NETWORKS}")
  place.run(f"rpfgsm evaluate in out {NETWORKS} --out found")
  return place.outputs("found")


def cases() -> dict[str, Case]:
  """Returns all cases by name."""
  return {
    "evaluate/outputs": _outputs,
    "evaluate/changed": _changed,
    "evaluate/classes": _classes,
  }
