"""A small network that takes changes out of photos, trained on (changed, original) pairs.

Four neighboring pixels become channels, a few convolutions predict what was added, and that is
taken away (as FFDNet does it; Zhang et al., IEEE T-IP 2018). All randomness comes from (seed,
step), so that a run that goes on from a checkpoint repeats the unbroken one.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.training import checkpoints
from rpfgsm_jax.randomness import fixed_key, seed_key
from rpfgsm_jax.typing import Array, Key

_WIDTH, _DEPTH = 48, 6
_PATCH, _BATCH = 64, 16  # pixels a side, patches a step
_LEARNING_RATE = 1e-3
_LEVELS = 32.0  # gray levels of an output of one
_SAVE_EVERY = 200  # steps

Params = list[dict[str, Array]]
Pair = tuple[np.ndarray, np.ndarray]
"""A changed photo and its original, `(H, W, 3)` uint8."""


def initial(key: Key) -> Params:
  """Returns random weights whose output is nothing: the network begins as the identity."""
  sizes = [12, *[_WIDTH] * (_DEPTH - 1), 12]
  params = []
  for place, (own, (fan_in, fan_out)) in enumerate(
    zip(jax.random.split(key, _DEPTH), itertools.pairwise(sizes), strict=True)
  ):
    scale = 0.0 if place == _DEPTH - 1 else (2.0 / (9 * fan_in)) ** 0.5
    kernel = scale * jax.random.normal(own, (3, 3, fan_in, fan_out))
    params.append({"kernel": kernel, "bias": jnp.zeros(fan_out)})
  return params


def denoise(params: Params, images: Array) -> Array:
  """Returns `(B, H, W, 3)` gray levels without what the network takes for added; H, W even."""
  count, height, width, channels = images.shape
  blocks = images.reshape(count, height // 2, 2, width // 2, 2, channels)
  values = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // 2, width // 2, -1)
  values = values / 255.0 - 0.5
  for place, layer in enumerate(params):
    values = jax.lax.conv_general_dilated(
      values, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    values = values + layer["bias"].reshape(1, 1, 1, -1)
    values = values if place == len(params) - 1 else jax.nn.relu(values)
  blocks = values.reshape(count, height // 2, width // 2, 2, 2, channels)
  added = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
  return images - _LEVELS * added


def train(pairs: Sequence[Pair], file: pathlib.Path, *, seed: int, steps: int) -> Params:
  """Returns weights after `steps` steps; `file` is the checkpoint from which it goes on."""
  schedule = optax.cosine_decay_schedule(_LEARNING_RATE, steps)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
  params, done = initial(fixed_key(seed_key(seed))), 0
  state = {"params": params, "optimizer": optimizer.init(params)}
  if file.exists():
    trees, record = checkpoints.load(file, {"state": state})
    state, done = trees["state"], record["steps_done"]
  step = _step_of(optimizer)
  with tqdm(total=steps, initial=done, unit="step", desc="denoiser", disable=None) as bar:
    for number in range(done, steps):
      state, loss = step(state, *_batch(pairs, np.random.default_rng([seed, number])))
      bar.update()
      if (number + 1) % _SAVE_EVERY == 0 or number + 1 == steps:
        bar.set_postfix(error=f"{float(loss) ** 0.5:.2f} levels")
        checkpoints.save(file, {"state": state}, {"steps_done": number + 1})
  return state["params"]


def _step_of(optimizer: optax.GradientTransformation) -> Callable:
  """Returns a pure jitted step: state, changed and original patches -> state and loss."""

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state: dict, changed: Array, originals: Array) -> tuple[dict, Array]:
    def loss_of(params: Params) -> Array:
      error = denoise(params, changed) - originals
      return jnp.mean(error * error)

    loss, gradient = jax.value_and_grad(loss_of)(state["params"])
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
      updates, rest = optimizer.update(gradient, state["optimizer"], state["params"])
    return {"params": optax.apply_updates(state["params"], updates), "optimizer": rest}, loss

  return step


def _batch(pairs: Sequence[Pair], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Returns `(B, P, P, 3)` float32 patches of changed photos and the same of their originals."""
  smallest = min(min(original.shape[:2]) for _, original in pairs)
  side = min(_PATCH, smallest // 2 * 2)
  patches = []
  for place in rng.integers(len(pairs), size=_BATCH):
    free = np.subtract(pairs[place][1].shape[:2], side)
    top, left = (int(rng.integers(limit + 1)) for limit in free)
    patches.append([each[top : top + side, left : left + side] for each in pairs[place]])
  changed, originals = np.asarray(patches, np.float32).swapaxes(0, 1)
  return changed, originals


@jax.jit
def _denoise(params: Params, images: Array) -> Array:
  return denoise(params, images)


def clean(params: Params, photo: np.ndarray) -> np.ndarray:
  """Returns a photo, `(H, W, 3)` uint8, without what the network takes for added."""
  height, width = photo.shape[:2]
  even = np.pad(photo, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
  found = np.asarray(_denoise(params, even[None].astype(np.float32)))[0, :height, :width]
  return np.clip(np.rint(found), 0, 255).astype(np.uint8)
