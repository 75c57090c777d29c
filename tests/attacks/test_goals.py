"""Networks without classes, and with different ones: each has its own goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks.goals import distance

IMAGES = toys.images(3)
KEY = jax.random.key(4)
CONFIG = rp.FGSMConfig(epsilon=6.0, num_steps=6)


def _features(params, images):
  flat = images.reshape(len(images), -1) / 255.0
  return flat @ params["first"], jnp.tanh(flat @ params["second"])


def embedder(seed: int = 0, *, name: str = "embedder") -> rp.Embedder:
  generator = np.random.default_rng(seed)
  count = toys.SIZE[0] * toys.SIZE[1] * 3
  params = {
    "first": jnp.asarray(generator.normal(size=(count, 9)), jnp.float32),
    "second": jnp.asarray(0.1 * generator.normal(size=(count, 4)), jnp.float32),
  }
  return rp.Embedder.from_function(_features, params, image_size=toys.SIZE, name=name)


def cosine(network: rp.Embedder, a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The mean cosine of both layers, in float64."""
  flat = [np.asarray(x, np.float64).reshape(len(x), -1) / 255.0 for x in (a, b)]
  first, second = (np.asarray(network.params[k], np.float64) for k in ("first", "second"))
  pairs = ([x @ first for x in flat], [np.tanh(x @ second) for x in flat])
  return np.mean(
    [np.sum(x * y, 1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)) for x, y in pairs],
    axis=0,
  )


def test_similarity_is_the_mean_cosine_of_the_layers():
  other = toys.images(3, seed=1)
  measured = embedder().similarity(IMAGES, other)
  np.testing.assert_allclose(measured, cosine(embedder(), IMAGES, other), rtol=0, atol=2e-6)


def test_gradient_of_the_distance_is_that_of_the_cosine():
  network, x = embedder(), toys.images(1, seed=2).astype(np.float32)
  goal = network(IMAGES[:1])
  gradient = jax.grad(lambda x: distance(network, network(x), goal)[0])(jnp.asarray(x))[0]
  for place in [(0, 0, 0), (5, 7, 1), (11, 9, 2)]:
    moved = [x.astype(np.float64), x.astype(np.float64)]
    moved[0][(0, *place)] += 0.5
    moved[1][(0, *place)] -= 0.5
    expected = cosine(network, moved[1], IMAGES[:1]) - cosine(network, moved[0], IMAGES[:1])
    np.testing.assert_allclose(gradient[place], expected[0], rtol=2e-3, atol=1e-8)


def test_no_features_have_no_direction_and_no_nan():
  zero = np.zeros((1, *toys.SIZE, 3), np.float32)
  network = embedder()
  gradient = jax.grad(lambda x: network.similarity(x, IMAGES[:1])[0])(jnp.asarray(zero))
  assert np.isfinite(np.asarray(gradient)).all()
  assert float(network.similarity(zero, IMAGES[:1])[0]) == 0.0


@pytest.mark.parametrize("attack", [rp.u_fgsm, rp.rp_fgsm], ids=["u_fgsm", "rp_fgsm"])
def test_untargeted_leaves_the_features_of_the_image(attack):
  config = CONFIG if attack is rp.u_fgsm else rp.RPFGSMConfig(epsilon=6.0, num_steps=6)
  result = attack(KEY, IMAGES, [embedder()], config)
  noise = np.clip(IMAGES + np.random.default_rng(0).choice([-6.0, 6.0], IMAGES.shape), 0, 255)
  left = cosine(embedder(), result.adversarial, IMAGES)
  assert (1 - left > 5 * (1 - cosine(embedder(), noise, IMAGES))).all()
  assert np.abs(np.asarray(result.adversarial) - IMAGES).max() <= 6


def test_targeted_approaches_the_image_given():
  target = toys.images(1, seed=9)[0]
  result = rp.p_fgsm(KEY, IMAGES, [embedder()], CONFIG, target=target)
  before = cosine(embedder(), IMAGES, np.stack([target] * 3))
  after = cosine(embedder(), result.adversarial, np.stack([target] * 3))
  assert (after > before + 0.02).all()
  np.testing.assert_array_equal(result.target, [-1, -1, -1])
  np.testing.assert_array_equal(result.success, (after >= 0.5) & (before < 0.5))


def test_a_target_image_is_the_class_that_classifiers_see_in_it():
  net, target = toys.linear(1), toys.images(1, seed=9)
  seen = int(jnp.argmax(net(target), -1)[0])
  by_image = rp.p_fgsm(KEY, IMAGES, [net], CONFIG, target=target[0])
  by_class = rp.p_fgsm(KEY, IMAGES, [net], CONFIG, target=seen)
  np.testing.assert_array_equal(by_image.adversarial, by_class.adversarial)
  np.testing.assert_array_equal(by_image.success, by_class.success)


