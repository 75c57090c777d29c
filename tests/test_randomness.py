"""The same bytes for one seed, alone and in a batch, whatever JAX is set to."""

import hashlib
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from experiments import journal, rows
from rpfgsm_jax.engine.protector import root_key
from rpfgsm_jax.jobs import spec
from rpfgsm_jax.randomness import fixed_key, noise_key, unusual_settings
from rpfgsm_jax.result_folder import FolderError

NETS = toys.three()
IMAGES = toys.images(3)
SETTINGS = {
  "JAX_ENABLE_X64": "1",
  "JAX_THREEFRY_PARTITIONABLE": "0",
  "JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg",
}
D = rp.defenses
BANK = D.DefenseBank((D.REQUANTIZE, D.INPUT_DIVERSITY, D.GAUSSIAN_NOISE, D.LIGHTEN, D.SCALE))


def digests() -> list[str]:
  """Returns digests of all kinds of draws: targets, networks, members and their noise, starts."""
  light = {"epsilon": 4.0, "num_steps": 4, "defenses": BANK}
  balanced = rp.RPFGSMConfig(**light)
  drawn = rp.RPFGSMConfig(**light, targeted=True, draw="iid", random_start=True)
  batch, alone = (
    rp.rp_fgsm(root_key(3), IMAGES[ids], NETS, balanced, image_ids=ids).adversarial
    for ids in ([0, 1, 2], [2])
  )
  np.testing.assert_array_equal(alone[0], batch[2])
  traced = jax.jit(lambda key: rp.rp_fgsm(key, IMAGES, NETS, balanced).adversarial)(root_key(3))
  np.testing.assert_array_equal(traced, batch)
  protected = rp.protect(IMAGES, NETS, drawn, seed=2**40 + 3, devices=1)
  photos = rp.PhotoProtector(NETS[:1], rp.PhotoConfig(attack=balanced), seed=3)
  found = batch, protected, photos._run(np.tile(IMAGES[:1], (1, 3, 4, 1)), [5], 1)
  return [hashlib.sha256(np.asarray(each, np.uint8).tobytes()).hexdigest() for each in found]


def in_another_process(**settings: str) -> list[str]:
  folder = pathlib.Path(__file__).parent
  paths = {"PYTHONPATH": os.pathsep.join([str(folder.parent), str(folder)])}
  done = subprocess.run(
    [sys.executable, "-c", "import test_randomness as this; print(*this.digests())"],
    env=os.environ | paths | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | settings,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.split()


def test_settings_of_jax_change_no_byte():
  assert in_another_process(**SETTINGS) == in_another_process()


def test_the_draws_are_those_of_jax_by_default():
  key = fixed_key(jax.random.key(7))
  for draw in (
    lambda key: jax.random.bits(key, (5,), jnp.uint32),
    lambda key: jax.random.key_data(jax.random.split(key, 3)),
    lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
    lambda key: jax.random.normal(key, (5,), jnp.float32),
  ):
    np.testing.assert_array_equal(draw(jax.random.clone(key)), draw(jax.random.key(7)))
  np.testing.assert_array_equal(
    jax.random.key_data(jax.jit(noise_key)(np.uint32(2**32 - 5))),
    jax.random.key_data(jax.random.key(2**32 - 5)),
  )


def test_old_raw_keys_mean_the_same():
  config = rp.FGSMConfig(epsilon=3.0, num_steps=2, random_start=True)
  typed, raw = (
    rp.u_fgsm(key, IMAGES, NETS[:1], config).adversarial
    for key in (jax.random.key(7), jax.random.PRNGKey(7))
  )
  np.testing.assert_array_equal(typed, raw)


@pytest.mark.parametrize(
  ("key", "got"),
  [
    (lambda: jax.random.key(0, impl="rbg"), "got rbg"),
    (lambda: jax.random.key(0, impl="unsafe_rbg"), "got unsafe_rbg"),
    (lambda: jax.random.key_data(jax.random.key(0, impl="rbg")), r"got uint32 \(4,\)"),
    (lambda: jax.random.split(jax.random.key(0)), r"got \(2,\) keys of"),
    (lambda: 0, "got int"),
  ],
)
def test_foreign_keys_are_refused_by_name(key, got):
  with pytest.raises(ValueError, match=f"key must be one threefry2x32 key, {got}.*impl="):
    rp.rp_fgsm(key(), IMAGES, NETS)


def test_records_hold_what_may_change_numbers(tmp_path):
  assert unusual_settings() == {}
  job = spec.Job(sources=[], out=tmp_path, networks=[])
  header = {"kind": "run", "experiment": "demo", "device": "", "versions": {}}
  usual = spec.describe_settings(job)
  rows.append_rows(tmp_path / journal.ROWS, [header])
  rows.write_private(tmp_path / journal.RECORD, {"experiment": "demo", "seed": 1})
  journal.check_folder(tmp_path, header, None)
  with jax.default_matmul_precision("float32"):
    assert spec.describe_settings(job) == usual | {
      "jax": {"jax_default_matmul_precision": "float32"}
    }
    with pytest.raises(FolderError, match="jax_default_matmul_precision"):
      journal.check_folder(tmp_path, header, None)
