"""One self-contained HTML page: styles, script and pictures inside, no request to anywhere.

The page reads without its script: the two pictures of a comparison follow each other, tables are in
the order given. The script adds what a reader can do. A policy in the page's head allows this one
style sheet, this one script and pictures from within the page, so that no text, however it came in,
can run or fetch anything.
"""

import base64
import hashlib
import html
import importlib.resources
import io
import numbers
import os
import pathlib
import re
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from rpfgsm_jax import atomic
from rpfgsm_jax.report.sections import (
  Cell,
  Comparison,
  Group,
  Picture,
  Section,
  Table,
  Text,
  check_sections,
  is_png,
)
from rpfgsm_jax.report.texts import printable

_SHOWN_WIDTH = 448  # CSS pixels up to which small pictures are enlarged, by a whole factor
_LISTED = 3  # sections from which on a page has a table of contents
_DIGITS = re.compile("([0-9]+)")


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
    ValueError: an empty title, or something else than sections.
  """
  if not isinstance(title, str) or not title.strip():
    raise ValueError(f"title must be a text that is not empty, got {title!r}; name the page.")
  check_sections("sections", sections, (Text, Table, Picture, Comparison, Group))
  style, script = _resource("page.css"), _resource("page.js")
  policy = (
    f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
  )
  body = [_section(section, f"section-{n}", 2) for n, section in enumerate(sections, start=1)]
  head = [
    "<!DOCTYPE html>",
    f'<html lang="{_escape(language)}">',
    "<head>",
    '<meta charset="utf-8">',
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<link rel="icon" href="data:,">',  # else a page from a server asks it for an icon
    f"<title>{_escape(title)}</title>",
    f"<style>{style}</style>",
    "</head>",
    "<body>",
    f"<header><h1>{_escape(title)}</h1></header>",
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


def _resource(name: str) -> str:
  return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
  return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _escape(text: str) -> str:
  return html.escape(printable(text))


def _contents(sections: Sequence[Section]) -> Iterator[str]:
  titled = [(n, section) for n, section in enumerate(sections, start=1) if section.title]
  if len(titled) < _LISTED:
    return
  yield '<nav aria-label="Contents"><ul>'
  for n, section in titled:
    yield f'<li><a href="#section-{n}">{_escape(section.title)}</a></li>'
  yield "</ul></nav>"


def _section(section: Section, name: str, level: int) -> str:
  """The section as HTML; `name` is its id and `level` that of its heading."""
  build = {
    Text: _text,
    Table: _table,
    Picture: _picture,
    Comparison: _comparison,
    Group: _group,
  }[type(section)]
  kind = type(section).__name__.lower()
  labeled = f' aria-labelledby="{name}-title"' if section.title else ""
  heading = f'<h{level} id="{name}-title">{_escape(section.title)}</h{level}>'
  opening = f'<section id="{name}" class="{kind}"{labeled}>'
  lines = [opening, *([heading] if section.title else []), *build(section, name), "</section>"]
  return "\n".join(lines)


def _paragraph(kind: str, text: str) -> list[str]:
  return [f'<p class="{kind}">{_escape(text)}</p>'] if text else []


def _text(section: Text, name: str) -> Iterator[str]:
  for paragraph in section.paragraphs:
    yield f"<p>{_escape(paragraph)}</p>"


def _group(section: Group, name: str) -> Iterator[str]:
  yield from _paragraph("note", section.note)
  yield '<div class="items">'
  for n, item in enumerate(section.items, start=1):
    yield _section(item, f"{name}-{n}", 3)
  yield "</div>"


def _sort_value(cell: str | Cell) -> float | str | None:
  value = cell.value if isinstance(cell, Cell) else cell
  return None if value == "" else value


def _sort_key(value: float | str) -> tuple:
  if isinstance(value, numbers.Real):
    return (0, value)
  # Texts and digits alternate, so that like is compared with like; digits by their size.
  parts = _DIGITS.split(value.casefold())
  parts[1::2] = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in parts[1::2]]
  return (1, parts, value)


def _ranks(values: Sequence[float | str | None]) -> list[str]:
  """Each value's place as an attribute: the script compares whole numbers and nothing else."""
  keys = [None if value is None else _sort_key(value) for value in values]
  order: dict[int, int] = {}
  previous, rank = None, -1
  for index in sorted((i for i, key in enumerate(keys) if key), key=lambda i: keys[i]):
    rank += keys[index] != previous
    previous, order[index] = keys[index], rank
  return [f' data-rank="{order[i]}"' if i in order else "" for i in range(len(keys))]


