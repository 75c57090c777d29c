"""Photographs in class folders as uint8 arrays, decoded once, and which of them an epoch shows.

Layout: `DIR/{train,val}/<class>/<photo>`; a class's index is its folder's place in sorted order.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from rpfgsm_jax import atomic
from rpfgsm_jax.data.images import ImageError, read_image

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photos:
  """The files of one split."""

  paths: tuple[pathlib.Path, ...]
  labels: np.ndarray  # (N,) int32
  class_names: tuple[str, ...]

  def subset(self, indices: np.ndarray) -> "Photos":
    """Returns the photographs at `indices`, in that order."""
    return Photos(
      paths=tuple(self.paths[index] for index in indices),
      labels=self.labels[indices],
      class_names=self.class_names,
    )


def list_photos(root: pathlib.Path, split: str) -> Photos:
  """Returns what `root/split` holds, sorted by class and name."""
  folder = root / split
  if not folder.is_dir():
    raise FileNotFoundError(
      f"--data must be a folder with train/ and val/ inside, {folder} does not exist; "
      "each of the two holds one folder of photographs a class."
    )
  class_names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
  if len(class_names) < 2:
    raise ValueError(f"{folder} must hold at least two class folders, got {list(class_names)}.")
  paths, labels, empty = [], [], []
  for label, name in enumerate(class_names):
    files = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in _SUFFIXES)
    if not files:
      empty.append(name)
    paths += files
    labels += [label] * len(files)
  if empty:
    raise ValueError(f"{folder} has classes without photographs: {empty}; fill or remove them.")
  return Photos(paths=tuple(paths), labels=np.array(labels, np.int32), class_names=class_names)


def list_splits(root: pathlib.Path) -> tuple[Photos, Photos]:
  """Returns the training and the validation photographs, which must have the same classes."""
  train, val = list_photos(root, "train"), list_photos(root, "val")
  if train.class_names != val.class_names:
    only_train = sorted(set(train.class_names) - set(val.class_names))
    only_val = sorted(set(val.class_names) - set(train.class_names))
    raise ValueError(
      f"train/ and val/ of {root} must have the same class folders; "
      f"only in train: {only_train}, only in val: {only_val}."
    )
  return train, val


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns sorted indices to train on, and to choose epochs on: a random share of each class."""
  rng = np.random.default_rng(seed)
  kept, held = [], []
  for label in np.unique(labels):
    members = rng.permutation(np.flatnonzero(labels == label))
    if len(members) < 2:
      raise ValueError(f"every class needs at least two photographs, class {label} has one.")
    count = min(max(1, round(share * len(members))), len(members) - 1)
    held.append(members[:count])
    kept.append(members[count:])
  return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held))


def balanced_epoch(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
  """Returns `count` shuffled indices: each class equally often (within one), its members too."""
  classes = np.unique(labels)
  quotas = np.full(len(classes), count // len(classes))
  quotas[rng.permutation(len(classes))[: count % len(classes)]] += 1
  chosen = []
  for label, quota in zip(classes, quotas, strict=True):
    members = np.flatnonzero(labels == label)
    repeats = -(-quota // len(members))
    chosen.append(np.concatenate([rng.permutation(members) for _ in range(repeats)])[:quota])
  return rng.permutation(np.concatenate(chosen))


def decode(paths: Sequence[pathlib.Path], size: int) -> np.ndarray:
  """Returns the photographs as `(N, size, size, 3)` uint8, squeezed; names all that are broken."""
  images, faults = np.empty((len(paths), size, size, 3), np.uint8), []
  for index, path in enumerate(tqdm(paths, desc="decoding", unit="photo", mininterval=2.0)):
    try:
      images[index] = read_image(path, (size, size))
    except ImageError as fault:
      faults.append(str(fault))
  if faults:
    raise ValueError("photographs could not be read, remove them:\n" + "\n".join(faults))
  return images


def decode_cached(photos: Photos, size: int, cache: pathlib.Path) -> np.ndarray:
  """Returns `decode(photos.paths, size)`, kept in `cache` for the next run.

  The file's name is a digest of names, sizes, times and `size`, so a changed photo is seen.
  """
  digest = hashlib.sha256(str(size).encode())
  for path in photos.paths:
    facts = path.stat()
    digest.update(f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}\n".encode())
  file = cache / f"photos-{size}-{digest.hexdigest()[:20]}.npy"
  if not file.exists():
    images = decode(photos.paths, size)
    with atomic.replacing(file) as temporary:
      np.save(temporary, images)
  return np.load(file)
