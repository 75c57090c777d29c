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
from rpfgsm_jax.attacks.fgsm import FGSMConfig, e_fgsm, l_fgsm, p_fgsm, r_fgsm, u_fgsm
from rpfgsm_jax.attacks.rp_fgsm import RPFGSMConfig, rp_fgsm
from rpfgsm_jax.attacks.schedule import Draws
from rpfgsm_jax.attacks.steps import AttackResult
from rpfgsm_jax.attacks.transfer import TransferOptions
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import available_networks, load_classifier
from rpfgsm_jax.protect import protect, protect_batches

__version__ = "0.1.0"

__all__ = [
  "AttackResult",
  "Classifier",
  "Draws",
  "FGSMConfig",
  "RPFGSMConfig",
  "TransferOptions",
  "available_networks",
  "defenses",
  "e_fgsm",
  "l_fgsm",
  "load_classifier",
  "p_fgsm",
  "protect",
  "protect_batches",
  "r_fgsm",
  "rp_fgsm",
  "u_fgsm",
]
