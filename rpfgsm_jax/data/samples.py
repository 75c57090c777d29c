"""Sample photographs that come with scikit-image (extra `samples`), several views of each."""

from collections.abc import Callable, Sequence

import numpy as np

from rpfgsm_jax.data import images as image_files

# Of the pictures inside scikit-image's wheel these are the color photographs of everyday things
# (the others are gray, drawn, or taken through a microscope or a telescope).
SAMPLE_NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "motorcycle_right")
SAMPLE_VIEWS = (
  "whole",
  "whole-flipped",
  "center",
  "top-left",
  "top-right",
  "bottom-left",
  "bottom-right",
)
_CROP_SIDE = 0.7  # of the largest window with the wanted aspect ratio


def _load_photos() -> dict[str, np.ndarray]:
  # Imported late: scikit-image's image reader takes half a second.
  try:
    import skimage.data
  except ImportError as error:
    raise ImportError(
      "sample_photos takes scikit-image's photographs: pip install 'rpfgsm-jax[samples]'."
    ) from error

  left, right, _ = skimage.data.stereo_motorcycle()
  loaders: tuple[Callable[[], np.ndarray], ...] = (
    skimage.data.astronaut,
    skimage.data.chelsea,
    skimage.data.coffee,
    skimage.data.rocket,
  )
  return dict(zip(SAMPLE_NAMES, (*(load() for load in loaders), left, right), strict=True))


def _take_view(photo: np.ndarray, view: str, image_size: tuple[int, int]) -> np.ndarray:
  """Cuts a view out of a photograph and resizes it; its aspect ratio is that of `image_size`."""
  height, width = image_size
  old_height, old_width = photo.shape[:2]
  scale = min(old_height / height, old_width / width)
  if not view.startswith("whole"):
    scale *= _CROP_SIDE
  crop_height, crop_width = max(round(height * scale), 1), max(round(width * scale), 1)
  free_y, free_x = old_height - crop_height, old_width - crop_width
  top = 0 if "top" in view else free_y if "bottom" in view else free_y // 2
  left = 0 if "left" in view else free_x if "right" in view else free_x // 2
  crop = photo[top : top + crop_height, left : left + crop_width]
  if view.endswith("-flipped"):
    crop = crop[:, ::-1]
  return image_files.resize(np.ascontiguousarray(crop), image_size)


def sample_photos(
  image_size: tuple[int, int], views: Sequence[str] = SAMPLE_VIEWS
) -> list[tuple[str, np.ndarray]]:
  """The photographs of scikit-image: six times the views asked for, always the same.

  The whole picture is its largest centered window with the aspect ratio of `image_size`; the other
  views are windows of 0.7 times that size at the center and in the four corners of the photograph.

  Args:
    image_size: (height, width) of the result.
    views: which views of each photograph, out of `SAMPLE_VIEWS`.

  Returns:
    Pairs of a name such as `coffee-center` and its picture, `(height, width, 3)` uint8.

  Raises:
    ValueError: an unknown view, or `image_size` is not two positive integers.
    ImportError: scikit-image is missing; the extra `samples` installs it.
  """
  image_files.check_size(image_size)
  unknown = [view for view in views if view not in SAMPLE_VIEWS]
  if unknown:
    raise ValueError(f"views must be among {', '.join(SAMPLE_VIEWS)}, got {unknown}; pick others.")
  return [
    (f"{name}-{view}", _take_view(photo, view, image_size))
    for name, photo in _load_photos().items()
    for view in views
  ]
