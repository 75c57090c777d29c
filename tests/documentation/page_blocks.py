"""The pages of the documentation, and what stands in their fenced blocks."""

import json
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Folders with rows hold tables that commands write; they have no blocks.
PAGES = sorted(
  str(path.relative_to(ROOT))
  for path in (ROOT / "README.md", *DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb"))
  if not any(path.parent.glob("rows.jsonl*")) and not {"_build", "jupyter_execute"} & {*path.parts}
)


def text_of(page: str) -> str:
  """Returns a page's Markdown; of a notebook that of its text cells."""
  text = (ROOT / page).read_text(encoding="utf-8")
  if not page.endswith(".ipynb"):
    return text
  cells = json.loads(text)["cells"]
  return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def blocks(page: str) -> list[tuple[str, str]]:
  """Returns (language, text) of every fenced block; the language of commands is empty."""
  return re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def commands(page: str) -> Iterator[list[str]]:
  """Yields the words of each command of a page, without comments and what they are piped to."""
  for language, text in blocks(page):
    for line in text.replace("\\\n", " ").splitlines() if not language else ():
      if words := shlex.split(line.partition(" | ")[0], comments=True):
        yield words
