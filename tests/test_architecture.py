"""The page docs/ARCHITECTURE.md against the code: the path of one photo, traced."""

import pathlib
import re
import sys
import threading
import types

import numpy as np
import pytest
import toy_classifiers as toys
from PIL import Image

from rpfgsm_jax import cli, process
from rpfgsm_jax.jobs import engines, spec
from rpfgsm_jax.jobs.spec import NetworkIdentity
from rpfgsm_jax.photos import protector

ROOT = pathlib.Path(cli.__file__).parent
PAGE = ROOT.parent / "docs" / "ARCHITECTURE.md"
LONGEST = 25  # functions


def listed_path():
  section = PAGE.read_text(encoding="utf-8").split("## The path of a photo")[1].split("\n## ")[0]
  return re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)


@pytest.fixture
def traced(tmp_path, monkeypatch):
  """The package's functions in the order of their first call, and who called each first."""
  networks = {f"toys/{index}": toys.linear(index, name=f"toys/{index}") for index in range(2)}

  def identify(job):
    return tuple(NetworkIdentity(name, "digest") for name in (*job.networks, *job.held_out))

  for module in (engines, spec):
    monkeypatch.setattr(module, "identify_networks", identify)

  def attack(key, images, classifiers, config, *, image_ids, label):
    return types.SimpleNamespace(adversarial=255.0 - images)

  monkeypatch.setattr(engines, "load_classifier", networks.__getitem__)
  monkeypatch.setattr(protector, "rp_fgsm", attack)
  monkeypatch.setattr(process, "prepare", lambda: process.CompileCache(None, False))
  Image.fromarray(np.tile(toys.images(1)[0], (4, 4, 1))).save(tmp_path / "photo.png")
  arguments = ["protect", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
  monkeypatch.setattr(sys, "argv", ["rpfgsm", *arguments, "--network", "toys/0", "--steps", "2"])
  callers = {}

  def name(frame):
    path = pathlib.Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT):
      return None
    return ".".join((*path.relative_to(ROOT).with_suffix("").parts, frame.f_code.co_qualname))

  def note(frame, event, _):
    called = name(frame) if event == "call" else None
    if called is None or called in callers:
      return
    outer = frame.f_back
    while outer is not None and name(outer) is None:
      outer = outer.f_back
    callers[called] = None if outer is None else name(outer)

  # A debugger or a coverage tool of the tests' own gets its place back.
  before = sys.getprofile()
  threading.setprofile(note)
  sys.setprofile(note)
  try:
    with pytest.raises(SystemExit) as ended:
      cli.main()
  finally:
    sys.setprofile(before)
    threading.setprofile(None)
  assert not ended.value.code
  assert (tmp_path / "out" / "photo.png").exists()
  return callers


def test_the_path_of_a_photo_is_as_the_page_lists_it(traced):
  path = listed_path()
  assert 15 < len(path) <= LONGEST
  assert [name for name in traced if name in path] == path
  # Nothing lies between: each is called by one above it, or is where a thread begins.
  in_threads = {name for name in path[1:] if traced[name] is None}
  assert in_threads == {f"jobs.worker.Worker.{step}" for step in ("read", "attack", "finish")}
  for place, name in enumerate(path[1:], start=1):
    assert name in in_threads or traced[name] in path[:place], (name, traced[name])
