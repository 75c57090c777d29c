"""One network's training: a pure jitted step, epochs, exact batch statistics.

All randomness comes from (seed, epoch, step): the order of an epoch from `numpy`'s generator seeded
with (seed, epoch), views and dropout from the seed's key, `fold_in(key, step)`. A checkpoint
therefore needs no generator state beyond the step, and a resumed run repeats the unbroken one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.training.augment import normalize, random_views
from experiments.training.data import balanced_epoch
from experiments.training.fast_cpu import speed_up
from experiments.training.presets import Phase, Recipe
from experiments.training.robust import move
from rpfgsm_jax.models.architectures import build
from rpfgsm_jax.randomness import fixed_key, noise_key, seed_key
from rpfgsm_jax.typing import Array, Key

_STATISTICS_BATCHES = 12


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["params", "rest", "opt_state", "average", "step"],
  meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
  """What a step changes."""

  params: Any  # nnx.State of the parameters
  rest: Any  # nnx.State of the batch statistics
  opt_state: Any
  average: Any  # moving average of the parameters: what is evaluated and exported
  step: Array  # () int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """Decoded photographs and their classes."""

  images: np.ndarray  # (N, H, W, 3) uint8
  labels: np.ndarray  # (N,) int32


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
  """Returns warm-up, then cosine to zero; weight decay on kernels only."""
  steps = max(2, recipe.epochs * (recipe.epoch_images // recipe.batch_size))
  warmup = max(1, round(recipe.warmup * steps))

  def schedule(count: Array) -> Array:  # optax's own mixes integers and floats
    done = count.astype(jnp.float32)
    falling = jnp.clip((done - warmup) / (steps - warmup), 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * falling))
    return recipe.learning_rate * jnp.minimum(done / warmup, 1.0) * cosine

  def kernels(params: Any) -> Any:
    return jax.tree.map(lambda value: value.ndim > 1, params)

  if recipe.optimizer == "adamw":
    rule = optax.adamw(schedule, weight_decay=recipe.weight_decay, mask=kernels)
  elif recipe.optimizer == "sgd":
    rule = optax.chain(
      optax.add_decayed_weights(recipe.weight_decay, mask=kernels),
      optax.sgd(schedule, momentum=0.9, nesterov=True),
    )
  else:
    raise ValueError(f"optimizer must be 'sgd' or 'adamw', got {recipe.optimizer!r}.")
  return optax.chain(optax.clip_by_global_norm(5.0), rule)


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, Any, Any]:
  """Returns the static graph, the parameters and the batch statistics."""
  return nnx.split(model, nnx.Param, ...)


class Trainer:
  """One network's compiled functions and the order of its epochs."""

  def __init__(self, recipe: Recipe, seed: int, teacher: nnx.Module | None = None):
    self.recipe = recipe  # its config already has the right number of classes
    self._teacher, self._taught_by = (None, None) if teacher is None else nnx.split(teacher)
    self.seed = seed + recipe.seed_offset
    self.optimizer = make_optimizer(recipe)
    self.graph, self._params, self._rest = split_model(
      speed_up(build(recipe.config, rngs=nnx.Rngs(fixed_key(seed_key(self.seed)))))
    )
    self._step = jax.jit(self._train_step, static_argnames="size", donate_argnums=0)
    self._logits = jax.jit(self._forward, static_argnames="moved")
    self._batch_statistics = jax.jit(self._train_mode_statistics)

  def initial_state(self, model: nnx.Module | None = None) -> TrainState:
    """Returns the state before the first step, of random weights or of a trained `model`'s."""
    params, rest = self._params, self._rest
    if model is not None:
      _, params, rest = split_model(speed_up(model))
    copy = functools.partial(jax.tree.map, jnp.copy)
    return TrainState(
      params=copy(params),
      rest=copy(rest),
      opt_state=self.optimizer.init(params),
      average=copy(params),
      step=jnp.zeros((), jnp.int32),
    )

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches in an epoch."""
    return self.recipe.epoch_images // self.recipe.batch_size

  def run_epoch(
    self, state: TrainState, train: Split, epoch: int, report: Callable[[int, float], None]
  ) -> TrainState:
    """Returns the state after an epoch (counted from 0); `report(images, loss)` after each step."""
    phase, batch = self.recipe.phase(epoch), self.recipe.batch_size
    rng = np.random.default_rng([self.seed, epoch])
    order = balanced_epoch(train.labels, self.steps_per_epoch * batch, rng)
    root, loss = fixed_key(seed_key(self.seed)), None
    for index in range(self.steps_per_epoch):
      chosen = np.sort(order[index * batch : (index + 1) * batch])
      key = jax.random.fold_in(root, epoch * self.steps_per_epoch + index)
      previous = loss
      state, loss = self._step(
        state, train.images[chosen], train.labels[chosen], key, _knobs(self.recipe, phase),
        self._taught_by, size=phase.size,
      )  # fmt: skip
      # The loss of the step before: waiting for this one would leave the host idle.
      report(batch, float(loss if previous is None else previous))
    return state

  def average_model(self, state: TrainState, train: Split) -> nnx.Module:
    """Returns the averaged weights with batch statistics measured anew on training photographs.

    The running statistics belong to other weights, sizes and crops than those evaluated.
    """
    rng, size = np.random.default_rng([self.seed, 2**31]), self.recipe.config.image_size
    batches = _STATISTICS_BATCHES * self.recipe.batch_size
    order = balanced_epoch(train.labels, batches, rng).reshape(_STATISTICS_BATCHES, -1)
    total = None
    for chosen in order:
      images = _fit(jnp.asarray(train.images[np.sort(chosen)]), size)
      statistics = self._batch_statistics(state.average, state.rest, images)
      total = statistics if total is None else jax.tree.map(jnp.add, total, statistics)
    rest = jax.tree.map(lambda value: value / jnp.float32(_STATISTICS_BATCHES), total)
    return nnx.merge(self.graph, state.average, rest)

  def predict(self, model: nnx.Module, split: Split, *, moved: bool = False) -> np.ndarray:
    """Returns `(N, D)` logits of photographs of the network's own size, or of those moved."""
    _, params, rest = split_model(model)
    batch, logits = self.recipe.batch_size, []
    for start in range(0, len(split.images), batch):
      part, key = np.arange(start, start + batch), jax.random.key(start)
      part = part.clip(max=len(split.images) - 1)  # the last photograph fills the last batch
      images = split.images[part].astype(np.float32)
      found = self._logits(params, rest, images, split.labels[part], key, moved=moved)
      logits.append(np.asarray(found))
    return np.concatenate(logits)[: len(split.images)]

  def _train_step(
    self, state: TrainState, images: Array, labels: Array, key: Key, knobs: dict, taught_by: Any,
    *, size: int,
  ) -> tuple[TrainState, Array]:  # fmt: skip
    key_views, key_dropout, key_move, key_moved_dropout = jax.random.split(key, 4)
    views = random_views(key_views, images, size=size, **knobs)
    classes, smoothing = self.recipe.config.num_classes, self.recipe.label_smoothing
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes), smoothing)
    taught = None
    if self._teacher is not None:
      taught, _ = _answers(nnx.merge(self._teacher, taught_by), self._normalize(views))

    def loss_of(params: Any, views: Array, key: Key) -> tuple[Array, Any]:
      model = nnx.merge(self.graph, params, state.rest, copy=True)
      rngs = nnx.Rngs(dropout=key)
      features, logits = _answers(model, self._normalize(views), training=True, rngs=rngs)
      loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
      if taught is not None:
        loss += self.recipe.teacher * jnp.mean(_distance(features, taught))
      return loss, split_model(model)[2]

    if self.recipe.robust > 0.0:
      views = self._moved(
        key_move, views, lambda start: loss_of(state.params, start, key_moved_dropout)[0]
      )
    gradient_of = jax.value_and_grad(loss_of, has_aux=True)
    (loss, rest), gradient = gradient_of(state.params, views, key_dropout)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer count
      updates, opt_state = self.optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # The average starts fast, so that it forgets the random weights of the beginning.
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(self.recipe.average_decay, (1.0 + count) / (10.0 + count))
    average = jax.tree.map(lambda a, p: a * decay + p * (1.0 - decay), state.average, params)
    return TrainState(
      params=params, rest=rest, opt_state=opt_state, average=average, step=state.step + 1
    ), loss

  def _normalize(self, images: Array) -> Array:
    return normalize(images, self.recipe.normalization)

  def _moved(self, key: Key, images: Array, loss: Callable[[Array], Array]) -> Array:
    radius = jnp.float32(self.recipe.robust)
    return move(key, images, jax.grad(loss), radius=radius, norm=self.recipe.norm)

  def _forward(
    self, params: Any, rest: Any, images: Array, labels: Array, key: Key, *, moved: bool
  ) -> Array:
    model = nnx.merge(self.graph, params, rest)

    def loss(images: Array) -> Array:
      logits = model(self._normalize(images))
      return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    return model(self._normalize(self._moved(key, images, loss) if moved else images))

  def _train_mode_statistics(self, params: Any, rest: Any, images: Array) -> Any:
    # From zero, one update of a running mean with momentum 0.9 leaves a tenth of the batch's own.
    model = nnx.merge(self.graph, params, jax.tree.map(jnp.zeros_like, rest), copy=True)
    model(self._normalize(images), training=True, rngs=nnx.Rngs(dropout=noise_key(0)))
    return jax.tree.map(lambda value: value * 10.0, split_model(model)[2])


