"""`Classifier`: its contract at the door, as a pytree, and folding of the three families."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
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


class Output(NamedTuple):
  logits: jax.Array
  hidden: jax.Array


class Opaque:
  """What some libraries return: no pytree."""

  def __repr__(self) -> str:
    return "Opaque()"


@pytest.mark.parametrize(
  ("wrong", "says"),
  [
    (lambda x: (x, None), r"got a tuple: \[0\] \(2, 5\) for B = 2; return its part \[0\], by"),
    (lambda x: [x, x], r"got a list: \[0\] \(2, 5\), \[1\] \(2, 5\) .*return the logits alone"),
    (lambda x: {"logits": x, "z": x.sum()}, r"got a dict: \['logits'\] .*part \['logits'\]"),
    (lambda x: Output(x, x[:, :2]), r"got a Output: \.logits .*return its part \.logits"),
    (lambda x: Opaque(), r"got a Opaque:"),
    (lambda x: None, "got a NoneType: no array"),
    (lambda x: 0.5, "got a float:"),
    (lambda x: x[:, :, None, None], r"one logit for each .* got \(2, 5, 1, 1\)"),
    (lambda x: x.argmax(-1), r"one logit for each .* got \(2,\)"),
    (lambda x: x.astype(jnp.int32), "logits of a floating dtype, got int32"),
    (lambda x: x > 0, "logits of a floating dtype, got bool"),
  ],
  ids=lambda value: "" if isinstance(value, str) else None,
)
def test_refuses_what_is_no_array_of_logits(wrong, says):
  with pytest.raises(ValueError, match=f"apply must return .*{says}"):
    wrap(lambda params, images: wrong(channel_means(params, images)))


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"image_size": (0, 32)}, r"image_size must be .* >= 1, got \(0, 32\)"),
    ({"image_size": (32.7, 32)}, r"image_size must be .*whole pixels.* got \(32\.7, 32\)"),
    ({"image_size": (32, 32, 3)}, "image_size must be"),
    ({"image_size": (32,)}, "image_size must be"),
    ({"image_size": -32}, "image_size must be"),
    ({"image_size": "32"}, "image_size must be"),
    (
      {"deviation": (0.2, float("nan"), 0.2)},
      "deviation must be one finite number or one a channel",
    ),
    ({"deviation": float("inf")}, "deviation must be one finite number"),
    ({"deviation": 0}, "deviation must be positive"),
    ({"mean": (0.5, 0.5)}, "mean must be one finite number or one a channel, three"),
    ({"mean": np.zeros((3, 1, 1))}, "mean must be one finite number or one a channel, three"),
    ({"mean": "imagenet"}, "mean must be one finite number or one a channel, three"),
    ({"mean": (123.7, 116.3, 103.5)}, "mean must be of images / 255, in 0..1, .* divide by 255"),
    ({"class_names": "abcde"}, "class_names must be several names or their number, got 'abcde'"),
    ({"apply": Opaque()}, "apply must be a function .* got a Opaque; of a Linen module take"),
  ],
  ids=str,
)
def test_refuses_settings_that_mean_nothing(options, says):
  with pytest.raises(ValueError, match=says):
    wrap(**options)


def test_takes_single_numbers():
  square = wrap(image_size=6, mean=0.5, deviation=np.float32(0.25))
  assert (square.image_size, square.mean, square.deviation) == ((6, 6), (0.5,), (0.25,))
  three = wrap(image_size=(6, 6), mean=(0.5,) * 3, deviation=(0.25,) * 3)
  images = jnp.asarray(pictures(2)[:, :4, :4].repeat(2, axis=1)[:, :6].repeat(2, axis=2)[:, :, :6])
  np.testing.assert_array_equal(square(images), three(images))


@pytest.mark.parametrize(
  "module", [linen.Dense(5), nnx.Linear, channel_means], ids=["linen", "class", "function"]
)
def test_refuses_other_modules(module):
  with pytest.raises(ValueError, match=r"module must be a flax\.nnx\.Module.*from_function"):
    Classifier.from_module(module, class_names=CLASS_NAMES, image_size=6)


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
