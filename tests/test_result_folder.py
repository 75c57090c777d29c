"""Results lie apart from photos, replace only results, and go on only under the same settings."""

import os
import pathlib

import pytest

from rpfgsm_jax.result_folder import (
  FolderError,
  Record,
  check_apart,
  check_place,
  check_words,
  check_writable,
  compare_records,
)


@pytest.mark.parametrize("results", ["photos", "photos/new/deep", ".", "link", "link/new"])
def test_photos_and_results_lie_apart(tmp_path, results):
  (tmp_path / "photos").mkdir()
  (tmp_path / "link").symlink_to("photos")
  photos, out = tmp_path / "photos", tmp_path / results
  for first, second in ((photos, out), (out, photos)):
    message = f"^SOURCE and --out must lie apart, got {first} and {second}; change one of them.$"
    with pytest.raises(FolderError, match=message):
      check_apart(first, second, "SOURCE and --out")


def test_neighbors_and_loops_of_links_lie_apart(tmp_path):
  (tmp_path / "loop").symlink_to("loop")
  for results in ("photos2", "new/photos", "loop"):
    check_apart(tmp_path / "photos", tmp_path / results, "SOURCE and --out")


def is_ours(folder: pathlib.Path) -> bool:
  return (folder / "run.json").exists()


PLACES = {
  "new": ([], ""),
  "parents missing": ([], ""),
  "empty": (["out/"], ""),
  "earlier": (["out/run.json", "out/rows"], ""),
  "a file": (["out"], "--out must name a folder, got the file"),
  "foreign": (
    ["out/a", "out/b", "out/c", "out/d"],
    r"result of 'study', got .*holds a, b, c and w",
  ),
  "beside": (["out/run.json", "out/letter"], r"--out holds letter beside .*move that away first"),
}


@pytest.mark.parametrize("name", PLACES)
def test_only_an_earlier_result_is_replaced(tmp_path, name):
  entries, message = PLACES[name]
  for entry in entries:
    path = tmp_path / entry
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if entry.endswith("/") else path.write_text("mine")
  place = tmp_path / "out" / "deep" if name == "parents missing" else tmp_path / "out"
  before = sorted(tmp_path.rglob("*"))
  allowed = ("run.json", "rows")
  if message:
    with pytest.raises(FolderError, match=message):
      check_place(place, "'study'", is_ours, entries=allowed)
  else:
    check_place(place, "'study'", is_ours, entries=allowed)
  assert sorted(tmp_path.rglob("*")) == before


def test_what_is_added_to_may_hold_anything(tmp_path):
  (tmp_path / "run.json").write_text("{}")
  (tmp_path / "letter").write_text("mine")
  check_place(tmp_path, "'study'", is_ours)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
  (tmp_path / "file").write_text("mine")
  with pytest.raises(FolderError, match=r"file is in the way: .*file/new must be a folder"):
    check_place(tmp_path / "file" / "new" / "out", "'study'", is_ours, entries=())
  monkeypatch.setattr(os, "access", lambda *arguments: False)
  with pytest.raises(FolderError, match=r"cannot be written to; .* or name another out\.$"):
    check_writable(tmp_path / "new", "out")


BEGUN = Record({"attack": {"epsilon": 16.0, "banks": [{"n": 1}, {"n": 2}]}}, {"jax": "0.10"})
OTHER = {
  "a number": ({"epsilon": 8, "banks": ({"n": 1}, {"n": 2})}, r"attack\.epsilon = 16\.0, got 8;"),
  "in a list": ({"epsilon": 16, "banks": [{"n": 1}, {"n": 3}]}, r"attack\.banks\.1\.n = 2, got 3;"),
  "fewer": ({"epsilon": 16, "banks": [{"n": 1}]}, r"attack\.banks\.1\.n = 2, got nothing;"),
  "more": ({**BEGUN.settings["attack"], "new": True}, r"attack\.new = nothing, got True;"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_settings_are_refused_by_the_first_difference(name):
  attack, message = OTHER[name]
  with pytest.raises(FolderError, match=f"^here was begun with {message} give the options of the"):
    compare_records("here", BEGUN, Record({"attack": attack}, {}))


def test_another_environment_is_a_note():
  attack = {"epsilon": 16, "banks": ({"n": 1}, {"n": 2})}  # a tuple is a list in a file
  assert compare_records("here", BEGUN, Record({"attack": attack}, BEGUN.environment)) == []
  (note,) = compare_records("here", BEGUN, BEGUN._replace(environment={"jax": "1", "cpu": "x"}))
  assert note == (
    "here was begun elsewhere (jax 0.10 -> 1; cpu nothing -> x): last bits of results may differ."
  )


@pytest.mark.parametrize(
  ("words", "what"),
  [
    (["protect", "in", "--out", ""], "--out"),
    (["protect", "in", "--out="], "--out"),
    (["protect", "in", "", "--out", "o"], "the word after in"),
    ([""], "the word after the command"),
  ],
)
def test_an_empty_word_is_not_the_current_folder(words, what):
  with pytest.raises(FolderError, match=f"^{what} must not be empty; is a variable"):
    check_words(words)


def test_other_words_pass():
  check_words(["x", "--set", "seen=", "--out", "o", "--", "a=", "--a=b"])
