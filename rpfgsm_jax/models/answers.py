"""Whether a network answers at all: with finite logits, and a gradient that an attack can follow.

NaN compares false with everything: a network of broken weights would seem to be misled by nothing,
to recognize nothing, and to have nothing to hide.
"""

import functools
import weakref
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Answer, Network
from rpfgsm_jax.typing import Array, ArrayLike, Images

_WEIGHTS = "its weights are damaged or overflow: load or make it anew, or leave it out"
_SINGULAR = "look for a root, a norm or a division at zero in it, or leave it out"
_FLAT = (
  "attacks follow it: take stop_gradient, argmax or rounding out of the network, or leave it out"
)
_KNOWN: weakref.WeakSet[Network] = weakref.WeakSet()


class NetworkError(ValueError):
  """A network has no finite answer to an image; the message names it, what came, and a remedy."""


class BrokenNetworkError(NetworkError):
  """It has none to a test picture either, or there is no gradient to follow."""


def all_known(classifiers: Sequence[Network]) -> bool:
  """Says whether these very objects have answered before, so that nobody need wait for it."""
  return all(each in _KNOWN for each in classifiers)


def remember(classifiers: Sequence[Network]) -> None:
  """Lets `all_known` say so."""
  _KNOWN.update(classifiers)


def are_finite(answer: Answer) -> Array:
  """Returns whether all logits, or features of all layers, are finite, `(..., D)` to `(...)`."""
  return functools.reduce(
    jnp.logical_and, [jnp.all(jnp.isfinite(each), axis=-1) for each in jax.tree.leaves(answer)]
  )


@jax.jit
def ask_gradient(network: Network, images: Images) -> tuple[Answer, Images]:
  """Returns the answer and the gradient of a fixed mixture of it, of images `(B, H, W, C)`."""

  def mixture(answer: Array) -> Array:
    weights = jnp.cos(1.0 + jnp.arange(answer.shape[-1], dtype=jnp.float32))
    return jnp.broadcast_to(weights, answer.shape)

  answer, pull_back = jax.vjp(network, images)
  return answer, pull_back(jax.tree.map(mixture, answer))[0]


@jax.jit
def _ask(network: Network, images: Images) -> Answer:
  return network(images)


def check_answers(
  classifiers: Sequence[Network],
  images: ArrayLike,
  finite: ArrayLike,
  has_gradient: ArrayLike | None = None,
) -> None:
  """Refuses networks by what is known of their answers to images `(B, H, W, C)`; outside tracing.

  `finite` and `has_gradient` are those of `AttackResult`, `(B, K)`; without the latter the networks
  only judge. A network without a gradient at an image, because it is too sure of it, is
  not refused.
  """
  finite, attacked = np.asarray(finite), has_gradient is not None
  follows = np.asarray(has_gradient) if attacked else finite
  for place, network in enumerate(classifiers):
    if (finite & follows)[:, place].all():
      continue
    number = f", number {place + 1} of {len(classifiers)}," if len(classifiers) > 1 else ""
    who, picture = f"network {network.name}{number} must", probe_picture(network.image_size)
    fault = _fault(network, picture, attacked)
    if fault:
      raise BrokenNetworkError(f"{who} {fault}.")
    if not finite[:, place].all():
      row = int(np.argmin(finite[:, place]))
      fault = _fault(network, images[row], attacked) or "be finite all along an attack, was not"
      where = f"image {row} (from 0) of {len(finite)} computed together"
      raise NetworkError(f"{who} {fault}. So it is at {where}; a test picture went well.")


def probe_picture(size: tuple[int, int]) -> np.ndarray:
  """Returns the picture that a network is asked about, `(H, W, 3)` uint8."""
  return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def _fault(network: Network, image: ArrayLike, attacked: bool) -> str:
  """Says what is wrong with the answer to an image, after "must"; empty if nothing is."""
  batch = jnp.asarray(image, jnp.float32)[None]
  what = "logits" if isinstance(network, Classifier) else "features"
  if not attacked:
    return _not_finite(what, _flat(_ask(network, batch)), _WEIGHTS)
  answer, gradient = ask_gradient(network, batch)
  fault, gradient = _not_finite(what, _flat(answer), _WEIGHTS), np.asarray(gradient)
  fault = fault or _not_finite("input gradients", gradient, _SINGULAR)
  if not fault and not gradient.any():
    fault = f"have an input gradient, got zero everywhere; {_FLAT}"
  return fault


def _flat(answer: Answer) -> np.ndarray:
  return np.concatenate([np.ravel(each) for each in jax.tree.leaves(answer)])


def _not_finite(what: str, values: ArrayLike, remedy: str) -> str:
  values = np.asarray(values)
  wrong, nan = ~np.isfinite(values), np.isnan(values)
  if not wrong.any():
    return ""
  kind = "NaN" if nan.sum() == wrong.sum() else "infinity" if not nan.any() else "NaN or infinity"
  return f"have finite {what}, got {kind} in {wrong.sum()} of {values.size}; {remedy}"
