"""A linear head for class folders on the frozen features of a backbone.

Ridge regression in closed form, float64: one-vs-rest targets, 1 for a photo's class and 0 for all
others, on features, both centered. The strength is a share of the mean eigenvalue of the features'
scatter matrix, so that it means the same for features of any size; it is chosen on a tenth of the
training photographs, then the head is fitted on all of them. There too the scores are scaled to be
logits (Guo et al., "On calibration of modern neural networks", 2017): the softmax of ridge scores
is nearly flat, and who judges photos asks how sure a network is.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import scipy.optimize
import scipy.special
from tqdm import tqdm

from experiments.training import data
from experiments.training.loop import accuracy
from rpfgsm_jax import result_folder
from rpfgsm_jax.data.folders import ImageRecord, image_id, iterate_images
from rpfgsm_jax.models.embedder import Embedder
from rpfgsm_jax.models.heads import HEAD_FILE, Head, with_head, write_head
from rpfgsm_jax.models.identity import identify_network
from rpfgsm_jax.models.published import is_published
from rpfgsm_jax.models.weights import (
  CONFIG_FILE,
  as_embedder,
  load_backbone,
  save_network,
)

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
HELD_OUT_SHARE = 0.1
_BATCH = 32


def fit_probe(options: argparse.Namespace) -> dict[str, Any]:
  """Fits, measures and writes a head as the command line says; returns its card.

  `out` then holds the whole network in our format, and `head.safetensors`, the head alone.
  """
  out: pathlib.Path = options.out
  result_folder.check_place(out, "train_zoo.py --probe", _is_probe)
  name = pathlib.PurePath(options.probe).name
  backbone = load_backbone(options.probe, options.layers, options.norm, options.pooling)
  train, val = data.list_splits(options.data)
  train = train.subset(_sample(train.labels, options.photos_per_class, options.seed))
  kept, held = data.hold_out(train.labels, HELD_OUT_SHARE, options.seed)
  embedder = as_embedder(backbone, name)
  features = embed(embedder, train, "features of train")
  strength, found, factor = choose_strength(features, train.labels, kept, held)
  weight, bias, mean = fit_ridge(features, train.labels, [strength])[0]
  weight, bias = factor * weight, factor * bias
  logits = (embed(embedder, val, "features of val") - mean) @ weight.T + bias
  config = backbone.config
  counts = np.bincount(train.labels).tolist()
  card = {
    "backbone": name,
    "backbone_sha256": identify_network(options.probe).sha256,
    "command": _command(options, name),
    "data": options.data.resolve().name,
    "photos": dict(zip(train.class_names, counts, strict=True)),
    "ridge_strength": strength,
    "score_factor": round(factor, 4),
    "held_out": _rounded(found),
    "val": _rounded(accuracy(logits, val.labels)) | {"photos": len(val.labels)},
  }
  head = Head(
    weight=weight.astype(np.float32),
    bias=bias.astype(np.float32),
    mean=mean.astype(np.float32),
    class_names=train.class_names,
    layers=config.layers,
    norm=config.norm,
    pooling=config.pooling,
    projected=bool(config.projection),
    card=card,
  )
  save_network(out, with_head(backbone, head))
  write_head(out, head)
  return card


def embed(embedder: Embedder, photos: data.Photos, title: str) -> np.ndarray:
  """Returns the features `(N, F)` float64 of photographs; names all that cannot be read."""
  records = [
    ImageRecord(path, path.name, image_id(path.name), photos.class_names[label])
    for path, label in zip(photos.paths, photos.labels, strict=True)
  ]
  features_of = jax.jit(lambda embedder, images: embedder.features(images)[0])
  rows, faults = [], []
  with tqdm(total=len(records), desc=title, unit="photo", mininterval=2.0) as bar:
    for batch in iterate_images(records, embedder.image_size, batch_size=_BATCH):
      count = len(batch.images)
      padded = np.zeros((_BATCH, *embedder.image_size, 3), np.float32)
      padded[:count] = batch.images
      rows.append(np.asarray(features_of(embedder, padded), np.float64)[:count])
      faults += [message for _, message in batch.failures]
      bar.update(count)
  if faults:
    raise ValueError("photographs could not be read, remove them:\n" + "\n".join(faults))
  features = np.concatenate(rows)
  if not np.all(np.isfinite(features)):
    raise ValueError(f"{embedder.name} must give finite features, got NaN or infinity.")
  return features


def choose_strength(
  features: np.ndarray, labels: np.ndarray, kept: np.ndarray, held: np.ndarray
) -> tuple[float, dict[str, float], float]:
  """Returns the strength that is best on the held-out photographs, its accuracies there, and the
  factor that makes its scores logits.

  Equal balanced top-1 accuracies are told apart by the squared error.
  """
  targets = _one_hot(labels)[held]
  scored = []
  fits = fit_ridge(features[kept], labels[kept], STRENGTHS)
  for strength, (weight, bias, mean) in zip(STRENGTHS, fits, strict=True):
    scores = (features[held] - mean) @ weight.T + bias
    found = accuracy(scores, labels[held])
    merit = found["balanced_top1"], -np.mean((scores - targets) ** 2)
    scored.append((merit, strength, found, scores))
  _, strength, found, scores = max(scored, key=lambda entry: entry[0])
  return strength, found, logit_factor(scores, labels[held])


def logit_factor(scores: np.ndarray, labels: np.ndarray) -> float:
  """Returns the factor in 1..1000 with which scores `(N, D)` have the least cross-entropy."""

  def cross_entropy(log_factor: float) -> float:
    logits = np.exp(log_factor) * scores
    return np.mean(scipy.special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels])

  bounds = (0.0, np.log(1000.0))
  return float(np.exp(scipy.optimize.minimize_scalar(cross_entropy, bounds=bounds).x))


def fit_ridge(
  features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Returns weight `(D, F)`, bias `(D,)` and features' mean `(F,)` for each strength.

  One singular value decomposition serves all, also where photographs are fewer than features.
  """
  mean, targets = features.mean(0), _one_hot(labels)
  shares = targets.mean(0)
  left, values, right = np.linalg.svd(features - mean, full_matrices=False)
  scale = np.sum(values**2) / features.shape[1]
  if scale == 0.0:
    raise ValueError("features must differ between photographs, got the same for all of them.")
  turned = left.T @ (targets - shares)
  shrunk = [(values / (values**2 + strength * scale))[:, None] * turned for strength in strengths]
  return [((right.T @ each).T, shares, mean) for each in shrunk]


def _one_hot(labels: np.ndarray) -> np.ndarray:
  return np.eye(labels.max() + 1)[labels]


def _sample(labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
  """Returns sorted indices of at most `limit` random photographs a class."""
  rng = np.random.default_rng(seed)
  members = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
  return np.sort(np.concatenate([each[:limit] for each in members]))


def _is_probe(folder: pathlib.Path) -> bool:
  try:
    description = json.loads((folder / CONFIG_FILE).read_bytes())
  except (OSError, ValueError):
    return False
  return (folder / HEAD_FILE).is_file() and not is_published(description)


def _command(options: argparse.Namespace, name: str) -> str:
  words = [f"python experiments/train_zoo.py --probe {name} --data … --out … --seed {options.seed}"]
  if options.layers is not None:
    words.append("--layers " + ",".join(map(str, options.layers)))
  for option in ("norm", "pooling", "photos_per_class"):
    if getattr(options, option) is not None:
      words.append(f"--{option.replace('_', '-')} {getattr(options, option)}")
  return " ".join(words)


def _rounded(found: dict[str, float]) -> dict[str, float]:
  return {key: round(value, 4) for key, value in found.items()}
