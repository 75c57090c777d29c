"""`Classifier`: its contract at the door, as a pytree, and folding of the three families."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from models.small_networks import CLASS_NAMES, CONFIGS, parameters

from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.weights import unflatten

HEIGHT, WIDTH = 6, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def channel_means(params, images):
  return jnp.mean(images, axis=(1, 2)) @ params["kernel"]


def wrap(apply=channel_means, *, seed=0, **options):
  kernel = np.random.default_rng(seed).normal(size=(3, 5)).astype(np.float32)
  defaults = {"class_names": CLASS_NAMES, "image_size": (HEIGHT, WIDTH)}
  return Classifier.from_function(apply, {"kernel": jnp.asarray(kernel)}, **defaults | options)


def pictures(*leading: int) -> np.ndarray:
  shape = (*leading, HEIGHT, WIDTH, 3)
  return np.random.default_rng(2).integers(0, 256, shape).astype(np.float32)


# ---- what goes in and comes out ----


def test_apply_sees_gray_levels_unless_told_otherwise():
  images = pictures(2)
  np.testing.assert_allclose(
    wrap()(jnp.asarray(images)),
    images.mean(axis=(1, 2)) @ np.asarray(wrap().params["kernel"]),
    rtol=1e-5,
    atol=1e-2,
  )


def test_mean_and_deviation_are_of_images_by_255_a_channel():
  seen = []

  def spy(params, images):
    seen.append(images)
    return channel_means(params, images)

  images = pictures(2)
  wrap(spy, mean=MEAN, deviation=DEVIATION)(jnp.asarray(images))
  expected = (images.astype(np.float64) / 255 - np.array(MEAN)) / np.array(DEVIATION)
  np.testing.assert_allclose(seen[-1], expected, atol=1e-5)


@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 3), (0,)], ids=str)
def test_any_leading_axes(leading):
  images = pictures(*leading)
  logits = wrap()(jnp.asarray(images))
  assert logits.shape == (*leading, 5)
  if np.prod(leading, dtype=int):
    rows = [wrap()(jnp.asarray(image)) for image in images.reshape(-1, HEIGHT, WIDTH, 3)]
    np.testing.assert_allclose(logits.reshape(-1, 5), np.stack(rows), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32])
def test_any_real_dtype(dtype):
  images = pictures(2)
  logits = wrap()(images.astype(dtype))
  assert logits.dtype == jnp.float32
  np.testing.assert_array_equal(logits, wrap()(jnp.asarray(images)))


def test_logits_are_float32_whatever_apply_returns():
  half = wrap(lambda params, images: channel_means(params, images).astype(jnp.float16))
  assert half(jnp.asarray(pictures(1))).dtype == jnp.float32


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (6, 4), (2, 6, 5, 3), (6, 3)], ids=str)
def test_refuses_another_image_size(shape):
  with pytest.raises(ValueError, match=r"images must be \(\.\.\., 6, 4, channels\).*got \("):
    wrap()(jnp.zeros(shape))


def test_names_and_size():
  classifier = wrap(name="mine", image_size=[HEIGHT, np.int64(WIDTH)])
  assert classifier.name == "mine"
  assert classifier.class_names == CLASS_NAMES
  assert classifier.image_size == (HEIGHT, WIDTH)
  assert repr(classifier) == "Classifier('mine', 5 classes, 6x4)"


@pytest.mark.parametrize("count", [5, np.int64(5)])
def test_a_number_of_classes_names_them_by_their_numbers(count):
  assert wrap(class_names=count).class_names == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"class_names": CLASS_NAMES[:4]}, r"each of the 4 class names, shape \(B, 4\), got \(2, 5\)"),
    ({"class_names": ("a", "b", "c", "a", "d")}, "got 5 names, 4 of them different"),
    ({"class_names": ("a",)}, "at least two different names, got 1 names"),
    ({"class_names": 4}, r"each of the 4 class names, shape \(B, 4\), got \(2, 5\)"),
    ({"deviation": (0.2, 0.0, 0.2)}, "deviation must be positive, got"),
    ({"apply": lambda params, images: images[0, 0] @ params["kernel"]}, "apply must return"),
  ],
)
def test_refuses_what_is_no_classifier(options, says):
  with pytest.raises(ValueError, match=says):
    wrap(**options)


# ---- as a pytree ----


def test_flattens_to_its_parameters():
  classifier = wrap(mean=MEAN, deviation=DEVIATION, name="mine")
  leaves, structure = jax.tree.flatten(classifier)
  assert [leaf.shape for leaf in leaves] == [(3, 5)]
  doubled = jax.tree.unflatten(structure, [2 * leaves[0]])
  assert (doubled.name, doubled.mean, doubled.class_names) == ("mine", MEAN, CLASS_NAMES)
  images = jnp.asarray(pictures(2))
  np.testing.assert_allclose(doubled(images), 2 * classifier(images), rtol=1e-5)


def test_jit_does_not_retrace_for_equal_networks():
  traces = []

  @jax.jit
  def run(classifier, images):
    traces.append(classifier.name)
    return classifier(images)

  images = jnp.asarray(np.zeros((1, *CONFIGS["basic"].image_size, 3), np.float32))
  results = [run(load("basic", seed), images) for seed in (5, 5, 6)]
  assert len(traces) == 1  # other numbers are no reason either
  np.testing.assert_array_equal(results[0], results[1])
  assert not np.array_equal(results[0], results[2])
  run(load("basic", 5, name="other"), images)
  assert len(traces) == 2


def test_is_a_function_for_jit_and_a_key_of_dictionaries():
  classifier, twin = wrap(), wrap()
  images = jnp.asarray(pictures(2))
  np.testing.assert_allclose(jax.jit(classifier)(images), classifier(images), rtol=1e-5)
  assert {classifier: "first", twin: "second"}[classifier] == "first"
  assert classifier != twin  # equal parameters are not looked for


# ---- our own networks ----


def load(preset: str, seed: int = 5, **options) -> Classifier:
  module = unflatten(CONFIGS[preset], parameters(preset, seed))
  size = CONFIGS[preset].image_size
  return Classifier.from_module(module, class_names=CLASS_NAMES, image_size=size, **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_folding_changes_only_rounding(name):
  size = CONFIGS[name].image_size
  images = np.random.default_rng(3).integers(0, 256, (2, *size, 3)).astype(np.float32)
  normalized = (images / np.float32(255) - np.float32(MEAN)) / np.float32(DEVIATION)
  module = unflatten(CONFIGS[name], parameters(name))
  with jax.default_matmul_precision("highest"):
    unfolded = nnx.jit(type(module).__call__)(module, jnp.asarray(normalized))
    classifier = load(name, mean=MEAN, deviation=DEVIATION)
    folded = jax.jit(Classifier.__call__)(classifier, jnp.asarray(images))
  assert np.linalg.norm(folded - unfolded) <= 1e-5 * np.linalg.norm(unfolded)
  # Random statistics matter: the same network without them says something else.
  assert np.std(unfolded) > 1e-2


@pytest.mark.parametrize("name", CONFIGS)
def test_folded_parameters_are_a_flat_dictionary_without_statistics(name):
  params = load(name).params
  assert all(isinstance(key, str) and leaf.dtype == jnp.float32 for key, leaf in params.items())
  assert not [key for key in params if key.endswith((".mean", ".var"))]
  assert "head.kernel" in params


def test_dropout_is_off():
  images = jnp.ones((1, *CONFIGS["alexnet"].image_size, 3)) * 100.0
  classifier = load("alexnet")
  run = jax.jit(Classifier.__call__)
  np.testing.assert_array_equal(run(classifier, images), run(classifier, images))
