"""The scene that the user names: which class of the attacked networks it is."""

import difflib
from collections.abc import Sequence

from rpfgsm_jax.data.classes import find_class

_LISTED = 30  # names of classes in a message


def scene_class(scene: str, networks: Sequence[tuple[str, Sequence[str]]]) -> int:
  """Returns a scene's class, the same of all attacked networks, given as names and class names."""
  knowing = [(name, classes) for name, classes in networks if classes]
  if not knowing:
    raise ValueError(
      f"scene must be a class of the attacked networks, got {scene!r} and networks without "
      "classes, whose features are left in any case; leave scene out."
    )
  (first, names), *others = knowing
  for other, classes in others:
    if tuple(classes) != tuple(names):
      raise ValueError(
        f"scene needs attacked networks of the same classes, got {len(names)} in {first} and other "
        f"{len(classes)} in {other}; attack networks of one list, or leave scene out."
      )
  found = find_class(scene, names)
  if found is None:
    close = difflib.get_close_matches(scene, names, n=3, cutoff=0.5)
    listed = list(dict.fromkeys((*close, *names)))[:_LISTED]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    raise ValueError(
      f"scene must be a class of {first}, got {scene!r}; it knows {', '.join(listed)}{more}."
    )
  return found
