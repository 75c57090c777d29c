"""The direction of imports: a file imports only from rooms above its own, as the table below says.

Read from the sources, function bodies and `TYPE_CHECKING` blocks included; nothing is imported.
"""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = "rpfgsm_jax"

# Rooms from the foundation up; a room may use its own files and every room before it.
ROOMS = (
  "typing",
  "checks",
  "randomness",
  "rounding",
  "atomic",
  "result_folder",
  "user_folders",
  "devices",
  "models",
  "defenses",
  "attacks",
  "quality",
  "evaluation",
  "engine",
  "data",
  "report",
  "photos",
  "comparison",
  "process",
  "jobs",
  "app",
  "cli_common",
  "cli_protect_options",
  "cli_protect",
  "cli_app",
  "cli_doctor",
  "cli_weights",
  "cli",
  "__main__",
)
FOUNDATIONS = (
  "typing", "checks", "randomness", "rounding", "atomic", "result_folder", "user_folders", "devices"
)  # fmt: skip
LEAVES = ("experiments", "converters", "benchmarks", "tests", "conftest", "oracles")
# One command-line leaf may use another's helpers; the package itself may use none.
ALLOWED_BETWEEN_LEAVES = {("benchmarks", "experiments")}
FORBIDDEN_AT_TOP = (
  "tensorflow_datasets",
  "safetensors",
  "torch",
  "torchvision",
  "transformers",
  "matplotlib",
  "ray",
)


def imports(source: str, module: str) -> set[str]:
  """Returns the dotted names that a module's source imports, `from a import b` as `a.b`."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ""
      if node.level:
        parents = module.split(".")[: -node.level]
        base = ".".join([*parents, *([base] if base else [])])
      names |= {f"{base}.{alias.name}" for alias in node.names}
  return names


def files(*tops: str) -> list[pathlib.Path]:
  return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def dotted(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(name: str) -> str | None:
  """Returns the room of one of our dotted names; None for the package itself."""
  parts = name.split(".")
  return parts[1] if len(parts) > 1 and parts[1] != "__init__" else None


def faults(source: str, module: str) -> list[str]:
  """Returns what a module imports against the rules."""
  own, found = room(module), []
  for name in sorted(imports(source, module)):
    top = name.split(".")[0]
    if top in LEAVES:
      found.append(f"{module} imports {name}: nobody imports a leaf")
    if top != PACKAGE or own is None:
      continue
    other = room(name)
    if other in (None, "__version__"):
      if name == PACKAGE and own not in ("cli",):
        found.append(f"{module} imports the whole package")
      continue
    if other not in ROOMS:
      found.append(f"{module} imports {name}, whose room is not in the table")
    elif own in FOUNDATIONS and other not in ("typing", "checks"):
      found.append(f"{module} imports {name}: {own} imports nothing else of ours")
    elif ROOMS.index(other) > ROOMS.index(own):
      found.append(f"{module} imports {name}: {other} stands above {own}")
  return found


def circle(sources: dict[str, str]) -> list[str]:
  """Returns modules that import each other in a circle, the first one again at the end."""
  graph = {}
  for module, source in sources.items():
    # Of `a.b.c` the file is `a.b.c`, or `a.b` where c is a name in it.
    named = imports(source, module)
    named |= {name.rpartition(".")[0] for name in named if name not in sources}
    graph[module] = sorted(named & set(sources) - {module})
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    return error.args[1][::-1]
  return []


def test_every_room_is_in_the_table():
  folder = ROOT / PACKAGE
  rooms = {path.stem for path in folder.glob("*.py")} | {
    path.name for path in folder.iterdir() if path.is_dir() and list(path.glob("*.py"))
  }
  assert rooms - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("path", files(PACKAGE), ids=dotted)
def test_imports_point_upwards(path):
  module = dotted(path)
  assert faults(path.read_text(), module) == []


@pytest.mark.parametrize("top", [PACKAGE, "experiments", "converters", "benchmarks"])
def test_no_circle_between_files(top):
  sources = {dotted(path).removesuffix(".__init__"): path.read_text() for path in files(top)}
  if not (ROOT / top / "__init__.py").exists():  # scripts, which import each other by bare names
    sources = {name.removeprefix(f"{top}."): source for name, source in sources.items()}
  assert circle(sources) == []


@pytest.mark.parametrize("path", files("experiments", "converters", "benchmarks"), ids=dotted)
def test_leaves_do_not_import_each_other(path):
  module = dotted(path)
  tops = {name.split(".")[0] for name in imports(path.read_text(), module)}
  pairs = {(module.split(".")[0], top) for top in tops & set(LEAVES)}
  assert {pair for pair in pairs if pair[0] != pair[1]} <= ALLOWED_BETWEEN_LEAVES


@pytest.mark.parametrize("path", files(PACKAGE), ids=dotted)
def test_heavy_libraries_wait_until_they_are_needed(path):
  top = {
    name
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.Import | ast.ImportFrom)
    for name in imports(ast.unparse(node), dotted(path))
  }
  assert {name for name in top if name.split(".")[0] in FORBIDDEN_AT_TOP} == set()


@pytest.mark.parametrize(
  ("module", "line", "broken"),
  [
    ("rpfgsm_jax.models.resnet", "from rpfgsm_jax.attacks import steps", True),
    ("rpfgsm_jax.models.resnet", "def f():\n  from rpfgsm_jax import attacks", True),
    ("rpfgsm_jax.models.resnet", "from ..attacks import steps", True),
    ("rpfgsm_jax.models.weights", "from rpfgsm_jax.models.classifier import Classifier", False),
    ("rpfgsm_jax.rounding", "from rpfgsm_jax.models import layers", True),
    ("rpfgsm_jax.rounding", "from rpfgsm_jax.typing import Array", False),
    ("rpfgsm_jax.attacks.steps", "from rpfgsm_jax.defenses.bank import DefenseBank", False),
    ("rpfgsm_jax.attacks.steps", "import rpfgsm_jax.engine", True),
    ("rpfgsm_jax.attacks.steps", "import rpfgsm_jax", True),
    ("rpfgsm_jax.engine", "from experiments import run", True),
    ("rpfgsm_jax.cli", "from rpfgsm_jax.data.classes import places365_class_names", False),
  ],
)
def test_the_rules_catch_what_they_should(module, line, broken):
  assert bool(faults(line, module)) is broken


@pytest.mark.parametrize(
  "line",
  [
    "from a import first",
    "import a.first",
    "from a.first import name",
    "from .first import name",
    "def f():\n  from a import first",
    "if TYPE_CHECKING:\n  from a.first import Name",
  ],
)
def test_circles_are_found_however_they_are_closed(line):
  sources = {"a.first": "from a import second", "a.second": "import a.third", "a.third": line}
  found = circle(sources)
  assert found[0] == found[-1]
  assert set(found) == set(sources)
  assert circle(sources | {"a.third": "import b.first"}) == []
