"""Networks on disk: a folder with `model.safetensors` and `config.json`, and names -> folders.

Our file holds the unfolded network under the dotted names of its modules, so that it can be trained
further; folding happens when a `Classifier` is made. Folders that transformers wrote are read too.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rpfgsm_jax import atomic
from rpfgsm_jax.models import architectures
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.clip_words import name_classes, parse_name, read_words, tokenizer_file
from rpfgsm_jax.models.embedder import Embedder
from rpfgsm_jax.models.heads import feature_config, head_files, read_head
from rpfgsm_jax.models.kinds import MODERN_FAMILIES
from rpfgsm_jax.models.parameters import (
  Network,
  WeightsError,
  check_parameters,
  expected_shapes,
  unflatten,
)
from rpfgsm_jax.models.published import (
  CLIP,
  is_published,
  load_clip_folder,
  load_published,
)
from rpfgsm_jax.models.published_config import class_names
from rpfgsm_jax.user_folders import user_folder

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_WEIGHTS_NAME = re.compile(r"model(-[0-9a-f]{16})?\.safetensors")
BUNDLED = pathlib.Path(__file__).resolve().parents[1] / "bundled"


def cache_directory() -> pathlib.Path | None:
  """Returns the user's folder for fetched weights; None where there is no home to have it in."""
  return user_folder("cache", "RPFGSM_CACHE")


def save_network(directory: str | os.PathLike, network: Network, *, dtype: str = "float32") -> None:
  """Writes a network's two files; a network that was there stays usable until the last step.

  The weights go to `model.safetensors`, or, while an older network still owns that name, to
  `model-<hash>.safetensors`. `config.json`, which names them, is replaced afterwards, and only then
  are weights removed that it does not name. `dtype`, float32 or float16, is that of the kernels;
  all else stays float32, because a small running variance would not survive.
  """
  import safetensors.numpy

  if dtype not in ("float32", "float16"):
    raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}.")
  check_parameters(network.config, network.parameters)
  tensors = {}
  for name, value in network.parameters.items():
    stored = dtype if name.endswith(".kernel") else "float32"
    if np.max(np.abs(value), initial=0.0) > np.finfo(stored).max:
      raise ValueError(f"{name} leaves the range of {stored}; save with dtype='float32'.")
    tensors[name] = np.ascontiguousarray(value, dtype=stored)
  payload = safetensors.numpy.save(tensors)
  directory = pathlib.Path(directory)
  digest = hashlib.sha256(payload).hexdigest()
  taken = (directory / WEIGHTS_FILE).exists()
  weights = directory / (f"model-{digest[:16]}.safetensors" if taken else WEIGHTS_FILE)
  description = {
    "format": FORMAT,
    "weights": weights.name,
    "config": architectures.config_to_dict(network.config),
    "class_names": list(network.class_names),
    "mean": list(network.mean),
    "deviation": list(network.deviation),
    "sha256": digest,
    "card": network.card,
  }
  content = atomic.strict_json(description, indent=2) + "\n"
  directory.mkdir(parents=True, exist_ok=True)
  atomic.write_bytes(weights, payload)
  atomic.write_text(directory / CONFIG_FILE, content)
  for stale in directory.glob("model*.safetensors"):
    if _WEIGHTS_NAME.fullmatch(stale.name) and stale != weights:
      stale.unlink()


def load_network(directory: str | os.PathLike) -> Network:
  """Reads a folder that `save_network` or transformers wrote."""
  import safetensors.numpy

  directory = pathlib.Path(directory)
  description = _read_description(directory)
  if is_published(description):
    return load_published(directory, description)
  weights = directory / description.get("weights", WEIGHTS_FILE)
  payload = weights.read_bytes()
  if hashlib.sha256(payload).hexdigest() != description["sha256"]:
    raise WeightsError(
      f"{weights} does not have the SHA-256 that {CONFIG_FILE} names; "
      "the file is damaged or belongs to another network: fetch or convert it again."
    )
  parameters = {
    name: value.astype(np.float32) for name, value in safetensors.numpy.load(payload).items()
  }
  try:
    config = architectures.config_from_dict(description["config"])
  except ValueError as error:
    raise WeightsError(f"{directory / CONFIG_FILE}: {error}") from error
  check_parameters(config, parameters)
  return Network(
    config=config,
    parameters=parameters,
    class_names=tuple(description["class_names"]),
    mean=tuple(description["mean"]),
    deviation=tuple(description["deviation"]),
    card=description["card"],
  )


