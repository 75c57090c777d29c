"""What networks make of a written photo: decoded from its own bytes, and after what platforms do.

The judging is done on the host with Pillow, as strangers would do it, not with our own defenses.
"""

import io
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image

from rpfgsm_jax.data.classes import find_class
from rpfgsm_jax.data.images import preprocess
from rpfgsm_jax.data.photo_files import LONGEST_SIDES
from rpfgsm_jax.models.answers import are_finite, check_answers, probe_picture
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.kinds import network_kind
from rpfgsm_jax.photos.verdict import AS_WRITTEN, NetworkVerdict, Verdict, judge
from rpfgsm_jax.quality import psnr, ssim
from rpfgsm_jax.typing import Array, Images, Logits

QUALITIES = (90, 75, 50)
SHARED_SIDE = 1080
"""Longest side, pixels, of the resized condition."""

CONDITIONS = (AS_WRITTEN, *(f"JPEG {quality}" for quality in QUALITIES), f"{SHARED_SIDE} px")
_MOST_LIKELY = 5
_SSIM_WINDOW = 11


def conditioned(photo: np.ndarray, condition: str) -> np.ndarray:
  """Returns a photo, `(H, W, 3)` uint8, after one of `CONDITIONS`.

  "JPEG 75": coded anew at its own size, 4:2:0, or shrunk to the longest side that a JPEG can have,
  as whoever codes it must; "1080 px": its longer side shrunk to 1080 pixels
  (Lanczos), unchanged where it is smaller.
  """
  if condition == AS_WRITTEN:
    return photo
  if condition not in CONDITIONS:
    raise ValueError(f"condition must be one of {CONDITIONS}, got {condition!r}.")
  number, unit = sorted(condition.split(), key=str.isalpha)
  if unit == "JPEG":
    coded = io.BytesIO()
    _at_most(photo, LONGEST_SIDES["jpeg"]).save(
      coded, "JPEG", quality=int(number), subsampling="4:2:0"
    )
    return np.asarray(Image.open(coded))
  return photo if max(photo.shape[:2]) <= SHARED_SIDE else np.asarray(_at_most(photo, SHARED_SIDE))


def _at_most(photo: np.ndarray, longest: int) -> Image.Image:
  """A photo whose longer side has at most so many pixels."""
  picture, scale = Image.fromarray(photo), longest / max(photo.shape[:2])
  if scale >= 1:
    return picture
  width, height = (max(round(side * scale), 1) for side in picture.size)
  return picture.resize((width, height), Image.Resampling.LANCZOS)


def judge_photo(
  original: np.ndarray,
  written: np.ndarray,
  classifiers: Sequence[Classifier],
  held_out: Sequence[Classifier],
  scene: str | None = None,
) -> Verdict:
  """Returns the verdict on a written photo, decoded from its own bytes; both `(H, W, 3)` uint8.

  `scene` is what the photo shows, for the networks that know it; None: what each sees.
  """
  if original.shape != written.shape:
    raise ValueError(
      f"written must have the original's shape {original.shape}, got {written.shape}; compare a "
      "photo with its own protected file."
    )
  networks = [*classifiers, *held_out]
  sizes = {network.image_size for network in networks}
  # What each network is shown, of every condition; a full-size copy at a time.
  shown = {size: [preprocess(original, size)] for size in sizes}
  for condition in CONDITIONS:
    photo = conditioned(written, condition)
    for size in sizes:
      shown[size].append(preprocess(photo, size))
  verdicts = tuple(
    _network_verdict(network, np.stack(shown[network.image_size]), place >= len(classifiers), scene)
    for place, network in enumerate(networks)
  )
  large_enough = min(original.shape[:2]) >= _SSIM_WINDOW
  return Verdict(
    status=judge(verdicts),
    networks=verdicts,
    psnr=float(psnr(written, original)),
    ssim=float(ssim(written, original)) if large_enough else None,
    largest_change=_largest_change(original, written),
  )


def check_judges(networks: Sequence[Classifier]) -> None:
  """Refuses broken networks, by the very program that will judge a photo."""
  for network in networks:
    _asked(network, np.stack([probe_picture(network.image_size)] * (1 + len(CONDITIONS))))


def _asked(network: Classifier, shown: np.ndarray) -> np.ndarray:
  """Returns the probabilities `(N, D)` of pictures `(N, H, W, 3)` of a network's own size."""
  probabilities, finite = jax.device_get(_probabilities(network, shown))
  check_answers([network], shown, finite[:, None])
  return probabilities


@jax.jit
def _probabilities(classifier: Classifier, images: Images) -> tuple[Logits, Array]:
  logits = classifier(images)
  return jax.nn.softmax(logits), are_finite(logits)


def _network_verdict(
  network: Classifier, shown: np.ndarray, held_out: bool, scene: str | None
) -> NetworkVerdict:
  """The original comes first, then every condition in order."""
  probabilities = _asked(network, shown)
  first = probabilities.argmax(axis=-1)
  named = None if scene is None else find_class(scene, network.class_names)
  left = first[0] if named is None else named

  def most_likely(row: np.ndarray) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-row, kind="stable")[:_MOST_LIKELY]
    return tuple((network.class_names[place], round(float(row[place]), 4)) for place in order)

  return NetworkVerdict(
    name=network.name,
    held_out=held_out,
    before=most_likely(probabilities[0]),
    after=most_likely(probabilities[1]),
    misled={
      condition: bool(found != left) for condition, found in zip(CONDITIONS, first[1:], strict=True)
    },
    kind=network_kind(network),
    scene=None if named is None else network.class_names[named],
  )


def _largest_change(original: np.ndarray, written: np.ndarray) -> int:
  return max(
    int(np.abs(a.astype(np.int16) - b).max()) for a, b in zip(original, written, strict=True)
  )
