"""Class names in network order: entry i names logit i."""

import functools
import importlib.resources

_SCENES25 = (
  "aquarium",
  "art_gallery",
  "auditorium",
  "bamboo_forest",
  "bathroom",
  "bedroom",
  "campus",
  "computer_room",
  "desert",
  "dining_room",
  "entrance_hall",
  "garden",
  "highway",
  "ice_skating",
  "kitchen",
  "laundromat",
  "library",
  "living_room",
  "mountain",
  "ocean",
  "park",
  "sky",
  "tennis_court",
  "waterfall",
  "windmill",
)


def scenes25_class_names() -> tuple[str, ...]:
  """The 25 scene classes of the bundled networks, in alphabetical order."""
  return _SCENES25


@functools.cache
def places365_class_names() -> tuple[str, ...]:
  """The 365 classes of Places365-Standard in the order of the published networks' logits.

  The letter folder of the official list is left out (`/a/airfield` is `airfield`); a variant stays
  behind a slash (`church/indoor`).
  """
  names = importlib.resources.files("rpfgsm_jax.data").joinpath("places365_classes.txt")
  return tuple(names.read_text(encoding="utf-8").split())
