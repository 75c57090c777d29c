"""Class names in network order: entry i names logit i."""

import functools
import importlib.resources
from collections.abc import Sequence


def read_words(name: str) -> tuple[str, ...]:
  """The words of one of the package's text files."""
  file = importlib.resources.files("rpfgsm_jax.data").joinpath(name)
  return tuple(file.read_text(encoding="utf-8").split())


@functools.cache
def scenes25_class_names() -> tuple[str, ...]:
  """The 25 scene classes of the bundled networks, in alphabetical order."""
  return read_words("scenes25_classes.txt")


@functools.cache
def places365_class_names() -> tuple[str, ...]:
  """The 365 classes of Places365-Standard in the order of the published networks' logits.

  The letter folder of the official list is left out (`/a/airfield` is `airfield`); a variant stays
  behind a slash (`church/indoor`).
  """
  return read_words("places365_classes.txt")


def plain_name(name: str) -> str:
  """Returns a name as names of classes are compared: small letters, `-` and ` ` as `_`."""
  return name.lower().replace("-", "_").replace(" ", "_")


def find_class(name: str, class_names: Sequence[str]) -> int | None:
  """Returns the class of that very name, else of the same plain name; None where there is none."""
  for known, wanted in ((class_names, name), (map(plain_name, class_names), plain_name(name))):
    found = {each: place for place, each in enumerate(known)}
    if wanted in found:
      return found[wanted]
  return None
