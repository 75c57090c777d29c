"""Several networks on one data set: decode once, train each, measure each once, compare them."""

import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np

from experiments.training import data, export, presets
from experiments.training.loop import Split
from experiments.training.presets import Run
from experiments.training.run import train

HELD_OUT_SHARE = 0.1
_SPLIT_SEED = 0  # one split for all networks and seeds


def train_all(
  *,
  data_folder: pathlib.Path,
  out: pathlib.Path,
  names: tuple[str, ...],
  preset: str = "small",
  epochs: int | None = None,
  seed: int = 0,
  resume: bool = False,
  init: pathlib.Path | None = None,
  stop_epoch: int | None = None,
  cache: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Trains, exports and measures networks, each in a folder of `out`.

  Returns name -> accuracies on `val`, and "disagreement": the share of `val` on which each pair of
  networks names different classes. Nothing is measured on `val` of a run that ended early.
  """
  if not names:
    raise ValueError("--networks must name at least one network, got none.")
  recipes = {name: presets.choose(preset, name) for name in names}
  train_photos, val_photos = data.list_splits(data_folder)
  kept, held = data.hold_out(train_photos.labels, HELD_OUT_SHARE, _SPLIT_SEED)
  cache = _cache_folder() if cache is None else cache
  report: dict[str, Any] = {}
  votes: dict[str, np.ndarray] = {}
  for name, recipe in recipes.items():
    config = dataclasses.replace(recipe.config, num_classes=len(train_photos.class_names))
    recipe = dataclasses.replace(recipe, config=config, epochs=epochs or recipe.epochs)
    run = Run(
      name=name,
      preset=preset,
      recipe=recipe,
      seed=seed,
      class_names=train_photos.class_names,
      out=out,
      checkpoint=cache / "checkpoints" / f"{preset}-{name}-{seed}.npz",
      resume=resume,
      init=None if init is None else init / name,
      stop_epoch=stop_epoch,
    )
    size = config.image_size[0]
    model, record = train(
      run,
      _split(train_photos.subset(kept), recipe.stored_size, cache),
      _split(train_photos.subset(held), size, cache),
    )
    if record["epochs_done"] < recipe.epochs:
      continue
    folder = export.write(run, model, record, val=None)
    val, logits = export.measure(folder, _split(val_photos, size, cache))
    export.write(run, model, record, val=val)
    report[name], votes[name] = val, logits.argmax(axis=-1)
  report["disagreement"] = disagreement(votes)
  return report


def disagreement(votes: dict[str, np.ndarray]) -> dict[str, float]:
  """Returns "one / other" -> share of photographs on which two networks name different classes."""
  return {
    f"{one} / {other}": float(np.mean(votes[one] != votes[other]))
    for one, other in itertools.combinations(votes, 2)
  }


def _split(photos: data.Photos, size: int, cache: pathlib.Path) -> Split:
  return Split(images=data.decode_cached(photos, size, cache), labels=photos.labels)


def _cache_folder() -> pathlib.Path:
  import platformdirs

  return pathlib.Path(platformdirs.user_cache_dir("rpfgsm-jax")) / "train_zoo"
