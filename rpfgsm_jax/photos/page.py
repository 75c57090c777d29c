"""The page of a run: what became of all its photos, in numbers, and of some of them in pictures.

It shows the originals, so it is as private as they are. Every photo stands in the table; at most
`MOST_SHOWN` are shown, one read at a time, those that are not protected first.
"""

import collections
import os
import pathlib
from collections.abc import Mapping, Sequence

from rpfgsm_jax.models.kinds import SMALL
from rpfgsm_jax.photos import page_pictures
from rpfgsm_jax.photos.judging import QUALITIES, SHARED_SIDE
from rpfgsm_jax.photos.page_pictures import WORDS, comparison_of, scene
from rpfgsm_jax.photos.page_pictures import Entry as Entry
from rpfgsm_jax.photos.strength import describe_strength
from rpfgsm_jax.photos.verdict import (
  CONFIDENT,
  STATUSES,
  NetworkVerdict,
  Status,
  Verdict,
  judged_by,
)
from rpfgsm_jax.report import Cell, Comparison, Group, Section, Table, Text, write_page
from rpfgsm_jax.report.cells import NOT_AVAILABLE, number_cell

MOST_SHOWN = 100
"""Photos with pictures; a page holds about half a megabyte for each."""

_ORDER: tuple[Status, ...] = ("not", "partly", "protected", "no scene")
_MEANINGS: dict[Status, str] = {
  "protected": "Every network that recognized a scene in the original is misled, under every "
  "condition.",
  "partly": "Something between the other two: a network that recognized a scene still gives the "
  "same answer under some condition.",
  "not": "No held-out network that recognized a scene is misled, under any condition; where a "
  "modern one is among them, no modern one. Where no held-out one recognized any, the others "
  "decide.",
  "no scene": "No network recognized a scene in the original: there was nothing to hide from them.",
}
_PRIVATE = (
  "This page shows the originals, and what networks see in them. Keep it as private as they are, "
  "and do not publish it with the results."
)


def write_photo_page(
  path: str | os.PathLike[str],
  entries: Sequence[Entry],
  *,
  failures: Sequence[tuple[str, str]] = (),
) -> pathlib.Path:
  """Writes the page of a run, in one step; `failures` are (name, reason) of what is not done."""
  if not entries:
    raise ValueError("entries must hold at least one photo, got none; there is nothing to show.")
  chosen = sorted(entries, key=lambda entry: _ORDER.index(entry.verdict.status))[:MOST_SHOWN]
  shown = {id(entry): comparison_of(entry) for entry in chosen}
  counts = collections.Counter(entry.verdict.status for entry in entries)
  answers = [network for entry in entries for network in entry.verdict.networks]
  sections: list[Section] = [
    Text([*summary_of(entries), _strength(entries), _PRIVATE]),
    _verdicts(counts),
    _judges(answers),
    *([Table("Not done", ["photo", "why"], failures)] if failures else []),
    _all_photos(entries, shown),
    Group("Before and after", list(shown.values()), _about_pictures(len(shown), len(entries))),
  ]
  return write_page(path, "Protected photos", sections)


def summary_of(entries: Sequence[Entry]) -> list[str]:
  """Returns two sentences: how many photos have which verdict, and who judged them."""
  counts = collections.Counter(entry.verdict.status for entry in entries)
  return [
    _summary(counts),
    _judged_by([each for entry in entries for each in entry.verdict.networks]),
  ]


def _photos(count: int) -> str:
  return f"{count:,} photo{'' if count == 1 else 's'}"


def _summary(counts: Mapping[Status, int]) -> str:
  found = [f"{counts[status]:,} {WORDS[status][0]}" for status in STATUSES]
  return f"{_photos(sum(counts.values()))}: {', '.join(found)}."


def _judged_by(answers: Sequence[NetworkVerdict]) -> str:
  kinds = {network.name: network.kind for network in answers}
  return (
    f"Judged by {judged_by(kinds.values())}. A verdict speaks of these networks only: others, and "
    "people, may still recognize a protected photo."
  )


def _strength(entries: Sequence[Entry]) -> str:
  found = collections.Counter(
    (float(entry.record["epsilon"]), bool(entry.record.get("masked"))) for entry in entries
  )
  formats = sorted({entry.record["encoding"]["format"].upper() for entry in entries})
  each = [
    describe_strength(epsilon, masked) + (f" ({_photos(count)})" if len(found) > 1 else "")
    for (epsilon, masked), count in sorted(found.items())
  ]
  end = " A JPEG's encoder changes some values further." if "JPEG" in formats else ""
  return f"Strength of the change: {'; '.join(each)}. Files: {', '.join(formats)}.{end}"


