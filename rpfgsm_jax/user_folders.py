"""The user's own folders, for what is kept from run to run; no work needs them."""

import os
import pathlib
from typing import Literal


def user_folder(kind: Literal["cache", "data", "state"], variable: str) -> pathlib.Path | None:
  """Returns the folder that a variable names, else the system's place for such things; None where
  the user has no home.
  """
  import platformdirs

  named = os.environ.get(variable)
  if named:
    return pathlib.Path(named)
  places = {
    "cache": platformdirs.user_cache_dir,
    "data": platformdirs.user_data_dir,
    "state": platformdirs.user_state_dir,
  }
  try:
    place = pathlib.Path(places[kind]("rpfgsm-jax"))
  except RuntimeError:  # no HOME, and the system does not know the user's id: containers, services
    return None
  return place if place.is_absolute() else None  # some versions leave the ~ as it is
