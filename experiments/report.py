"""The demo's report in Markdown, made from its rows and from nothing else."""

import collections
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from experiments import rows
from experiments.results import OWN, TOPS, TRUE
from rpfgsm_jax import atomic
from rpfgsm_jax.evaluation import misleading_rate
from rpfgsm_jax.report.texts import escape_markdown

_FAMILY_TITLES = {
  "none": "no defense",
  "requantize": "fewer bits",
  "median": "median filter",
  "jpeg": "JPEG",
}
_LISTED = 20  # failures and notes in the report; the rows have all


class _Run:
  """What the rows of a run say of the photographs that have all their rows, in order."""

  def __init__(self, path: pathlib.Path):
    self.header, found = rows.read_run(path)
    self.end: rows.Row = {}  # empty when the run did not finish
    self.messages: dict[str, list[str]] = {"failure": [], "note": []}
    names = [attack["name"] for attack in self.header["attacks"]]
    waiting, done = collections.defaultdict(dict), []
    for row in found:
      if row["kind"] == "photo":
        waiting[row["photo"]][row["attack"]] = self._numbers(row)
        if len(waiting[row["photo"]]) == len(names):
          done.append(waiting.pop(row["photo"]))
      elif row["kind"] in self.messages:
        self.messages[row["kind"]].append(row["message"])
      elif row["kind"] == "end":
        self.end = row
    self.count = len(done)

    def collect(field: str, dtype: type, *shape: int) -> dict[str, np.ndarray]:
      columns = {name: [entry[name][field] for entry in done] for name in names}
      return {name: np.asarray(some, dtype).reshape(-1, *shape) for name, some in columns.items()}

    shape = (len(self.header["networks"]), len(self.header["settings"]))
    # By attack: how many classes stand before the scene, (N, networks, settings).
    self.ranks = {field: collect(field, np.int32, *shape) for field in (OWN, TRUE)}
    self.psnr = collect("psnr", float, 1)  # NaN: nothing was changed
    self.largest_change = collect("largest_change", int, 1)
    # Of each photograph: whether a network is sure of its scene, whether its scene is known.
    self.confident, self.labeled = (
      next(iter(collect(field, bool, 1).values()))[:, 0] for field in ("confident", "labeled")
    )

  @staticmethod
  def _numbers(row: rows.Row) -> rows.Row:
    """What is kept of a row: as it is it takes ten times the memory."""
    ranks, labeled = np.asarray(row[OWN], np.int32), row[TRUE] is not None
    return {
      OWN: ranks,
      TRUE: np.asarray(row[TRUE], np.int32) if labeled else np.full_like(ranks, -1),
      "psnr": np.nan if row["psnr"] is None else row["psnr"],
      "largest_change": row["largest_change"],
      "confident": row["confident"],
      "labeled": row["label"] is not None,
    }


def report_from_rows(folder: pathlib.Path) -> str:
  """Writes `report.md` beside `rows.jsonl`, from the rows alone, and returns its text."""
  text = "\n".join(_lines(_Run(rows.find_rows(folder)))) + "\n"
  text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # file names may be any bytes
  atomic.write_text(folder / "report.md", text)
  return text


def _lines(run: _Run) -> Iterator[str]:
  yield from _introduction(run)
  yield from _summary(run)
  yield from ("", "![Before and after](figure.png)")
  yield from _attacks(run)
  everyone = np.ones(run.count, bool)
  yield from _tables(run, "The scene as predicted on the clean photo", everyone, OWN)
  if run.labeled.any():
    yield from _tables(run, "The true scene", run.labeled, TRUE)
  yield from _facts(run)


