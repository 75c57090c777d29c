"""Adversarial privacy protection of photographs in JAX: RP-FGSM, its defenses, its classifiers.

Images are `(B, H, W, 3)` in grey levels 0..255 everywhere. The ten lines that matter:

```python
import jax, rpfgsm_jax as rp
names = ("scenes25/resnet18", "scenes25/resnet50", "scenes25/alexnet")
nets = [rp.load_classifier(name) for name in names]
protected = rp.protect(photos, nets, rp.RPFGSMConfig(epsilon=16.0), seed=1)  # uint8 in and out
```
"""

from rpfgsm_jax import defenses
from rpfgsm_jax.attacks.cw import CWConfig, cw
from rpfgsm_jax.attacks.deepfool import DeepFoolConfig, deepfool
from rpfgsm_jax.attacks.di_fgsm import DIFGSMConfig, di_fgsm
from rpfgsm_jax.attacks.eot import EOTConfig, eot
from rpfgsm_jax.attacks.fgsm import FGSMConfig, e_fgsm, l_fgsm, p_fgsm, r_fgsm, u_fgsm
from rpfgsm_jax.attacks.jsma import JSMAConfig, jsma
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig, rp_fgsm
from rpfgsm_jax.attacks.schedule import Draws
from rpfgsm_jax.attacks.sparsefool import SparseFoolConfig, sparsefool
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import available_networks, load_classifier
from rpfgsm_jax.protect import protect, protect_batches
from rpfgsm_jax.protector import OutOfMemoryError, Protector

__version__ = "0.1.0"

__all__ = [
  "AttackResult",
  "CWConfig",
  "Classifier",
  "DIFGSMConfig",
  "DeepFoolConfig",
  "Draws",
  "EOTConfig",
  "FGSMConfig",
  "JSMAConfig",
  "OutOfMemoryError",
  "Protector",
  "RPFGSMConfig",
  "SparseFoolConfig",
  "TransferOptions",
  "available_networks",
  "cw",
  "deepfool",
  "defenses",
  "di_fgsm",
  "e_fgsm",
  "eot",
  "jsma",
  "l_fgsm",
  "load_classifier",
  "p_fgsm",
  "protect",
  "protect_batches",
  "r_fgsm",
  "rp_fgsm",
  "sparsefool",
  "u_fgsm",
]
