"""The demo's report in Markdown, made from its rows and from nothing else."""

import dataclasses
import pathlib
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments import rows
from rpfgsm_jax import atomic
from rpfgsm_jax.evaluation import Rate, misleading_rate
from rpfgsm_jax.report.texts import escape_markdown

TOPS = (1, 5)
_FAMILY_TITLES = {
  "none": "no defense",
  "requantize": "fewer bits",
  "median": "median filter",
  "jpeg": "JPEG",
}
_LISTED = 20  # failures and notes in the report; the rows have all


@dataclasses.dataclass
class Outcome:
  """What the rows say of one attack; lists and arrays in the order of the photographs."""

  psnr: list[float | None] = dataclasses.field(default_factory=list)
  largest_change: int = 0
  ranks: Any = dataclasses.field(default_factory=list)  # (N, networks, settings)
  label_ranks: Any = dataclasses.field(default_factory=list)  # likewise; -1 without a label


@dataclasses.dataclass
class Results:
  """All that the rows of a run say.

  Attributes:
    header: the row `run`.
    outcomes: attack name -> what it did.
    photos: names in order.
    confident: `(N,)` bool.
    labeled: `(N,)` bool.
    failures: what could not be read, and why.
    notes: what was lost in reading.
    end: the row `end`; empty when the run did not finish.
  """

  header: rows.Row
  outcomes: dict[str, Outcome]
  photos: list[str]
  confident: np.ndarray
  labeled: np.ndarray
  failures: list[str]
  notes: list[str]
  end: rows.Row


def read_results(path: pathlib.Path) -> Results:
  """Collects the rows of a run.

  Args:
    path: `rows.jsonl`.

  Returns:
    The results; photographs whose rows are not complete are left out.

  Raises:
    RowsError: the file cannot be read, or does not begin with a row `run`.
  """
  header, found = rows.read_run(path)
  attacks = [attack["name"] for attack in header["attacks"]]
  waiting: dict[str, dict[str, rows.Row]] = {}
  results = Results(header, {name: Outcome() for name in attacks}, [], None, None, [], [], {})
  confident, labeled = [], []
  for row in found:
    if row["kind"] == "photo":
      some = waiting.setdefault(row["photo"], {})
      some[row["attack"]] = row
      if len(some) == len(attacks):
        _add_photo(results, waiting.pop(row["photo"]))
        confident.append(row["confident"])
        labeled.append(row["label"] is not None)
    elif row["kind"] in ("failure", "note"):
      (results.failures if row["kind"] == "failure" else results.notes).append(row["message"])
    elif row["kind"] == "end":
      results.end = row
  results.confident, results.labeled = np.asarray(confident, bool), np.asarray(labeled, bool)
  shape = (-1, len(header["networks"]), len(header["settings"]))
  for outcome in results.outcomes.values():
    outcome.ranks = np.asarray(outcome.ranks, np.int32).reshape(shape)
    outcome.label_ranks = np.asarray(outcome.label_ranks, np.int32).reshape(shape)
  return results


def _add_photo(results: Results, by_attack: dict[str, rows.Row]) -> None:
  results.photos.append(next(iter(by_attack.values()))["photo"])
  for name, row in by_attack.items():
    outcome, ranks = results.outcomes[name], np.asarray(row["ranks"], np.int32)
    outcome.psnr.append(row["psnr"])
    outcome.largest_change = max(outcome.largest_change, row["largest_change"])
    outcome.ranks.append(ranks)
    known = row["label_ranks"] is not None
    outcome.label_ranks.append(np.asarray(row["label_ranks"], np.int32) if known else ranks * 0 - 1)


def report_from_rows(folder: pathlib.Path) -> str:
  """Writes `report.md` beside `rows.jsonl`, from the rows alone.

  Args:
    folder: the results folder.

  Returns:
    The report's text.

  Raises:
    RowsError: the rows cannot be read.
  """
  results = read_results(rows.find_rows(folder))
  text = "\n".join(_lines(results)) + "\n"
  text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # file names may be any bytes
  atomic.write_text(folder / "report.md", text)
  return text


