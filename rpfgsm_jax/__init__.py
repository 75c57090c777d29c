"""Adversarial privacy protection of photographs in JAX: RP-FGSM, its defenses, its classifiers.

Images are `(B, H, W, 3)` in gray levels 0..255 everywhere. The ten lines that matter:

```python
import jax, rpfgsm_jax as rp
names = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
nets = [rp.load_classifier(name) for name in names]
protected = rp.protect(photos, nets, rp.RPFGSMConfig(epsilon=16.0), seed=1)  # uint8 in and out
done = rp.protect_photo("beach.jpg", nets, out="beach.png")  # a file, at its own size
```

What is for photo files, data sets and measures (`rp.photos`, `rp.data`, `rp.quality`,
`rp.evaluation`) waits until it is used, so that importing stays cheap.
"""

import importlib

from rpfgsm_jax import defenses
from rpfgsm_jax.attacks.config import FGSMConfig
from rpfgsm_jax.attacks.cw import CWConfig, cw
from rpfgsm_jax.attacks.deepfool import DeepFoolConfig, deepfool
from rpfgsm_jax.attacks.di_fgsm import DIFGSMConfig, di_fgsm
from rpfgsm_jax.attacks.eot import EOTConfig, eot
from rpfgsm_jax.attacks.fgsm import e_fgsm, l_fgsm, p_fgsm, r_fgsm, u_fgsm
from rpfgsm_jax.attacks.jsma import JSMAConfig, jsma
from rpfgsm_jax.attacks.masking import TextureMasking
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig, rp_fgsm
from rpfgsm_jax.attacks.schedule import Draws
from rpfgsm_jax.attacks.signed import signed_attack
from rpfgsm_jax.attacks.sparsefool import SparseFoolConfig, sparsefool
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.engine.batches import protect, protect_batches
from rpfgsm_jax.engine.protector import OutOfMemoryError, Protector
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Embedder
from rpfgsm_jax.models.weights import (
  available_networks,
  load_classifier,
  load_clip,
  load_embedder,
)

__version__ = "0.1.0"

__all__ = [
  "AttackResult",
  "CWConfig",
  "Classifier",
  "DIFGSMConfig",
  "DeepFoolConfig",
  "Draws",
  "EOTConfig",
  "Embedder",
  "FGSMConfig",
  "JSMAConfig",
  "OutOfMemoryError",
  "PhotoConfig",
  "PhotoProtector",
  "ProtectedPhoto",
  "Protector",
  "RPFGSMConfig",
  "SparseFoolConfig",
  "TextureMasking",
  "TransferOptions",
  "available_networks",
  "cw",
  "data",
  "deepfool",
  "defenses",
  "di_fgsm",
  "e_fgsm",
  "eot",
  "evaluation",
  "jsma",
  "l_fgsm",
  "load_classifier",
  "load_clip",
  "load_embedder",
  "p_fgsm",
  "photos",
  "protect",
  "protect_batches",
  "protect_photo",
  "quality",
  "r_fgsm",
  "rp_fgsm",
  "signed_attack",
  "sparsefool",
  "u_fgsm",
]

_LATE_MODULES = ("data", "evaluation", "photos", "quality")
_OF_PHOTOS = ("PhotoConfig", "PhotoProtector", "ProtectedPhoto", "protect_photo")


def __getattr__(name: str) -> object:
  if name in _LATE_MODULES:
    return importlib.import_module(f"{__name__}.{name}")
  if name in _OF_PHOTOS:
    return getattr(importlib.import_module(f"{__name__}.photos"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
