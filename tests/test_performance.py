"""The benchmarks' tables, which docs/PERFORMANCE.md shows, say what their committed rows say."""

import importlib.util
import pathlib

import pytest

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
