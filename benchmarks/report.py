"""Tables of the benchmarks' rows, for docs/PERFORMANCE.md; the last row of each kind counts.

python benchmarks/report.py && python experiments/run.py fill docs/PERFORMANCE.md
"""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

ROWS = pathlib.Path(__file__).with_name("rows")
Row = dict[str, Any]


def read(path: pathlib.Path) -> list[Row]:
  """Returns the rows of a file."""
  return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def tables(rows: Sequence[Row]) -> str:
  """Returns the tables of `throughput.py`'s rows, oldest first, as Markdown."""
  parts = [
    ("The whole attack", _attack(_last(rows, "attack"), _last(rows, "compile"))),
    ("Input gradients", _gradients(rows)),
    ("Defenses with their gradients", _defenses(rows)),
    ("Where this was measured", _machine(rows)),
  ]
  return "# Throughput\n\n" + "\n\n".join(f"## {title}\n\n{body}" for title, body in parts) + "\n"


def _last(rows: Sequence[Row], part: str, **values: Any) -> Row:
  wanted = {"part": part, **values}
  return next(
    row for row in reversed(rows) if all(row.get(name) == value for name, value in wanted.items())
  )


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  head = [columns, ["---"] * len(columns)]
  return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *lines])


def _range(ratio: Sequence[float]) -> str:
  return f"{ratio[1]:.2f} ({ratio[0]:.2f} to {ratio[2]:.2f})"


def _attack(attack: Row, compiled: Row) -> str:
  titles = {
    "jax": f"ours, {attack['images']} images, {attack['micro_batch']} at a time",
    "torch": f"PyTorch, {attack['images']} images at once",
    "authors": "PyTorch as its authors run it, one image",
  }
  lines = [
    [
      title,
      f"{attack['median_s_per_image'][name]:.2f}",
      _range(attack["ratio_to_jax"][name]),
      f"{100 * attack['share_of_peak'][name]:.0f} %",
      f"{attack['peak_gb'][name]:.2f}",
    ]
    for name, title in titles.items()
  ]
  columns = ("", "seconds an image", "times ours", "of the peak", "peak memory, GB")
  seconds = compiled["seconds"]
  note = (
    f"{attack['steps']} iterations, three networks, all defenses. The first call takes "
    f"{seconds['cold']:.1f} s more than the next, {seconds['cached']:.1f} s with compiled programs "
    "from the cache."
  )
  return f"{note}\n\n{_table(columns, lines)}"


def _gradients(rows: Sequence[Row]) -> str:
  kinds = dict.fromkeys((r["network"], r["batch"]) for r in rows if r["part"] == "gradient")
  lines = []
  for network, batch in kinds:
    row = _last(rows, "gradient", network=network, batch=batch)
    each = {name: 1e3 * spent / batch for name, spent in row["median_s"].items()}
    lines.append(
      [
        network,
        str(batch),
        f"{each['jax']:.1f}",
        f"{each['torch']:.1f}",
        _range(row["ratio"]),
        f"{100 * row['share_of_peak']['jax']:.0f} %",
      ]
    )
  columns = ("network", "batch", "ours, ms an image", "PyTorch", "ratio", "of the peak")
  return _table(columns, lines)


def _defenses(rows: Sequence[Row]) -> str:
  kinds = dict.fromkeys((r["family"], r["parameter"]) for r in rows if r["part"] == "defense")
  lines = []
  for family, parameter in kinds:
    row = _last(rows, "defense", family=family, parameter=parameter)
    each = {name: 1e3 * spent / row["batch"] for name, spent in row["median_s"].items()}
    shown = [f"{each[name]:.1f}" for name in ("jax", "torch")]
    lines.append([f"{family} {parameter:g}", *shown, _range(row["ratio"])])
  return _table(("defense", "ours, ms an image", "PyTorch", "ratio"), lines)


def _machine(rows: Sequence[Row]) -> str:
  peak = _last(rows, "peak")
  return (
    f"Two processors, device `{peak['device']}`; jax {peak['jax']}, Python {peak['python']}; the "
    f"largest matrix product of either side runs at {peak['gflops']:.0f} gigaflops a second, which "
    "is the peak of the tables."
  )


def accelerator(rows: Sequence[Row]) -> str:
  """Returns the table of the speeds in `accelerator.py`'s rows, oldest first, as Markdown."""
  kinds = dict.fromkeys(
    (r["precision"], r["batch"], r["device"]) for r in rows if r["part"] in ("speed", "torch")
  )
  lines = []
  for precision, batch, device in kinds:
    here = {"precision": precision, "batch": batch, "device": device}
    found = [
      [row for row in rows if row.items() >= {"part": part, **here}.items()]
      for part in ("speed", "torch")
    ]
    ours, theirs = (some[-1] if some else None for some in found)
    lines.append(
      [
        device,
        precision,
        str(batch),
        f"{ours['images_per_s']:.0f}" if ours else "not measured",
        f"{100 * ours['share']:.0f} %" if ours else "",
        f"{ours['compile_s']:.0f}" if ours else "",
        f"{theirs['images_per_s']:.0f}" if theirs else "not measured",
      ]
    )
  columns = (
    "device", "precision", "images", "images/s", "of the peak", "compiling, s", "PyTorch, images/s"
  )  # fmt: skip
  return f"# Accelerators\n\n## Images a second\n\n{_table(columns, lines)}\n"


def scaling(rows: Sequence[Row]) -> str:
  """Returns the table of `protect_scaling.py`'s rows, oldest first, as Markdown."""
  last = {row["count"]: row for row in rows}
  lines = [
    [
      f"{count:,}",
      f"{row['seconds']:.0f}",
      f"{row['photos_per_second']:.1f}",
      f"{100 * row['idle_share']:.1f} %",
      f"{row['peak_rss_mib']:,}",
    ]
    for count, row in sorted(last.items())
  ]
  columns = ("photos", "seconds", "photos/s", "devices idle", "peak memory, MiB")
  return f"# A folder\n\n## From a hundred photos to ten thousand\n\n{_table(columns, lines)}\n"


DOCUMENTS = {"throughput": tables, "accelerator": accelerator, "protect_scaling": scaling}
"""Name of the rows -> what makes their tables."""


def main() -> None:
  """Writes a Markdown file beside each file of rows."""
  for name, make in DOCUMENTS.items():
    text = make(read(ROWS / f"{name}.jsonl"))
    (ROWS / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
