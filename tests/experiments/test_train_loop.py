"""One step of training in numbers: moved views, a teacher's pull, batch norms, accuracy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_recipe import TINY

from experiments.training import augment, fast_cpu, loop, robust
from rpfgsm_jax.models import layers
from rpfgsm_jax.models.architectures import build


@pytest.mark.parametrize("norm", robust.NORMS)
def test_a_moved_image_is_a_random_start_and_one_step_in_the_ball(norm):
  rng, radius = np.random.default_rng(0), np.float32(6.0)
  images = rng.uniform(0, 255, (3, 8, 6, 3)).astype(np.float32)
  images[0] = 0.0
  images[1, :, :, 0] = 255.0
  slope = rng.normal(size=images.shape).astype(np.float32)
  slope[..., 2] = 0.0
  starts = []

  def gradient(start):
    starts.append(np.asarray(start))
    return jnp.asarray(slope * np.float32(1e-30))  # as small as those of a sure network

  def rms(values):
    return np.sqrt(np.mean(values**2, axis=(1, 2, 3), keepdims=True))

  moved = robust.move(jax.random.key(1), jnp.asarray(images), gradient, radius=radius, norm=norm)
  (start,) = starts
  if norm == "linf":
    expected = np.clip(start + radius * np.sign(slope) - images, -radius, radius)
    size = np.abs(start - images).max()
  else:
    change = start + radius * slope / rms(slope) - images
    expected = change * np.minimum(1.0, radius / rms(change))
    size = rms(start - images).max()
  np.testing.assert_allclose(moved, np.clip(images + expected, 0.0, 255.0), atol=1e-3)
  assert 0.3 * radius < size <= radius * 1.0001
  assert not np.allclose(start[2], start[1])
  assert start.min() >= 0.0
  assert start.max() <= 255.0


def test_a_robust_step_trains_on_views_that_raise_the_loss():
  images = np.random.default_rng(2).integers(0, 256, (16, 20, 20, 3)).astype(np.uint8)
  labels, losses = np.arange(16, dtype=np.int32) % 3, []
  for radius in (0.0, 8.0):
    config = dataclasses.replace(TINY.config, num_classes=3)
    trainer = loop.Trainer(dataclasses.replace(TINY, config=config, robust=radius), seed=0)
    split = loop.Split(images=images, labels=labels)
    trainer.run_epoch(trainer.initial_state(), split, 0, lambda _, loss: losses.append(loss))
  assert losses[6] > losses[0] + 0.01  # of the first step, the same views of the same network


def test_a_teacher_pulls_the_features_of_moved_views_to_its_own():
  images = np.random.default_rng(2).integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
  split = loop.Split(images=images, labels=np.arange(16, dtype=np.int32) % 3)
  config = dataclasses.replace(TINY.config, num_classes=3)
  teacher = build(config, rngs=nnx.Rngs(5))
  normalized = augment.normalize(jnp.asarray(images))
  taught, _ = loop._answers(teacher, normalized)
  first, distances = [], []
  for weight in (0.0, 1.0, 3.0):
    recipe = dataclasses.replace(TINY, config=config, robust=2.0, teacher=weight)
    trainer, losses = loop.Trainer(recipe, seed=0, teacher=teacher), []
    state = trainer.initial_state()
    for epoch in range(3):
      state = trainer.run_epoch(state, split, epoch, lambda _, loss: losses.append(loss))  # noqa: B023
    model = nnx.merge(trainer.graph, state.params, state.rest)
    features, _ = loop._answers(model, normalized, training=True)
    first.append(losses[0])
    distances.append(float(jnp.mean(loop._distance(features, taught))))
  # The first step's views are moved by other gradients, so the three losses are only nearly linear.
  assert first[0] < first[1] < first[2]
  assert (first[2] - first[1]) / (first[1] - first[0]) == pytest.approx(2.0, rel=0.1)
  assert distances[2] < distances[1] < distances[0]


def test_the_fast_batch_norm_equals_flax():
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(3.0, 2.0, (4, 5, 6, 7)), jnp.float32)
  weights = jnp.asarray(rng.normal(size=features.shape), jnp.float32)
  slow, fast = (layers.batch_norm(7, rngs=nnx.Rngs(0)) for _ in range(2))
  for norm in (slow, fast):
    norm.scale[...] = jnp.linspace(0.5, 2.0, 7)
    norm.bias[...] = jnp.linspace(-1.0, 1.0, 7)
  fast_cpu.speed_up(fast)
  assert type(fast) is not type(slow)

  def loss(parameters, features, graph, rest):
    norm = nnx.merge(graph, parameters, rest, copy=True)
    outputs = norm(features, use_running_average=False)
    return jnp.sum(outputs * weights), (outputs, loop.split_model(norm)[2])

  results = []
  for norm in (slow, fast):
    graph, parameters, rest = loop.split_model(norm)
    found = jax.grad(loss, argnums=(0, 1), has_aux=True)(parameters, features, graph, rest)
    results.append(jax.tree.leaves(found))
  for one, other in zip(*results, strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
  np.testing.assert_array_equal(
    slow(features, use_running_average=True), fast(features, use_running_average=True)
  )


def test_batch_statistics_are_those_of_the_photographs():
  recipe = dataclasses.replace(
    TINY, config=dataclasses.replace(TINY.config, num_classes=3), stored_size=16
  )
  trainer = loop.Trainer(recipe, seed=0)
  images = np.random.default_rng(2).integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
  split = loop.Split(images=images, labels=np.arange(16, dtype=np.int32) % 3)
  state = trainer.initial_state()
  model = trainer.average_model(state, split)
  stem = model.stem_conv(augment.normalize(jnp.asarray(images)))
  # Balanced batches of 16 show some of these 16 photographs twice: close, not equal.
  np.testing.assert_allclose(model.stem_norm.mean[...], stem.mean((0, 1, 2)), atol=0.02)
  np.testing.assert_allclose(model.stem_norm.var[...], stem.var((0, 1, 2)), rtol=0.05)


def test_accuracy_counts_ties_as_misses():
  logits = np.float32([[3, 2, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 9]])
  found = loop.accuracy(logits, np.array([0, 1, 2]))
  assert found == pytest.approx(
    {"top1": 1 / 3, "top5": 2 / 3, "balanced_top1": 1 / 3, "balanced_top5": 2 / 3}
  )
  logits = np.float32([[1, 0], [1, 0], [1, 0], [0, 1]])
  found = loop.accuracy(logits, np.array([0, 0, 1, 1]))
  assert found["balanced_top1"] == 0.75
  assert loop.accuracy(logits, np.array([0, 0, 0, 0]))["balanced_top1"] == 0.75
