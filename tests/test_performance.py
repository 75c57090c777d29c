"""docs/PERFORMANCE.md shows what the committed rows of the benchmarks say."""

import importlib.util
import pathlib
import re
import shutil

import pytest

from experiments import document

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROWS = ROOT / "benchmarks" / "rows"


def _report():
  spec = importlib.util.spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("name", ["throughput", "accelerator", "protect_scaling"])
def test_the_tables_are_made_from_the_rows(name):
  report = _report()
  made = report.DOCUMENTS[name](report.read(ROWS / f"{name}.jsonl"))
  assert made == (ROWS / f"{name}.md").read_text(encoding="utf-8")


def test_the_document_has_the_tables(tmp_path):
  (tmp_path / "docs" / "passes").mkdir(parents=True)
  (tmp_path / "benchmarks" / "rows").mkdir(parents=True)
  shutil.copy(ROOT / "docs" / "PERFORMANCE.md", tmp_path / "docs")
  shutil.copy(ROOT / "docs" / "passes" / "passes.md", tmp_path / "docs" / "passes")
  for tables in ROWS.glob("*.md"):
    shutil.copy(tables, tmp_path / "benchmarks" / "rows")
  filled = document.fill(tmp_path / "docs" / "PERFORMANCE.md")
  assert filled == (ROOT / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")


def test_the_document_links_to_files_that_are_there():
  text = (ROOT / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")
  links = re.findall(r"\]\(([^)#]+)\)", text)
  assert links
  assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