def _introduction(run: _Run) -> Iterator[str]:
  header, count = run.header, run.count
  seen, unseen = (
    _join([each["title"] for each in header["networks"] if each["seen"] == kind])
    for kind in (True, False)
  )
  doubtful = int(count - run.confident.sum())
  yield "# Does the scene stay private?"
  yield ""
  yield (
    f"{count} photographs ({escape_markdown(header['source'])}) were changed by at most "
    f"{header['epsilon']:g} of 255 levels. The attacks could use {seen}; "
    f"held out, only to judge: {unseen}."
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


def _summary(run: _Run) -> Iterator[str]:
  """The one table to read: the first unseen network."""
  networks = run.header["networks"]
  network = next(place for place, each in enumerate(networks) if not each["seen"])
  subsets = {"all photos": np.ones(run.count, bool)}
  if 0 < run.confident.sum() < run.count:
    subsets["confident photos"] = run.confident
  defended = _columns(run)[-1][1]
  for name, subset in subsets.items():
    yield ""
    title = networks[network]["title"]
    yield f"{title}, held out; {name} ({int(subset.sum())}):"
    yield ""
    lines = []
    for attack in run.header["attacks"]:
      ranks = run.ranks[OWN][attack["name"]][subset][:, network]
      cells = [_rate(ranks[:, settings] >= top) for settings in ([0], defended) for top in TOPS]
      quality = _mean_psnr(run.psnr[attack["name"]][subset])
      lines.append([escape_markdown(attack["title"]), quality, *cells])
    yield from _table(
      ["", "PSNR", "no defense, top-1", "top-5", "all defenses, top-1", "top-5"], lines
    )


def _attacks(run: _Run) -> Iterator[str]:
  yield from ("", "## What was compared", "")
  lines = []
  for attack in run.header["attacks"]:
    name = attack["name"]
    speed = run.end.get("attacks", {}).get(name, {}).get("photos_per_second")
    lines.append(
      [
        escape_markdown(attack["title"]),
        escape_markdown(attack["note"]),
        str(attack["passes"]),
        str(run.largest_change[name].max(initial=0)),
        _mean_psnr(run.psnr[name]),
        f"{speed:.3g}" if speed is not None and attack["passes"] else "",
      ]
    )
  yield from _table(
    ["", "what it is", "gradients a photo", "largest change", "mean PSNR", "photos a second"], lines
  )


def _tables(run: _Run, scene: str, subset: np.ndarray, field: str) -> Iterator[str]:
  """Tables for all photos of a subset and for the confident ones, top-1 and top-5."""
  yield from ("", f"## {scene}", "")
  if field == TRUE:
    yield (
      f"{int(subset.sum())} of {run.count} photos lie in a folder named after a class. "
      "A network's error on the clean photo already counts as misled: the row of the original "
      "shows that share, and no attack deserves credit for it."
    )
    yield ""
  yield 'Each family of defenses is averaged over its parameters; "all" over every parameter.'
  parts = [("all photos", subset)]
  if 0 < (subset & run.confident).sum() < subset.sum():
    parts.append(("photos with a confident scene", subset & run.confident))
  for name, part in parts:
    for top in TOPS:
      yield from ("", f"### Top-{top} misleading rate, {name} ({int(part.sum())})", "")
      yield from _full_table(run, part, field, top)


def _full_table(run: _Run, part: np.ndarray, field: str, top: int) -> Iterator[str]:
  columns = _columns(run)
  lines = []
  for place, network in enumerate(run.header["networks"]):
    role = "seen" if network["seen"] else "**unseen**"
    for attack in run.header["attacks"]:
      ranks = run.ranks[field][attack["name"]][part][:, place]
      cells = [_rate(ranks[:, settings] >= top) for _, settings in columns]
      title = f"{escape_markdown(network['title'])} ({role})"
      lines.append([title, escape_markdown(attack["title"]), *cells])
  yield from _table(["network", "", *(title for title, _ in columns)], lines)


def _columns(run: _Run) -> list[tuple[str, list[int]]]:
  """(title, indices of settings): no defense, each family, all defenses."""
  families: dict[str, list[int]] = {}
  for place, each in enumerate(run.header["settings"]):
    families.setdefault(each["family"], []).append(place)
  columns = []
  for family, members in families.items():
    title = _FAMILY_TITLES.get(family, family)
    columns.append((title if family == "none" else f"{title} ({len(members)})", members))
  defended = [place for family, some in families.items() if family != "none" for place in some]
  return [*columns, (f"all ({len(defended)})", defended)]


def _facts(run: _Run) -> Iterator[str]:
  header, end = run.header, run.end
  yield from ("", "## How it was made", "")
  seed = header["seed_given"]
  drawn = "drawn from the system's entropy; run.json keeps it"
  facts = {
    "command": _code(header["command"]),
    "photographs": f"{run.count} done, {len(run.messages['failure'])} could not be read",
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
  yield from _table(
    ["", ""],
    (
      [name, each if each.startswith("`") else escape_markdown(each)]
      for name, each in facts.items()
    ),
  )
  yield ""
  yield (
    "An interval takes photos as independent and averages the defenses of a photo first. "
    + _alike(header, run.count)
    + "Defenses are the exact ones (Pillow's JPEG, SciPy's median), applied to the protected file."
  )
  for title, kind in (("Could not be read", "failure"), ("Notes", "note")):
    entries = run.messages[kind]
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


def _rate(misled: np.ndarray) -> str:
  rate = misleading_rate(misled) if misled.shape[-1] else None
  if rate is None or not rate.count:
    return ""
  return f"{100 * rate.value:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _mean_psnr(values: np.ndarray) -> str:
  finite = values[np.isfinite(values)].tolist()
  return f"{statistics.fmean(finite):.1f} dB" if finite else ""


def _join(names: Sequence[str]) -> str:
  names = [escape_markdown(name) for name in names]
  return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
  """Yields a table of cells that are Markdown already."""
  for cells in (titles, ["---"] * len(titles), *lines):
    yield f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
  text = " ".join(text.split()).replace("|", "\\|")
  return f"`` {text} ``" if "`" in text else f"`{text}`"
