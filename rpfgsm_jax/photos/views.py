"""A network for photos of any size: the resize that it wants comes first.

The view is a network of the photo's own size, so that every attack of this package takes it;
its parameters are the network itself.
"""

import dataclasses

from rpfgsm_jax.defenses.resize import resize
from rpfgsm_jax.models.classifier import GRAY_LEVELS
from rpfgsm_jax.models.embedder import Answer, Network
from rpfgsm_jax.typing import Images


def view_at(network: Network, size: tuple[int, int]) -> Network:
  """Returns a network of images of another size: resized, aspect ratio not kept.

  The resize is Pillow's antialiased one, see `rpfgsm_jax.defenses.resize`: what the view answers
  for a photo is what the network answers for `rpfgsm_jax.data.preprocess(photo, ...)`.
  """
  if tuple(size) == network.image_size:
    return network
  changed = {
    "params": network,
    "apply": _Resized(network.image_size),
    "image_size": (int(size[0]), int(size[1])),
    "mean": GRAY_LEVELS[0],
    "deviation": GRAY_LEVELS[1],
    "dtype": "float32",
  }
  return dataclasses.replace(network, **changed)


@dataclasses.dataclass(frozen=True)
class _Resized:
  size: tuple[int, int]

  def __call__(self, network: Network, images: Images) -> Answer:
    return network(resize(images, self.size))
