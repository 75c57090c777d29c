"""The golden manifest: what the product's commands print, write and answer, to compare versions.

  python benchmarks/manifest/behavior.py --check     run all, print every difference, exit 1 if any
  python benchmarks/manifest/behavior.py --write     run all, write behavior.json
  python benchmarks/manifest/behavior.py --check --case 'protect/png/*' --case refusals

Only commands are run (`rpfgsm`, `experiments/run.py`), with this interpreter and the checkout that
this file lies in; nothing is imported from the package. `--case` takes patterns of names, and names
that a case's begins with; `--list` prints them; with `--write` other cases stay as they are.
Times, versions, temporary paths and progress are left out; see `normalize.py`.

Digests of pictures hold for one kind of processor, one jaxlib and one Pillow, which the manifest
names ("made with"). Elsewhere write a manifest of the older version first, and check against it:

  git worktree add /tmp/before OLDER_COMMIT
  cp -r benchmarks/manifest /tmp/before/benchmarks/
  python /tmp/before/benchmarks/manifest/behavior.py --write --manifest /tmp/before.json
  python benchmarks/manifest/behavior.py --check --manifest /tmp/before.json

About ten minutes on two cores when the compiled programs are there (RPFGSM_MANIFEST_CACHE names
their folder, which all checkouts may share), twice that when they are not.
"""

import argparse
import concurrent.futures
import difflib
import fnmatch
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import evaluate_cases
import experiment_cases
import protect_cases
import refusal_cases
import running

MANIFEST = pathlib.Path(__file__).with_name("behavior.json")
PACKAGES = ("jax", "jaxlib", "numpy", "pillow", "scikit-image", "scipy", "matplotlib")
WIDTH = 240  # characters of a value that a difference shows
Difference = tuple[str, Any, Any]  # field, before, after
NOTHING = "(nothing)"


def cases() -> dict[str, protect_cases.Case]:
  """Returns all cases by name, the longest first."""
  return {
    **experiment_cases.cases(),
    **protect_cases.cases(),
    **evaluate_cases.cases(),
    **refusal_cases.cases(),
  }


def made_with() -> dict[str, str]:
  """Returns what digests depend on."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = next((line for line in lines if line.startswith(("flags", "Features"))), "")
  except OSError:
    facts = platform.processor()
  found = {"processor": f"{platform.machine()} {hashlib.sha256(facts.encode()).hexdigest()[:8]}"}
  return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def differences(before: Any, after: Any, field: str = "") -> Iterator[Difference]:
  """Yields the leaves in which two JSON values differ; entries of lists are matched first."""
  before, after = _parsed(before), _parsed(after)
  if before == after:
    return
  if isinstance(before, dict) and isinstance(after, dict):
    for key in [*before, *(key for key in after if key not in before)]:
      yield from differences(
        before.get(key, NOTHING), after.get(key, NOTHING), f"{field} > {key}" if field else key
      )
  elif isinstance(before, list) and isinstance(after, list):
    yield from _in_lists(before, after, field)
  else:
    yield field, before, after


def _in_lists(before: list[Any], after: list[Any], field: str) -> Iterator[Difference]:
  old, new = ([json.dumps(each) for each in some] for some in (before, after))
  matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
  for kind, start, stop, first, last in matcher.get_opcodes():
    if kind == "equal":
      continue
    for step in range(max(stop - start, last - first)):
      there = before[start + step] if start + step < stop else NOTHING
      here = after[first + step] if first + step < last else NOTHING
      yield from differences(there, here, f"{field}[{start + step}]")


def _parsed(value: Any) -> Any:
  """A record that the manifest holds in one line."""
  if isinstance(value, str) and value.startswith("{"):
    try:
      return json.loads(value)
    except ValueError:
      return value
  return value


def _shown(value: Any) -> str:
  text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
  return text if len(text) <= WIDTH else f"{text[:WIDTH]}... ({len(text)} characters)"


def run_case(name: str, case: protect_cases.Case) -> dict[str, Any]:
  """Runs one case in a folder of its own and says how long it took; returns what it found."""
  started = time.monotonic()
  with running.place() as place:
    try:
      found = case(place)
    except Exception:
      found = {"could not be run": traceback.format_exc().splitlines()}
    failed = " COULD NOT BE RUN" if "could not be run" in found else ""
    seconds = time.monotonic() - started
    print(f"{seconds:5.0f} s  {name}{failed}", file=sys.stderr, flush=True)
    return {"steps": place.steps, **found}


def run_cases(
  chosen: dict[str, protect_cases.Case], jobs: int
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Runs cases, some at a time; yields each name and what was found."""
  with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
    yield from zip(chosen, pool.map(run_case, chosen, chosen.values()), strict=True)


def write(path: pathlib.Path, found: dict[str, Any]) -> None:
  """Writes a manifest."""
  content = {"made with": made_with(), "cases": dict(sorted(found.items()))}
  path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def compare(name: str, before: Any, after: Any) -> int:
  """Prints the differences of one case; returns their number."""
  found = list(differences(before, after))
  if found:
    print(f"=== {name}: {len(found)} differences")
  for field, there, here in found:
    print(f"  {field}\n  - {_shown(there)}\n  + {_shown(here)}", flush=True)
  return len(found)


def main() -> None:
  """Entry point of the script."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  action = parser.add_mutually_exclusive_group(required=True)
  action.add_argument("--check", action="store_true", help="compare with the manifest")
  action.add_argument("--write", action="store_true", help="make the manifest")
  action.add_argument("--list", action="store_true", help="print the names of the cases")
  parser.add_argument("--case", action="append", default=[], metavar="PATTERN")
  parser.add_argument("--manifest", type=pathlib.Path, default=MANIFEST)
  parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
  given = parser.parse_args()
  chosen = {
    name: case
    for name, case in cases().items()
    if not given.case
    or any(name.startswith(each) or fnmatch.fnmatch(name, each) for each in given.case)
  }
  if not chosen:
    parser.error("--case fits no case; --list prints their names")
  if given.list:
    print(*chosen, sep="\n")
    return
  known = {"made with": {}, "cases": {}}
  if given.manifest.exists():
    known = json.loads(given.manifest.read_bytes())
  elif given.check:
    parser.error(f"{given.manifest} is not there; --write makes it")
  here = made_with()
  if known["cases"] and known["made with"] != here:
    print("made with other things; digests may differ: see --help", file=sys.stderr)
    for field, before, after in differences(known["made with"], here):
      print(f"  {field}: {before} -> {after}", file=sys.stderr)
  together, count = dict(known["cases"]) if given.case or given.check else {}, 0
  for name, found in run_cases(chosen, given.jobs):
    if given.check:
      count += compare(name, together.get(name, NOTHING), found)
    else:
      together[name] = found
      write(given.manifest, together)
  if given.check:
    print(f"{count} differences in {len(chosen)} cases")
    sys.exit(1 if count else 0)


if __name__ == "__main__":
  main()
