"""What sections refuse: each message names the field, the rule, what came, and the remedy."""

from collections.abc import Sequence
from types import UnionType
from typing import get_args

TEXT = (str, "a text", "pass a str")


def check_kind(name: str, value: object, kind: type | UnionType, rule: str, remedy: str) -> None:
  """Refuses a value of another kind."""
  if not isinstance(value, kind):
    raise ValueError(f"{name} must be {rule}, got {type(value).__name__}; {remedy}.")


def check_title(title: str) -> None:
  """Refuses an empty heading."""
  check_kind("title", title, *TEXT)
  if not title.strip():
    raise ValueError(f"title must not be empty, got {title!r}; headings are how a page is read.")


def check_list(name: str, items: Sequence) -> None:
  """Refuses anything but a list or tuple."""
  # A text is a sequence too, of its letters.
  if isinstance(items, str | bytes) or not isinstance(items, Sequence):
    raise ValueError(f"{name} must be a list or tuple, got {type(items).__name__}; wrap it in one.")


def check_each(name: str, items: Sequence, kind: type | UnionType, rule: str, remedy: str) -> None:
  """Refuses anything but a list or tuple of one kind."""
  check_list(name, items)
  for index, item in enumerate(items):
    check_kind(f"{name}[{index}]", item, kind, rule, remedy)


def check_sections(name: str, sections: Sequence, kinds: UnionType) -> None:
  """Refuses anything but a list or tuple of these kinds of section."""
  rule = f"one of {', '.join(kind.__name__ for kind in get_args(kinds))}"
  check_each(name, sections, kinds, rule, "wrap it in one")


def check_pair(name: str, pair: Sequence, form: str) -> None:
  """Refuses anything but two values in a list or tuple."""
  check_list(name, pair)
  if len(pair) != 2:
    raise ValueError(f"{name} must be a pair, got {len(pair)} values; write {form}.")
