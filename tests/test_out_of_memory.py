"""A batch that does not fit into memory: halved by "auto", otherwise named with an advice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.engine import batches
from rpfgsm_jax.engine.protector import OutOfMemoryError, Protector

ONE = [toys.convolution(2)]
IMAGES = toys.images(7)
IDS = np.arange(7) * 11
QUICK = rp.FGSMConfig(epsilon=4.0, num_steps=4)


@jax.jit
def _too_large(values):
  """Runs out of memory while it runs; the program itself starts."""
  return values + jnp.cumsum(jnp.zeros(1 << 43, jnp.float32) + values[0])[-1]


def hungry(most, *, at_once, tried):
  """U-FGSM on a device whose memory holds so many images: the runtime's own error."""

  def attack(key, images, classifiers, config, **options):
    tried.append(len(images))
    result = rp.u_fgsm(key, images, classifiers, config, **options)
    if len(images) <= most:
      return result
    if at_once:
      jnp.zeros(1 << 50, jnp.uint8)
    flat = _too_large(result.adversarial.reshape(-1))
    return dataclasses.replace(result, adversarial=flat.reshape(images.shape))

  return attack


@pytest.mark.parametrize(
  ("at_once", "expected"),
  [(True, [4, 2, 2, 2, 2]), (False, [4, 4, 2, 2, 2, 2])],
  ids=["when it starts", "while it runs"],
)
def test_auto_halves_the_batch_until_it_fits(at_once, expected, monkeypatch):
  monkeypatch.setattr(batches, "_GENEROUS_ON_CPU", 4)
  tried, done = [], []
  protected = rp.protect(
    IMAGES,
    ONE,
    QUICK,
    attack=hungry(2, at_once=at_once, tried=tried),
    batch_size="auto",
    devices=1,
    progress=lambda *numbers: done.append(numbers),
  )
  assert tried == expected
  assert done == [(2, 7), (4, 7), (6, 7), (7, 7)]
  whole = rp.protect(IMAGES, ONE, QUICK, attack=rp.u_fgsm, devices=1)
  np.testing.assert_array_equal(protected, whole)


def test_auto_halves_a_micro_batch_that_does_not_fit(monkeypatch):
  monkeypatch.setattr(batches, "_GENEROUS_ON_CPU", 4)
  tried = []

  def attack(key, images, classifiers, config, **options):
    tried.append((len(images), config.micro_batch))
    if config.micro_batch > 2:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    return rp.u_fgsm(key, images, classifiers, config, **options)

  protected = rp.protect(IMAGES, ONE, QUICK, attack=attack, batch_size="auto", devices=1)
  assert tried == [(4, 4), (2, 2), (2, 2), (2, 2), (2, 2)]
  smaller = dataclasses.replace(QUICK, micro_batch=2)
  whole = rp.protect(IMAGES, ONE, smaller, attack=rp.u_fgsm, devices=1)
  np.testing.assert_array_equal(protected, whole)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_batch_that_does_not_fit_says_what_to_try(devices):
  protector = Protector(
    ONE, QUICK, attack=hungry(1, at_once=False, tried=[]), batch_size=3, devices=devices
  )
  where = ("" if devices == 1 else "each of 2 devices like ") + r"\S+0 \(cpu\)"
  message = rf'batch_size=3 does not fit into the memory of {where}; try batch_size=1, .*"auto"'
  with pytest.raises(OutOfMemoryError, match=message):
    protector(IMAGES[:3], IDS[:3])
  smaller = protector.halved()
  assert (protector.batch_size, smaller.capacity) == (3, devices)
  assert smaller(IMAGES[:1], IDS[:1]).adversarial.shape == IMAGES[:1].shape
  while not smaller.at_its_smallest:
    smaller = smaller.halved()
  with pytest.raises(ValueError, match="no half"):
    smaller.halved()


def test_the_attacks_own_micro_batch_is_halved_too():
  smaller = Protector(ONE, batch_size=2).halved()
  assert (smaller.batch_size, smaller.at_its_smallest) == (1, False)
  assert smaller.halved().at_its_smallest


def test_one_image_that_does_not_fit_ends_auto_with_another_advice():
  attack = hungry(0, at_once=True, tried=[])
  with pytest.raises(OutOfMemoryError, match=r"batch_size=1 .* smaller micro_batch"):
    rp.protect(IMAGES, ONE, QUICK, attack=attack, batch_size="auto", devices=1)


def test_other_errors_of_the_runtime_stay_what_they_are():
  def broken(*arguments, **options):
    raise jax.errors.JaxRuntimeError("INTERNAL: the cable fell out")

  with pytest.raises(jax.errors.JaxRuntimeError, match="the cable"):
    rp.protect(IMAGES, ONE, QUICK, attack=broken, batch_size="auto", devices=1)
