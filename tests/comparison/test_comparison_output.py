"""What a comparison writes: three files that agree, complete or not at all, nothing overwritten."""

import json
import os

import numpy as np
import pytest

from rpfgsm_jax import comparison
from rpfgsm_jax.comparison import (
  ComparisonError,
  FolderComparison,
  NetworkOutcome,
  PhotoFacts,
  check_out,
  output,
  tables,
  write_comparison,
)
from rpfgsm_jax.comparison.outcome import MEASURES, Example
from rpfgsm_jax.report import Group

NAMES = ("attic/one", "two\n_|<b>\x1b[31m", "byte\udcff")
SETTINGS = ("none", "requantize 3", "jpeg 50")


def photo(name: str, **measures: float) -> PhotoFacts:
  return PhotoFacts(
    name=name,
    original=f"{name}.jpg",
    protected=f"{name}.png",
    original_size=(4, 6),
    protected_size=(4, 6),
    measures=dict.fromkeys(MEASURES) | measures,
  )


def made(**changes) -> FolderComparison:
  """Three photographs, one network of six classes; ranks are written out to be counted by hand."""
  ranks = np.array([[[0, 0, 1], [0, 0, 0], [0, 0, 0]], [[1, 5, 0], [5, 5, 5], [0, 1, 0]]])
  network = NetworkOutcome(
    name="net",
    class_names=("attic", "beach", "cave", "dam", "elf", "farm"),
    image_size=(4, 6),
    ranks=ranks,
    label_ranks=ranks + 1,
    distances=np.full((2, 3, 3), 0.25, np.float32),
    answers=np.array([[0, 1, 2], [3, 4, 2]]),
    confidences=np.full((2, 3), 0.5),
    labels=np.array([0, -1, -1]),
    training=np.zeros((0, 3)),
  )
  picture = np.zeros((4, 6, 3), np.uint8)
  fields = {
    "original": "photos",
    "protected": "made_of_them",
    "photos": (photo(NAMES[0], psnr=20.0, l0=4), photo(NAMES[1], psnr=31.0), photo(NAMES[2], l0=0)),
    "networks": (network,),
    "settings": SETTINGS,
    "families": {"requantize": (1,), "jpeg": (2,)},
    "training": None,
    "preprocess": "paper",
    "only_original": ("left.jpg",),
    "only_protected": (),
    "ambiguous": (),
    "failures": ("x.png must be a picture.",),
    "notes": (),
    "has_brisque": False,
    "examples": (Example(1, picture, picture + 9, False),),
  }
  return FolderComparison(**fields | changes)


def test_writes_three_files_that_agree(tmp_path):
  page = write_comparison(made(), tmp_path / "new" / "out")
  assert page == tmp_path / "new" / "out" / "index.html"
  assert sorted(os.listdir(page.parent)) == ["index.html", "report.md", "rows.jsonl"]
  assert os.listdir(page.parent.parent) == ["out"]
  header, *rows = map(json.loads, (page.parent / "rows.jsonl").read_text().splitlines())
  assert header["settings"] == list(SETTINGS)
  assert [row["photo"] for row in rows[:3]] == list(NAMES)
  assert rows[0]["networks"][0]["label"] == "attic"
  assert rows[0]["networks"][0]["original"]["answer"] == "attic"
  assert rows[0]["networks"][0]["protected"] == {
    "answer": "dam",
    "probability": 0.5,
    "ranks": [1, 5, 0],
    "label_ranks": [2, 6, 1],
    "distances": [0.25] * 3,
  }
  assert rows[1]["networks"][0]["original"]["label_ranks"] is None
  assert (rows[0]["psnr"], rows[2]["psnr"], rows[0]["mad"]) == (20.0, None, None)
  assert [(row["reason"], row["text"]) for row in rows[3:]] == [
    ("only_original", "left.jpg"),
    ("failures", "x.png must be a picture."),
  ]


def test_tables_say_what_the_ranks_say(tmp_path):
  write_comparison(made(), tmp_path / "out")
  report = (tmp_path / "out" / "report.md").read_text()
  lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines()]
  # Of three photos, two misled undefended; behind one, both and one of two defenses: mean 2/3.
  own = next(line for line in lines if line[:2] == ["net", "protected"])
  assert [int(cell.split(" ")[0]) for cell in own[2:]] == [3, 67, 33, 100, 67, 33, 33, 67, 50]
  original = next(line for line in lines if line[:2] == ["net", "original"])
  assert [int(cell.split(" ")[0]) for cell in original[2:]] == [3, 0, 0, 0, 0, 33, 0, 17, 0]
  # The true class is known of one photo, of which each rank is one more.
  true = [line for line in lines if line[:2] == ["net", "protected"]][1]
  assert [int(cell.split(" ")[0]) for cell in true[2:]] == [1, 100, 0, 100, 100, 100, 0, 100, 50]
  psnr = next(line for line in lines if line and line[0].startswith("PSNR"))
  assert psnr[1:] == ["25.5", "20.0", "31.0", "2"]
  assert "RPFGSM\\_BRISQUE" in report
  assert "1 file without a partner among the protected photos: left.jpg" in report


