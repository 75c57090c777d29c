"""The folder of an app: the photos that were given to it, and what became of them.

    DIR/originals/                 the photos, under the names that their files had
    DIR/gentle/, medium/, strong/  results, each folder a job as `rpfgsm protect` makes it
    DIR/.app/                      a lock

Nothing else is kept: whoever starts again in the same folder finds what was there and goes on.
"""

import filecmp
import hashlib
import itertools
import os
import pathlib
import shutil
import threading
from typing import Any

from rpfgsm_jax import atomic
from rpfgsm_jax.data.folders import PHOTO_SUFFIXES, walk
from rpfgsm_jax.data.photo_files import open_photo
from rpfgsm_jax.data.system_folders import holds_copies
from rpfgsm_jax.jobs import photo_records
from rpfgsm_jax.jobs.messages import Outcome
from rpfgsm_jax.jobs.photo_records import Facts
from rpfgsm_jax.jobs.spec import Job
from rpfgsm_jax.photos.page import Entry, summary_of
from rpfgsm_jax.photos.page_pictures import WORDS
from rpfgsm_jax.photos.strength import STRENGTHS, describe_strength, photo_attack

MARK = ".app"


class Session:
  """What lies in the folder, and why photos could not be done; many threads may ask at once.

  `job` says what is taken for a photo.

  Attributes:
    folder: of everything.
    originals: the folder of the photos.
  """

  def __init__(self, folder: pathlib.Path, job: Job):
    self.folder, self.originals, self._job = folder, folder / "originals", job
    self._naming = threading.Lock()
    self._failures: dict[tuple[str, str], str] = {}
    self._results: dict[str, dict[str, Facts]] = {}
    make_folders(folder)
    atomic.remove_leftovers([self.originals], alone=True, now=0.0)
    for strength in STRENGTHS:
      found = {each["relative"]: each for each in photo_records.read_all(folder / strength)}
      self._results[strength] = {
        name: facts for name, facts in found.items() if self._output(strength, facts).is_file()
      }

  def names(self) -> list[str]:
    """Returns the names of the photos whose originals are there."""
    files = walk(self.originals, skip=lambda inner: holds_copies(inner.name))
    return sorted(
      path.relative_to(self.originals).as_posix()
      for path in files
      if path.suffix.lower() in PHOTO_SUFFIXES
    )

  def describe(self) -> dict[str, Any]:
    """Returns what is there as JSON values."""
    there = set(self.names())
    known = sorted(there.union(*self._results.values()))
    return {
      "folder": str(self.folder),
      "strengths": [{"name": name, "words": _words(name)} for name in STRENGTHS],
      "photos": [{"name": name, "there": name in there, **self._became(name)} for name in known],
      "summaries": {
        strength: summary_of([self.entry(name, strength) for name in list(results)])
        for strength, results in self._results.items()
        if results
      },
    }

  def entry(self, name: str, strength: str) -> Entry:
    """Returns a photo that is done, for showing it; KeyError where it is not."""
    facts = self._results[strength][name]
    original = self.originals.joinpath(*name.split("/"))
    return Entry(name, original, self._output(strength, facts), facts)

  def original(self, name: str) -> pathlib.Path:
    """Returns where a photo's original is or would be; ValueError where it is no photo's name."""
    return self.originals.joinpath(*_checked(name))

  def outputs(self, strength: str) -> list[tuple[str, pathlib.Path]]:
    """Returns the names and places of the files of a strength."""
    done = sorted(list(self._results[strength].items()))
    return [(facts["output"], self._output(strength, facts)) for _, facts in done]

  def note(self, strength: str, outcome: Outcome) -> None:
    """Takes notice of what became of a photo."""
    self._failures.pop((strength, outcome.relative), None)
    if outcome.failure is not None:
      self._failures[strength, outcome.relative] = outcome.failure
      return
    before = self._results[strength].get(outcome.relative, outcome.facts)
    self._results[strength][outcome.relative] = outcome.facts
    if before["output"] != outcome.facts["output"]:  # photos of like names have come or gone
      self._remove_result(strength, before)

  def keep(self, upload: pathlib.Path, name: str) -> str:
    """Gives a received file its name, or another where that is another photo's; returns the name.

    Raises ValueError where `name` is no name for a photo, or the file is no photo.
    """
    parts = _checked(name)
    try:
      limits = self._job.photos.limits
      open_photo(upload.read_bytes(), max_pixels=self._job.max_pixels, limits=limits)
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from error
    with self._naming:
      first = self.originals.joinpath(*parts)
      for number in itertools.count(1):
        place = first if number == 1 else first.with_stem(f"{first.stem} ({number})")
        if place.is_file() and filecmp.cmp(upload, place, shallow=False):
          upload.unlink()
          break
        if not os.path.lexists(place) and self._is_free(place, upload):
          place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
          upload.replace(place)
          break
      return place.relative_to(self.originals).as_posix()

  def remove(self, name: str) -> None:
    """Removes a photo, its results and what was recorded of them."""
    self._remove_original(name)
    for strength, results in self._results.items():
      facts = results.pop(name, None)
      if facts is not None:
        self._remove_result(strength, facts)
      self._failures.pop((strength, name), None)

  def remove_originals(self) -> None:
    """Removes the photos themselves and keeps the results."""
    for name in self.names():
      self._remove_original(name)

  def remove_all(self) -> None:
    """Removes photos, results and records."""
    for path in (self.originals, *(self.folder / strength for strength in STRENGTHS)):
      shutil.rmtree(path, ignore_errors=True)
    self._failures.clear()
    for results in self._results.values():
      results.clear()
    make_folders(self.folder)

  def in_words(self, message: str) -> str:
    """Returns a message with photos called by their names instead of their places."""
    return message.replace(f"{self.originals}{os.sep}", "")

  def _became(self, name: str) -> dict[str, Any]:
    done = {
      strength: dict(zip(("word", "tone"), WORDS[status], strict=True))
      for strength, results in self._results.items()
      if name in results and (status := photo_records.status_of(results[name]))
    }
    failures = {
      strength: self.in_words(self._failures[strength, name])
      for strength in STRENGTHS
      if (strength, name) in self._failures
    }
    return {"results": done, "failures": failures}

  def _output(self, strength: str, facts: Facts) -> pathlib.Path:
    return self.folder / strength / facts["output"]

  def _is_free(self, place: pathlib.Path, upload: pathlib.Path) -> bool:
    """Says whether no result is left of another photo of that name, whose original was removed."""
    name = place.relative_to(self.originals).as_posix()
    left = [results[name] for results in self._results.values() if name in results]
    if not left:
      return True
    with open(upload, "rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
    return all(facts["source_sha256"] == digest for facts in left)

  def _remove_result(self, strength: str, facts: Facts) -> None:
    self._output(strength, facts).unlink(missing_ok=True)
    photo_records.path_of(self.folder / strength, facts["output"]).unlink(missing_ok=True)

  def _remove_original(self, name: str) -> None:
    path = self.original(name)
    path.unlink(missing_ok=True)
    for folder in path.parents:
      if folder == self.originals or not folder.is_dir() or any(folder.iterdir()):
        break
      folder.rmdir()


def _words(strength: str) -> str:
  attack = photo_attack(strength)
  return describe_strength(attack.epsilon, attack.masking)


def make_folders(folder: pathlib.Path) -> None:
  """Makes what is not there yet, for this user alone."""
  for place in (".", MARK, "originals", *STRENGTHS):
    (folder / place).mkdir(mode=0o700, parents=True, exist_ok=True)


def _checked(name: str) -> list[str]:
  """Returns the folders and the file that a name consists of; none leads elsewhere or is hidden."""
  parts = name.split("/")
  for part in parts:
    if not part or part.startswith(".") or "\0" in part or pathlib.PurePath(part).name != part:
      raise ValueError(
        f"{name}: a photo's name must not have hidden or empty parts, or such as lead elsewhere; "
        "rename it."
      )
  if pathlib.PurePath(parts[-1]).suffix.lower() not in PHOTO_SUFFIXES:
    raise ValueError(f"{name}: no photo by its name ({', '.join(PHOTO_SUFFIXES[:4])}, …).")
  if any(map(holds_copies, parts[:-1])):
    raise ValueError(f"{name}: folders of thumbnails or deleted files are left out.")
  return parts
