"""Photos at their own size: protected, written, read back and judged.

```python
attack = dataclasses.replace(photos.photo_attack(), epsilon=photos.STRENGTHS["gentle"])
config = photos.PhotoConfig(attack=attack, encoding=photos.Encoding(format="jpeg"))
done = photos.protect_photo("beach.jpg", nets, config, out="protected.jpg")
```

Names are loaded on first use, so that importing the package stays cheap.
"""

import importlib

_HOMES = {
  "STRENGTHS": "photos.strength",
  "Encoding": "data.photo_files",
  "NetworkVerdict": "photos.verdict",
  "Photo": "data.photo_files",
  "PhotoConfig": "photos.config",
  "PhotoProtector": "photos.protector",
  "ProtectedPhoto": "photos.protect",
  "Verdict": "photos.verdict",
  "default_micro_batch": "photos.config",
  "default_working_pixels": "photos.config",
  "photo_attack": "photos.config",
  "protect_photo": "photos.protect",
  "read_photo": "data.photo_files",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return getattr(importlib.import_module(f"rpfgsm_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_HOMES})
