"""One self-contained HTML page: styles, script and pictures inside, no request to anywhere.

The page reads without its script: the two pictures of a comparison follow each other, tables are in
the order given. The script adds what a reader can do. A policy in the page's head allows this one
style sheet, this one script and pictures from within the page, so that no text, however it came in,
can run or fetch anything.
"""

import base64
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from rpfgsm_jax import atomic
from rpfgsm_jax.report.layout import columns_of, ids_of, views_of
from rpfgsm_jax.report.pictures import embed
from rpfgsm_jax.report.sections import Cell, Section, check
from rpfgsm_jax.report.texts import printable

_MARK = '<meta name="generator" content="rpfgsm-jax">'
_MARK_WITHIN = 4096  # bytes of a page


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
  return "".join(_parts(title, sections, language))


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
  parts = _parts(title, sections, language)
  with atomic.replacing(path) as temporary, open(temporary, "wb") as file:
    file.writelines(part.encode() for part in parts)
  return path


def build_section(section: Section, name: str, *, level: int = 2) -> str:
  """Returns the HTML of one section without links, for a page with `style` and `script`; `name` is
  its id, `level` that of its heading."""
  template = _environment().get_template("section.html.j2")
  return template.render(section=section, name=name, level=level)


def style_and_script() -> tuple[str, str]:
  """Returns the style sheet and the script that sections need; the latter heeds "sections" events,
  which come from an element that has got sections."""
  return _environment().globals["style"], _environment().globals["script"]


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


def _parts(title: str, sections: Sequence[Section], language: str) -> Iterator[str]:
  """Returns the page's text piece by piece: no more than one picture is encoded at a time."""
  if not isinstance(title, str) or not title.strip():
    raise ValueError(f"title must be a text that is not empty, got {title!r}; name the page.")
  check("sections", sections, Sequence[Section])
  ids = ids_of(sections)

  def place_of(cell: Cell) -> str:
    if id(cell.target) not in ids:
      raise ValueError(
        f"target of the cell {cell.text!r} must be a section of this page, got a "
        f"{type(cell.target).__name__} that is none of them; add it to the sections."
      )
    return ids[id(cell.target)]

  page = _environment().get_template("page.html.j2")
  return page.generate(
    title=title, sections=sections, language=language, mark=Markup(_MARK), place_of=place_of
  )


@functools.cache
def _environment() -> jinja2.Environment:
  """Returns the templates' environment: whatever is no `Markup` is made printable and escaped."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    finalize=_shown,
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {"columns": columns_of, "digest": _digest, "embed": embed}
  environment.filters |= {"kind": lambda section: type(section).__name__.lower(), "views": views_of}
  for name, file in (("style", "page.css"), ("script", "page.js")):
    environment.globals[name] = Markup(environment.loader.get_source(environment, file)[0])
  return environment


def _shown(value: Any) -> Any:
  return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(content: str) -> str:
  return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
