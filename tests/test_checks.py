"""Integers, lists and dtypes of whatever kind give what plain ones give; booleans stay refused."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.checks import as_int
from rpfgsm_jax.engine.protector import check_batch_size, root_key

NETS = toys.three()
IMAGES = toys.images(2)
SHORT = rp.FGSMConfig(epsilon=4.0, num_steps=3)
KINDS = (np.int64, np.uint8, lambda number: np.asarray(number), jnp.int32)


def pixels(attack, config=None, images=IMAGES, **goal):
  return np.asarray(attack(jax.random.key(0), images, NETS[:1], config, **goal).adversarial)


@pytest.mark.parametrize("value", [True, np.True_, np.asarray(True), 2.0, "2", None, [2], 1 + 0j])
def test_what_is_no_integer(value):
  assert as_int(value) is None


@pytest.mark.parametrize("kind", KINDS, ids=["int64", "uint8", "array", "jax"])
@pytest.mark.parametrize(
  ("attack", "config", "counts"),
  [
    (rp.u_fgsm, SHORT, {"num_steps": 3, "micro_batch": 2}),
    (rp.u_fgsm, SHORT, {"transfer": {"smoothing": 3, "scale_copies": 2}}),
    (rp.jsma, rp.JSMAConfig(), {"num_steps": 2, "num_candidates": 2, "theta": 9}),
    (rp.cw, rp.CWConfig(), {"num_steps": 2, "search_steps": 1}),
    (rp.deepfool, rp.DeepFoolConfig(), {"num_steps": 2, "num_classes": 3}),
    (rp.sparsefool, rp.SparseFoolConfig(), {"num_steps": 2, "num_loops": 1, "num_classes": 3}),
  ],
  ids=["signed", "transfer", "jsma", "cw", "deepfool", "sparsefool"],
)
def test_counts_of_attacks(kind, attack, config, counts):
  def of(kind):
    values = dict(counts)
    if "transfer" in values:
      values["transfer"] = rp.TransferOptions(
        **{name: kind(value) for name, value in counts["transfer"].items()}
      )
      return dataclasses.replace(config, **values)
    return dataclasses.replace(config, **{name: kind(value) for name, value in values.items()})

  np.testing.assert_array_equal(pixels(attack, of(kind)), pixels(attack, of(int)))


@pytest.mark.parametrize("kind", KINDS, ids=["int64", "uint8", "array", "jax"])
def test_counts_of_the_engine_and_of_photos(kind):
  numbers = {"seed": 7, "batch_size": 1, "devices": 2}
  given = {name: kind(value) for name, value in numbers.items()}
  runs = [rp.protect(IMAGES, NETS, SHORT, attack=rp.e_fgsm, **each) for each in (numbers, given)]
  np.testing.assert_array_equal(*runs)
  assert rp.defenses.shrunk_bank(rp.defenses.paper_bank(), kind(64)) == rp.defenses.shrunk_bank(
    rp.defenses.paper_bank(), 64
  )


def test_counts_that_no_small_integer_holds():
  assert jnp.array_equal(
    jax.random.key_data(root_key(np.uint64(2**63))), jax.random.key_data(root_key(2**63))
  )
  config = rp.PhotoConfig(working_pixels=np.int64(2**14))
  assert type(config.working_pixels) is int
  assert config == rp.PhotoConfig(working_pixels=2**14)
  encoding = rp.photos.Encoding(format="jpeg", quality=np.uint8(80))
  assert type(encoding.quality) is int
  assert encoding == rp.photos.Encoding(format="jpeg", quality=80)


@pytest.mark.parametrize(
  "refused",
  [
    lambda: root_key(True),
    lambda: check_batch_size(np.True_),
    lambda: rp.protect(IMAGES, NETS, devices=True),
    lambda: rp.PhotoConfig(working_pixels=True),
    lambda: rp.photos.Encoding(quality=np.True_),
    lambda: pixels(rp.u_fgsm, rp.FGSMConfig(num_steps=True)),
    lambda: pixels(rp.u_fgsm, rp.FGSMConfig(micro_batch=2.0)),
    lambda: pixels(rp.jsma, rp.JSMAConfig(theta=np.True_)),
  ],
)
def test_booleans_and_floats_are_no_counts(refused):
  with pytest.raises(ValueError, match="must be"):
    refused()


def test_other_numbers_serve_as_the_weight_of_eot():
  config = rp.EOTConfig(num_steps=2, visual_weight=np.float32(0.5))
  plain = dataclasses.replace(config, visual_weight=0.5)
  np.testing.assert_array_equal(pixels(rp.eot, config), pixels(rp.eot, plain))


@pytest.mark.parametrize("kind", [list, tuple, lambda ids: range(ids[0], ids[-1] + 1)])
def test_classes_and_ids_in_lists_and_tuples(kind):
  ids = np.array([3, 4])
  for attack, name in ((rp.l_fgsm, "target"), (rp.u_fgsm, "label"), (rp.l_fgsm, "image_ids")):
    given, wanted = ({name: each} for each in (kind(ids), ids))
    np.testing.assert_array_equal(
      pixels(attack, SHORT, **given), pixels(attack, SHORT, **wanted), err_msg=name
    )
    protected = [
      rp.protect(IMAGES, NETS[:1], SHORT, attack=attack, **each) for each in (given, wanted)
    ]
    np.testing.assert_array_equal(*protected, err_msg=name)


def test_a_list_may_hold_traced_classes():
  inside = jax.jit(
    lambda first: rp.l_fgsm(jax.random.key(0), IMAGES, NETS[:1], SHORT, target=[first, 4])
  )
  np.testing.assert_array_equal(inside(3).adversarial, pixels(rp.l_fgsm, SHORT, target=[3, 4]))


@pytest.mark.parametrize("wrong", [[0.0, 1.0], [True, False], [0, 1, 2], ["0", "1"], [[0, 1]]])
def test_lists_of_something_else_are_named(wrong):
  for name in ("label", "image_ids"):
    with pytest.raises(ValueError, match=f"{name} must be"):
      pixels(rp.u_fgsm, SHORT, **{name: wrong})


def test_no_images_take_an_empty_list_of_classes():
  assert pixels(rp.u_fgsm, SHORT, IMAGES[:0], label=[], image_ids=[]).shape == (0, 12, 10, 3)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.uint16])
def test_images_in_short_dtypes(dtype):
  wanted = pixels(rp.u_fgsm, SHORT)
  np.testing.assert_array_equal(pixels(rp.u_fgsm, SHORT, IMAGES.astype(dtype)), wanted)
  np.testing.assert_array_equal(pixels(rp.u_fgsm, SHORT, jnp.asarray(IMAGES, dtype)), wanted)
  protected = rp.protect(IMAGES.astype(dtype), NETS[:1], SHORT, attack=rp.u_fgsm)
  np.testing.assert_array_equal(protected, wanted)


def test_short_dtypes_are_checked_like_others():
  with pytest.raises(ValueError, match=r"0\.\.255"):
    pixels(rp.u_fgsm, SHORT, np.full((1, *toys.SIZE, 3), 256, ml_dtypes.bfloat16))
  with pytest.raises(ValueError, match="real numbers"):
    pixels(rp.u_fgsm, SHORT, IMAGES.astype(np.complex64))
