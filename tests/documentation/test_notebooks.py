"""The notebooks run, give outputs of the kinds they were committed with, and are small."""

import json

import pytest
from documentation.page_blocks import DOCS

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def code_cells(notebook):
  return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell):
  """Returns what a cell put out: printed lines, values, pictures."""
  outputs = cell["outputs"]
  assert not [output for output in outputs if output["output_type"] == "error"]
  return {(output["output_type"], *sorted(output.get("data", ()))) for output in outputs}


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
  import nbformat
  from nbclient import NotebookClient

  committed, again = nbformat.read(path, 4), nbformat.read(path, 4)
  where = {"metadata": {"path": str(tmp_path)}}
  NotebookClient(again, timeout=900, kernel_name="python3", resources=where).execute()
  assert list(map(kinds, code_cells(again))) == list(map(kinds, code_cells(committed)))


def test_notebooks_have_small_outputs():
  assert len(NOTEBOOKS) == 2
  assert sum(path.stat().st_size for path in NOTEBOOKS) < 1_000_000
  for path in NOTEBOOKS:
    cells = code_cells(json.loads(path.read_text(encoding="utf-8")))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert {"display_data"} & {kind for cell in cells for kind, *_ in kinds(cell)}
    for hint in ("/home/", "/work/", "/tmp/", "ipykernel_"):
      assert hint not in path.read_text(encoding="utf-8")