def available_networks() -> dict[str, pathlib.Path]:
  """Returns name -> folder of every bundled and every fetched network, bundled ones first."""
  found: dict[str, pathlib.Path] = {}
  cache = cache_directory()
  for root in (BUNDLED, *([] if cache is None else [cache / "weights"])):
    for file in sorted(root.glob(f"*/*/{CONFIG_FILE}")):
      found.setdefault(file.parent.relative_to(root).as_posix(), file.parent)
  return found


def fetched_modern() -> tuple[str, ...]:
  """Returns the names of fetched networks that are modern by their family and have classes."""
  found = []
  for name, folder in available_networks().items():
    if not folder.is_relative_to(BUNDLED):
      with contextlib.suppress(WeightsError):  # an unusable one is named when it is asked for
        description = _read_description(folder)
        if is_published(description):
          usable = bool(class_names(description) or head_files(folder))
        else:
          modern = description.get("config", {}).get("family") in MODERN_FAMILIES
          usable = bool(modern and description.get("class_names"))
        found += [name] if usable else []
  return tuple(found)


def class_names_of(name: str) -> tuple[str, ...]:
  """Returns the classes of a network that stays unloaded; none where it has features alone."""
  folder, words = parse_name(name)
  if words is not None:
    return words.classes
  directory = _folder(folder)
  description = _read_description(directory)
  if not is_published(description):
    return tuple(description["class_names"])
  return read_head(directory).class_names if head_files(directory) else class_names(description)


def load_classifier(name: str | os.PathLike) -> Classifier:
  """Returns a network ready for use.

  Args:
    name: `"scenes25/resnet18"`, `"places365/…"` (after `rpfgsm weights fetch places365`), or a
      folder: one that `rpfgsm convert` or `save_network` wrote, or one with the `config.json` and
      `model.safetensors` of a ViT, DINOv2 or ConvNeXt as transformers writes them. Of a CLIP
      `"clip:FOLDER#church,bedroom"`, see `load_clip`.

  Returns:
    The classifier, batch-norms folded.

  Raises:
    WeightsError: no such network (the nearest names are suggested), its files are unusable, or it
      has no classes.
  """
  folder, words = parse_name(os.fspath(name))
  if words is not None:
    return load_clip(folder, classes=words.given, templates=words.templates)
  network = load_network(_folder(name))
  if not network.class_names:
    raise WeightsError(
      f"{os.fspath(name)} has no classes, only features: put a head beside it "
      "(docs/NETWORKS.md), name classes in words if it is a CLIP, or call load_embedder."
    )
  return as_classifier(network, os.fspath(name))


def load_clip(
  name: str | os.PathLike,
  *,
  classes: Sequence[str] | str,
  templates: Sequence[str] | str | None = None,
) -> Classifier:
  """Returns a CLIP as a classifier whose classes are named in words.

  Args:
    name: a known name, or a folder with both towers as transformers writes them, and the
      `tokenizer.json` beside them.
    classes: two or more, also as one string with commas; or `"places365"` or `"mepp18-private"`,
      the lists that come with the package. Underscores and slashes are read as spaces.
    templates: texts with `{}` where the class stands, over which its features are averaged. None:
      `"a photo of a {}."`.

  Returns:
    The classifier; logit i is the scaled cosine of image and class i.

  Raises:
    WeightsError: no such CLIP or its files are unusable, classes or templates break their rule,
      classes cannot be told apart, or the library `tokenizers` is missing.
  """
  words = read_words(classes, templates)
  network = name_classes(load_clip_towers(name), words, tokenizer_file(_folder(name)))
  return as_classifier(network, words.title(os.fspath(name)))


def load_embedder(
  name: str | os.PathLike,
  *,
  layers: Sequence[int] | None = None,
  norm: str | None = None,
  pooling: str | None = None,
) -> Embedder:
  """Returns the features of a ViT, CLIP or ConvNeXt as an embedder.

  Args:
    name: as of `load_classifier`; the network need not have classes.
    layers: whose features are put out, one behind the other, counted from 0: blocks of a ViT,
      stages of a ConvNeXt. None: what the network's own head reads, or, of a backbone, its last.
    norm: "final", the network's last norm; "plain", each place to mean 0 and variance 1; "none".
    pooling: "class", the class token (of a ConvNeXt the mean); "mean" over places; "class+mean".

  Returns:
    The embedder; the layers' features stand in one vector. With none of the options those of a CLIP
    are projected.

  Raises:
    WeightsError: as of `load_classifier`, or the network has no such features.
  """
  return as_embedder(load_backbone(name, layers, norm, pooling), os.fspath(name))


