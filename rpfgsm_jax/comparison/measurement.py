"""`compare_folders`: what networks make of photographs and of what was made of them."""

from collections.abc import Callable, Sequence

import numpy as np

from rpfgsm_jax import quality
from rpfgsm_jax.atomic import PathLike
from rpfgsm_jax.comparison import reading
from rpfgsm_jax.comparison.judging import Judge
from rpfgsm_jax.comparison.outcome import Example, FolderComparison, PhotoFacts
from rpfgsm_jax.comparison.pairs import (
  ComparisonError,
  FolderPairs,
  list_folder,
  pair_folders,
)
from rpfgsm_jax.data import ImageRecord
from rpfgsm_jax.data.batches import in_batches
from rpfgsm_jax.data.images import check_how
from rpfgsm_jax.defenses.bank import DefenseBank, paper_bank
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.answers import NetworkError
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import load_classifier
from rpfgsm_jax.result_folder import FolderError, check_apart

Progress = Callable[[int, int], None]
"""`progress(done, total)`, photographs."""

_MOST_EXAMPLES = 50


def compare_folders(
  original: PathLike,
  protected: PathLike,
  networks: Sequence[Classifier | str],
  *,
  training: PathLike | None = None,
  training_limit: int = 1000,
  preprocess: str = "paper",
  brisque_model: quality.BrisqueModel | None = None,
  batch_size: int = 16,
  num_examples: int = 40,
  progress: Progress | None = None,
) -> FolderComparison:
  """Measures what protection achieved, from two folders of image files.

  Photographs are paired by relative path, suffix aside. The networks see both at their own size;
  the measures of quality are taken at the size of the files, and left out for a pair whose files
  differ in size. Files that cannot be read are reported in the result. Memory grows by half a
  kilobyte a photograph and network; SSIM and MAD take 300 bytes a pixel of the largest picture.

  Args:
    original: the folder of photographs as they were; its class sub-folders give true classes.
    protected: the folder of what was made of them.
    networks: at least one, or their names as of `load_classifier`; each is asked alone.
    training: a folder of clean photographs, none of them compared, that set the thresholds of
      detectability; None leaves it out.
    training_limit: how many of them at most, evenly spread over the sorted list; with 1,000 the
      rate of false alarms comes out at 5.2 % +- 0.7.
    preprocess: how photographs come to a network's size, see `data.preprocess`.
    brisque_model: from `load_brisque_model`; None leaves BRISQUE out.
    batch_size: images that a network sees together.
    num_examples: pairs kept to look at, in 0..50.
    progress: called as `progress(done, total)` after each batch; at first with 0.

  Returns:
    The comparison.

  Raises:
    ComparisonError: an argument breaks its rule, before anything is computed; or of all files of a
      kind none can be read; or a network is broken.
    WeightsError: there is no network of that name.
  """
  _check_numbers(batch_size, num_examples)
  check_how(preprocess)
  found = pair_folders(original, protected)
  clean = _training_records(training, training_limit, (original, protected))
  most = min(batch_size, max(len(found.pairs), len(clean)))
  originals = [pair.original for pair in found.pairs]
  judge = Judge(_loaded(networks), originals, paper_bank(), most)
  wanted = reading.Wanted(
    image_sizes=judge.image_sizes,
    preprocess=preprocess,
    model=brisque_model,
    examples=_spread(len(found.pairs), num_examples),
  )
  places = (original, protected, training)
  folders = [None if place is None else str(place) for place in places]
  try:
    return _measure(folders, found, clean, wanted, judge, progress)
  except NetworkError as error:
    raise ComparisonError(f"networks: {error}") from error


def _check_numbers(batch_size: int, num_examples: int) -> None:
  if not 0 <= num_examples <= _MOST_EXAMPLES:
    raise ComparisonError(f"num_examples must be in 0..{_MOST_EXAMPLES}, got {num_examples}.")
  if batch_size < 1:
    raise ComparisonError(f"batch_size must be at least 1, got {batch_size}; 16 is the default.")


