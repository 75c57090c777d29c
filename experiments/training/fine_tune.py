"""A network trained further on given photos, by the zoo's recipe `tune`; it goes on if stopped."""

import dataclasses
import pathlib

from tqdm import tqdm

from experiments.training import checkpoints, presets
from experiments.training.loop import Split, Trainer
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.parameters import flatten
from rpfgsm_jax.models.weights import (
  Network,
  as_classifier,
  available_networks,
  load_network,
  unflatten,
)


def open_network(name: str) -> tuple[Network, presets.Recipe]:
  """Returns a network by name or folder, and the recipe for its family, its last word."""
  recipe = presets.choose("tune", pathlib.PurePath(name).name)
  network = load_network(available_networks().get(name, pathlib.Path(name)))
  pixels = network.mean, network.deviation
  return network, dataclasses.replace(recipe, config=network.config, normalization=pixels)


def fine_tune(
  name: str, title: str, photos: Split, checkpoint: pathlib.Path, *, seed: int, epochs: int
) -> Classifier:
  """Returns a network trained further on photos with its own classes; `title` is its new name."""
  network, recipe = open_network(name)
  trainer = Trainer(presets.vary(recipe, {"epochs": epochs}), seed)
  state, done = trainer.initial_state(unflatten(network.config, network.parameters)), 0
  if checkpoint.exists():
    trees, record = checkpoints.load(checkpoint, {"state": state})
    state, done = trees["state"], record["epochs_done"]
  images = trainer.steps_per_epoch * trainer.recipe.batch_size
  with tqdm(total=epochs * images, initial=done * images, desc=title, disable=None) as bar:
    for epoch in range(done, epochs):
      state = trainer.run_epoch(state, photos, epoch, lambda count, loss: bar.update(count))
      checkpoints.save(checkpoint, {"state": state}, {"epochs_done": epoch + 1})
  parameters = flatten(trainer.average_model(state, photos))
  return as_classifier(dataclasses.replace(network, parameters=parameters), title)
