"""What `rpfgsm doctor` and `rpfgsm --version` say of an installation, for reports of bugs."""

import importlib.metadata
import itertools
import os
import platform
import re
import textwrap
from typing import Any, Literal

import click

from rpfgsm_jax import __version__, process
from rpfgsm_jax.atomic import strict_json
from rpfgsm_jax.cli_common import ExitCode, epilog
from rpfgsm_jax.models.tensor_files import available_memory
from rpfgsm_jax.models.weights import BUNDLED, available_networks
from rpfgsm_jax.user_folders import user_folder

_PACKAGE = "rpfgsm-jax"
_VARIABLES = ("JAX_", "XLA_", "RPFGSM_", "CUDA_VISIBLE_DEVICES")
_FOLDERS: tuple[tuple[Literal["cache", "state"], str], ...] = (
  ("cache", "RPFGSM_CACHE"),
  ("state", "RPFGSM_STATE"),
)
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^]]*)\])?")
_EXTRA = re.compile(r"""extra == ['"]([\w-]+)['"]""")
_FOR_DEVELOPERS = ("dev", "docs", "oracles", "test")


@click.command(epilog=epilog("rpfgsm doctor", "rpfgsm doctor --json > doctor.json"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def doctor(as_json: bool) -> None:
  """Says what is installed and found here: versions, devices, extras, networks, folders, memory.

  Paste it into a report of a bug; home folders are shortened to ~. It ends with code 1 where
  something stands in the way of protecting photos.
  """
  facts = examine()
  click.echo(strict_json(facts, indent=2) if as_json else to_text(facts))
  if facts["problems"]:
    raise click.exceptions.Exit(ExitCode.FAILED)


def version_option(command: click.Command) -> click.Command:
  """Gives a command `--version`, which says what computes and on what, for reports of bugs."""
  return click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show version, JAX and devices, and exit.",
  )(command)


def _print_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
  del option
  if wanted and not context.resilient_parsing:
    lines = [f"rpfgsm {__version__}", versions_line(), devices_line(*find_devices())]
    click.echo("\n".join(lines))
    context.exit()


def versions_line() -> str:
  """Returns the versions of what computes, and the system, in one line."""
  jax, jaxlib = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
  return f"Python {platform.python_version()}, jax {jax}, jaxlib {jaxlib}, {platform.platform()}"


def devices_line(devices: list[dict[str, Any]], problem: str | None) -> str:
  """Returns JAX's devices, or why there are none, in one line."""
  if problem:
    return f"devices: none: {problem}"
  kinds = [f"{each['platform']} ({each['kind']})" for each in devices]
  return "devices: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def find_devices() -> tuple[list[dict[str, Any]], str | None]:
  """Returns JAX's devices as JSON values, and why there are none."""
  import jax

  try:
    with process.absent_devices_named():
      return [_device(each) for each in jax.devices()], None
  except RuntimeError as error:  # NoDeviceError, or what a driver says
    return [], str(error)


def examine() -> dict[str, Any]:
  """Returns the facts of an installation as JSON values; "problems" is what stands in the way."""
  required, extras = _requirements()
  devices, no_device = find_devices()
  packages = {
    name: _version(name) for name in sorted({*required, *itertools.chain(*extras.values())})
  }
  lacking = {
    extra: [name for name in names if packages[name] is None] for extra, names in extras.items()
  }
  networks = {
    name: "bundled" if path.is_relative_to(BUNDLED) else "fetched"
    for name, path in available_networks().items()
  }
  problems = [no_device] if no_device else []
  problems += [f"{name} is not installed" for name in required if packages[name] is None]
  return {
    "rpfgsm_jax": __version__,
    "versions": versions_line(),
    "packages": packages,
    "devices": devices,
    "processors": os.cpu_count(),
    "available_memory": available_memory(),
    "extras": {extra: {"present": not names, "lacking": names} for extra, names in lacking.items()},
    "networks": networks,
    "folders": {kind: _folder(kind, variable) for kind, variable in _FOLDERS},
    "variables": {
      name: _without_home(value)
      for name, value in sorted(os.environ.items())
      if name.startswith(_VARIABLES)
    },
    "problems": problems,
  }


def to_text(facts: dict[str, Any]) -> str:
  """Returns what `examine` found as lines for people."""
  memory = facts["available_memory"]
  extras = [
    f"extra [{name}]: " + ("present" if each["present"] else f"lacks {', '.join(each['lacking'])}")
    for name, each in facts["extras"].items()
  ]
  folders = [
    f"{kind} folder: {each['path']}" + ("" if each["writable"] else " (cannot be written)")
    for kind, each in facts["folders"].items()
  ]
  lines = [
    f"rpfgsm {facts['rpfgsm_jax']}",
    facts["versions"],
    devices_line(facts["devices"], None if facts["devices"] else "see below"),
    f"processors: {facts['processors']}; memory available: "
    + ("unknown" if memory is None else f"{memory / 1e9:.1f} GB"),
    *textwrap.wrap(
      "packages: "
      + ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found),
      subsequent_indent="  ",
    ),
    *extras,
    *(f"network {name}: {origin}" for name, origin in facts["networks"].items()),
    *folders,
    *(f"{name}={value}" for name, value in facts["variables"].items()),
    *(f"problem: {problem}" for problem in facts["problems"]),
  ]
  return "\n".join([*lines, *([] if facts["problems"] else ["no problem found"])])


def _device(device: Any) -> dict[str, Any]:
  stats = device.memory_stats() or {}  # a CPU has none
  return {
    "platform": device.platform,
    "kind": device.device_kind,
    "memory": stats.get("bytes_limit"),
  }


def _folder(kind: Literal["cache", "state"], variable: str) -> dict[str, Any]:
  path = user_folder(kind, variable)
  if path is None:
    return {"path": None, "writable": False}
  there = next(each for each in (path, *path.parents) if each.exists())  # it is made when needed
  writable = there.is_dir() and os.access(there, os.W_OK)
  return {"path": _without_home(str(path)), "writable": writable}


def _without_home(text: str) -> str:
  """Returns a text without the user's folder, which often has a name: reports are public."""
  home = os.path.expanduser("~")
  return text if home in ("~", os.sep) else text.replace(home, "~")


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
  """Returns the packages that are required, and those of each extra for users."""
  provided = importlib.metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
  extras = [extra for extra in provided if extra not in _FOR_DEVELOPERS]
  return _required_by(_PACKAGE), {extra: _required_by(_PACKAGE, extra) for extra in extras}


def _required_by(package: str, extra: str | None = None) -> list[str]:
  """Returns what an installed package requires, without an extra or for this one alone."""
  names = []
  lines = [] if _version(package) is None else importlib.metadata.requires(package) or []
  for line in lines:
    named, wanted = _REQUIREMENT.match(line), _EXTRA.search(line)
    if named is None or extra != (wanted and wanted[1]):
      continue
    if ";" in line and wanted is None:  # of some systems and versions alone
      continue
    names.append(named["name"])
    for inner in re.findall(r"[\w-]+", named["extras"] or ""):  # what jax[cuda13] adds to jax
      names += _required_by(named["name"], inner)
  return list(dict.fromkeys(names))
