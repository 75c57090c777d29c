"""Arguments that RP-FGSM, and with it every signed attack, refuses by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp

NETS = toys.three()
IMAGES = toys.images(6)
LIGHT = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
SHORT = rp.RPFGSMConfig(epsilon=6.0, num_steps=9, defenses=LIGHT)


def attack(images=IMAGES, config=SHORT, nets=NETS, **options):
  return rp.rp_fgsm(jax.random.key(0), images, nets, config, **options)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"epsilon": -1.0}, "epsilon must be >= 0"),
    ({"epsilon": float("nan")}, "epsilon must be >= 0"),
    ({"epsilon": np.ones(4)}, r"epsilon must be one number or one an image, \(6,\)"),
    ({"step_size": 0.5}, "step_size must be whole gray levels"),
    ({"step_size": 0.0}, "step_size must be whole gray levels"),
    ({"gamma": 1.1}, r"gamma must be a probability in 0\.\.1"),
    ({"num_steps": -1}, "num_steps must be an integer >= 0"),
    ({"micro_batch": 0}, "micro_batch must be an integer >= 1"),
    ({"draw": "uniform"}, "draw must be 'balanced' or 'iid'"),
    ({"classifier_choice": "all"}, "classifier_choice must be"),
    ({"rounding": "floor"}, "rounding must be"),
    ({"defenses": rp.defenses.DefenseBank(())}, "defenses must be a DefenseBank"),
  ],
)
def test_bad_settings_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    attack(config=dataclasses.replace(SHORT, **change))


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (IMAGES[0], r"images must be \(B, 12, 10, channels\)"),
    (IMAGES[:, :5], r"images must be \(B, 12, 10, channels\)"),
    (IMAGES / 255.0, "they look like 0..1: multiply by 255"),
    (IMAGES + 0.5 * (IMAGES < 200), "whole gray levels"),
    (IMAGES.astype(np.float32) + 1.0, r"images must be gray levels 0\.\.255"),
    (IMAGES.astype(np.int32) - 1, r"images must be gray levels 0\.\.255"),
    (np.where(IMAGES > 3, IMAGES, np.nan), "must be finite"),
  ],
  ids=["one image", "wrong size", "unit range", "fractions", "too large", "negative", "nan"],
)
def test_bad_images_are_named(images, message):
  with pytest.raises(ValueError, match=message):
    attack(images)


def test_networks_must_agree_and_exist():
  odd = rp.Classifier.from_function(
    NETS[0].apply,
    NETS[0].params,
    class_names=[*toys.CLASS_NAMES[:-1], "kitchen"],
    image_size=toys.SIZE,
    name="odd",
  )
  with pytest.raises(ValueError, match=r"must share one list of classes.*'scene 6' and 'kitchen'"):
    attack(nets=[NETS[0], odd], label=1)
  with pytest.raises(ValueError, match=r"at least one Classifier \(K >= 1\), got none"):
    attack(nets=[])
  with pytest.raises(ValueError, match="must be Classifier objects, got str"):
    attack(nets=["scenes25/resnet18"])


@pytest.mark.parametrize(
  ("config", "options", "message"),
  [
    (SHORT, {"target": 1}, r"target needs a targeted attack \(targeted=True"),
    (dataclasses.replace(SHORT, targeted=True), {"label": 1}, "label is for the untargeted"),
    (SHORT, {"label": 7}, r"label must be classes in 0\.\.6"),
    (SHORT, {"label": np.zeros(5, int)}, r"label must be one class or \(6,\) integers"),
    (SHORT, {"label": 1.5}, "label must be one class"),
    (SHORT, {"image_ids": np.arange(5)}, r"image_ids must be \(6,\) integers"),
    (SHORT, {"image_ids": np.arange(6) - 1}, r"image_ids must be in 0\.\.2\^32-1"),
    (SHORT, {"image_ids": np.arange(6.0)}, r"image_ids must be \(6,\) integers"),
  ],
)
def test_bad_options_are_named(config, options, message):
  with pytest.raises(ValueError, match=message):
    attack(config=config, **options)


def test_drawing_a_target_needs_more_classes_than_networks():
  def two(params, images):
    return jnp.stack([params * images.mean(axis=(1, 2, 3)), -images.mean(axis=(1, 2, 3))], axis=1)

  net = rp.Classifier.from_function(
    two, jnp.float32(1), class_names=("in", "out"), image_size=toys.SIZE
  )
  with pytest.raises(ValueError, match="more classes than networks, got 2 classes and 2 networks"):
    attack(nets=[net, net], config=dataclasses.replace(SHORT, targeted=True))


def test_traced_epsilon_needs_num_steps():
  with pytest.raises(ValueError, match="num_steps must be given when epsilon is traced"):
    jax.jit(lambda eps: attack(config=rp.RPFGSMConfig(epsilon=eps)).adversarial)(3.0)
