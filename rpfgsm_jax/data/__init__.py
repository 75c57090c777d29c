"""Images of folders and of Places365, class names, samples: the only place that decodes or writes.

Everything here is NumPy and Pillow on the host; images are uint8 `(H, W, 3)`, gray levels 0..255.
Names are loaded on first use, so that importing the package stays cheap.
"""

import importlib

_HOMES = {
  "ImageBatch": "folders",
  "ImageError": "images",
  "ImageRecord": "folders",
  "image_id": "folders",
  "iterate_images": "folders",
  "labels_for": "folders",
  "list_images": "folders",
  "list_places365_folder": "places365",
  "list_places365_tar": "places365",
  "list_places365_tfds": "places365",
  "load_folder": "folders",
  "mepp18_private_classes": "mepp18",
  "mepp18_test_names": "mepp18",
  "places365_class_names": "classes",
  "preprocess": "images",
  "read_image": "images",
  "read_places365_labels": "places365",
  "resize": "images",
  "sample_photos": "samples",
  "scenes25_class_names": "classes",
  "select_mepp18": "mepp18",
  "write_png": "images",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
