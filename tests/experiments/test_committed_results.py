"""What documents show is what the committed rows say: every table is made again and compared."""

import gzip
import pathlib
import shutil

import pytest
from click.testing import CliRunner

from experiments import document, rows
from experiments import run as script

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDERS = sorted(path.parent.name for path in DOCS.glob("*/rows.jsonl*"))
TABLES = sorted(
  str(path.relative_to(DOCS))
  for folder in FOLDERS
  for path in (DOCS / folder).iterdir()
  if path.suffix in (".md", ".csv")
)
DOCUMENTS = (  # with tables
  "README.md",
  "docs/RESULTS.md",
  "docs/PHOTOS.md",
  "docs/TRANSFER.md",
  "docs/PERFORMANCE.md",
)


@pytest.fixture(scope="module")
def remade(tmp_path_factory):
  """The documents and rows alone, with every table made again.

  Those of the benchmarks are copied: `test_performance.py` makes them again.
  """
  place = tmp_path_factory.mktemp("documents")
  shutil.copytree(ROOT / "benchmarks" / "rows", place / "benchmarks" / "rows")
  for name in DOCUMENTS:
    (place / name).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / name, place / name)
  for name in FOLDERS:
    (place / "docs" / name).mkdir()
    shutil.copy(rows.find_rows(DOCS / name), place / "docs" / name)
    done = CliRunner().invoke(script.cli, ["report", str(place / "docs" / name)])
    assert done.exit_code == 0, done.output
  return place


def test_there_are_results():
  assert {"demo", "results"} <= set(FOLDERS)
  assert {f"results/{name}.md" for name in ("table2", "table3", "table5", "claims")} <= set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_committed_table_is_made_from_its_rows(remade, name):
  made = (remade / "docs" / name).read_text(encoding="utf-8")
  assert made == (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_the_tables_of_the_rows(remade, name):
  assert document.fill(remade / name) == (ROOT / name).read_text(encoding="utf-8")


def test_compressed_rows_are_the_same_rows(tmp_path):
  rows.append_rows(tmp_path / "rows.jsonl", [{"kind": "run", "a": 1}, {"b": 2}])
  plain = list(rows.read_rows(rows.find_rows(tmp_path)))
  (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress((tmp_path / "rows.jsonl").read_bytes()))
  (tmp_path / "rows.jsonl").unlink()
  assert list(rows.read_rows(rows.find_rows(tmp_path))) == plain


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "must hold rows.jsonl or rows.jsonl.gz"),
    ('{"kind":"run","experiment":"other"}\n', "must hold the rows of demo or study or fullsize"),
    ('{"kind":"run"', "cut in the middle"),
  ],
  ids=["none", "foreign", "cut"],
)
def test_a_folder_without_our_rows_is_refused(tmp_path, content, message):
  if content is not None:
    (tmp_path / "rows.jsonl").write_text(content)
  done = CliRunner().invoke(script.cli, ["report", str(tmp_path)])
  assert done.exit_code == 1
  assert message in done.output
