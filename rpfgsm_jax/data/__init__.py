"""Images of folders and of Places365, class names, samples: the only place that decodes or writes.

Everything here is NumPy and Pillow on the host; images are uint8 `(H, W, 3)`, gray levels 0..255.
"""

from rpfgsm_jax.data.classes import places365_class_names, scenes25_class_names
from rpfgsm_jax.data.folders import (
  ImageBatch,
  ImageRecord,
  image_id,
  iterate_images,
  labels_for,
  list_images,
  load_folder,
)
from rpfgsm_jax.data.images import ImageError, preprocess, read_image, resize, write_png
from rpfgsm_jax.data.mepp18 import mepp18_private_classes, mepp18_test_names, select_mepp18
from rpfgsm_jax.data.places365 import (
  list_places365_folder,
  list_places365_tar,
  list_places365_tfds,
  read_places365_labels,
)
from rpfgsm_jax.data.samples import sample_photos

__all__ = [
  "ImageBatch",
  "ImageError",
  "ImageRecord",
  "image_id",
  "iterate_images",
  "labels_for",
  "list_images",
  "list_places365_folder",
  "list_places365_tar",
  "list_places365_tfds",
  "load_folder",
  "mepp18_private_classes",
  "mepp18_test_names",
  "places365_class_names",
  "preprocess",
  "read_image",
  "read_places365_labels",
  "resize",
  "sample_photos",
  "scenes25_class_names",
  "select_mepp18",
  "write_png",
]
