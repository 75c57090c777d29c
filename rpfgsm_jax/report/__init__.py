"""Reports that a person opens: one self-contained HTML page, and tables as text.

Plain frozen dataclasses in, one text out; nothing here knows of attacks, experiments or files.
"""

from rpfgsm_jax.report.page import build_page, is_page, write_page
from rpfgsm_jax.report.sections import Bars, Cell, Comparison, Group, Picture, Section, Table, Text
from rpfgsm_jax.report.texts import escape_markdown, markdown, plain, printable

__all__ = [
  "Bars",
  "Cell",
  "Comparison",
  "Group",
  "Picture",
  "Section",
  "Table",
  "Text",
  "build_page",
  "escape_markdown",
  "is_page",
  "markdown",
  "plain",
  "printable",
  "write_page",
]
