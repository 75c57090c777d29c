"""A page taken apart, without a browser; and pictures to put into one."""

import base64
import html.parser
import io
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

VOID = {"meta", "link", "img", "br", "input"}
RANDOM = np.random.default_rng(0)


def noise(height: int = 5, width: int = 7) -> np.ndarray:
  return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def decode(source: str, kind: str = "png") -> np.ndarray:
  """The pixels of a picture that a page holds."""
  head, _, content = source.partition(",")
  assert head == f"data:image/{kind};base64"
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


class Parsed(html.parser.HTMLParser):
  """Elements in order with their text, and as a tree; complains about tags that do not match."""

  def __init__(self, page: str):
    super().__init__()
    self.elements: list[tuple[str, dict[str, str | None]]] = []
    self.texts: list[tuple[str, str]] = []  # with the innermost element's tag
    self._open: list[str] = []
    self._builder = ET.TreeBuilder()
    self.source = page
    self.feed(page)
    self.close()
    assert self._open == []
    self.tree = self._builder.close()

  def handle_starttag(self, tag, attributes):
    assert len(attributes) == len(dict(attributes))
    self.elements.append((tag, dict(attributes)))
    self._builder.start(tag, dict(attributes))
    if tag in VOID:
      self._builder.end(tag)
    else:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag
    self._builder.end(tag)

  def handle_data(self, text):
    if self._open:
      self._builder.data(text)
      if text.strip():
        self.texts.append((self._open[-1], text))

  def all(self, tag: str) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in self.elements if name == tag]

  def text(self, tag: str) -> list[str]:
    return [text for name, text in self.texts if name == tag]

  def table(self, title: str) -> list[list[str]]:
    """The body of the first table under that heading."""
    sections = (each for each in self.tree.iter("section") if each[0].text == title)
    _, *rows = next(sections).iter("tr")
    return [["".join(cell.itertext()) for cell in row] for row in rows]
