"""The README's Python runs as printed, in order, in one session; its commands exist."""

import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.long
def test_examples_run_as_printed(capsys):
  blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
  assert len(blocks) >= 3
  session = {}
  for number, block in enumerate(blocks):
    exec(compile(block, f"README.md, example {number + 1}", "exec"), session)
  assert capsys.readouterr().out.count("->") == 4  # the first example prints one line a photo
  change = np.abs(np.asarray(session["protected"], int) - np.stack(session["photos"]))
  assert change.max() == 16
  assert session["both"].shape == (2, 4, 128, 128, 3)


def test_first_example_is_ten_lines():
  first = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL).group(1)
  assert len([line for line in first.splitlines() if line.strip()]) <= 10


def test_make_targets_that_are_named_exist():
  files = [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / ".ci" / "run"]
  texts = [README, *(path.read_text() for path in (*files, ROOT / "CONTRIBUTING.md"))]
  makefile = (ROOT / "Makefile").read_text()
  named = set(re.findall(r"^[^#\n]*?(?:`|run: |^)make ([a-z-]+)", "\n".join(texts), re.MULTILINE))
  assert named >= {"demo", "dist", "lint", "test", "test-lowest", "types"}
  for target in named:  # until its target is there
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_ci_runs_every_kind_of_test():
  makefile = (ROOT / "Makefile").read_text()
  kinds = set(re.findall(r"^(test[a-z-]*):", makefile, re.MULTILINE)) - {"test-lowest"}  # long
  ran = (ROOT / ".ci" / "run").read_text().splitlines()
  assert {f"make {kind}" for kind in (*kinds, "lint", "types", "dist")} <= set(ran)
