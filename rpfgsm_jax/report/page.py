"""One self-contained HTML page: styles, script and pictures inside, no request to anywhere.

The page reads without its script: the two pictures of a comparison follow each other, tables are in
the order given. The script adds what a reader can do. A policy in the page's head allows this one
style sheet, this one script and pictures from within the page, so that no text, however it came in,
can run or fetch anything.
"""

import base64
import hashlib
import importlib.resources
import os
import pathlib
from collections.abc import Iterator, Sequence

from rpfgsm_jax import atomic
from rpfgsm_jax.report.checks import check_sections
from rpfgsm_jax.report.markup import escape, ids_of, section_of
from rpfgsm_jax.report.sections import SECTIONS, Section

_MARK = '<meta name="generator" content="rpfgsm-jax">'
_MARK_WITHIN = 4096  # bytes of a page
_LISTED = 3  # sections from which on a page has a table of contents


def build_page(title: str, sections: Sequence[Section], *, language: str = "en") -> str:
  """Builds a page that shows sections one below the other.

  The same input gives the same text. Bytes of a file name that are no UTF-8 are shown as `\\xff`.

  Args:
    title: the page's heading and the window's title.
    sections: what it shows, in this order.
    language: the language of all texts, a BCP 47 tag.

  Returns:
    The HTML document.

  Raises:
    ValueError: an empty title, something else than sections, or a cell whose target is not among
      them.
  """
  if not isinstance(title, str) or not title.strip():
    raise ValueError(f"title must be a text that is not empty, got {title!r}; name the page.")
  check_sections("sections", sections, SECTIONS)
  style, script = _resource("page.css"), _resource("page.js")
  policy = (
    f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
  )
  ids = ids_of(sections)
  body = [section_of(section, f"section-{n}", ids) for n, section in enumerate(sections, start=1)]
  head = [
    "<!DOCTYPE html>",
    f'<html lang="{escape(language)}">',
    "<head>",
    '<meta charset="utf-8">',
    _MARK,
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<link rel="icon" href="data:,">',  # else a page from a server asks it for an icon
    f"<title>{escape(title)}</title>",
    f"<style>{style}</style>",
    "</head>",
    "<body>",
    f"<header><h1>{escape(title)}</h1></header>",
    *_contents(sections),
    "<main>",
  ]
  tail = ["</main>", f"<script>{script}</script>", "</body>", "</html>", ""]
  return "\n".join([*head, *body, *tail])


def write_page(
  path: str | os.PathLike[str], title: str, sections: Sequence[Section], *, language: str = "en"
) -> pathlib.Path:
  """Writes a page in one step: an older file stays whole until it is replaced.

  Args:
    path: the file, ending in `.html`; missing parent folders are created.
    title: as of `build_page`.
    sections: as of `build_page`.
    language: as of `build_page`.

  Returns:
    The path of the file.

  Raises:
    ValueError: another suffix, or as `build_page`.
    OSError: it could not be written; an older file of that name is untouched.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() != ".html":
    raise ValueError(f"path must end in .html, got {path}; browsers go by it.")
  atomic.write_text(path, build_page(title, sections, language=language))
  return path


def is_page(path: str | os.PathLike[str]) -> bool:
  """Returns whether a file is a page of this package, which may be made anew.

  Args:
    path: the file.

  Returns:
    True if so; False for another file, and where there is none that can be read.
  """
  try:
    with open(path, "rb") as file:
      return _MARK.encode() in file.read(_MARK_WITHIN)
  except OSError:
    return False


def _resource(name: str) -> str:
  return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
  return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _contents(sections: Sequence[Section]) -> Iterator[str]:
  titled = [(n, section) for n, section in enumerate(sections, start=1) if section.title]
  if len(titled) < _LISTED:
    return
  yield '<nav aria-label="Contents"><ul>'
  for n, section in titled:
    yield f'<li><a href="#section-{n}">{escape(section.title)}</a></li>'
  yield "</ul></nav>"
