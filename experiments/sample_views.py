"""Views of a sample picture that do show a scene to the networks, for the demo.

Of the pictures that come with scikit-image only one shows a place: a rocket on its launch pad,
under the sky. Networks of scenes call the others something too, a cat a bathroom, but nothing is
learned from how easily they change their minds. A view counts when all networks give it the same
name and the held-out one is sure of it; none of this depends on what an attack makes of it.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from experiments import photos
from experiments.study_plan import StudyPlan
from rpfgsm_jax import data

PICTURE = "rocket"
CONFIDENT = 0.5
"""Probability from which a network counts as sure of a scene; a photo without is no scene to it."""

_COUNT = 24
_SIDES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of the largest square
_STEPS = 5  # places of a window from one border to the other


def choose_views(plan: StudyPlan) -> StudyPlan:
  """Returns a plan of the samples with views of a scene; as it is where no view is one."""
  names, images = zip(*_windows(plan.source.image_size), strict=True)
  found = [plan.predict(part) for part in _parts(np.stack(images), plan.size)]
  classes, probabilities = (np.concatenate(part)[..., 0] for part in zip(*found, strict=True))
  held_out = [network.seen for network in plan.setup.networks].index(False)
  known = [network.class_names for network in plan.classifiers]
  scenes: dict[str, list[tuple[float, int]]] = collections.defaultdict(list)
  for place, answers in enumerate(classes):
    scene, *others = {own[answer] for own, answer in zip(known, answers, strict=True)}
    if not others and probabilities[place, held_out] >= CONFIDENT:
      scenes[scene].append((-float(probabilities[place, held_out]), place))
  # The surest view of each scene, then the second of each, and so on.
  turns = [(turn, each) for some in scenes.values() for turn, each in enumerate(sorted(some))]
  chosen = [place for _, (_, place) in sorted(turns)][: plan.config.limit or _COUNT]
  if not chosen:
    return plan
  source = photos.Source(
    description=f"views of scikit-image's {PICTURE} that all networks give one name",
    photos=tuple(
      photos.StudyPhoto(
        name=names[place],
        image_id=data.image_id(names[place]),
        label=-1,
        group=PICTURE,
        png=f"{names[place]}.png",
      )
      for place in chosen
    ),
    image_size=plan.source.image_size,
    loaded=np.stack([images[place] for place in chosen]),
  )
  return dataclasses.replace(plan, source=source)


def _parts(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
  for start in range(0, len(images), size):
    yield images[start : start + size]


def _windows(image_size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields windows of the picture under their names, of the networks' size and aspect ratio."""
  import skimage.data

  picture = getattr(skimage.data, PICTURE)()
  height, width = picture.shape[:2]
  scale = min(height / image_size[0], width / image_size[1])
  for side in _SIDES:
    tall, wide = (round(side * scale * each) for each in image_size)
    tops, lefts = (
      sorted({round(free * step / (_STEPS - 1)) for step in range(_STEPS)})
      for free in (height - tall, width - wide)
    )
    for top, left, mirrored in itertools.product(tops, lefts, (False, True)):
      window = picture[top : top + tall, left : left + wide]
      window = window[:, ::-1] if mirrored else window
      name = f"{PICTURE}-{round(100 * side)}-{top}-{left}" + "-mirrored" * mirrored
      yield name, data.resize(np.ascontiguousarray(window), image_size)