def _answers(model: nnx.Module, images: Array, **mode: Any) -> tuple[Array, Array]:
  """Returns the features before the head, averaged over places, `(B, F)`, and the logits."""
  *_, (_, features), (_, logits) = model.stages(images, **mode)
  return jnp.mean(features, axis=tuple(range(1, features.ndim - 1))), logits


def _distance(features: Array, taught: Array) -> Array:
  """Returns the squared distance over the squared length of what is taught, `(B,)`."""
  return jnp.sum((features - taught) ** 2, axis=-1) / jnp.sum(taught**2, axis=-1)


def _knobs(recipe: Recipe, phase: Phase) -> dict[str, np.float32]:
  return {
    "min_crop": np.float32(phase.min_crop),
    "jitter": np.float32(recipe.jitter),
    "gray": np.float32(recipe.gray),
  }


@functools.partial(jax.jit, static_argnames="size")
def _fit(images: Array, size: tuple[int, int]) -> Array:
  shape = (images.shape[0], *size, images.shape[-1])
  return jax.image.resize(images.astype(jnp.float32), shape, "linear", antialias=True)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Returns plain and class-balanced top-1 and top-5, 0..1.

  Ties count against the network: a class is among the top k when fewer than k others reach it.
  """
  own = np.take_along_axis(logits, labels[:, None], axis=1)
  rank = np.sum(logits >= own, axis=1) - 1
  result = {}
  for top in (1, 5):
    hit = rank < top
    result[f"top{top}"] = float(hit.mean())
    by_class = [hit[labels == label].mean() for label in np.unique(labels)]
    result[f"balanced_top{top}"] = float(np.mean(by_class))
  return result
