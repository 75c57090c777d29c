"""Photos at their own size: protected, written, read back and judged.

```python
config = photos.PhotoConfig(
  attack=photos.photo_attack("gentle"), encoding=photos.Encoding(format="jpeg")
)
done = photos.protect_photo("beach.jpg", nets, config, out="protected.jpg")
```
"""

from rpfgsm_jax.data.photo_files import Encoding, Photo, read_photo
from rpfgsm_jax.photos.config import PhotoConfig, default_micro_batch, default_working_pixels
from rpfgsm_jax.photos.protect import ProtectedPhoto, protect_photo
from rpfgsm_jax.photos.protector import PhotoProtector
from rpfgsm_jax.photos.strength import STRENGTHS, photo_attack
from rpfgsm_jax.photos.verdict import NetworkVerdict, Verdict

__all__ = [
  "STRENGTHS",
  "Encoding",
  "NetworkVerdict",
  "Photo",
  "PhotoConfig",
  "PhotoProtector",
  "ProtectedPhoto",
  "Verdict",
  "default_micro_batch",
  "default_working_pixels",
  "photo_attack",
  "protect_photo",
  "read_photo",
]
