"""A page taken apart, without a browser; and pictures to put into one."""

import base64
import html.parser
import io

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
  """Elements in order with their text; complains about tags that do not match."""

  def __init__(self, page: str):
    super().__init__()
    self.elements: list[tuple[str, dict[str, str | None]]] = []
    self.texts: list[tuple[str, str]] = []
    self.marked: list[tuple[str, str]] = []  # ("start", tag), ("text", text), ("end", tag)
    self.links: list[tuple[str, dict[str, str | None]]] = []  # with their text
    self.open: list[str] = []
    self.source = page
    self.feed(page)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    assert len(attributes) == len(dict(attributes))
    self.elements.append((tag, dict(attributes)))
    self.marked.append(("start", tag))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
    self.marked.append(("end", tag))

  def handle_data(self, text):
    if self.open and text.strip():
      self.texts.append((self.open[-1], text))
      self.marked.append(("text", text))
    if self.open and self.open[-1] == "a":
      self.links.append((text, self.elements[-1][1]))

  def all(self, tag: str) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in self.elements if name == tag]

  def text(self, tag: str) -> list[str]:
    return [text for name, text in self.texts if name == tag]
