"""Tables of results inside a written document, kept equal to the files that were made from rows.

A block `<!-- table FILE: TITLE -->` ... `<!-- end -->` holds the table of that title in FILE, a
Markdown file beside the document that `run.py report` made.
"""

import pathlib
import re

from rpfgsm_jax import atomic

_BLOCK = re.compile(
  r"(<!-- table (?P<file>[^:>]+): (?P<title>[^\n]+?) -->\n).*?<!-- end -->", re.DOTALL
)


class DocumentError(ValueError):
  """A block that names no table; the message says which."""


def fill(path: pathlib.Path) -> str:
  """Writes the tables anew into the blocks of a document, and returns its text."""
  text = atomic.read_text(path)
  filled, count = _BLOCK.subn(lambda found: _table(path.parent, found), text)
  if not count:
    raise DocumentError(
      f"{path} must have a block '<!-- table FILE: TITLE -->' ... '<!-- end -->'."
    )
  atomic.write_text(path, filled)
  return filled


def _table(folder: pathlib.Path, found: re.Match[str]) -> str:
  source, title = folder / found["file"].strip(), found["title"].strip()
  if not source.is_file():
    raise DocumentError(f"{source} must be a file of tables; make it with run.py report.")
  for section in atomic.read_text(source).split("\n## ")[1:]:
    heading, _, body = section.partition("\n")
    if heading.replace("\\", "") == title:
      return f"{found[1]}\n{body.strip()}\n\n<!-- end -->"
  raise DocumentError(f"{source} must have a table '{title}', and has none.")
