"""What `docs/` shows is what its rows say: every table is made again and compared."""

import gzip
import pathlib
import shutil

import pytest
from click.testing import CliRunner

from experiments import rows
from experiments import run as script

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
TABLES = {"demo": "report.md", "scenes25-val": "report.md", "attacks": "table.md"}


@pytest.mark.parametrize("name", TABLES)
def test_a_committed_table_is_made_from_its_rows(name, tmp_path):
  shutil.copytree(DOCS / name, tmp_path / name)
  (tmp_path / name / TABLES[name]).unlink()
  done = CliRunner().invoke(script.cli, ["report", str(tmp_path / name)])
  assert done.exit_code == 0, done.output
  made = (tmp_path / name / TABLES[name]).read_text(encoding="utf-8")
  assert made == (DOCS / name / TABLES[name]).read_text(encoding="utf-8")


def test_every_results_folder_is_tested():
  assert {path.parent.name for path in DOCS.glob("*/rows.jsonl*")} == set(TABLES)


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
    ('{"kind":"run","experiment":"other"}\n', "must hold the rows of demo or attacks"),
    ('{"kind":"run"', "cut in the middle"),
  ],
)
def test_a_folder_without_our_rows_is_refused(tmp_path, content, message):
  if content is not None:
    (tmp_path / "rows.jsonl").write_text(content)
  done = CliRunner().invoke(script.cli, ["report", str(tmp_path)])
  assert done.exit_code == 1
  assert message in done.output
