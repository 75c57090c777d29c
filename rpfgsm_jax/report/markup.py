"""Sections as HTML: headings, paragraphs, lists, pictures; every text is escaped here."""

import dataclasses
import html
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rpfgsm_jax.report import pictures, tables
from rpfgsm_jax.report.checks import is_png
from rpfgsm_jax.report.sections import (
  Bars,
  Cell,
  Comparison,
  Group,
  Picture,
  Section,
  Table,
  Text,
)
from rpfgsm_jax.report.texts import printable

_LANDMARKS = 3  # heading level down to which a section is a region that screen readers list


def escape(text: str) -> str:
  """Returns a text as HTML that shows each of its characters."""
  return html.escape(printable(text))


def ids_of(sections: Sequence[Section]) -> dict[int, str]:
  """Returns the ids that sections have on their page.

  Args:
    sections: of the page, in its order.

  Returns:
    By `id()` of the section, details and the items of groups included.
  """
  ids: dict[int, str] = {}

  def name(section: Section, place: str) -> None:
    ids.setdefault(id(section), place)
    for n, inner in enumerate(_inner(section), start=1):
      name(inner, f"{place}-{n}")

  for n, section in enumerate(sections, start=1):
    name(section, f"section-{n}")
  return ids


def section_of(section: Section, name: str, ids: Mapping[int, str]) -> str:
  """Returns a section as HTML.

  Args:
    section: of the page.
    name: its id.
    ids: of all sections, see `ids_of`.

  Returns:
    The element, as text.
  """
  return _Builder(ids).section(section, name, 2)


def _inner(section: Section) -> Sequence[Section]:
  if isinstance(section, Group):
    return section.items
  return section.details if isinstance(section, Comparison) else ()


def _paragraph(kind: str, text: str) -> list[str]:
  return [f'<p class="{kind}">{escape(text)}</p>'] if text else []


@dataclasses.dataclass(frozen=True)
class _Builder:
  """Builds the HTML of one page's sections; `ids` is where cells lead."""

  ids: Mapping[int, str]

  def section(self, section: Section, name: str, level: int) -> str:
    """The section as HTML; `name` is its id and `level` that of its heading."""
    build = {
      Text: self._text,
      Table: self._table,
      Picture: self._picture,
      Bars: self._bars,
      Comparison: self._comparison,
      Group: self._group,
    }[type(section)]
    kind = type(section).__name__.lower()
    named = section.title and level <= _LANDMARKS
    labeled = f' aria-labelledby="{name}-title"' if named else ""
    state = getattr(section, "state", None)
    shown = escape(section.title)
    shown += f' <span class="state">{self._cell(state)}</span>' if state else ""
    heading = f'<h{level} id="{name}-title">{shown}</h{level}>'
    opening = f'<section id="{name}" class="{kind}"{labeled}>'
    built = build(section, name, level + 1)
    return "\n".join([opening, *([heading] if section.title else []), *built, "</section>"])

  def _cell(self, cell: str | Cell) -> str:
    if isinstance(cell, str):
      return escape(cell)
    shown = escape(cell.text)
    if cell.target is not None:
      place = self.ids.get(id(cell.target))
      if place is None:
        raise ValueError(
          f"target of the cell {cell.text!r} must be a section of this page, got a "
          f"{type(cell.target).__name__} that is none of them; add it to the sections."
        )
      shown = f'<a href="#{place}">{shown}</a>'
    return f'<span class="tone {cell.tone}">{shown}</span>' if cell.tone else shown

  def _text(self, section: Text, name: str, level: int) -> Iterator[str]:
    for paragraph in section.paragraphs:
      yield f"<p>{escape(paragraph)}</p>"

  def _group(self, section: Group, name: str, level: int) -> Iterator[str]:
    yield from _paragraph("note", section.note)
    yield '<div class="items">'
    for n, item in enumerate(section.items, start=1):
      yield self.section(item, f"{name}-{n}", level)
    yield "</div>"

  def _table(self, table: Table, name: str, level: int) -> Iterator[str]:
    yield from _paragraph("note", table.note)
    yield from tables.lines_of(table, name, self._cell)

  def _picture(self, picture: Picture, name: str, level: int) -> Iterator[str]:
    image = picture.image
    if isinstance(image, np.ndarray):
      shown = pictures.image_of(image, picture.title)
    elif is_png(image):
      size = struct.unpack(">II", image[16:24])
      shown = pictures.element("png", image, picture.title, size)
    else:
      shown = pictures.element("svg+xml", image, picture.title, None)
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    yield f"<figure>{shown}{caption}</figure>"

  def _bars(self, bars: Bars, name: str, level: int) -> Iterator[str]:
    yield from _paragraph("note", bars.note)
    yield '<div class="columns">'
    for n, (heading, column) in enumerate(bars.columns, start=1):
      yield f'<div><p class="heading" id="{name}-{n}">{escape(heading)}</p>'
      # Without its markers a list is none to some screen readers, unless its role says so.
      yield f'<ol role="list" aria-labelledby="{name}-title {name}-{n}">'
      for text, share in column:
        yield _bar(text, float(share), marked=text == bars.marked)
      yield "</ol></div>"
    yield "</div>"

  def _comparison(self, comparison: Comparison, name: str, level: int) -> Iterator[str]:
    if comparison.details:
      yield '<div class="beside"><div class="shown">'
    yield from _views(comparison)
    yield from _paragraph("caption", comparison.caption)
    if comparison.facts:
      facts = (
        f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in comparison.facts
      )
      yield f"<dl>{''.join(facts)}</dl>"
    if comparison.details:
      yield '</div><div class="details">'
      for n, detail in enumerate(comparison.details, start=1):
        yield self.section(detail, f"{name}-{n}", level)
      yield "</div></div>"


def _bar(text: str, share: float, *, marked: bool) -> str:
  percent = 100 * share
  number = "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"
  kind = ' class="marked"' if marked else ""
  # An element's own style would need a looser policy; a rectangle's width is an attribute.
  bar = f'<svg aria-hidden="true"><rect width="{percent:.2f}%" height="100%"></rect></svg>'
  return (
    f'<li{kind}><span>{escape(text)}</span> <span class="share">{escape(number)}</span>{bar}</li>'
  )


def _views(comparison: Comparison) -> Iterator[str]:
  images = [comparison.before, comparison.after]
  if comparison.before is None:
    return
  labels, times = list(comparison.labels), comparison.amplification
  if comparison.difference is not None:
    images.append(comparison.difference)
    labels.append(f"difference × {int(times)}")
  elif all(isinstance(image, np.ndarray) for image in images):
    largest = int(np.abs(images[1].astype(np.int16) - images[0]).max())
    times = times or 255 // (largest or 255)
  else:
    times = None
  amplified = "" if times is None else f' data-amplification="{int(times)}"'
  yield f'<div class="views"{amplified}>'
  for label, image in zip(labels, images, strict=True):
    shown = pictures.image_of(image, f"{comparison.title}: {label}")
    yield f"<figure>{shown}<figcaption>{escape(label)}</figcaption></figure>"
  yield "</div>"
