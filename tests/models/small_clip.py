"""A folder with a CLIP that knows twelve tokens, and its tokenizer."""

import pathlib
import shutil

from oracles import published_models as theirs

# `theirs.TOKENS` in words; the golden CLIP knows 12 tokens, and 7 of a text.
WORDS = ("", "", "a", "photo", "of", "church", "hospital", "room", "bedroom", "the", "?", "")


def write_clip(path: pathlib.Path) -> pathlib.Path:
  """Writes the golden CLIP and a tokenizer of its words."""
  shutil.copytree(theirs.GOLDEN / "clip", path)
  write_tokenizer(path)
  return path


def write_tokenizer(path, *, end=11, more=()):
  """Writes a tokenizer of whole words, of lower case, between tokens 1 and `end`."""
  import tokenizers
  from tokenizers import models, normalizers, pre_tokenizers, processors

  names = {word: number for number, word in enumerate(WORDS) if word} | {"<": 1, ">": end}
  names |= {word: 12 + place for place, word in enumerate(more)}
  tokenizer = tokenizers.Tokenizer(models.WordLevel(names, unk_token="?"))
  tokenizer.normalizer = normalizers.Lowercase()
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.post_processor = processors.TemplateProcessing("< $A >", None, [("<", 1), (">", end)])
  tokenizer.enable_truncation(3)  # files may ask for it: it is ours to say
  tokenizer.enable_padding(length=9)
  tokenizer.save(str(path / "tokenizer.json"))
