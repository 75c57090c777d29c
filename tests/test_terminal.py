"""Commands as real processes whose terminal or environment is not what one hopes for."""

import os
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
RPFGSM, EXPERIMENT = ("-m", "rpfgsm_jax.cli"), (str(ROOT / "experiments" / "run.py"),)
NETWORK = ("--network", "scenes25/alexnet")
PHOTO = "ピクニック"


@pytest.fixture
def start(tmp_path):
  """Runs a command in a folder with photos in `in` and `other`; returns what it said."""
  for folder in ("in", "other"):
    (tmp_path / folder).mkdir()
    Image.effect_noise((40, 33), 90).convert("RGB").save(tmp_path / folder / f"{PHOTO}.png")
  inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}

  def run(*arguments, **settings) -> subprocess.CompletedProcess:
    ours = {
      "PYTHONPATH": str(ROOT),
      "RPFGSM_CACHE": str(tmp_path / "cache"),
      "RPFGSM_STATE": str(tmp_path / "state"),
    }
    return subprocess.run(
      [sys.executable, *arguments],
      cwd=tmp_path,
      env=inherited | ours | settings,
      capture_output=True,
      check=False,
    )

  return run


@pytest.mark.parametrize(
  "command",
  [
    (*RPFGSM, "protect", "in", "--out", PHOTO, "--dry-run", *NETWORK),
    (*EXPERIMENT, "fill", f"{PHOTO}.md"),
  ],
  ids=["rpfgsm", "experiments"],
)
def test_names_that_the_terminal_lacks_are_spelled_out(start, tmp_path, command):
  (tmp_path / f"{PHOTO}.md").write_text("<!-- table t.md: T -->\n<!-- end -->\n")
  (tmp_path / "t.md").write_text("\n## T\n\n| a |\n")
  done = start(*command, PYTHONIOENCODING="cp1252:strict")
  assert done.returncode == 0, done.stderr
  assert PHOTO.encode("ascii", "backslashreplace") in done.stdout


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names there are Unicode")
def test_names_that_are_no_unicode_reach_reports_and_terminals(start, tmp_path):
  name = b"\xff.png".decode("utf-8", "surrogateescape")
  for folder in ("in", "other"):
    (tmp_path / folder / f"{PHOTO}.png").rename(tmp_path / folder / name)
  evaluate = (*RPFGSM, "evaluate", "in", "other", "--out", PHOTO, *NETWORK)
  done = start(*evaluate, PYTHONIOENCODING="cp1252:strict")
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].endswith(rb"\u30af/index.html")
  assert r"\xff" in (tmp_path / PHOTO / "index.html").read_text("utf-8")
  assert (tmp_path / PHOTO / "report.md").read_text("utf-8")


@pytest.mark.parametrize(
  "command",
  [
    (*RPFGSM, "protect", "in", "--out", "o", *NETWORK),
    (*RPFGSM, "evaluate", "in", "other", *NETWORK),
    (*EXPERIMENT, "demo", "--data", "in", "--limit", "1"),
  ],
  ids=["protect", "evaluate", "demo"],
)
def test_an_absent_device_is_one_message_with_the_remedy(start, command):
  done = start(*command, JAX_PLATFORMS="nonsense")
  said = done.stderr.decode()
  assert done.returncode == 1
  assert "Traceback" not in said
  assert "Error: JAX_PLATFORMS=nonsense names a device that JAX cannot start here" in said
  assert "set JAX_PLATFORMS=cpu" in said
