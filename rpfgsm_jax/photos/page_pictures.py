"""One photo on the page: pictures small enough for a page of many, what networks answer, a verdict.

Files are read here once more, and shown only if they are still those that were judged.
"""

import dataclasses
import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from rpfgsm_jax.data import images
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import decode_photo, read_photo
from rpfgsm_jax.photos.verdict import NetworkVerdict, Status, Verdict
from rpfgsm_jax.report import Bars, Cell, Comparison, Table
from rpfgsm_jax.report.sections import Tone

SHOWN_SIDE = 800
"""Pixels of the longer side to which pictures are shrunk."""

QUALITY = 90
"""Of the JPEGs that are shown, without subsampling."""

BEFORE, AFTER = "original", "result"
_DIFFERENCE_QUALITY = 80  # amplified already: what is lost here is not
_LINE_ENDS = {ord("\n"): "\\n", ord("\t"): "\\t"}  # a page shows both as a space

WORDS: dict[Status, tuple[str, Tone]] = {
  "protected": ("protected", "good"),
  "partly": ("partly protected", "fair"),
  "not": ("not protected", "bad"),
  "no scene": ("no scene", ""),
}
"""A verdict as it is shown."""


@dataclasses.dataclass(frozen=True)
class Entry:
  """One photo of a run and what became of it."""

  relative: str  # its name for people
  original: pathlib.Path
  output: pathlib.Path  # the file that was written
  record: dict[str, Any]  # what was written down when it was judged; JSON values

  @functools.cached_property
  def verdict(self) -> Verdict:
    """What networks made of the file."""
    return Verdict.from_json(self.record["verdict"])

  @property
  def name(self) -> str:
    """On one line, never empty."""
    return self.relative.translate(_LINE_ENDS) if self.relative.strip() else repr(self.relative)


def comparison_of(entry: Entry) -> Comparison:
  """Returns a photo before and after; where a file is gone or has changed, it says so instead."""
  word, tone = WORDS[entry.verdict.status]
  shown: dict[str, Any] = {"before": None, "after": None}
  try:
    shown |= _pictures(*_read(entry))
  except ImageError as error:
    shown["caption"] = f"No pictures: {error}"
  return Comparison(
    title=entry.name,
    state=Cell(word, None, tone),
    labels=(BEFORE, AFTER),
    facts=_facts(entry),
    details=[*map(_bars, entry.verdict.networks), _conditions(entry.verdict)],
    **shown,
  )


def scene(name: str) -> str:
  """Returns a class's name as it is shown."""
  return name.replace("_", " ")


def _read(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pixels that were judged; ImageError where the files are others by now."""
  for path, whose in ((entry.original, "original"), (entry.output, "result")):
    if not os.path.exists(path):
      raise ImageError(f"the {whose} is not there any more.")
  photo = read_photo(entry.original, max_pixels=images.MAX_PIXELS)
  if photo.sha256 != entry.record["source_sha256"]:
    raise ImageError("the original has changed since it was protected.")
  content = images.read_file(entry.output)
  if hashlib.sha256(content).hexdigest() != entry.record["output_sha256"]:
    raise ImageError("the result has changed since it was judged.")
  return photo.seen(), decode_photo(content, entry.output)


def _pictures(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
  """Returns what a comparison needs to show the two, as files: all sizes but these are let go."""
  height, width = before.shape[:2]
  scale = min(SHOWN_SIDE / max(height, width), 1.0)
  size = (max(round(height * scale), 1), max(round(width * scale), 1))
  difference, times = _difference(before, after, size)
  caption = f"Shown at {size[1]} × {size[0]} of {width} × {height} pixels." if scale < 1 else ""
  return {
    "before": _encode(images.resize(before, size), QUALITY),
    "after": _encode(images.resize(after, size), QUALITY),
    "difference": _encode(difference, _DIFFERENCE_QUALITY),
    "amplification": times,
    "caption": caption,
  }


def _difference(
  before: np.ndarray, after: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, int]:
  """Returns the mean of `|after - before|` behind each shown pixel, amplified, and how far.

  The difference of the shrunk pictures would show next to nothing of a fine change, which evens out
  in them although networks and people are shown it.
  """
  change = np.maximum(before, after)
  np.subtract(change, np.minimum(before, after), out=change)
  times = 255 // max(int(change.max()), 1)
  np.multiply(change, np.uint8(times), out=change)
  shown = np.asarray(Image.fromarray(change).resize(size[::-1], Image.Resampling.BOX))
  more = min(255 // max(int(shown.max()), 1), 255 // times)
  return shown * np.uint8(more), times * more


def _encode(pixels: np.ndarray, quality: int) -> bytes:
  content = io.BytesIO()
  # Colors at full size: the change is in them, too.
  Image.fromarray(pixels).save(content, "JPEG", quality=quality, subsampling="4:4:4")
  return content.getvalue()


def _facts(entry: Entry) -> list[tuple[str, str]]:
  verdict, working = entry.verdict, entry.record["working_size"]
  return [
    ("PSNR", f"{verdict.psnr:.1f} dB" if verdict.psnr < float("inf") else "identical"),
    ("SSIM", "n/a" if verdict.ssim is None else f"{verdict.ssim:.3f}"),
    ("largest change", f"{verdict.largest_change} of 255"),
    ("size", _pixels(entry.record["size"])),
    ("attacked at", "its own size" if working is None else _pixels(working)),
    ("written as", entry.record["output"].translate(_LINE_ENDS)),
    *(("note", note) for note in entry.record["notes"]),
  ]


def _pixels(size: Sequence[int]) -> str:
  return f"{size[0]} × {size[1]} pixels"


def _bars(network: NetworkVerdict) -> Bars:
  answers = ((BEFORE, network.before), (AFTER, network.after))
  return Bars(
    title=network.name,
    columns=[(title, [(scene(name), each) for name, each in found]) for title, found in answers],
    note="held out" if network.held_out else "used by the attack",
    marked=scene(network.scene or network.before[0][0]),
  )


def _conditions(verdict: Verdict) -> Table:
  """Whether each network is misled, condition by condition; colors only where it counts."""
  conditions = list(dict.fromkeys(each for network in verdict.networks for each in network.misled))
  rows = []
  for network in verdict.networks:
    cells: list[str | Cell] = [network.name]
    cells.append(f"{'yes' if network.recognized else 'no'}, {100 * network.before[0][1]:.0f} %")
    for condition in conditions:
      misled = network.misled.get(condition)
      tone: Tone = "" if not network.recognized else "good" if misled else "bad"
      cells.append("" if misled is None else Cell("yes" if misled else "no", None, tone))
    rows.append(cells)
  columns = ["network", "recognized a scene", *conditions]
  return Table("Misled, condition by condition", columns, rows, sortable=False)
