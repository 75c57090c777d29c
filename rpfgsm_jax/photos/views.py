"""A network for photos of any size: the resize that it wants comes first.

The view is a `Classifier` of the photo's own size, so that every attack of this package takes it;
its parameters are the network itself.
"""

import dataclasses

from rpfgsm_jax.defenses.resize import resize
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.typing import Images, Logits


def view_at(classifier: Classifier, size: tuple[int, int]) -> Classifier:
  """Returns a classifier of images of another size: resized, aspect ratio not kept.

  The resize is Pillow's antialiased one, see `rpfgsm_jax.defenses.resize`: what the view answers
  for a photo is what the network answers for `rpfgsm_jax.data.preprocess(photo, ...)`.
  """
  if tuple(size) == classifier.image_size:
    return classifier
  return Classifier(
    params=classifier,
    apply=_Resized(classifier.image_size),
    name=classifier.name,
    class_names=classifier.class_names,
    image_size=(int(size[0]), int(size[1])),
  )


@dataclasses.dataclass(frozen=True)
class _Resized:
  size: tuple[int, int]

  def __call__(self, classifier: Classifier, images: Images) -> Logits:
    return classifier(resize(images, self.size))
