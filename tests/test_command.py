"""What scripts rely on: exit codes, the schema of `--json`, help, completion, facts for bugs."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import click
import jax
import jsonschema
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from jobs.protect_json import SCHEMA, read_protect_json

import rpfgsm_jax as rp
from rpfgsm_jax import cli, cli_doctor, comparison
from rpfgsm_jax.cli_common import ExitCode

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "COMMAND.md").read_text()


@pytest.fixture
def rpfgsm():
  def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])

  return run


def commands(group: click.Group = cli.cli, name: str = "rpfgsm") -> dict[str, click.Command]:
  found = {name: group}
  for word, command in group.commands.items():
    inner = f"{name} {word}"
    found |= commands(command, inner) if isinstance(command, click.Group) else {inner: command}
  return found


COMMANDS = commands()


# ---- exit codes ----


def test_clicks_own_exit_codes_are_those_of_the_table():
  assert (click.ClickException.exit_code, click.UsageError.exit_code) == (
    ExitCode.FAILED,
    ExitCode.WRONG,
  )


def test_the_page_has_the_table():
  rows = re.findall(r"^\| (\d+) \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
  assert rows == [(str(code.value), code.name, code.meaning) for code in ExitCode]


@pytest.mark.parametrize("command", ["evaluate", "protect"])
def test_every_command_ends_alike_on_ctrl_c(rpfgsm, tmp_path, monkeypatch, command):
  def interrupted(*arguments, **options):
    raise KeyboardInterrupt

  monkeypatch.setattr(comparison, "compare_folders", interrupted)
  monkeypatch.setattr("rpfgsm_jax.jobs.run.preview", interrupted)
  more = () if command == "evaluate" else ("--out", tmp_path / "out", "--dry-run")
  done = rpfgsm(command, tmp_path, *(more or [tmp_path]))
  assert done.exit_code == ExitCode.INTERRUPTED
  assert done.stderr.startswith("interrupted")


# ---- the schema of `protect --json` ----


def test_the_schema_is_one_and_describes_every_field():
  jsonschema.Draft202012Validator.check_schema(SCHEMA)


PHOTO = {"photo": "a", "source": "/a", "output": "/b", "working_size": [3, 4]}
JUDGE = {"network": "n", "held_out": True, "kind": "small"}
JUDGED = PHOTO | {
  "status": "partly",
  "scenes": [JUDGE | {"before": "bar", "after": "attic"}],
  "psnr": None,
  "ssim": None,
  "largest_change": 8,
}


def result(*photos: dict, **changed: object) -> str:
  counts = dict.fromkeys(("done", "failed", "skipped", "left", "seconds", "photos_per_second"), 0)
  other = {"idle_share": None, "failures": [], "verdicts": {}, "judges": [JUDGE], "judged_by": ""}
  return json.dumps(counts | other | {"photos": photos} | changed)


def test_the_schema_takes_what_may_be_null():
  read_protect_json(result(JUDGED, PHOTO | {"status": "not judged", "working_size": None}))


@pytest.mark.parametrize(
  "text",
  [
    "[]",
    "{}",
    result(more=1),
    result(JUDGED | {"more": 1}),
    result(JUDGED | {"status": "failed"}),
    result(JUDGED | {"working_size": [3]}),
    result({"photo": "a", "status": "failed"}),
    result(verdicts={"good": 1}),
    result(judges=[JUDGE | {"kind": "huge"}]),
    result(left=-1),
    json.dumps({"photos": [{"relative": "a", "output": None, "standing": "lost", "reason": ""}]}),
  ],
)
def test_the_schema_refuses_what_is_not_so(text):
  with pytest.raises(jsonschema.ValidationError):
    read_protect_json(text)


# ---- help, other ways to start ----


@pytest.mark.parametrize("name", [name for name, each in COMMANDS.items() if each.epilog])
def test_examples_are_commands_that_exist(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for file in ("resnet18.pth.tar", "mine.pth", "names.txt"):
    (tmp_path / file).touch()
  examples = re.findall(rf"^  ({name}\b.*)$", COMMANDS[name].epilog, re.MULTILINE)
  assert examples
  for example in examples:
    words = shlex.split(example.partition(">")[0])
    command = max((each for each in COMMANDS if example.startswith(each)), key=len)
    context = click.Context(cli.cli, info_name="rpfgsm")
    COMMANDS[command].make_context(command, words[len(command.split()) :], parent=context)


def test_every_command_has_examples_and_tells_its_exit_codes(rpfgsm):
  for name in COMMANDS.keys() - {"rpfgsm weights"}:
    text = rpfgsm(*name.split()[1:], "--help").stdout
    assert f"Examples:\n    {name}" in text, name
    assert all(f"{code}  {code.meaning}." in text for code in ExitCode), name


def test_the_package_is_the_command():
  started = subprocess.run(
    [sys.executable, "-m", "rpfgsm_jax", "weights", "--help"],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=True,
  )
  assert started.stdout.startswith("Usage: rpfgsm weights ")


@pytest.mark.parametrize(
  ("typed", "expected"),
  [
    (["pro"], ["protect"]),
    (["protect", "--stri"], ["--strict"]),
    (["protect", "--strength", ""], ["gentle", "medium", "strong"]),
    (["protect", "--scene", "li"], ["library", "living_room"]),
    (["protect", "--network", "scenes25/res"], ["scenes25/resnet18", "scenes25/resnet50"]),
    (["evaluate", "--network", "scenes25/a"], ["scenes25/alexnet"]),
    (["protect", "--held-out", "/somewhere"], ["dir"]),
    (["protect", "holi"], ["file"]),
  ],
  ids=lambda words: " ".join(words),
)
def test_a_shell_completes(typed, expected):
  completer = ShellComplete(cli.cli, {}, "rpfgsm", "_RPFGSM_COMPLETE")
  found = completer.get_completions(typed[:-1], typed[-1])
  names = {each.value if each.type == "plain" else each.type for each in found}
  assert names == set(expected)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_page_says_how_a_shell_learns_to(shell, rpfgsm):
  (variable,) = re.findall(rf"`[^`]*(_RPFGSM_COMPLETE={shell}_source) rpfgsm[^`]*`", PAGE)
  name, _, value = variable.partition("=")
  started = subprocess.run(
    [sys.executable, "-m", "rpfgsm_jax"],
    env=os.environ | {"PYTHONPATH": str(ROOT), name: value},
    capture_output=True,
    text=True,
    check=False,
  )
  if shell == "bash" and "Couldn't detect Bash version" in started.stderr:
    pytest.skip("no Bash here")
  assert f"_RPFGSM_COMPLETE={shell}_complete" in started.stdout, started.stderr


# ---- facts for reports of bugs ----


def test_the_version_names_what_computes(rpfgsm):
  done = rpfgsm("--version")
  assert done.exit_code == 0
  first, second, third = done.stdout.splitlines()
  assert first == f"rpfgsm {rp.__version__}"
  assert f"jax {jax.__version__}, jaxlib " in second
  assert third == f"devices: {len(jax.devices())} cpu (cpu)"


def test_the_doctor_says_what_is_there(rpfgsm, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setenv("RPFGSM_CACHE", str(tmp_path / "cache"))
  done = rpfgsm("doctor", "--json")
  assert done.exit_code == 0
  facts = json.loads(done.stdout)
  assert facts["packages"]["jax"] == jax.__version__
  assert facts["devices"][0] == {"platform": "cpu", "kind": "cpu", "memory": None}
  assert facts["networks"]["scenes25/alexnet"] == "bundled"
  assert facts["folders"]["cache"] == {"path": "~/cache", "writable": True}
  assert facts["variables"]["RPFGSM_CACHE"] == "~/cache"
  assert facts["extras"]["experiments"]["present"]
  assert "test" not in facts["extras"]
  assert facts["available_memory"] > 1e6
  assert facts["problems"] == []
  text = rpfgsm("doctor").stdout
  assert text.endswith("no problem found\n")
  assert "network scenes25/alexnet: bundled\n" in text
  assert str(tmp_path) not in text


def test_the_doctor_names_what_is_lacking(rpfgsm, monkeypatch):
  real = cli_doctor.importlib.metadata.version

  def version(name):
    if name in ("optax", "tokenizers"):
      raise cli_doctor.importlib.metadata.PackageNotFoundError(name)
    return real(name)

  def no_device():
    raise RuntimeError("the driver is asleep")

  monkeypatch.setattr(cli_doctor.importlib.metadata, "version", version)
  monkeypatch.setattr(jax, "devices", no_device)
  done = rpfgsm("doctor")
  assert done.exit_code == ExitCode.FAILED
  assert "extra [clip]: lacks tokenizers\n" in done.stdout
  assert done.stdout.endswith("problem: the driver is asleep\nproblem: optax is not installed\n")
  assert rpfgsm("--version").stdout.endswith("devices: none: the driver is asleep\n")
