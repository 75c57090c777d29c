"""A trained network as bundled weights: float16 kernels, `config.json` and a model card."""

import pathlib
from typing import Any

import jax
import numpy as np
from flax import nnx
from tqdm import tqdm

from experiments.training.loop import Split, accuracy
from experiments.training.presets import Run
from rpfgsm_jax import atomic
from rpfgsm_jax.data.classes import scenes25_class_names
from rpfgsm_jax.models.parameters import Network, flatten
from rpfgsm_jax.models.weights import load_classifier, load_network, save_network

_PACKAGE = "rpfgsm_jax/bundled/"
DATA_NOTE = (
  "scenes25: photographs of 25 scene classes. Six classes (bathroom, bedroom, dining_room, "
  "entrance_hall, kitchen, living_room) are from Places365-Standard, 19 from SUN, all resized to "
  "256 x 256. Ten percent of the training photographs of each class were held out to choose the "
  "epoch; the validation photographs were measured"
)
LICENSE_NOTE = (
  "The photographs keep their owners' terms (Places365 and SUN: research use) and are not part of "
  "this package; only the weights are. Use the weights for research."
)


def write(run: Run, model: nnx.Module, record: dict[str, Any], val: dict | None) -> pathlib.Path:
  """Writes a network's folder and returns it; val is None while nobody looked at that split."""
  flat, recipe = flatten(model), run.recipe
  bundled = run.class_names == scenes25_class_names()
  group = "shield" if recipe.robust > 0.0 else "scenes25"
  folders = f"--data scenes25 --out {_PACKAGE}{group}" if bundled else "--data … --out …"
  changed = "".join(f" --{key} {value}" for key, value in run.changes.items() if key != "epochs")
  card = {
    "network": f"{group}/{run.name}" if bundled else run.name,
    "command": (
      f"python experiments/train_zoo.py {folders} --networks {run.network} "
      f"--preset {run.preset} --epochs {recipe.epochs} --seed {run.seed}{changed}"
    ),
    "seed": run.seed,
    "epochs": run.recipe.epochs,
    "chosen_epoch": record["best"]["epoch"],
    "images_per_epoch": run.recipe.epoch_images,
    "parameters": sum(v.size for k, v in flat.items() if not k.endswith((".mean", ".var"))),
    "training_minutes": round(record["seconds"] / 60, 1),
    "held_out": {key: round(value, 4) for key, value in record["best"].items() if "top" in key},
    "val": None if val is None else {key: round(value, 4) for key, value in val.items()},
  }
  if recipe.robust > 0.0:
    card["robust"] = {"levels": recipe.robust, "norm": recipe.norm}
  if run.teacher is not None:
    card["command"] += " --teacher TEACHER"
    card["taught_by"] = load_network(run.teacher).card.get("converted_from", {}).get("file")
  if run.init is not None:
    origin = load_network(run.init)
    card["command"] += " --init BASE"
    if "command" in origin.card:
      card["started_from"] = origin.card["command"].replace(f"{_PACKAGE}scenes25", "BASE")
    else:
      card["started_from_file"] = origin.card.get("converted_from", {"file": "unknown"})["file"]
    same = origin.class_names == run.class_names
    card["started_from_val"] = origin.card.get("val") if same else None
  if bundled:
    once = (
      "once, at the end"
      if run.init is None
      else "twice, for the network it started from and at the end"
    )
    card |= {"data": f"{DATA_NOTE} {once}.", "license": LICENSE_NOTE}
  folder = run.out / run.name
  network = Network(
    config=run.recipe.config,
    parameters=flat,
    class_names=run.class_names,
    mean=recipe.normalization[0],
    deviation=recipe.normalization[1],
    card=card,
  )
  save_network(folder, network, dtype="float16")
  atomic.write_text(folder / "README.md", _card_text(run, card))
  return folder


def measure(folder: pathlib.Path, split: Split) -> tuple[dict[str, float], np.ndarray]:
  """Returns accuracies and logits `(N, D)` of the exported files, as a user would load them."""
  classifier = jax.jit(load_classifier(folder).__call__)
  logits, batch = [], 64
  for start in tqdm(range(0, len(split.images), batch), desc="measuring", mininterval=2.0):
    part = split.images[start : start + batch]
    padded = np.zeros((batch, *part.shape[1:]), np.float32)
    padded[: len(part)] = part
    logits.append(np.asarray(classifier(padded))[: len(part)])
  joined = np.concatenate(logits)
  return accuracy(joined, split.labels), joined


def _card_text(run: Run, card: dict[str, Any]) -> str:
  recipe, height = run.recipe, run.recipe.config.image_size[0]
  rows = []
  for label, key, prefix in (
    ("validation", "val", ""),
    ("held out from training", "held_out", ""),
    ("held out, moved as in training", "held_out", "moved_"),
  ):
    found = card[key]
    if prefix and recipe.robust == 0.0:
      continue
    values = (
      ["not measured yet"] * 4
      if found is None
      else [
        f"{100 * found[prefix + k]:.1f} %"
        for k in ("top1", "top5", "balanced_top1", "balanced_top5")
      ]
    )
    rows.append(f"| {label} | " + " | ".join(values) + " |")
  sizes = ", ".join(str(phase.size) for phase in recipe.phases)
  origin = []
  if recipe.robust > 0.0:
    what = {"linf": "change a value", "l2": "root mean square a view"}[recipe.norm]
    origin += [
      "Made to be attacked: views were moved against the network by one gradient step from a "
      f"random start, by at most {recipe.robust:g} gray levels ({what}).",
      "",
    ]
  if "taught_by" in card:
    origin += [
      "Moved views were to have the features that the teacher, the weights of "
      f"`{card['taught_by']}`, has of the unmoved ones.",
      "",
    ]
  if "started_from_file" in card:
    origin += [f"Started from the weights of `{card['started_from_file']}`.", ""]
  if "started_from" in card:
    start = f"Started from the network that `{card['started_from']}` made."
    if (before := card["started_from_val"]) is not None:
      figures = (f"{100 * before[key]:.1f} %" for key in ("balanced_top1", "balanced_top5"))
      start += f" Its class-balanced validation top-1 and top-5: {', '.join(figures)}."
    origin += [start, ""]
  notes = [f"## Data\n\n{card['data']}\n\n{card['license']}\n"] if "data" in card else []
  return "\n".join(
    [
      f"# {card['network']}",
      "",
      f"{type(recipe.config).__name__.removesuffix('Config')}, {card['parameters']:,} parameters, "
      f"{len(run.class_names)} classes, {height} x {height} pixels, float16 kernels.",
      "",
      "## Accuracy",
      "",
      "| photographs | top-1 | top-5 | class-balanced top-1 | class-balanced top-5 |",
      "| --- | --- | --- | --- | --- |",
      *rows,
      "",
      "Validation is measured on the files beside this card, through `load_classifier`.",
      "",
      *notes,
      "## Training",
      "",
      f"`{card['command']}`",
      "",
      f"{recipe.epochs} epochs of {recipe.epoch_images:,} class-balanced views (epoch "
      f"{card['chosen_epoch']} chosen), views of {sizes} pixels one after another, "
      f"{recipe.optimizer}, learning rate {recipe.learning_rate}, weight decay "
      f"{recipe.weight_decay}, seed {run.seed}, {card['training_minutes']} minutes.",
      "",
      *origin,
      "Configuration:",
      "",
      "```",
      repr(recipe.config),
      "```",
      "",
    ]
  )