def _verdicts(counts: Mapping[Status, int]) -> Table:
  rows = [
    [Cell(word, None, tone), _count(counts[status]), _MEANINGS[status]]
    for status, (word, tone) in WORDS.items()
  ]
  return Table("Verdicts", ["verdict", "photos", "what it means"], rows, sortable=False)


def _count(count: int) -> Cell:
  return Cell(f"{count:,}", count)


def _judges(answers: Sequence[NetworkVerdict]) -> Table:
  """The networks, those of the attack first, and how each of them fared."""
  rows = []
  judges = dict.fromkeys((each.held_out, each.name) for each in answers)
  for held_out, name in sorted(judges, key=lambda judge: judge[0]):
    found = [each for each in answers if (each.held_out, each.name) == (held_out, name)]
    sure = [each.misled.values() for each in found if each.recognized]
    counts = [len(found), len(sure), sum(map(any, sure)), sum(map(all, sure))]
    role = "held out: it only judges" if held_out else "used by the attack"
    rows.append([name, role, found[-1].kind or NOT_AVAILABLE, *map(_count, counts)])
  note = (
    f"A network recognized a scene where it gave its first class at least {100 * CONFIDENT:.0f} % "
    "in the original, right or wrong. It is misled where its first class is another one than in "
    "the original; only photos in which it recognized a scene are counted. Conditions: the file as "
    f"written; coded again as a JPEG of quality {', '.join(map(str, QUALITIES))}; shrunk to "
    f"{SHARED_SIDE} pixels (px) on its longer side. Kind: small, of fewer than "
    f"{SMALL // 10**6} million parameters; modern, a larger transformer or ConvNeXt; or other."
  )
  columns = ["network", "role", "kind", "photos", "scenes recognized"]
  columns += [f"misled under {how} condition" for how in ("some", "every")]
  return Table("Judges", columns, rows, note, sortable=False)


def _all_photos(entries: Sequence[Entry], shown: dict[int, Comparison]) -> Table:
  networks = {each.name: each.held_out for entry in entries for each in entry.verdict.networks}
  deciding = [name for name, held_out in networks.items() if held_out] or list(networks)[:1]
  rows = [_row(entry, deciding, shown.get(id(entry))) for entry in entries]
  columns = ["photo", "verdict", "PSNR, dB", "SSIM", "largest change"]
  columns += [*(f"{name}, before → after" for name in deciding), "misled under"]
  note = (
    "The last column names the conditions under which every network that recognized a scene is "
    "misled. A name that is a link leads to the pictures."
  )
  return Table("All photos", columns, rows, note)


def _row(entry: Entry, deciding: Sequence[str], target: Comparison | None) -> list[str | Cell]:
  verdict = entry.verdict
  word, tone = WORDS[verdict.status]
  same = verdict.psnr == float("inf")
  networks = {network.name: network for network in verdict.networks}
  return [
    Cell(entry.name, entry.name, target=target),
    Cell(word, f"{_ORDER.index(verdict.status)} {word}", tone),
    Cell("identical", verdict.psnr) if same else number_cell(verdict.psnr),
    number_cell(verdict.ssim, 3),
    Cell(str(verdict.largest_change), verdict.largest_change),
    *(_scenes(networks[name]) if name in networks else NOT_AVAILABLE for name in deciding),
    _misled_under(verdict),
  ]


def _scenes(network: NetworkVerdict) -> Cell:
  answers = [
    f"{scene(found[0][0])} {100 * found[0][1]:.0f} %" for found in (network.before, network.after)
  ]
  return Cell(" → ".join(answers), answers[0])


def _misled_under(verdict: Verdict) -> Cell:
  sure = [network for network in verdict.networks if network.recognized]
  if not sure:
    return NOT_AVAILABLE
  conditions = list(sure[0].misled)
  misled = [each for each in conditions if all(network.misled.get(each) for network in sure)]
  text = ", ".join(misled) or "none"
  text = f"all {len(conditions)}" if len(misled) == len(conditions) else text
  return Cell(text, f"{len(misled)} {text}")


def _about_pictures(shown: int, total: int) -> str:
  which = f"All {_photos(total)}" if shown == total else f"{shown:,} of {_photos(total)}"
  return (
    f"{which}: those that are not protected first, then those that are partly, those that are, and "
    f"those without a scene. Larger photos are shrunk to {page_pictures.SHOWN_SIDE} pixels on "
    f"their longer side, and all are shown as JPEGs of quality {page_pictures.QUALITY}. That evens "
    "out single pixels: how visible the change is, only the files themselves can show. The "
    "difference is that of the files: for each pixel shown, the mean of |result − original| behind "
    "it, times the number on its button. The bars are each network's most likely classes for the "
    "original and for the result as written; the original's first class is bold."
  )
