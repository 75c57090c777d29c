"""The Pixel Privacy task of MediaEval 2018 (MEPP18): its test images and its private classes.

RP-FGSM's tables are made from these 3,000 validation images of Places365-Standard, 50 of each of
the 60 private classes. Lists: github.com/multimediaeval/2018-Pixel-Privacy-Task.
"""

import collections
import functools
from collections.abc import Sequence

from rpfgsm_jax.data import folders, places365
from rpfgsm_jax.data.classes import places365_class_names, read_words


@functools.cache
def mepp18_private_classes() -> tuple[str, ...]:
  """The 60 private classes, spelled and ordered as in `places365_class_names`."""
  return read_words("mepp18_private_classes.txt")


@functools.cache
def mepp18_test_names() -> tuple[str, ...]:
  """The file names of the 3,000 test images, sorted: Places365_val_00014191.jpg and so on."""
  return tuple(places365.validation_name(int(word)) for word in read_words("mepp18_test.txt"))


def select_mepp18(records: Sequence[folders.ImageRecord]) -> list[folders.ImageRecord]:
  """The MEPP18 test images among the records of any source.

  Images are known by the last part of `relative`, so records of `list_images` will do as well.

  Args:
    records: images of Places365's validation set, with or without labels.

  Returns:
    The 3,000 records, unchanged, in the order of their file names.

  Raises:
    ValueError: an image is missing or there twice, or has the label of a class of Places365 that
      is not private.
  """
  wanted = mepp18_test_names()
  by_name = collections.defaultdict(list)
  for record in records:
    by_name[record.relative.rpartition("/")[2]].append(record)
  missing = [name for name in wanted if name not in by_name]
  if missing:
    raise ValueError(
      f"records must have all {len(wanted):,} MEPP18 test images, {len(missing):,} are missing: "
      f"{places365.name_some(missing)}; {places365.GET_IMAGES}."
    )
  twice = next((by_name[name] for name in wanted if len(by_name[name]) > 1), None)
  if twice:
    first, second = twice[:2]
    raise ValueError(
      f"records must have each MEPP18 test image once, got {first.relative} and "
      f"{second.relative}; list one folder of them."
    )
  selected = [by_name[name][0] for name in wanted]
  public = set(places365_class_names()).difference(mepp18_private_classes())
  wrong = [record for record in selected if record.label_name in public]
  if wrong:
    raise ValueError(
      f"records must label MEPP18 test images with its 60 private classes, got {len(wrong):,} "
      f"others, such as {wrong[0].label_name} for {wrong[0].relative}; check the list of labels."
    )
  return selected
