"""What kind of network a judge is: how much its opinion says of the networks in use."""

import math
from typing import Literal, get_args

import jax

from rpfgsm_jax.models.classifier import Classifier

NetworkKind = Literal["small", "modern", "other"]
KINDS: tuple[NetworkKind, ...] = get_args(NetworkKind)

SMALL = 10_000_000
"""Parameters from which a network is no longer small; every bundled one has fewer."""

MODERN_FAMILIES = ("convnext", "vit")
"""`Classifier.family` of transformers (ViT, DINOv2, CLIP's image tower) and ConvNeXts."""


def count_parameters(network: Classifier) -> int:
  """Returns how many numbers a network consists of; kernels that lie there turned count once."""
  leaves = jax.tree_util.tree_leaves_with_path(network.params)
  return sum(
    math.prod(leaf.shape)
    for path, leaf in leaves
    if not jax.tree_util.keystr(path[-1:]).endswith(".turned']")
  )


def network_kind(network: Classifier) -> NetworkKind:
  """Returns "small" below 10 million parameters, "modern" for a larger transformer or ConvNeXt.

  Everything else is "other": the networks of 2012 to 2017, and a network of the user's own whose
  `family` does not say what it is.
  """
  if count_parameters(network) < SMALL:
    return "small"
  return "modern" if network.family in MODERN_FAMILIES else "other"
