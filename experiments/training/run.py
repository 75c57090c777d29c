"""One network from start to end: resume, train, choose the epoch, export."""

import dataclasses
import json
import sys
import time
from typing import Any

import jax
from flax import nnx
from tqdm import tqdm

from experiments.training import checkpoints, export
from experiments.training.loop import Split, Trainer, TrainState, accuracy
from experiments.training.presets import Run
from rpfgsm_jax.models.architectures import build
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.weights import load_network, unflatten
from rpfgsm_jax.randomness import fixed_key, seed_key

_MEASURE_EVERY = 3  # epochs


def train(run: Run, training: Split, held_out: Split) -> tuple[Any, dict[str, Any]]:
  """Trains until the last epoch or `stop_epoch`, with a checkpoint after every epoch.

  Every third epoch, and at the end, the averaged weights are measured on the held-out
  photographs, of a robust network moved ones too, and those choose; the best so far are exported
  at once, so that a killed run leaves a network. Returns the best averaged network and the record:
  epochs, seconds, history, best epoch.
  """
  trainer = Trainer(run.recipe, run.seed, _teacher(run))
  state, best, record = _begin(run, trainer)
  last = min(run.recipe.epochs, run.stop_epoch or run.recipe.epochs)
  images = trainer.steps_per_epoch * run.recipe.batch_size
  quiet = 0.2 if sys.stderr.isatty() else 15.0
  with tqdm(
    total=last * images, initial=record["epochs_done"] * images, unit="img", desc=run.name,
    mininterval=quiet, smoothing=0.1,
  ) as bar:  # fmt: skip
    for epoch in range(record["epochs_done"], last):
      started = time.monotonic()
      losses = []

      def report(count: int, loss: float, bar: tqdm = bar, losses: list = losses) -> None:
        losses.append(loss)
        bar.update(count)

      state = trainer.run_epoch(state, training, epoch, report)
      row = {"epoch": epoch + 1, "loss": sum(losses) / len(losses)}
      better = False
      if (epoch + 1) % _MEASURE_EVERY == 0 or epoch + 1 == last:
        model = trainer.average_model(state, training)
        row |= accuracy(trainer.predict(model, held_out), held_out.labels)
        if run.recipe.robust > 0.0:
          found = accuracy(trainer.predict(model, held_out, moved=True), held_out.labels)
          row |= {f"moved_{key}": value for key, value in found.items()}
        score = "moved_balanced_top1" if run.recipe.robust > 0.0 else "balanced_top1"
        better = row[score] >= record["best"].get(score, 0.0)
      if better:
        best, record["best"] = jax.tree.map(jax.numpy.copy, state.average), row
      record["epochs_done"] = epoch + 1
      record["history"].append(row)
      record["seconds"] += time.monotonic() - started
      checkpoints.save(run.checkpoint, {"state": state, "best": best}, record)
      tqdm.write(f"{run.name} " + json.dumps({k: round(v, 4) for k, v in row.items()}))
      sys.stdout.flush()
      if better:
        export.write(run, model, record, val=None)
  chosen = dataclasses.replace(state, average=best)
  return trainer.average_model(chosen, training), record


def _teacher(run: Run) -> nnx.Module | None:
  if run.teacher is None:
    return None
  network, own = load_network(run.teacher), run.recipe.config
  shape = dataclasses.replace(
    own, image_size=network.config.image_size, num_classes=network.config.num_classes
  )
  if network.config != shape:
    raise ValueError(
      f"--teacher must be a network of the same shape, whatever its classes, got {network.config} "
      f"in {run.teacher} for {own}."
    )
  return unflatten(network.config, network.parameters)


def _begin(run: Run, trainer: Trainer) -> tuple[TrainState, Any, dict[str, Any]]:
  state = trainer.initial_state(None if run.init is None else _initial_model(run))
  record = {"digest": run.digest(), "epochs_done": 0, "seconds": 0.0, "history": [], "best": {}}
  if not run.checkpoint.exists():
    # A copy: the step takes over the buffers of its state.
    return state, jax.tree.map(jax.numpy.copy, state.average), record
  if not run.resume:
    raise ValueError(
      f"{run.checkpoint} holds an earlier run of {run.name}; go on with --resume, or remove it."
    )
  like = {"state": state, "best": state.average}
  trees, found = checkpoints.load(run.checkpoint, like)
  if found["digest"] != record["digest"]:
    raise ValueError(
      f"{run.checkpoint} is of a run with another recipe, seed, preset or number of epochs; "
      "give the same options, or remove it to start anew."
    )
  return trees["state"], trees["best"], found


def _initial_model(run: Run) -> nnx.Module:
  """Returns the network of `--init`; where its classes are others, with a new head."""
  network, config = load_network(run.init), run.recipe.config
  shape = {"image_size": config.image_size, "num_classes": config.num_classes}
  if dataclasses.replace(network.config, **shape) != config:
    raise ValueError(
      f"--init must be a network of the same shape, got {network.config} in {run.init}; choose the "
      "preset it was trained with."
    )
  if network.class_names == run.class_names:
    return unflatten(config, network.parameters)
  fresh = flatten(build(config, rngs=nnx.Rngs(fixed_key(seed_key(run.seed)))))
  kept = {k: value for k, value in network.parameters.items() if not k.startswith("head.")}
  return unflatten(config, fresh | kept)
