"""Class names in network order: entry i names logit i."""

import functools
import importlib.resources


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
