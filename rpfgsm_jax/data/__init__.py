"""Image folders, class names, sample photos: the only place that decodes or writes images.

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
  "load_folder": "folders",
  "places365_class_names": "classes",
  "preprocess": "images",
  "read_image": "images",
  "resize": "images",
  "sample_photos": "samples",
  "scenes25_class_names": "classes",
  "write_png": "images",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
