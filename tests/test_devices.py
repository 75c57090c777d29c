"""Many devices: the same bits on any of them, in any batch, in any process."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.devices import choose_devices
from rpfgsm_jax.engine.batches import even_batches
from rpfgsm_jax.engine.protector import Protector, _on_shards
from rpfgsm_jax.evaluation import measure

THREE, ONE = toys.three(), [toys.convolution(2)]
IMAGES, IDS = toys.images(7), np.arange(7) * 11
LIGHT = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
SIGNED = {"epsilon": 5.0, "num_steps": 6}
QUICK = rp.FGSMConfig(epsilon=4.0, num_steps=4)

CASES = {
  "cw": (rp.cw, rp.CWConfig(search_steps=2, num_steps=10, quantize=False), ONE),
  "deepfool": (rp.deepfool, rp.DeepFoolConfig(quantize=False), ONE),
  "di_fgsm": (rp.di_fgsm, rp.DIFGSMConfig(**SIGNED), THREE),
  "e_fgsm": (rp.e_fgsm, rp.FGSMConfig(**SIGNED), THREE),
  "eot": (rp.eot, rp.EOTConfig(**SIGNED), ONE),
  "jsma": (rp.jsma, rp.JSMAConfig(num_candidates=2, num_steps=30), ONE),
  "l_fgsm": (rp.l_fgsm, rp.FGSMConfig(**SIGNED), ONE),
  "p_fgsm": (rp.p_fgsm, rp.FGSMConfig(**SIGNED), ONE),
  "r_fgsm": (rp.r_fgsm, rp.FGSMConfig(**SIGNED), ONE),
  "rp_fgsm": (rp.rp_fgsm, rp.RPFGSMConfig(**SIGNED, defenses=LIGHT), THREE),
  "rp_fgsm ensemble": (rp.rp_fgsm, rp.RPFGSMConfig(classifier_choice="ensemble"), THREE),
  "rp_fgsm targeted": (
    rp.rp_fgsm,
    rp.RPFGSMConfig(**SIGNED, defenses=LIGHT, targeted=True, record_draws=True),
    THREE[:2],
  ),
  "sparsefool": (rp.sparsefool, rp.SparseFoolConfig(), ONE),
  "u_fgsm": (rp.u_fgsm, rp.FGSMConfig(**SIGNED, record_draws=True), ONE),
}


def assert_same(found, expected):
  """Every leaf: the same structure, shapes, types and bits."""
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), found, expected)


@pytest.mark.parametrize("name", ["cw", "deepfool", "jsma", "rp_fgsm targeted"])
def test_many_devices_that_are_not_full_give_the_bits_of_one(name):
  attack, config, nets = CASES[name]
  one, many = (
    Protector(nets, config, attack=attack, seed=3, batch_size=size, devices=devices)
    for size, devices in ((7, 1), (1, 8))
  )
  assert many.capacity == 8
  assert_same(many(IMAGES, IDS), one(IMAGES, IDS))


@pytest.mark.parametrize("name", CASES)
def test_every_attack_can_be_traced_on_many_devices(name):
  attack, config, nets = CASES[name]
  mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("images",))
  images = jax.ShapeDtypeStruct((8, *toys.SIZE, 3), jnp.uint8)
  ids = jax.ShapeDtypeStruct((8,), jnp.uint32)
  traced = _on_shards.trace(
    attack, mesh, config, jax.random.key(0), tuple(nets), images, {"image_ids": ids}
  )
  adversarial = traced.out_info.adversarial
  assert (adversarial.shape, adversarial.dtype) == (images.shape, jnp.float32)


def test_targets_follow_their_images_to_the_devices():
  config = rp.FGSMConfig(**SIGNED)
  targets = np.asarray([3, 1, 4, 1, 5, 2, 6])
  parts = rp.protect_batches(
    IMAGES, ONE, config, attack=rp.r_fgsm, image_ids=IDS, target=targets, batch_size=1, devices=4
  )
  parts = list(parts)
  assert [(part.start, part.stop) for part, _ in parts] == [(0, 4), (4, 7)]
  np.testing.assert_array_equal(np.concatenate([each.target for _, each in parts]), targets)
  alone = rp.r_fgsm(jax.random.key(0), IMAGES, ONE, config, image_ids=IDS, target=targets)
  adversarial = np.concatenate([each.adversarial for _, each in parts])
  np.testing.assert_array_equal(adversarial, np.asarray(alone.adversarial))


def test_a_run_on_many_devices_compiles_once_and_its_repetition_not_at_all():
  before, progress = _on_shards._cache_size(), []

  def run():
    config = rp.FGSMConfig(epsilon=3.0, num_steps=3)
    options = {"batch_size": 1, "devices": 3}
    return rp.protect(
      IMAGES, ONE, config, attack=rp.u_fgsm, progress=lambda *n: progress.append(n), **options
    )

  first = run()
  assert progress == [(3, 7), (6, 7), (7, 7)]
  np.testing.assert_array_equal(run(), first)
  assert _on_shards._cache_size() == before + 1


@pytest.mark.parametrize(
  ("count", "batch_size", "devices", "expected"),
  [
    (9, 8, 1, (5, 1)),
    (9, 8, 8, (2, 5)),
    (20, 2, 8, (2, 5)),
    (3, "auto", 8, (1, 3)),
    (100, "auto", 1, (25, 1)),
    (0, 8, 8, (1, 1)),
  ],
)
def test_batches_are_even_and_no_device_only_fills_up(count, batch_size, devices, expected):
  size, chosen = even_batches(count, batch_size, devices)
  assert (size, len(chosen)) == expected


@pytest.mark.parametrize(
  ("devices", "message"),
  [
    (9, r"devices must be in 1\.\.8, the cpu devices of this process, got 9; .*jax_num_cpu"),
    (0, r"devices must be in 1\.\.8"),
    (True, "devices must be a number, a sequence"),
    ([], "devices must be at least one"),
    (["cpu:0"], "devices must be a number, a sequence"),
    ("twice", "devices must be at least one, each once"),
  ],
)
def test_devices_that_cannot_be_meant(devices, message):
  devices = [jax.devices()[1]] * 2 if devices == "twice" else devices
  with pytest.raises(ValueError, match=message):
    choose_devices(devices)


@pytest.mark.parametrize(
  ("config", "images", "options", "message"),
  [
    ({"epsilon": -1.0}, IMAGES, {}, "epsilon must be >= 0"),
    ({"micro_batch": 0}, IMAGES, {}, "micro_batch must be an integer >= 1"),
    ({}, IMAGES / 255.0, {}, "multiply by 255"),
    ({}, IMAGES, {"label": 99}, r"label must be classes in 0\.\.6"),
    ({}, IMAGES, {"target": 2}, "target needs a targeted attack"),
    ({}, np.repeat(IMAGES, 2, axis=0), {}, r"images must be 1\.\.8, 1 on each of 8"),
    ({"epsilon": np.full(7, 4.0)}, IMAGES, {}, r"config\.epsilon must be one number"),
  ],
)
def test_bad_input_is_named_on_many_devices_too(config, images, options, message):

  def start():
    protector = Protector(ONE, rp.FGSMConfig(**config), attack=rp.u_fgsm, batch_size=1)
    return protector.start(images, np.arange(len(images)), **options)

  with pytest.raises(ValueError, match=message):
    start()


def fixed(net):
  """The same network without parameters: nothing of it lies on a device."""
  return rp.Classifier.from_function(
    lambda params, images: net.apply(net.params, images),
    {},
    class_names=net.class_names,
    image_size=net.image_size,
  )


@pytest.mark.parametrize("nets", [ONE, [fixed(ONE[0])]], ids=["parameters", "none"])
def test_another_device_than_the_default_one_computes_and_keeps_the_networks(nets):
  device, seen = jax.devices()[5], []

  def watched(key, images, classifiers, config, **options):
    result = rp.u_fgsm(key, images, classifiers, config, **options)
    seen.append((jax.tree.leaves(classifiers), result.adversarial))
    return result

  protector = Protector(nets, QUICK, attack=watched, batch_size=4, devices=[device])
  found = [protector(IMAGES[part], IDS[part]) for part in (slice(0, 4), slice(4, 7))]
  (first, there), (second, _) = seen
  assert there.devices() == {device}
  assert all(leaf.devices() == {device} for leaf in first)
  assert all(a is b for a, b in zip(first, second, strict=True))
  expected = rp.u_fgsm(jax.random.key(0), IMAGES, ONE, QUICK, image_ids=IDS).adversarial
  adversarial = np.concatenate([each.adversarial for each in found])
  np.testing.assert_array_equal(adversarial, np.asarray(expected))


def test_the_next_batch_starts_before_the_one_before_is_waited_for():
  events = []

  def watched(key, images, classifiers, config, **options):
    events.append("start")
    return rp.u_fgsm(key, images, classifiers, config, **options)

  for _ in rp.protect_batches(IMAGES, ONE, QUICK, attack=watched, batch_size=3, devices=1):
    events.append("have")
  assert events == ["start", "start", "have", "start", "have", "have"]


def test_start_returns_while_the_device_computes():
  started = []

  @jax.jit
  def about_a_second(values):
    spun = jax.lax.fori_loop(0, 3000, lambda _, x: jnp.sin(x), jnp.ones((100_000,)))
    return values + 0.0 * spun[0]

  def slow(key, images, classifiers, config, **options):
    result = rp.u_fgsm(key, images, classifiers, config, **options)
    started.append(about_a_second(result.adversarial))
    return dataclasses.replace(result, adversarial=started[-1])

  protector = Protector(ONE, QUICK, attack=slow, devices=1)
  first = protector(IMAGES, IDS)
  pending = protector.start(IMAGES, IDS)
  assert not started[-1].is_ready()
  assert_same(pending.result(), first)


def test_predictions_are_shared_by_the_devices_and_the_same(monkeypatch):
  shared, plain_logits = [], measure.network_logits

  def watched(network, images):
    shared.append(len(images.sharding.device_set))
    return plain_logits(network, images)

  def evaluate():
    asked, labels = np.tile(np.arange(3), (7, 1)), np.arange(7) - 1
    classes, probabilities = measure.predict(IMAGES, THREE, 7)
    found = measure.evaluate(IMAGES, asked, labels, THREE, LIGHT, 7)
    return dataclasses.asdict(found) | {"first": classes, "sure": probabilities}

  monkeypatch.setattr(measure, "network_logits", watched)
  many = evaluate()
  monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
  one = evaluate()
  assert set(shared[: len(shared) // 2]) == {7}
  assert set(shared[len(shared) // 2 :]) == {1}
  for name, values in one.items():
    if values.dtype.kind == "f":
      np.testing.assert_allclose(many[name], values, atol=1e-5, err_msg=name)
    else:
      np.testing.assert_array_equal(many[name], values, err_msg=name)


def protect_part(part: slice) -> np.ndarray:
  """What one process does of the images."""
  return rp.protect(
    IMAGES[part], ONE, QUICK, attack=rp.r_fgsm, seed=3, image_ids=IDS[part], batch_size=1
  )


PROCESS = """
import sys, jax
address, process, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, num_processes=2, process_id=process)
assert (jax.device_count(), jax.local_device_count()) == (4, 2)
import numpy as np, pytest, test_devices
with pytest.raises(ValueError, match="this process's own, got .* choose from"):
  test_devices.choose_devices(jax.devices())
np.save(f"{folder}/{process}.npy", test_devices.protect_part(slice(process, None, 2)))
"""


def test_two_processes_protect_the_images_of_one(tmp_path):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  tests = pathlib.Path(__file__).parent
  paths = os.pathsep.join((str(tests), str(tests.parent)))
  environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
  processes = []
  try:
    for process in range(2):
      command = [sys.executable, "-c", PROCESS, address, str(process), str(tmp_path)]
      log = (tmp_path / f"{process}.log").open("wb")
      with log:
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    ends = [each.wait(timeout=180) for each in processes]
  finally:
    for each in processes:
      each.kill()
      each.wait()
  assert ends == [0, 0], "\n".join(path.read_text() for path in tmp_path.glob("*.log"))
  whole = protect_part(slice(None))
  for process in range(2):
    np.testing.assert_array_equal(np.load(tmp_path / f"{process}.npy"), whole[process::2])