def _lines(results: Results) -> Iterator[str]:
  yield from _introduction(results)
  yield from ("", "![Before and after](figure.png)")
  yield from _attacks(results)
  everyone = np.ones(len(results.photos), bool)
  yield from _tables(results, "The scene as predicted on the clean photo", everyone, "ranks")
  if results.labeled.any():
    yield from _tables(results, "The true scene", results.labeled, "label_ranks")
  yield from _facts(results)


def _introduction(results: Results) -> Iterator[str]:
  header, count = results.header, len(results.photos)
  seen, unseen = (_titles(results, seen=seen) for seen in (True, False))
  doubtful = int(count - results.confident.sum())
  yield "# Does the scene stay private?"
  yield ""
  yield (
    f"{count} photographs ({escape_markdown(header['source'])}) were changed by at most "
    f"{header['epsilon']:g} of 255 levels. The attacks could use {_join(seen)}; "
    f"{_join(unseen)} they never saw."
  )
  yield ""
  yield (
    "**Misleading rate**: the share of photos whose scene is no longer a network's first answer "
    "(top-1), or not among its first five (top-5). Which scene: the one that this network itself "
    "answered on the clean photo. Higher is more private. In brackets: 95 % Wilson interval."
  )
  if doubtful:
    yield ""
    yield (
      f"Of {doubtful} of the {count} photos no network was sure (probability under "
      f"{header['confident']:g}): **no confident scene** (a cat is no scene). They are easy to "
      "mislead, so rates are given over all photos and over the confident ones."
    )
  yield from _summary(results)


def _summary(results: Results) -> Iterator[str]:
  """The one table to read: the first unseen network."""
  network = next(i for i, each in enumerate(results.header["networks"]) if not each["seen"])
  title = results.header["networks"][network]["title"]
  subsets = {"all photos": np.ones(len(results.photos), bool)}
  if 0 < results.confident.sum() < len(results.photos):
    subsets["confident photos"] = results.confident
  defended = _columns(results)[-1][1]
  for name, subset in subsets.items():
    yield ""
    yield f"{title}, which no attack saw; {name} ({int(subset.sum())}):"
    yield ""
    names = ("no defense, top-1", "top-5", "all defenses, top-1", "top-5")
    yield from _table_head(["", "PSNR", *names])
    for attack in results.header["attacks"]:
      outcome = results.outcomes[attack["name"]]
      cells = [
        _rate(outcome.ranks[subset][:, network][:, settings] >= top)
        for settings in ([0], defended)
        for top in TOPS
      ]
      quality = [each for each, kept in zip(outcome.psnr, subset, strict=True) if kept]
      yield _row([escape_markdown(attack["title"]), _mean_psnr(quality), *cells])


def _attacks(results: Results) -> Iterator[str]:
  yield from ("", "## What was compared", "")
  yield from _table_head(
    ["", "what it is", "gradients a photo", "largest change", "mean PSNR", "photos a second"]
  )
  speeds = results.end.get("attacks", {})
  for attack in results.header["attacks"]:
    outcome = results.outcomes[attack["name"]]
    speed = speeds.get(attack["name"], {}).get("photos_per_second")
    yield _row(
      [
        escape_markdown(attack["title"]),
        escape_markdown(attack["note"]),
        str(attack["passes"]),
        str(outcome.largest_change),
        _mean_psnr(outcome.psnr),
        f"{speed:.3g}" if speed is not None and attack["passes"] else "",
      ]
    )


def _tables(results: Results, scene: str, subset: np.ndarray, field: str) -> Iterator[str]:
  """Tables for all photos of a subset and for the confident ones, top-1 and top-5."""
  yield from ("", f"## {scene}", "")
  if field == "label_ranks":
    yield (
      f"{int(subset.sum())} of {len(results.photos)} photos lie in a folder named after a class. "
      "A network's error on the clean photo already counts as misled: the row of the original "
      "shows that share, and no attack deserves credit for it."
    )
    yield ""
  yield 'Each family of defenses is averaged over its parameters; "all" over every parameter.'
  parts = [("all photos", subset)]
  if 0 < (subset & results.confident).sum() < subset.sum():
    parts.append(("photos with a confident scene", subset & results.confident))
  for name, part in parts:
    for top in TOPS:
      yield from ("", f"### Top-{top} misleading rate, {name} ({int(part.sum())})", "")
      yield from _full_table(results, part, field, top)


