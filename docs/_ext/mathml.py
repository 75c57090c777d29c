"""Equations as MathML, which browsers show without scripts."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def inline(writer: HTML5Translator, node: nodes.math) -> None:
  """Writes an equation within a sentence."""
  writer.body.append(convert(node.astext()))
  raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
  """Writes an equation on a line of its own."""
  writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
  raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
  """Registers the renderer `mathml`."""
  app.add_html_math_renderer("mathml", (inline, None), (block, None))
  return {"parallel_read_safe": True, "parallel_write_safe": True}
