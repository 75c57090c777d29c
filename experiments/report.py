"""The demo's report in Markdown, made from its rows and from nothing else."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from experiments import rows
from experiments.lineup import ORIGINAL
from experiments.results import OWN, TOPS, TRUE, Results
from rpfgsm_jax import atomic
from rpfgsm_jax.report.texts import escape_markdown

_FAMILY_TITLES = {"requantize": "fewer bits", "median": "median filter", "jpeg": "JPEG"}
_LISTED = 20  # failures and notes in the report; the rows have all
_Photos = list[str]
"""Names of photographs."""


def report_from_rows(folder: pathlib.Path) -> str:
  """Writes `report.md` beside `rows.jsonl`, from the rows alone, and returns its text."""
  results = Results(rows.find_rows(folder), extras=())
  names = [attack["name"] for attack in results.header["attacks"]]
  # Of a run that did not finish, those that have all their rows.
  photos = results.shared(names) if results.outcomes.keys() >= set(names) else []
  text = "\n".join(_lines(results, photos)) + "\n"
  text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # file names may be any bytes
  atomic.write_text(folder / "report.md", text)
  return text


def _lines(results: Results, photos: _Photos) -> Iterator[str]:
  yield from _introduction(results, photos)
  yield from _summary(results, photos)
  yield from ("", "![Before and after](figure.png)")
  yield from _attacks(results, photos)
  averaged = 'Each family of defenses is averaged over its parameters; "all" over every parameter.'
  yield from ("", "## The scene as predicted on the clean photo", "", averaged)
  yield from _tables(results, photos, OWN)
  labeled = _having(results, photos, "label", np.isfinite)
  if labeled:
    yield from ("", "## The true scene", "")
    yield (
      f"{len(labeled)} of {len(photos)} photos lie in a folder named after a class. "
      "A network's error on the clean photo already counts as misled: the row of the original "
      "shows that share, and no attack deserves credit for it."
    )
    yield from ("", averaged)
    yield from _tables(results, labeled, TRUE)
  yield from _facts(results, photos)


def _having(
  results: Results, photos: _Photos, number: str, test: Callable[[np.ndarray], np.ndarray]
) -> _Photos:
  """Those of some photographs whose clean row has a number that passes a test."""
  if not photos:
    return []
  found = test(results.numbers(ORIGINAL, number, photos))
  return [photo for photo, passes in zip(photos, found, strict=True) if passes]


def _confident(results: Results, photos: _Photos) -> _Photos:
  """Those of whose scene a network was sure."""
  return _having(results, photos, "confident", lambda flags: flags == 1)


def _parts(results: Results, photos: _Photos, title: str) -> Iterator[tuple[str, _Photos]]:
  """All photographs, and the confident ones under a title where these are fewer."""
  confident = _confident(results, photos)
  yield f"all photos ({len(photos)})", photos
  if 0 < len(confident) < len(photos):
    yield f"{title} ({len(confident)})", confident


def _introduction(results: Results, photos: _Photos) -> Iterator[str]:
  header, count = results.header, len(photos)
  seen, unseen = (
    _join([each["title"] for each in header["networks"] if each["seen"] == kind])
    for kind in (True, False)
  )
  doubtful = count - len(_confident(results, photos))
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


def _summary(results: Results, photos: _Photos) -> Iterator[str]:
  """The one table to read: the first unseen network."""
  network, columns = results.networks(seen=False)[0], _columns(results)
  for name, part in _parts(results, photos, "confident photos"):
    yield from ("", f"{results.titles[network]}, held out; {name}:", "")
    lines = []
    for attack in results.header["attacks"]:
      cells = [
        _rate(results, attack["name"], part, network, settings, top)
        for settings in (columns[0][1], columns[-1][1])
        for top in TOPS
      ]
      psnr = _mean_psnr(results, attack["name"], part)
      lines.append([escape_markdown(attack["title"]), psnr, *cells])
    yield from _table(
      ["", "PSNR", "no defense, top-1", "top-5", "all defenses, top-1", "top-5"], lines
    )


def _attacks(results: Results, photos: _Photos) -> Iterator[str]:
  yield from ("", "## What was compared", "")
  lines = []
  for attack in results.header["attacks"]:
    name = attack["name"]
    speed = results.end.get("attacks", {}).get(name, {}).get("photos_per_second")
    largest = results.numbers(name, "largest_change", photos).max() if photos else 0
    lines.append(
      [
        escape_markdown(attack["title"]),
        escape_markdown(attack["note"]),
        str(attack["passes"]),
        f"{largest:.0f}",
        _mean_psnr(results, name, photos),
        f"{speed:.3g}" if speed is not None and attack["passes"] else "",
      ]
    )
  yield from _table(
    ["", "what it is", "gradients a photo", "largest change", "mean PSNR", "photos a second"], lines
  )


def _tables(results: Results, photos: _Photos, field: str) -> Iterator[str]:
  """Tables for all photos and for the confident ones, top-1 and top-5."""
  columns = _columns(results)
  for name, part in _parts(results, photos, "photos with a confident scene"):
    for top in TOPS:
      yield from ("", f"### Top-{top} misleading rate, {name}", "")
      lines = []
      for place, network in enumerate(results.header["networks"]):
        role = "seen" if network["seen"] else "**unseen**"
        for attack in results.header["attacks"]:
          cells = [
            _rate(results, attack["name"], part, place, settings, top, field)
            for _, settings in columns
          ]
          title = f"{escape_markdown(network['title'])} ({role})"
          lines.append([title, escape_markdown(attack["title"]), *cells])
      yield from _table(["network", "", *(title for title, _ in columns)], lines)


def _columns(results: Results) -> list[tuple[str, Sequence[int]]]:
  """(title, indices of settings): no defense, each family, all defenses."""
  defended = range(1, len(results.header["settings"]))
  groups = [(_FAMILY_TITLES.get(name, name), some) for name, some in results.families.items()]
  counted = [(f"{title} ({len(some)})", some) for title, some in (*groups, ("all", defended))]
  return [("no defense", [0]), *counted]


def _facts(results: Results, photos: _Photos) -> Iterator[str]:
  header, end = results.header, results.end
  yield from ("", "## How it was made", "")
  seed = header["seed_given"]
  drawn = "drawn from the system's entropy; run.json keeps it"
  facts = {
    "command": _code(header["command"]),
    "photographs": f"{len(photos)} done, {len(results.failures)} could not be read",
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
    + _alike(header, len(photos))
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
  pictures = "one picture" if header["groups"] == 1 else f"{header['groups']} pictures"
  return (
    f"Here {count} photos are views of {pictures} and resemble one another: "
    "the true intervals are wider. "
  )


def _rate(
  results: Results,
  attack: str,
  photos: _Photos,
  network: int,
  settings: Sequence[int],
  top: int,
  field: str = OWN,
) -> str:
  if not photos or not settings:
    return ""
  options = {"networks": [network], "defended": settings, "top": top, "field": field}
  rate = results.rate(attack, photos, **options)
  return f"{100 * rate.value:.0f} % [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _mean_psnr(results: Results, attack: str, photos: _Photos) -> str:
  psnr = results.mean(attack, "psnr", photos) if photos else None
  return "" if psnr is None else f"{psnr:.1f} dB"


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
