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
from rpfgsm_jax.models.weights import BUNDLED, load_network

HELD_OUT_SHARE = 0.1
_TEACHER_WEIGHT = 2.0  # of its features' distance, beside the cross-entropy of the classes
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
  starts = {name: _start(options, preset, name) for name in names}
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
    if options.teacher is not None:
      recipe = dataclasses.replace(recipe, teacher=_TEACHER_WEIGHT)
    if (init := starts[network]) is not None:
      origin = load_network(init)
      recipe = dataclasses.replace(recipe, normalization=(origin.mean, origin.deviation))
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
      init=init,
      teacher=options.teacher,
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


def _start(options: argparse.Namespace, preset: str, network: str) -> pathlib.Path | None:
  """Returns the folder of the weights to start from; None: random ones."""
  if options.init is not None:
    inside = options.init / network
    return inside if inside.is_dir() else options.init
  if preset != "tune" or not options.robust:
    return None
  bundled = BUNDLED / "scenes25" / network
  if not bundled.is_dir():
    raise ValueError(
      f"--robust tunes bundled networks, and no {network} is bundled; give the folder of one with "
      "--init DIR, or train it from random weights with --preset small."
    )
  return bundled


def disagreement(votes: dict[str, np.ndarray]) -> dict[str, float]:
  """Returns "one / other" -> share of photographs on which two networks name different classes."""
  return {
    f"{one} / {other}": float(np.mean(votes[one] != votes[other]))
    for one, other in itertools.combinations(votes, 2)
  }


def _split(photos: data.Photos, size: int, cache: pathlib.Path) -> Split:
  return Split(images=data.decode_cached(photos, size, cache), labels=photos.labels)
