"""Every block of the documentation: Python runs as printed, commands exist with their options."""

import json
import pathlib
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner
from documentation.page_blocks import DOCS, PAGES, ROOT, blocks, commands
from models.small_clip import write_clip
from oracles import legacy_torch_file
from PIL import Image

import rpfgsm_jax as rp
from experiments import run, train_zoo
from rpfgsm_jax import cli

OF_THE_SITE = ("math", "{include}", "{toctree}", "{public}", "{command-help}")
WITH_PYTHON = [
  page
  for page in PAGES
  if page != "README.md" and any(language == "python" for language, _ in blocks(page))
]


def write_holiday(photo):
  """Two photos, 128 pixels wide."""
  pathlib.Path("holiday").mkdir()
  for number in range(2):
    small = Image.fromarray(photo[20 * number :][:96, :128])
    small.save(f"holiday/{number}.jpg", quality=95)


def write_checkpoint(photo):
  """A file of PyTorch's older layout with the weights that the page reads."""
  pathlib.Path("small.pth").write_bytes(
    legacy_torch_file.legacy_bytes(*legacy_torch_file.as_views(torch_weights()))
  )


def torch_weights() -> dict[str, np.ndarray]:
  generator = np.random.default_rng(0)
  shapes = {
    "stem.weight": (8, 3, 5, 5),
    "stem.bias": (8,),
    "head.weight": (3, 8),
    "head.bias": (3,),
  }
  return {name: generator.normal(size=size).astype(np.float32) for name, size in shapes.items()}


def check_python(session, printed, photo):
  assert printed.count(" -> ") == 2  # one line a photo
  for number in range(2):
    with Image.open(f"protected/{number}.png") as written:
      assert written.size == (128, 96)
  assert largest_change(session) == 8
  assert session["result"].draws.classifier.shape == (2, 12)


def check_classifiers(session, printed, photo):
  """The port against the same layers in NumPy, as PyTorch defines them; training helps."""
  weights, ported, image = torch_weights(), session["ported"], photo[:128, :128]
  mean, deviation = np.asarray(ported.mean), np.asarray(ported.deviation)
  normalized = ((image / 255 - mean) / deviation).transpose(2, 0, 1)
  padded = np.pad(normalized, ((0, 0), (2, 2), (2, 2)))
  windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))[:, ::4, ::4]
  stem = np.einsum("cijkl,fckl->fij", windows, weights["stem.weight"])
  features = np.maximum(stem + weights["stem.bias"][:, None, None], 0).mean(axis=(1, 2))
  expected = weights["head.weight"] @ features + weights["head.bias"]
  # float32 sums of 75 products, then means over 1024 places.
  np.testing.assert_allclose(np.asarray(ported(image)), expected, rtol=1e-4, atol=1e-4)
  assert session["losses"][-1] < session["losses"][0] / 2
  assert session["trained"].class_names == session["mine"].class_names


def check_features(session, printed, photo):
  assert (np.asarray(session["similarity"]) < 0.98).all()
  inside, pair = session["inside"], session["images"]
  approached = inside.similarity(session["disguised"], pair[::-1])
  assert (np.asarray(approached) > np.asarray(inside.similarity(pair, pair[::-1]))).all()


def check_defense(session, printed, photo):
  assert largest_change(session, "blurred") == 16


def check_attack(session, printed, photo):
  assert largest_change(session) == 8


def check_units(session, printed, photo):
  assert session["change"].tolist() == [2, 4]


def largest_change(session, name="protected"):
  return np.abs(np.asarray(session[name]) - np.stack(session["photos"]).astype(int)).max()