def test_success_needs_every_network():
  loose = embedder(name="loose")
  strict = rp.Embedder.from_function(
    _features, loose.params, image_size=toys.SIZE, name="strict", threshold=-1.0
  )
  config = rp.RPFGSMConfig(epsilon=6.0, num_steps=6)
  alone = rp.rp_fgsm(KEY, IMAGES, [toys.linear(1)], config)
  both = rp.rp_fgsm(KEY, IMAGES, [toys.linear(1), strict], config)
  assert alone.success.any()
  assert not both.success.any()  # every similarity is at least -1: still the same to `strict`


def test_classifiers_of_different_classes_leave_their_own():
  other = rp.Classifier.from_function(
    lambda params, images: toys._linear(params, images)[:, :4],
    toys.linear(5, scale=0.001).params,
    class_names=("a", "b", "c", "d"),
    image_size=toys.SIZE,
    name="four",
  )
  nets = [toys.linear(1, scale=0.001), other]
  result = rp.rp_fgsm(KEY, IMAGES, nets, rp.RPFGSMConfig(epsilon=12.0, num_steps=16))
  for net in nets:
    own = np.asarray(net(IMAGES)).argmax(-1)
    before, after = (
      np.asarray(jax.nn.log_softmax(net(x)))[range(3), own] for x in (IMAGES, result.adversarial)
    )
    assert (after < before - 0.005).all()
  with pytest.raises(ValueError, match="share one list of classes, got 7 in linear and 4 in four"):
    rp.rp_fgsm(KEY, IMAGES, nets, rp.RPFGSMConfig(targeted=True))
  with pytest.raises(ValueError, match="share one list of classes"):
    rp.rp_fgsm(KEY, IMAGES, nets, label=1)


def test_an_image_has_the_same_bits_alone_and_in_a_batch():
  nets, config = [toys.linear(1), embedder()], rp.RPFGSMConfig(epsilon=6.0, num_steps=6)
  together = rp.protect(IMAGES, nets, config, seed=3, batch_size=2)
  alone = rp.protect(IMAGES[2:], nets, config, seed=3, image_ids=[2])
  np.testing.assert_array_equal(together[2:], alone)
  target = toys.images(3, seed=5)
  config = rp.RPFGSMConfig(epsilon=6.0, num_steps=6, targeted=True)
  together = rp.protect(IMAGES, nets, config, seed=3, target=target, batch_size=2)
  alone = rp.protect(IMAGES[2:], nets, config, seed=3, image_ids=[2], target=target[2])
  np.testing.assert_array_equal(together[2:], alone)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: rp.deepfool(KEY, IMAGES, [embedder()]), "must have classes here, got the embedder"),
    (lambda: rp.p_fgsm(KEY, IMAGES, [embedder()]), "target must be an image to approach"),
    (lambda: rp.p_fgsm(KEY, IMAGES, [embedder()], target=2), "target must be an image to approach"),
    (lambda: rp.u_fgsm(KEY, IMAGES, [embedder()], label=2), "embedders have none"),
    (lambda: rp.p_fgsm(KEY, IMAGES, [embedder()], target=IMAGES[:2]), "got shape"),
    (lambda: rp.p_fgsm(KEY, IMAGES, [embedder()], target=IMAGES / 7.0), "whole gray levels"),
  ],
  ids=["minimal", "drawn", "class", "label", "shape", "fractions"],
)
def test_refusals(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_an_embedder_is_shown_images_as_a_classifier_is():
  options = {"image_size": 9, "mean": 0.5, "deviation": 0.25}
  network = rp.Embedder.from_function(_flat, {}, **options)
  assert (network.image_size, network.mean, network.deviation) == ((9, 9), (0.5,), (0.25,))
  for wrong, message in (
    ({"image_size": (0, 9)}, "image_size must be"),
    ({"deviation": float("nan")}, "deviation must be one finite number"),
    ({"mean": 120.0}, "mean must be of images / 255"),
  ):
    with pytest.raises(ValueError, match=message):
      rp.Embedder.from_function(_flat, {}, **(options | wrong))


def _flat(params, images):
  return images.reshape(len(images), -1)


def test_the_inside_of_a_bundled_network():
  net = rp.load_classifier("scenes25/resnet18")
  inside = rp.Embedder.from_classifier(net, layers=("layer2", "layer4"))
  photos = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
  stages = dict(net.apply.module(net.params).stages(_normalized(net, photos)))
  for features, name in zip(inside(photos), ("layer2", "layer4"), strict=True):
    pooled = np.asarray(stages[name], np.float64).mean((1, 2))
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
  assert inside.name == "scenes25/resnet18:layer2+layer4"
  with pytest.raises(ValueError, match=r"layers must be among stem, layer1, .*, logits, got 'l9'"):
    rp.Embedder.from_classifier(net, layers=("l9",))
  with pytest.raises(ValueError, match="must be a network with stages, got linear"):
    rp.Embedder.from_classifier(toys.linear(1), layers=("layer1",))


def _normalized(net: rp.Classifier, photos: np.ndarray) -> np.ndarray:
  return ((photos / 255.0 - np.asarray(net.mean)) / np.asarray(net.deviation)).astype(np.float32)
