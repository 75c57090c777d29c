"""Classes named in words, for a CLIP: the words, the templates they stand in, their features.

By name, such a network is `clip:FOLDER#CLASSES`, or `clip:FOLDER#CLASSES#TEMPLATE#TEMPLATE`; the
classes have commas between them, or are a list that comes with the package. A class's direction is
the mean of its texts' features over the templates, at unit length (Radford et al., Sec. 3.1.4).
"""

import collections
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rpfgsm_jax.models.clip import EARLY_END_TOKEN, CLIPTextConfig, word_head
from rpfgsm_jax.models.parameters import Network, WeightsError, unflatten
from rpfgsm_jax.models.published import CLIP

TOKENIZER_FILE = "tokenizer.json"
MOST_CLASSES = 4096
_PREFIX, _SEPARATOR, _PLACE = "clip:", "#", "{}"
_TEMPLATES = ("a photo of a {}.",)
_DATA = pathlib.Path(__file__).resolve().parents[1] / "data"
_LISTS = {"places365": "places365_classes.txt", "mepp18-private": "mepp18_private_classes.txt"}
_AT_ONCE = 64  # texts
_SHOWN = 60  # letters of the classes in a network's name
_EQUAL = 1e-6  # of the cosine


class Words(NamedTuple):
  """Classes in words; `read_words` makes and checks them."""

  given: str  # as in a network's name
  classes: tuple[str, ...]
  templates: tuple[str, ...]

  def texts(self) -> list[str]:
    """Returns every class in every template, a class after the other."""
    return [
      template.replace(_PLACE, _spoken(name))
      for name in self.classes
      for template in self.templates
    ]

  def title(self, folder: str) -> str:
    """Returns a name to show; many classes are only counted."""
    short = len(self.given) <= _SHOWN
    return f"{_PREFIX}{folder}{_SEPARATOR}" + (
      self.given if short else f"{self.given[:_SHOWN]}… ({len(self.classes)} classes)"
    )

  def full_name(self, folder: str) -> str:
    """Returns the name that `parse_name` reads again."""
    templates = () if self.templates == _TEMPLATES else self.templates
    return _PREFIX + _SEPARATOR.join((folder, self.given, *templates))


def parse_name(name: str) -> tuple[str, Words | None]:
  """Returns a network's folder or known name, and the words of `clip:FOLDER#CLASSES`."""
  if not name.startswith(_PREFIX):
    return name, None
  folder, *rest = name.removeprefix(_PREFIX).split(_SEPARATOR)
  if not rest:
    raise WeightsError(
      f"{name} must have classes in words: --classes 'hospital room, church, bedroom', "
      f"{name}{_SEPARATOR}church,bedroom, or one of the lists {', '.join(_LISTS)}."
    )
  return folder, read_words(rest[0], rest[1:] or None)


def with_classes(names: Sequence[str], classes: str | None) -> tuple[str, ...]:
  """Returns networks' names where each `clip:FOLDER` without classes has these."""
  bare = {name for name in names if name.startswith(_PREFIX) and _SEPARATOR not in name}
  if classes is None:
    return tuple(names)
  if not bare:
    raise WeightsError(
      f"--classes belongs to a network {_PREFIX}FOLDER, and none is given that lacks its classes."
    )
  return tuple(f"{name}{_SEPARATOR}{classes}" if name in bare else name for name in names)


def read_words(classes: Sequence[str] | str, templates: Sequence[str] | str | None = None) -> Words:
  """Checks classes, words with commas between them or a list's name too, and templates."""
  if isinstance(classes, str) and classes.strip() in _LISTS:
    given = classes.strip()
    names = tuple((_DATA / _LISTS[given]).read_text(encoding="utf-8").split())
  else:
    parts = classes.split(",") if isinstance(classes, str) else classes
    names = tuple(" ".join(str(name).split()) for name in parts)
    given = ",".join(names)
  if not 2 <= len(names) <= MOST_CLASSES or not all(map(_spoken, names)):
    raise WeightsError(
      f"classes must be 2..{MOST_CLASSES} words, or one of the lists {', '.join(_LISTS)}, got "
      f"{len(names)}: {', '.join(map(repr, names[:3]))}."
    )
  counts = collections.Counter(_spoken(name).casefold() for name in names)
  if twice := [name for name, count in counts.items() if count > 1]:
    raise WeightsError(f"classes must be different, got {', '.join(map(repr, twice))} again.")
  templates = (templates,) if isinstance(templates, str) else tuple(templates or _TEMPLATES)
  for template in templates:
    if str(template).count(_PLACE) != 1:
      raise WeightsError(
        f"templates must hold {_PLACE} once, where the class stands, got {template!r}; "
        f"{_TEMPLATES[0]!r} is one."
      )
  return Words(given, names, templates)