def load_backbone(
  name: str | os.PathLike,
  layers: Sequence[int] | None = None,
  norm: str | None = None,
  pooling: str | None = None,
) -> Network:
  """Returns a network without its head that puts out the features `load_embedder` describes."""
  network = load_network(_folder(name))
  projected = (layers, norm, pooling) == (None,) * 3 and bool(
    getattr(network.config, "projection", 0)
  )
  config = feature_config(network.config, layers, norm, pooling, projected)
  shapes = expected_shapes(config)
  backbone = {key: value for key, value in network.parameters.items() if key in shapes}
  return dataclasses.replace(network, config=config, parameters=backbone, class_names=())


def load_clip_towers(name: str | os.PathLike) -> CLIP:
  """Reads both towers of a CLIP's folder."""
  directory = _folder(name)
  return load_clip_folder(directory, _read_description(directory))


def as_classifier(network: Network, name: str) -> Classifier:
  """Returns a network in memory ready for use."""
  return Classifier.from_module(
    unflatten(network.config, network.parameters),
    class_names=network.class_names,
    image_size=_image_size(network),
    name=name,
    mean=network.mean,
    deviation=network.deviation,
    family=architectures.family(network.config),
  )


def as_embedder(backbone: Network, name: str) -> Embedder:
  """Returns a network without classes in memory ready for use."""
  return Embedder.from_module(
    unflatten(backbone.config, backbone.parameters),
    image_size=_image_size(backbone),
    name=name,
    mean=backbone.mean,
    deviation=backbone.deviation,
  )


def _image_size(network: Network) -> tuple[int, int]:
  config: Any = network.config  # of a tower of images
  return config.image_size


def _folder(name: str | os.PathLike) -> pathlib.Path:
  networks = available_networks()
  directory = networks.get(os.fspath(name), pathlib.Path(name))
  if not os.fspath(name) or not directory.is_dir():  # "" would be the current folder
    raise WeightsError(_unknown_name(os.fspath(name), networks))
  return directory


def _read_description(directory: pathlib.Path) -> dict[str, Any]:
  path = directory / CONFIG_FILE
  if not path.is_file():
    raise WeightsError(f"{directory} lacks {CONFIG_FILE}; it holds no network of ours.")
  try:
    description = json.loads(path.read_bytes())
  except ValueError as error:
    raise WeightsError(f"{path} is not JSON: {error}") from error
  if isinstance(description, dict) and is_published(description):
    return description
  if not isinstance(description, dict) or description.get("format") != FORMAT:
    raise WeightsError(
      f"{path} must have format {FORMAT}, or the model_type of a network of transformers."
    )
  needed = {"config", "class_names", "mean", "deviation", "sha256", "card"}
  if needed - set(description):
    raise WeightsError(f"{path} lacks {sorted(needed - set(description))}.")
  weights = description.get("weights", WEIGHTS_FILE)
  if not isinstance(weights, str) or not _WEIGHTS_NAME.fullmatch(weights):
    raise WeightsError(f"{path} must name weights as {WEIGHTS_FILE} in its own folder.")
  if not (directory / weights).is_file():
    raise WeightsError(f"{directory} lacks {weights}; fetch or convert the network again.")
  return description


def _unknown_name(name: str, networks: Iterable[str]) -> str:
  networks = list(networks)
  nearest = difflib.get_close_matches(name, networks, n=2, cutoff=0.5)
  suggestion = f"did you mean {' or '.join(nearest)}?" if nearest else f"known: {networks}."
  fetch = ""
  if name.startswith("places"):
    fetch = " Places365's are fetched by `rpfgsm weights fetch places365`."
  elif name.startswith("hf"):
    fetch = " Those of Hugging Face are fetched by `rpfgsm weights fetch hf:OWNER/NAME`."
  return f"name must be a known network or a folder, got {name!r}; {suggestion}{fetch}"