def _table(table: Table, name: str) -> Iterator[str]:
  yield from _paragraph("note", table.note)
  columns = [[_sort_value(row[place]) for row in table.rows] for place in range(len(table.columns))]
  ranks = [_ranks(values) for values in columns]
  numeric = [
    any(v is not None for v in values) and not any(isinstance(v, str) for v in values)
    for values in columns
  ]
  kinds = [' class="number"' if is_numeric else "" for is_numeric in numeric]
  # A region that scrolls must be reachable by keyboard.
  yield f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-title">'
  yield f'<table aria-labelledby="{name}-title">'
  heads = zip(table.columns, kinds, strict=True)
  names = "".join(f'<th scope="col"{kind}>{_escape(column)}</th>' for column, kind in heads)
  yield f"<thead><tr>{names}</tr></thead>"
  yield "<tbody>"
  for index, row in enumerate(table.rows):
    cells = []
    for place, cell in enumerate(row):
      tag, scope = ("td", "") if place else ("th", ' scope="row"')
      shown = _escape(cell.text if isinstance(cell, Cell) else cell)
      cells.append(f"<{tag}{scope}{kinds[place]}{ranks[place][index]}>{shown}</{tag}>")
    yield f"<tr>{''.join(cells)}</tr>"
  yield "</tbody></table></div>"


def _data_uri(kind: str, content: bytes) -> str:
  return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _pixels(image: np.ndarray, alt: str) -> str:
  """The picture without loss; a small one enlarged by a whole factor: its pixels stay squares."""
  from PIL import Image

  content = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(image)).save(content, format="PNG", optimize=True)
  height, width = image.shape[:2]
  factor = max(_SHOWN_WIDTH // max(width, height), 1)
  size = (width * factor, height * factor)
  return _image(_data_uri("png", content.getvalue()), alt, size, enlarged=factor > 1)


def _image(source: str, alt: str, size: tuple[int, int] | None, *, enlarged: bool = False) -> str:
  sides = f' width="{size[0]}" height="{size[1]}"' if size else ""
  kind = ' class="enlarged"' if enlarged else ""
  return f'<img{kind} src="{source}" alt="{_escape(alt)}"{sides} decoding="async">'


def _picture(picture: Picture, name: str) -> Iterator[str]:
  image = picture.image
  if isinstance(image, np.ndarray):
    shown = _pixels(image, picture.title)
  elif is_png(image):
    shown = _image(_data_uri("png", image), picture.title, struct.unpack(">II", image[16:24]))
  else:
    shown = _image(_data_uri("svg+xml", image), picture.title, None)
  caption = f"<figcaption>{_escape(picture.caption)}</figcaption>" if picture.caption else ""
  yield f"<figure>{shown}{caption}</figure>"


def _comparison(comparison: Comparison, name: str) -> Iterator[str]:
  largest = int(np.abs(comparison.after.astype(np.int16) - comparison.before).max())
  times = comparison.amplification or 255 // (largest or 255)
  yield f'<div class="views" data-amplification="{int(times)}">'
  pairs = zip(comparison.labels, (comparison.before, comparison.after), strict=True)
  for label, image in pairs:
    shown = _pixels(image, f"{comparison.title}: {label}")
    yield f"<figure>{shown}<figcaption>{_escape(label)}</figcaption></figure>"
  yield "</div>"
  yield from _paragraph("caption", comparison.caption)
  if comparison.facts:
    facts = (
      f"<dt>{_escape(label)}</dt><dd>{_escape(text)}</dd>" for label, text in comparison.facts
    )
    yield f"<dl>{''.join(facts)}</dl>"
