"""Docstrings: Markdown with Google's sections and commented fields, as reStructuredText."""

import dataclasses
import inspect
import re
import textwrap

from sphinx.ext.napoleon import Config, GoogleDocstring

SECTIONS = Config(napoleon_use_ivar=True, napoleon_use_rtype=False)


def to_restructured(text: str) -> list[str]:
  """Returns the lines of a docstring in Sphinx's own markup."""
  text = re.sub(r"^(Returns|Yields):\n((?:  .*\n?)+)", _returned, text, flags=re.MULTILINE)
  text = re.sub(r"^(?!- |  )(.+\n)(?=- )", r"\1\n", text, flags=re.MULTILINE)  # a list
  text = re.sub(r"^```(\w+)\n(.*?)^```$", _code_block, text, flags=re.MULTILINE | re.DOTALL)
  parts = re.split(r"(?<![`:])`([^`]+)`(?!`)", text)
  parts[::2] = (re.sub(r"([*|])(?=\w)", r"\\\1", part) for part in parts[::2])
  parts[1::2] = (f"``{part}``" for part in parts[1::2])
  return GoogleDocstring("".join(parts), SECTIONS).lines()


def with_fields(text: str, kind: type) -> str:
  """Returns the docstring of a class with what the comments say of a dataclass's fields."""
  if not dataclasses.is_dataclass(kind) or "\nAttributes:\n" in text:
    return text
  fields = [f"  {name}: {comment}" for name, comment in field_comments(kind).items()]
  return "\n".join([text, "", "Attributes:", *fields]) if fields else text


def field_comments(kind: type) -> dict[str, str]:
  """Returns the comment on or above the line of each field of a dataclass."""
  found, above = {}, ""
  for line in textwrap.dedent(inspect.getsource(kind)).splitlines():
    if comment := re.match(r"  # (.*)", line):
      above = f"{above} {comment[1]}".strip()
    elif field := re.match(r"  (\w+):[^#]*(?:#\s*(.*))?$", line):
      found[field[1]] = " ".join(filter(None, (above, field[2])))
      above = ""
    else:
      above = ""
  return {field.name: found.get(field.name, "") for field in dataclasses.fields(kind)}


def _returned(match: re.Match) -> str:
  """What is returned, as a field: a colon in it separates no type."""
  text = textwrap.indent(textwrap.dedent(match[2]), "  ").strip()
  return f":{match[1].lower()}: {text}\n\n"


def _code_block(match: re.Match) -> str:
  return f".. code-block:: {match[1]}\n\n{textwrap.indent(match[2], '  ')}"
