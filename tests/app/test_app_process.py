"""`rpfgsm app` as a process, in headless Chromium: killed, started again, ended by Ctrl-C.

`RPFGSM_SCREENSHOTS` names a folder for the pictures of docs/PHOTOS.md.
"""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from app.conftest import picture
from app.pages import drop, photograph, protect, row, verdicts
from models.small_networks import CLASS_NAMES, CONFIGS, parameters

from rpfgsm_jax.models import weights
from rpfgsm_jax.photos.page_pictures import WORDS

pytestmark = pytest.mark.browser

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Process:
  """`rpfgsm app` in a folder, and the address that it prints."""

  def __init__(self, folder, *options):
    command = [sys.executable, "-m", "rpfgsm_jax.cli", "app", "--no-browser", "--port", "0"]
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = inherited | {
      "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
      "RPFGSM_CACHE": str(folder / "cache"),
      "RPFGSM_STATE": str(folder / "state"),
    }
    self.process = subprocess.Popen(
      [*command, "--out", str(folder / "work"), *map(str, options)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.address = self.process.stdout.readline().strip()
    assert self.address.startswith("http://127.0.0.1:"), self.process.communicate()

  def end(self, number):
    """Sends a signal; returns the exit code and what was written to stderr."""
    self.process.send_signal(number)
    _, stderr = self.process.communicate(timeout=60)
    return self.process.returncode, stderr


@pytest.fixture
def start(tmp_path):
  started = []

  def _start(*options):
    started.append(Process(tmp_path, *options))
    return started[-1]

  yield _start
  for each in started:
    each.process.kill()
    each.process.communicate()


def test_killed_in_the_middle_started_again_and_ended_by_ctrl_c(start, visit, tmp_path):
  network = weights.Network(
    config=CONFIGS["basic"], parameters=parameters("basic"), class_names=CLASS_NAMES
  )
  weights.save_network(tmp_path / "network", network)
  options = ("--network", tmp_path / "network", "--steps", "40", "--seed", "7")
  first = start(*options)
  page = visit(first.address)
  drop(page, *((f"{number:02}.png", picture(number, (160, 120))) for number in range(60)))
  page.locator("#start").click()
  page.locator("#list td:nth-child(2) > span").nth(2).wait_for(timeout=600_000)
  assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
  page.locator("#status", has_text="is not running any more").wait_for()
  assert page.evaluate("window.work.inert")

  second = start(*options)
  page = visit(second.address)
  row(page, "59.png").wait_for()
  done = sum(map(bool, verdicts(page)))
  assert 3 <= done < 60
  assert page.locator("#start").inner_text() == f"Go on with {60 - done} photos"
  protect(page, 600_000)
  assert f"{done} skipped" in page.locator("#status").inner_text()
  assert all(verdicts(page))
  assert second.end(signal.SIGINT) == (0, "")


def test_ended_by_ctrl_c_while_it_works(start, visit, tmp_path):
  process = start()
  page = visit(process.address)
  drop(page, ("rocket.png", photograph()))
  page.locator("#start").click()
  page.locator("#progress").wait_for()
  code, stderr = process.end(signal.SIGINT)
  assert code == 130
  assert stderr.endswith("interrupted; the same command goes on\n")


def test_as_a_new_user_meets_it(start, visit, tmp_path):
  """The bundled networks and a real photo; where somebody asks for them, pictures for the docs."""
  pictures = pathlib.Path(os.environ.get("RPFGSM_SCREENSHOTS", tmp_path))
  page = visit(start("--seed", "1").address, viewport={"width": 1100, "height": 800})
  drop(page, ("rocket.png", photograph()))
  page.get_by_role("button", name="Compare: rocket.png").click()
  page.get_by_role("button", name="Try the three strengths").click()
  page.get_by_role("heading", name="strong, at most 16").wait_for(timeout=900_000)
  page.locator("#status", has_text="skipped").wait_for()
  page.get_by_role("radio", name="strong").check()
  assert verdicts(page)[0] in {word for word, _ in WORDS.values()}
  page.evaluate("window.scrollTo(0, 0)")
  page.screenshot(path=pictures / "page.png")
  page.locator("#compare").screenshot(path=pictures / "compare.png")
