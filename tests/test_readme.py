"""The README's Python runs as printed, in order, in one session; its commands exist."""

import pathlib
import re

import numpy as np
import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


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


def test_make_targets_of_the_readme_exist():
  makefile = (pathlib.Path(__file__).parents[1] / "Makefile").read_text()
  targets = set(re.findall(r"`?make ([a-z-]+)", README))
  assert targets >= {"demo", "test"}
  for target in targets:
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