def _full_table(results: Results, part: np.ndarray, field: str, top: int) -> Iterator[str]:
  columns = _columns(results)
  yield from _table_head(["network", "", *(title for title, _ in columns)])
  for place, network in enumerate(results.header["networks"]):
    role = "seen" if network["seen"] else "**unseen**"
    for attack in results.header["attacks"]:
      ranks = getattr(results.outcomes[attack["name"]], field)[part][:, place]
      cells = [_rate(ranks[:, settings] >= top) for _, settings in columns]
      yield _row(
        [f"{escape_markdown(network['title'])} ({role})", escape_markdown(attack["title"]), *cells]
      )


def _columns(results: Results) -> list[tuple[str, list[int]]]:
  """(title, indices of settings): no defense, each family, all defenses."""
  settings = results.header["settings"]
  families = list(dict.fromkeys(each["family"] for each in settings))
  columns = []
  for family in families:
    members = [place for place, each in enumerate(settings) if each["family"] == family]
    title = _FAMILY_TITLES.get(family, family)
    columns.append((title if family == "none" else f"{title} ({len(members)})", members))
  defended = [place for place, each in enumerate(settings) if each["family"] != "none"]
  columns.append((f"all ({len(defended)})", defended))
  return columns


def _facts(results: Results) -> Iterator[str]:
  header, end = results.header, results.end
  yield from ("", "## How it was made", "")
  seed = header["seed_given"]
  drawn = "drawn from the system's entropy; run.json keeps it"
  facts = {
    "command": _code(header["command"]),
    "photographs": f"{len(results.photos)} done, {len(results.failures)} could not be read",
    "image size": " x ".join(map(str, header["image_size"])) + " (height x width)",
    "classes": str(len(header["class_names"])),
    "seed": drawn if seed is None else f"{seed}, given (a seed that others know shows the targets)",
    "device": header["device"],
    "versions": ", ".join(f"{name} {version}" for name, version in header["versions"].items()),
  }
  if end:
    facts |= {
      "seconds": f"{end['seconds']:g} in all, {end['first_result_seconds']:g} from the start to "
      "the first protected photographs",
      "verified": f"{end['verified_files']} files were read back: the pixels are those evaluated, "
      "inside the ball, and the networks answer the same",
    }
  else:
    facts["unfinished"] = "the run did not come to its end; these are the rows it left"
  yield from _table_head(["", ""])
  for name, value in facts.items():
    yield _row([name, escape_markdown(value) if not value.startswith("`") else value])
  yield ""
  yield (
    "An interval takes photos as independent and averages the defenses of a photo first. "
    + _alike(header, len(results.photos))
    + "Defenses are the exact ones (Pillow's JPEG, SciPy's median), applied to the protected file."
  )
  for title, entries in (("Could not be read", results.failures), ("Notes", results.notes)):
    if entries:
      yield from ("", f"## {title} ({len(entries)})", "")
      yield from (f"- {escape_markdown(entry)}" for entry in entries[:_LISTED])
      if len(entries) > _LISTED:
        yield f"- and {len(entries) - _LISTED} more, in `rows.jsonl`"


def _alike(header: rows.Row, count: int) -> str:
  if header["groups"] >= count:
    return ""
  return (
    f"Here {count} photos are views of {header['groups']} pictures and resemble one another: "
    "the true intervals are wider. "
  )


def _titles(results: Results, *, seen: bool) -> list[str]:
  return [each["title"] for each in results.header["networks"] if each["seen"] == seen]


def _rate(misled: np.ndarray) -> str:
  return _format_rate(misleading_rate(misled)) if misled.shape[-1] else ""


def _format_rate(rate: Rate) -> str:
  if not rate.count:
    return ""
  return f"{100 * rate.value:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _mean_psnr(values: Sequence[float | None]) -> str:
  finite = [value for value in values if value is not None]
  return f"{statistics.fmean(finite):.1f} dB" if finite else ""


def _join(names: Sequence[str]) -> str:
  names = [escape_markdown(name) for name in names]
  return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _table_head(titles: Sequence[str]) -> Iterator[str]:
  yield _row(titles)
  yield _row(["---"] * len(titles))


def _row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
  text = " ".join(text.split()).replace("|", "\\|")
  return f"`` {text} ``" if "`" in text else f"`{text}`"
