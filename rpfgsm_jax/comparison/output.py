"""The folder that a comparison is written to: report.md, rows.jsonl and index.html, all or none.

It is made beside its place and renamed when it is complete. An earlier one of ours is replaced;
whatever else lies there is somebody's, and is never touched.
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from rpfgsm_jax import atomic, result_folder
from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.comparison import tables
from rpfgsm_jax.comparison.outcome import (
  ORIGINAL,
  PROTECTED,
  Example,
  FolderComparison,
  NetworkOutcome,
)
from rpfgsm_jax.comparison.pairs import ComparisonError
from rpfgsm_jax.report import (
  Comparison,
  Group,
  Section,
  Text,
  escape_markdown,
  markdown,
  write_page,
)
from rpfgsm_jax.result_folder import FolderError, check_apart

FILES = ("index.html", "report.md", "rows.jsonl")
_MADE_BY = "rpfgsm evaluate"
_LISTED_PHOTOS = 2000  # lines up to which browsers sort a table at once
_LISTED_NAMES = 20
Row = dict[str, Any]


def check_out(out: PathLike, inputs: Sequence[PathLike]) -> None:
  """Refuses a place that a comparison must not be written to.

  Args:
    out: the folder to write.
    inputs: the folders that are read.

  Returns:
    Nothing.

  Raises:
    ComparisonError: it lies in one of `inputs` or the other way round, is a file, holds anything
      that we did not write, or cannot be written.
  """
  try:
    for each in inputs:
      check_apart(out, each, "out and the folders that are read")
    result_folder.check_place(out, _MADE_BY, _is_ours, entries=FILES, option="out")
  except FolderError as error:
    raise ComparisonError(str(error)) from error


def write_comparison(comparison: FolderComparison, out: PathLike) -> pathlib.Path:
  """Writes a comparison, complete or not at all.

  Args:
    comparison: from `compare_folders`.
    out: the folder; made if absent, an earlier result is replaced.

  Returns:
    The path of the page, `index.html`.

  Raises:
    ComparisonError: see `check_out`.
    OSError: it could not be written; an earlier result is untouched.
  """
  inputs = (comparison.original, comparison.protected, comparison.training)
  check_out(out, [each for each in inputs if each is not None])
  with atomic.replacing_folder(out) as folder:
    with open(folder / "rows.jsonl", "w", encoding="ascii", newline="\n") as file:
      for row in rows(comparison):
        file.write(atomic.strict_json(row) + "\n")
    (folder / "report.md").write_bytes(_report(comparison).encode("utf-8"))
    write_page(folder / "index.html", "Protected photos, measured", _sections(comparison))
  return pathlib.Path(out) / "index.html"


def _is_ours(place: pathlib.Path) -> bool:
  try:
    with open(place / "rows.jsonl", "rb") as file:
      return json.loads(file.readline()).get("made_by") == _MADE_BY
  except (OSError, ValueError, AttributeError):
    return False


def rows(comparison: FolderComparison) -> Iterator[Row]:
  """Yields the lines of rows.jsonl: one `run`, one `photo` each, one `left_out` each."""
  yield {
    "kind": "run",
    "made_by": _MADE_BY,
    "original": comparison.original,
    "protected": comparison.protected,
    "training": comparison.training,
    "preprocess": comparison.preprocess,
    "settings": list(comparison.settings),
    "families": {name: list(places) for name, places in comparison.families.items()},
    "networks": [_about_network(comparison, network) for network in comparison.networks],
  }
  for place, photo in enumerate(comparison.photos):
    yield {
      "kind": "photo",
      "photo": photo.name,
      "original": photo.original,
      "protected": photo.protected,
      "original_size": list(photo.original_size),
      "protected_size": list(photo.protected_size),
      **photo.measures,
      "networks": [_judgment(network, place) for network in comparison.networks],
    }
  for reason in ("only_original", "only_protected", "ambiguous", "failures", "notes"):
    for text in getattr(comparison, reason):
      yield {"kind": "left_out", "reason": reason, "text": text}


def _about_network(comparison: FolderComparison, network: NetworkOutcome) -> Row:
  row: Row = {"name": network.name, "image_size": list(network.image_size)}
  if len(network.training):
    row["training_photos"] = len(network.training)
    row["thresholds"] = {
      name: network.threshold(places) for name, places in comparison.families.items()
    }
  return row


def _judgment(network: NetworkOutcome, place: int) -> Row:
  label = int(network.labels[place])
  row: Row = {
    "name": network.name,
    "label": network.class_names[label] if label >= 0 else None,
  }
  for title, version in (("original", ORIGINAL), ("protected", PROTECTED)):
    row[title] = {
      "answer": network.class_names[network.answers[version, place]],
      "probability": round(float(network.confidences[version, place]), 4),
      "ranks": network.ranks[version, place].tolist(),
      "label_ranks": network.label_ranks[version, place].tolist() if label >= 0 else None,
      "distances": [round(float(each), 4) for each in network.distances[version, place]],
    }
  return row


def _report(comparison: FolderComparison) -> str:
  lines = ["# Protected photos, measured", "", escape_markdown(tables.about(comparison)), ""]
  lines.append(markdown(tables.tables(comparison)))
  missing = tables.left_out(comparison, most=_LISTED_NAMES)
  if missing:
    lines += ["## Left out, or changed in reading", ""]
    lines += [f"- {escape_markdown(sentence)}" for sentence in missing] + [""]
  return "\n".join(lines)


def _sections(comparison: FolderComparison) -> list[Section]:
  sections: list[Section] = [
    Text([tables.about(comparison)]),
    *tables.tables(comparison),
    tables.photo_table(comparison, _LISTED_PHOTOS),
  ]
  if comparison.examples:
    shown = [_shown(comparison, example) for example in comparison.examples]
    note = "Evenly spread over all photos, whatever the networks made of them."
    sections.append(Group("Before and after", shown, note))
  missing = tables.left_out(comparison, most=_LISTED_NAMES)
  if missing:
    sections.append(Text(missing, "Left out, or changed in reading"))
  return sections


def _shown(comparison: FolderComparison, example: Example) -> Comparison:
  photo = comparison.photos[example.place]
  facts = []
  for network in comparison.networks:
    label = network.labels[example.place]
    scene = (("true class", network.class_names[label]),) if label >= 0 else ()
    facts += [fact for fact in scene if fact not in facts]
    answers = [
      f"{network.class_names[network.answers[version, example.place]]} "
      f"{100 * network.confidences[version, example.place]:.0f} %"
      for version in (ORIGINAL, PROTECTED)
    ]
    misled = int((network.ranks[PROTECTED, example.place][1:] >= 1).sum())
    behind = f"misled behind {misled} of {len(comparison.defended)} defenses"
    facts.append((network.name, f"{' → '.join(answers)}; {behind}"))
  captions = []
  if not photo.same_size:
    captions.append(f"The files have two sizes, {photo.original_size} and {photo.protected_size}.")
  if example.scaled:
    captions.append("Shown smaller than the files, which evens out single pixels.")
  return Comparison(
    title=photo.name,
    before=example.before,
    after=example.after,
    caption=" ".join(captions),
    facts=facts,
  )
