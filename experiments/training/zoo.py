"""Several networks on one data set: decode once, train each, measure each once, compare them."""

import argparse
import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np
import platformdirs

from experiments.training import data, export, presets
from experiments.training.loop import Split
from experiments.training.presets import Run
from experiments.training.run import train
from rpfgsm_jax.models.weights import BUNDLED

HELD_OUT_SHARE = 0.1
_SPLIT_SEED = 0  # one split for all networks and seeds


def train_all(options: argparse.Namespace) -> dict[str, Any]:
  """Trains, exports and measures networks, each in a folder of `out`.

  Returns name -> accuracies on `val`, and "disagreement": the share of `val` on which each pair of
  networks names different classes. Nothing is measured on `val` of a run that ended early.
  """
  names = [name.strip() for name in options.networks.split(",") if name.strip()]
  if not names:
    raise ValueError("--networks must name at least one network, got none.")
  preset = options.preset or ("tune" if options.robust else "small")
  init = options.init
  if init is None and preset == "tune" and options.robust:
    init = BUNDLED / "scenes25"
  changes = {key: getattr(options, key) for key in ("epochs", "width", "size", "robust", "norm")}
  changes = {key: value for key, value in changes.items() if value is not None}
  recipes = {name: presets.vary(presets.choose(preset, name), changes) for name in names}
  train_photos, val_photos = data.list_splits(options.data)
  kept, held = data.hold_out(train_photos.labels, HELD_OUT_SHARE, _SPLIT_SEED)
  cache = options.cache or pathlib.Path(platformdirs.user_cache_dir("rpfgsm-jax")) / "train_zoo"
  report: dict[str, Any] = {}
  votes: dict[str, np.ndarray] = {}
  for network, recipe in recipes.items():
    config = dataclasses.replace(recipe.config, num_classes=len(train_photos.class_names))
    recipe = dataclasses.replace(recipe, config=config)
    run = Run(
      network=network,
      changes=changes,
      preset=preset,
      recipe=recipe,
      seed=options.seed,
      class_names=train_photos.class_names,
      out=options.out,
      cache=cache,
      resume=options.resume,
      init=init and (init / network if (init / network).is_dir() else init),
      stop_epoch=options.stop_epoch,
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
    report[run.name], votes[run.name] = val, logits.argmax(axis=-1)
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