BEFORE = {
  "docs/tutorial/python.md": write_holiday,
  "docs/howto/classifier.md": write_checkpoint,
  "docs/howto/words.md": lambda photo: write_clip(pathlib.Path("clip")),
}
AFTER = {
  "docs/tutorial/python.md": check_python,
  "docs/howto/classifier.md": check_classifiers,
  "docs/howto/features.md": check_features,
  "docs/howto/defense.md": check_defense,
  "docs/howto/attack.md": check_attack,
  "docs/explanation/units.md": check_units,
}


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_examples_run_as_printed(page, tmp_path, monkeypatch, photo, capsys):
  monkeypatch.chdir(tmp_path)
  BEFORE.get(page, lambda photo: None)(photo)
  session = {}
  for number, (language, text) in enumerate(blocks(page)):
    if language == "python":
      exec(compile(text, f"{page}, example {number + 1}", "exec"), session)
  AFTER.get(page, lambda *_: None)(session, capsys.readouterr().out, photo)


def test_pages_with_a_setting_of_their_own_are_there():
  assert {*BEFORE, *AFTER} <= set(WITH_PYTHON)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_a_known_kind(page):
  for language, text in blocks(page):
    assert language in ("", "python", "json", *OF_THE_SITE), text
    if language == "json":
      json.loads(text)


def click_command(group, words):
  """Returns the command that the words name below a group, and the words after it."""
  while isinstance(group, click.Group):
    if not words or words[0].startswith("-"):
      words = ["demo", *words]  # of the experiments
    found = group.get_command(click.Context(group), words[0])
    assert found is not None, words
    group, words = found, words[1:]
  return group, words


def check_command(words):
  """Refuses a command that does not exist, or an option that it does not have; runs nothing."""
  if words[0].endswith("python") and words[1].endswith(".py"):
    words = words[1:]
  name, rest = words[0].removeprefix(".venv/bin/"), words[1:]
  if name in ("rpfgsm", "experiments/run.py"):
    if rest in (["--help"], ["--version"]):
      return
    command, rest = click_command(cli.cli if name == "rpfgsm" else run.cli, rest)
    rest = [word for word in rest if word != "--report"]  # may stand alone, which Click cannot say
    _, left, _ = command.make_parser(click.Context(command)).parse_args(rest)
    assert not left, left
  elif name == "experiments/train_zoo.py":
    train_zoo.parse(rest)
  elif name == "make":
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in rest)
  elif name.endswith(".py"):
    assert (ROOT / name).is_file()
  else:  # what is not ours
    assert name in ("pip", "python3") or name.startswith("XLA_FLAGS="), words


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_commands_exist_with_their_options(page):
  for words in commands(page):
    check_command(words)


@pytest.mark.parametrize(
  "words",
  ["rpfgsm protekt x", "rpfgsm protect x --oat y", "experiments/run.py table3 --limt 5", "sudo x"],
)
def test_a_wrong_command_is_found(words):
  with pytest.raises((AssertionError, click.UsageError)):
    check_command(words.split())


@pytest.mark.long
@pytest.mark.parametrize("page", ["docs/tutorial/first-photo.md", "docs/tutorial/table.md"])
def test_a_tutorial_runs_as_printed(page, tmp_path, monkeypatch, photo):
  monkeypatch.chdir(tmp_path)
  write_holiday(photo)
  ran = 0
  for words in commands(page):
    if "DIR" in words or words[0].endswith(("python3", "pip")):
      continue
    ours = words[0] == "rpfgsm"
    done = CliRunner().invoke(cli.cli if ours else run.cli, words[1:] if ours else words[2:])
    assert done.exit_code == 0, done.output
    ran += 1
  assert ran == 2
  made = ("protected/0.png", "protected-report.html", "results/first/table2.md")
  assert sum(pathlib.Path(name).exists() for name in made) == (2 if "first" in page else 1)


def test_every_public_name_has_an_entry():
  text = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
  entries = re.findall(r"^```\{public\} (\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
  listed = {(module, name) for module, names in entries for name in names.split()}
  whole = {module for module, names in entries if not names.split()}
  rooms = ("photos", "defenses", "quality", "evaluation", "data", "report", "comparison")
  assert whole == {f"rpfgsm_jax.{room}" for room in rooms}
  named_as_rooms = {name for name in rp.__all__ if name in rooms}
  assert {("rpfgsm_jax", name) for name in set(rp.__all__) - named_as_rooms} <= listed