def _training_records(
  training: PathLike | None, limit: int, others: Sequence[PathLike]
) -> list[ImageRecord]:
  if training is None:
    return []
  if limit < 1:
    raise ComparisonError(
      f"training_limit must be at least 1, got {limit}; leave training out for none."
    )
  records = list_folder("training", training)
  remedy = "a threshold must come from other clean photos"
  try:
    for other in others:
      check_apart(training, other, "training and the compared folders", remedy)
  except FolderError as error:
    raise ComparisonError(str(error)) from error
  return [records[place] for place in sorted(_spread(len(records), limit))]


def _loaded(networks: Sequence[Classifier | str]) -> list[Classifier]:
  if isinstance(networks, str) or not networks:
    raise ComparisonError(
      f'networks must be a list of at least one, got {networks!r}; ["scenes25/resnet18"] is one.'
    )
  classifiers = [load_classifier(each) if isinstance(each, str) else each for each in networks]
  names = [each.name for each in classifiers]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ComparisonError(
      f"networks must have different names, got {', '.join(twice)} more than once; drop one, or "
      "give it another: dataclasses.replace(network, name=…)."
    )
  return classifiers


def _spread(count: int, limit: int) -> frozenset[int]:
  """Returns `limit` of `count` places, evenly spread; all when there are no more."""
  return frozenset(np.linspace(0, count - 1, min(limit, count)).astype(int).tolist())


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
  done = 0

  def advance(more: int) -> None:
    nonlocal done
    done += more
    if progress is not None:
      progress(done, total)

  advance(0)
  return advance


def _measure(
  folders: Sequence[str | None],
  found: FolderPairs,
  clean: Sequence[ImageRecord],
  wanted: reading.Wanted,
  judge: Judge,
  progress: Progress | None,
) -> FolderComparison:
  """Judges the clean training photographs and all pairs that can be read."""
  advance = _counter(len(found.pairs) + len(judge.image_sizes) * len(clean), progress)
  unlearned = judge.learn(clean, wanted.preprocess, advance)
  if clean and len(unlearned) == len(clean):
    raise ComparisonError(f"training must have images that can be read, got none: {unlearned[0]}")
  photos: list[PhotoFacts] = []
  examples: list[Example] = []
  failures: list[str] = []
  notes: list[str] = []
  for good, unread in in_batches(reading.read_pairs(found.pairs, wanted), judge.size):
    failures += [reason for _, error in unread for reason in error.args]
    batch = [read for _, read in good]
    for read in batch:
      if read.shown is not None:
        examples.append(Example(len(photos), *read.shown))
      photos.append(read.facts)
      notes += read.notes
    if batch:
      judge.judge(batch)
    advance(len(batch) + len(unread))
  if not photos:
    raise ComparisonError(
      f"original and protected must have pairs that can be read, got none of {len(found.pairs)}: "
      f"{failures[0]}"
    )
  original, protected, training = folders
  return FolderComparison(
    original=original,
    protected=protected,
    photos=tuple(photos),
    networks=judge.outcomes(),
    settings=tuple(setting.name for setting in measure.settings_of(judge.bank)),
    families=_families(judge.bank),
    training=training,
    preprocess=wanted.preprocess,
    only_original=found.only_original,
    only_protected=found.only_protected,
    ambiguous=found.ambiguous,
    failures=(*failures, *unlearned),
    notes=tuple(notes),
    has_brisque=wanted.model is not None,
    examples=tuple(examples),
  )


def _families(bank: DefenseBank) -> dict[str, tuple[int, ...]]:
  found: dict[str, tuple[int, ...]] = {}
  for place, setting in enumerate(measure.settings_of(bank)):
    if setting.family is not None:
      name = bank.families[setting.family].name
      found[name] = (*found.get(name, ()), place)
  return found
