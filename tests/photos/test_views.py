"""Views of a network at a photo's size: what it says of Pillow's resized photo, compiled once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax.data import preprocess
from rpfgsm_jax.models.classifier import Classifier
from rpfgsm_jax.models.embedder import Embedder
from rpfgsm_jax.photos import PhotoConfig, photo_attack
from rpfgsm_jax.photos.views import view_at

SIZE = (9, 14)


def _pixels(params, images):
  return images.reshape(len(images), -1)


def _mirror(size=SIZE, mean=(0.0,), deviation=(1 / 255,)):
  """A network whose logits are the pixels that it is shown."""
  names = [f"value {index}" for index in range(size[0] * size[1] * 3)]
  return Classifier.from_function(
    _pixels, {}, class_names=names, image_size=size, mean=mean, deviation=deviation
  )


def _resized(photo, size):
  return np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR))


def _check_close(shown, expected):
  """Within 1e-4 of half a level, Pillow's fixed-point weights decide: rarely, and by one level."""
  np.testing.assert_allclose(shown, expected, atol=1)
  assert np.mean(shown != expected) < 0.03


@pytest.mark.parametrize(
  "size",
  [(219, 331), (40, 52), (9, 52), (40, 14), (5, 6), (300, 4)],
  ids=["photo", "small", "one height", "one width", "enlarged", "strip"],
)
def test_a_view_shows_the_network_what_pillow_resizes(photo, size):
  image = _resized(photo, size)
  shown = np.asarray(view_at(_mirror(), size)(image[None])[0]).reshape(*SIZE, 3)
  expected = _resized(image, SIZE)
  np.testing.assert_array_equal(expected, preprocess(image, SIZE))
  _check_close(shown, expected)


def test_a_large_input_too(photo):
  """From 257 pixels on, the resize is another program."""
  network = _mirror((260, 270))
  image = _resized(photo, (400, 331))
  shown = np.asarray(view_at(network, (400, 331))(image[None])[0]).reshape(260, 270, 3)
  _check_close(shown, _resized(image, (260, 270)))


def test_the_network_normalizes_what_it_is_shown(photo):
  network = _mirror(mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.3, 0.25))
  view = view_at(network, photo.shape[:2])
  expected = network(_resized(photo, SIZE)[None])
  # A whole level, as above, is 1 / 255 / 0.2.
  np.testing.assert_allclose(view(photo[None]), expected, atol=0.02)
  assert np.abs(np.asarray(view(photo[None])) - expected).mean() < 1e-4


@pytest.mark.parametrize("leading", [(), (1,), (2, 3)], ids=str)
def test_any_leading_axes(leading):
  images = np.random.default_rng(0).integers(0, 256, (*leading, 31, 23, 3), np.uint8)
  shown = np.asarray(view_at(_mirror(), (31, 23))(images))
  assert shown.shape == (*leading, 9 * 14 * 3)
  expected = [preprocess(image, SIZE) for image in images.reshape(-1, 31, 23, 3)]
  _check_close(shown.reshape(-1, *SIZE, 3), np.stack(expected))


def test_the_same_size_is_the_network_itself():
  network = toys.linear(1)
  assert view_at(network, toys.SIZE) is network
  assert view_at(network, tuple(np.array(toys.SIZE))) is network
  assert view_at(network, list(toys.SIZE)) is network


def test_a_view_keeps_what_is_known_of_the_network():
  network = toys.linear(1, name="mine")
  view = view_at(network, tuple(np.array((40, 52))))
  assert (view.name, view.class_names) == ("mine", toys.CLASS_NAMES)
  assert view.image_size == (40, 52)
  assert {type(side) for side in view.image_size} == {int}
  with pytest.raises(ValueError, match=r"images must be \(\.\.\., 40, 52, channels\) for mine"):
    view(np.zeros((1, 12, 10, 3), np.uint8))


def test_the_gradient_is_that_of_the_linear_map():
  """Of a linear network at a photo twice its size: each weight is spread over its neighbors."""
  network, (height, width) = toys.linear(1), toys.SIZE
  view = view_at(network, (2 * height, 2 * width))
  photo = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 24, 20, 3)), jnp.float32)
  found = jax.grad(lambda images: view(images)[0, 2])(photo)[0]
  kernel = np.asarray(network.params["kernel"][:, 2]).reshape(height, width, 3)

  def along(values):  # reduction by two: weights 1, 3, 3, 1 of 8, fewer at the ends
    spread = np.zeros((2 * len(values), *values.shape[1:]))
    for index, value in enumerate(values):
      taps = {2 * index - 1: 1, 2 * index: 3, 2 * index + 1: 3, 2 * index + 2: 1}
      inside = {place: weight for place, weight in taps.items() if 0 <= place < len(spread)}
      for place, weight in inside.items():
        spread[place] += value * weight / sum(inside.values())
    return spread

  expected = along(along(kernel).swapaxes(0, 1)).swapaxes(0, 1)
  np.testing.assert_allclose(found, expected, atol=1e-7)


def test_equal_views_are_compiled_once():
  traces = []

  def apply(params, images):
    traces.append(images.shape)
    return images.mean(axis=(1, 2)) * params["scale"]

  network = Classifier.from_function(
    apply, {"scale": jnp.float32(1)}, class_names=tuple("rgb"), image_size=(8, 6)
  )
  ask = jax.jit(lambda view, images: view(images))
  photo = np.zeros((1, 20, 30, 3), np.uint8)
  traces.clear()
  ask(view_at(network, (20, 30)), photo)
  assert traces == [(1, 8, 6, 3)]
  ask(view_at(network, (20, 30)), photo)
  ask(view_at(network, tuple(np.array((20, 30)))), photo)
  other = dataclasses.replace(network, params={"scale": jnp.float32(2)})
  doubled = ask(view_at(other, (20, 30)), photo + np.uint8(50))
  np.testing.assert_allclose(doubled, 100, rtol=1e-6)
  assert len(traces) == 1
  ask(view_at(network, (21, 30)), np.zeros((1, 21, 30, 3), np.uint8))
  assert len(traces) == 2


def test_an_embedder_has_a_view_too(photo):
  network = Embedder.from_function(_pixels, {}, image_size=SIZE, mean=(0.5,), deviation=(0.25,))
  image = _resized(photo, (40, 52))
  small = jnp.asarray(view_at(_mirror(), (40, 52))(image[None])).reshape(1, *SIZE, 3)
  for seen, expected in zip(view_at(network, (40, 52))(image[None]), network(small), strict=True):
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-6)


def test_photos_leave_the_features_of_an_embedder_and_are_judged_by_classifiers():
  network = Embedder.from_function(_pixels, {}, image_size=toys.SIZE, name="features")
  photo = np.random.default_rng(3).integers(0, 256, (40, 36, 3), np.uint8)
  config = PhotoConfig(attack=dataclasses.replace(photo_attack(), num_steps=4))
  done = rp.protect_photo(photo, [network], config, held_out=[toys.linear(1)], seed=1)
  assert [each.name for each in done.verdict.networks] == ["linear"]
  views = view_at(network, photo.shape[:2])
  noise = np.clip(photo + np.random.default_rng(0).choice([-4.0, 4.0], photo.shape), 0, 255)
  left = [float(views.similarity(photo[None], other[None])[0]) for other in (done.pixels, noise)]
  assert left[0] < left[1]
  with pytest.raises(ValueError, match="must have one with classes, to judge the photos"):
    rp.protect_photo(photo, [network], config, seed=1)
