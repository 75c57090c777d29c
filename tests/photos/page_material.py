"""Photos, what became of them, and their records: all that the page of a run is made from."""

import hashlib
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from rpfgsm_jax.photos.judging import CONDITIONS
from rpfgsm_jax.photos.page import Entry
from rpfgsm_jax.photos.verdict import NetworkVerdict, Verdict, judge

SEEN, HELD_OUT = "toys/seen", "toys/held_out"
LARGEST = 16


def photograph(width: int, height: int, name: str = "coffee") -> np.ndarray:
  """A real photograph, `(height, width, 3)` uint8, with room for a change in either direction."""
  import skimage.data

  picture = Image.fromarray(getattr(skimage.data, name)()).resize((width, height))
  return np.clip(np.asarray(picture), LARGEST, 255 - LARGEST)


def changed(before: np.ndarray) -> np.ndarray:
  """The same with a change of at most LARGEST gray levels, in blocks of four pixels."""
  height, width = before.shape[:2]
  coarse = (height // 4 + 1, width // 4 + 1, 3)
  change = np.random.default_rng(1).integers(-LARGEST, LARGEST + 1, coarse)
  change[0, 0] = LARGEST
  change = change.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
  return (before + change).astype(np.uint8)


def network(
  name: str = SEEN,
  before: float = 0.9,
  misled: tuple[bool, ...] = (True,) * 5,
  *,
  after: str = "attic",
  held_out: bool = False,
) -> NetworkVerdict:
  """One judge's answers: a kitchen of that probability before."""
  return NetworkVerdict(
    name=name,
    held_out=held_out,
    before=(("kitchen", before), ("living_room", round(0.98 - before, 4)), ("beach", 0.02)),
    after=((after, 0.75), ("kitchen", 0.2), ("beach", 0.0003)),
    misled=dict(zip(CONDITIONS, misled, strict=True)),
  )


def verdict(*networks: NetworkVerdict, **changes: Any) -> Verdict:
  """The verdict of judges; without any, that of two that are misled always."""
  judges = networks or (network(), network(HELD_OUT, 0.6, held_out=True))
  values = {"psnr": 29.04, "ssim": 0.9665, "largest_change": LARGEST} | changes
  return Verdict(status=judge(judges), networks=judges, **values)


VERDICTS = {
  "protected": verdict(),
  "partly": verdict(
    network(), network(HELD_OUT, 0.6, (True, True, False, False, True), held_out=True)
  ),
  "not": verdict(
    network(), network(HELD_OUT, 0.6, (False,) * 5, after="kitchen", held_out=True), psnr=31.5
  ),
  "no scene": verdict(network(before=0.4), network(HELD_OUT, 0.3, held_out=True), ssim=None),
}


def written(
  folder: pathlib.Path,
  name: str = "a.jpg",
  judged: Verdict = VERDICTS["protected"],
  *,
  size: tuple[int, int] = (96, 64),
  **facts: Any,
) -> Entry:
  """A photo of (width, height) and its result in a folder, with its record.

  Files do not bear the name: what is to be shown and what a file system takes are two things.
  """
  stem = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
  original, output = folder / f"{stem}-original.png", folder / f"{stem}.png"
  before = photograph(*size)
  Image.fromarray(before).save(original)
  Image.fromarray(changed(before)).save(output)
  return Entry(name, original, output, record(name, original, output, judged, size) | facts)


def record(
  name: str,
  original: pathlib.Path,
  output: pathlib.Path,
  judged: Verdict,
  size: tuple[int, int],
) -> dict[str, Any]:
  """A private record, as a run writes them."""
  return {
    "format": 1,
    "photo": str(original),
    "relative": name,
    "output": f"{name}.png",
    "source_sha256": hashlib.sha256(original.read_bytes()).hexdigest(),
    "output_sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
    "size": list(size),
    "working_size": None,
    "encoding": {"format": "png", "quality": 90, "subsampling": "4:2:0"},
    "epsilon": 16.0,
    "notes": [],
    "seconds": 1.5,
    "verdict": judged.to_json(),
  }