def tokenizer_file(directory: pathlib.Path) -> pathlib.Path:
  """Returns the place of a CLIP's tokenizer, which must be there."""
  path = directory / TOKENIZER_FILE
  if not path.is_file():
    raise WeightsError(
      f"{directory} lacks {TOKENIZER_FILE}, without which words cannot be read; it lies beside the "
      "weights of a published CLIP: fetch it too."
    )
  return path


def name_classes(clip: CLIP, words: Words, tokenizer: pathlib.Path) -> Network:
  """Returns a CLIP's image tower with a head whose classes are these words."""
  directions = _directions(clip, words, tokenizer)
  cosines = np.triu(directions @ directions.T, 1)
  equal = np.argwhere(cosines > 1 - _EQUAL)
  if len(equal):
    first, second = (words.classes[index] for index in equal[0])
    raise WeightsError(
      f"classes must mean different things, but this CLIP reads {first!r} and {second!r} alike"
      + (f", and {len(equal) - 1} more pairs" if len(equal) > 1 else "")
      + "; leave one of the two out, or say it in other or fewer words."
    )
  return dataclasses.replace(
    clip.image,
    config=dataclasses.replace(clip.image.config, num_classes=len(words.classes)),
    parameters=clip.image.parameters | word_head(directions, clip.logit_scale),
    class_names=words.classes,
    card={**clip.image.card, "classes": list(words.classes), "templates": list(words.templates)},
  )


def _spoken(name: str) -> str:
  """Returns a class as it is said: `church/indoor` and `hospital_room` with spaces."""
  return " ".join(name.replace("_", " ").replace("/", " ").split())


def _directions(clip: CLIP, words: Words, tokenizer: pathlib.Path) -> np.ndarray:
  """Returns the classes' unit features, `(D, P)` float64."""
  tokens = _tokens(tokenizer, words.texts(), clip.text_config)
  graph, state = nnx.split(unflatten(clip.text_config, clip.text_parameters))
  read = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens))
  with jax.default_matmul_precision("highest"):
    parts = [np.asarray(read(state, jnp.asarray(part))) for part in _in_parts(tokens)]
  texts = np.concatenate(parts)[: len(tokens)].astype(np.float64)
  means = texts.reshape(len(words.classes), len(words.templates), -1).mean(axis=1)
  return means / np.linalg.norm(means, axis=1, keepdims=True)


def _in_parts(tokens: np.ndarray) -> list[np.ndarray]:
  """Returns texts in parts of one size; the last one is filled up with its first text."""
  size = min(_AT_ONCE, len(tokens))
  lacking = -len(tokens) % size
  filled = np.concatenate([tokens, np.repeat(tokens[:1], lacking, axis=0)])
  return np.split(filled, len(filled) // size)


def _encode(path: pathlib.Path, texts: Sequence[str]) -> list[list[int]]:
  """Returns each text's whole row of token numbers."""
  try:
    import tokenizers
  except ImportError as error:
    raise WeightsError(
      f"classes in words need the library tokenizers, got none ({error}); run pip install "
      "'rpfgsm-jax[clip]'."
    ) from error
  try:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [tokenizer.encode(text).ids for text in texts]  # a batch would start threads
  except Exception as error:  # the library raises nothing narrower
    raise WeightsError(f"{path} is no tokenizer that reads these words: {error}.") from error


def _tokens(path: pathlib.Path, texts: Sequence[str], config: CLIPTextConfig) -> np.ndarray:
  """Returns `(N, T)` token numbers; long texts lose words before their end token, as in CLIP."""
  rows = []
  for row in _encode(path, texts):
    highest = max(row, default=-1)
    end = highest if config.end_token == EARLY_END_TOKEN else config.end_token
    if not row or row[-1] != end or highest >= config.vocabulary:
      raise WeightsError(
        f"{path} must end each text with token {end} and know {config.vocabulary} tokens, as the "
        f"CLIP beside it, got {row[:3]}…{row[-1:]}; it belongs to another network."
      )
    rows.append(row if len(row) <= config.length else [*row[: config.length - 1], end])
  longest = max(map(len, rows))
  return np.array([row + [row[-1]] * (longest - len(row)) for row in rows], np.int32)