def cells(table):
  return [[getattr(cell, "text", cell) for cell in row] for row in table.rows]


def test_a_photos_line_and_its_example_speak_of_the_protected_one():
  lines = cells(tables.photo_table(made(), 2))
  assert [line[:4] for line in lines] == [
    [NAMES[0], "1 of 1", "50 %", "20.0"],
    [NAMES[1], "1 of 1", "100 %", "31.0"],
  ]
  assert "first 2 of 3" in tables.photo_table(made(), 2).note
  (shown,) = next(each for each in output._sections(made()) if isinstance(each, Group)).items
  assert shown.title == NAMES[1]
  assert shown.facts == [("net", "beach 50 % → elf 50 %; misled behind 2 of 2 defenses")]


def test_detected_are_those_above_the_threshold():
  found = made(training="clean")
  distances = np.array([[[0, 0.1, 0.1]] * 3, [[0, 0.9, 0.1]] * 3])
  object.__setattr__(found.networks[0], "distances", distances)
  object.__setattr__(found.networks[0], "training", np.full((30, 3), 0.5))
  lines = cells(tables.detection_table(found))
  assert [[cell.split(" ")[0] for cell in line[1:]] for line in lines] == [
    ["original", "0", "0", "0"],
    ["protected", "100", "0", "50"],
  ]
  assert "Detected" in comparison.summary(found)


def test_shares_of_values_are_percentages():
  found = made(photos=(photo("a", changed=0.25, l0=3), photo("b", changed=0.75, l0=9)))
  lines = {line[0]: line[1:] for line in cells(tables.quality_table(found))}
  assert lines["values changed, %"] == ["50.0", "25.0", "75.0", "2"]
  assert lines["L0: values changed"] == ["6", "3", "9", "2"]


def test_without_labels_there_is_no_table_of_true_classes(tmp_path):
  found = made()
  object.__setattr__(found.networks[0], "labels", np.full(3, -1))
  assert "true class" not in comparison.summary(found)
  assert "true class" in comparison.summary(made())


def test_strange_names_do_no_harm(tmp_path):
  page = write_comparison(made(only_original=NAMES), tmp_path / "out")
  report = (page.parent / "report.md").read_bytes().decode("utf-8")
  for text in (report, page.read_text(), comparison.summary(made(only_original=NAMES))):
    assert "\x1b" not in text
    assert "byte\\xff" in text or "byte\\\\xff" in text
  assert "<b>" not in page.read_text()


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path):
  out = tmp_path / "out"
  write_comparison(made(), out)
  write_comparison(made(only_original=()), out)
  assert "left.jpg" not in (out / "rows.jsonl").read_text()
  assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "earlier"])
def test_a_failure_leaves_no_trace(tmp_path, monkeypatch, earlier):
  out = tmp_path / "out"
  if earlier:
    write_comparison(made(), out)
  before = {path.name: path.read_bytes() for path in out.glob("*")}

  def fail(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr(output, "write_page", fail)
  with pytest.raises(KeyboardInterrupt):
    write_comparison(made(only_original=()), out)
  assert {path.name: path.read_bytes() for path in out.glob("*")} == before
  assert os.listdir(tmp_path) == (["out"] if earlier else [])


def beside_ours(out):
  write_comparison(made(), out)
  (out / "letter.txt").write_text("mine")


def foreign_rows(out):
  out.mkdir()
  (out / "rows.jsonl").write_text('{"kind": "run"}\n')


@pytest.mark.parametrize("prepare", [beside_ours, foreign_rows])
def test_what_is_not_ours_is_not_overwritten(tmp_path, prepare):
  out = tmp_path / "out"
  prepare(out)
  before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
  with pytest.raises(ComparisonError, match=r"out (must|holds)"):
    write_comparison(made(), out)
  assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_results_lie_apart_from_photos(tmp_path):
  with pytest.raises(ComparisonError, match="out and the folders that are read must lie apart"):
    check_out(tmp_path / "photos/report", [tmp_path / "photos"])
