"""The steps of protecting photos: what the attack is asked, together too, and at what size."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys
from photos.toy_protection import ATTACK, CONFIG, EPSILON, HELD_OUT, NETWORKS, run
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.photos import (
  Encoding,
  Photo,
  PhotoConfig,
  PhotoProtector,
  default_micro_batch,
  default_working_pixels,
  photo_attack,
)
from rpfgsm_jax.photos.lift import lift
from rpfgsm_jax.photos.strength import MASKING, STRENGTHS, strength_name

BANK = defenses.views_bank()


# What decides a result


def test_the_id_decides_too(small):
  protector = PhotoProtector(NETWORKS, CONFIG, seed=7)
  first, second = (protector.attack(Photo(pixels=small), image_id) for image_id in (0, 2**32 - 1))
  assert not np.array_equal(first, second)


def test_a_photo_does_not_depend_on_those_before_it(small):
  protector = PhotoProtector(NETWORKS, CONFIG, seed=7)
  before = protector.attack(Photo(pixels=small), 5)
  protector.attack(Photo(pixels=255 - small), 6)
  np.testing.assert_array_equal(protector.attack(Photo(pixels=small), 5), before)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (3, 3), (5, 8)])
def test_photos_of_one_working_size_may_be_attacked_together(photo, count, batch_size):
  """Each gets what it gets alone, bit by bit."""
  attack = dataclasses.replace(CONFIG.attack, micro_batch=2)
  config = dataclasses.replace(CONFIG, attack=attack, working_pixels=2**12)
  protector = PhotoProtector(NETWORKS, config, seed=7)
  sides = [(96, 128), (48, 64), (72, 96), (60, 80), (144, 192)][:count]
  photos = [
    Photo(pixels=photo[5 * n : 5 * n + h, 9 * n : 9 * n + w]) for n, (h, w) in enumerate(sides)
  ]
  assert {protector.shape_of(each) for each in photos} == {(48, 64)}
  together = protector.attack_together(photos, range(count), batch_size=batch_size)
  for number, (found, each) in enumerate(zip(together, photos, strict=True)):
    np.testing.assert_array_equal(found, protector.attack(each, number))


def test_what_is_attacked_together_has_its_own_strength_and_working_size(photo, asked):
  photos = [photo[60:156, 80:208], np.full((96, 128, 3), 99, np.uint8)]
  config = dataclasses.replace(CONFIG, working_pixels=2**12)
  protector = PhotoProtector(NETWORKS, config, seed=7)
  found = protector.attack_together([Photo(pixels=pixels) for pixels in photos], [5, 6])
  (call,) = asked
  assert call.images.shape == (2, 48, 64, 3)
  assert call.image_ids == [5, 6]
  assert call.config.masking == ATTACK.masking
  for changed, pixels in zip(found, photos, strict=True):
    assert np.all(changed.astype(int) - pixels <= 1)
    assert np.mean(changed.astype(int) - pixels) > 0.9


@pytest.mark.parametrize("shapes", [[(40, 52), (52, 40)], []], ids=["two sizes", "none"])
def test_others_are_not_attacked_together(asked, shapes):
  protector = PhotoProtector(NETWORKS, CONFIG)
  photos = [Photo(pixels=np.zeros((*shape, 3), np.uint8)) for shape in shapes]
  with pytest.raises(ValueError, match="photos must be attacked at one size, got"):
    protector.attack_together(photos, list(range(len(shapes))))
  assert asked == []


def test_a_device_may_be_named(small, monkeypatch):
  device, used = jax.devices()[3], []

  def attack(*arguments, **options):
    result = rp.rp_fgsm(*arguments, **options)
    used.append(result.adversarial.devices())
    return result

  monkeypatch.setattr("rpfgsm_jax.photos.protector.rp_fgsm", attack)
  result = PhotoProtector(NETWORKS, CONFIG, seed=7, device=device).attack(Photo(pixels=small), 5)
  expected = PhotoProtector(NETWORKS, CONFIG, seed=7).attack(Photo(pixels=small), 5)
  np.testing.assert_array_equal(result, expected)
  assert used == [{device}, {jax.devices()[0]}]


# What the attack is asked


def test_the_defaults():
  config = PhotoConfig()
  assert config.attack == photo_attack()
  assert (config.attack.epsilon, config.attack.defenses) == (16.0, BANK)
  assert config.shrink == 1.25
  assert (config.attack.masking, config.attack.num_steps) == (MASKING, 30)
  assert (config.working_pixels, config.keep_metadata) == (2**18, False)
  assert config.encoding == Encoding(format="png")


def test_strengths_are_in_order_and_whole():
  assert list(STRENGTHS) == ["gentle", "medium", "strong"]
  assert list(STRENGTHS.values()) == sorted(STRENGTHS.values())
  assert all(value == int(value) for value in STRENGTHS.values())
  for name in STRENGTHS:
    attack = photo_attack(name)
    assert strength_name(attack.epsilon, attack.masking) == name
    assert attack.num_steps == (60 if name == "strong" else 30)
  assert strength_name(9.0, None) is None


def test_numbers_are_allowed_everywhere_and_begin_with_longer_steps():
  found = [photo_attack(epsilon) for epsilon in (1.0, 8.0, 16.0)]
  assert [attack.step_size for attack in found] == [1.0, 2.0, 3.0]
  assert {(attack.masking, attack.num_steps) for attack in found} == {(None, 60)}
  with pytest.raises(
    ValueError, match="strength must be gentle, medium, strong or a number of gray"
  ):
    photo_attack("huge")


@pytest.mark.parametrize(
  ("platform", "photos", "images", "pixels"),
  [("cpu", 1, 4, 2**18), ("gpu", 16, 256, 2**24), ("tpu", 16, 256, 2**24)],
)
def test_devices_have_their_own_defaults(platform, photos, images, pixels):
  assert default_micro_batch(platform) == default_micro_batch(platform, "photo") == photos
  assert default_micro_batch(platform, "network") == images
  assert default_working_pixels(platform) == pixels


@pytest.mark.parametrize(
  ("shape", "expected"), [((1024, 1024), 16), ((3000, 4000), 1), ((8000, 6000), 1), ((40, 52), 20)]
)
def test_large_photos_are_computed_fewer_at_a_time(shape, expected):
  attack = dataclasses.replace(CONFIG.attack, micro_batch=20)
  protector = PhotoProtector(NETWORKS, dataclasses.replace(CONFIG, attack=attack))
  assert protector.micro_batch(shape) == expected


def test_the_attack_is_asked_about_the_photo_at_its_own_size(small, asked):
  run(small, PhotoConfig())
  (call,) = asked
  np.testing.assert_array_equal(call.images, small[None])
  assert [view.name for view in call.views] == ["linear", "convolution"]
  assert {view.image_size for view in call.views} == {(40, 52)}
  # 1.25 times the longest side of 12 x 10 pixels.
  shrunk = dataclasses.replace(photo_attack(), defenses=defenses.shrunk_bank(BANK, 15))
  assert call.config == shrunk


def test_defenses_may_act_at_full_size(small, asked):
  run(small, PhotoConfig(shrink=None))
  assert asked[0].config.defenses == BANK


@pytest.mark.parametrize("num_steps", [None, 5])
def test_the_iterations_are_left_to_the_attack(asked, num_steps):
  attack = dataclasses.replace(photo_attack(), num_steps=num_steps, masking=rp.TextureMasking())
  run(np.full((40, 52, 3), 99, np.uint8), PhotoConfig(attack=attack))
  assert asked[0].config.num_steps == num_steps
  assert asked[0].config.epsilon == attack.epsilon


def test_an_encoder_with_loss_is_part_of_the_attack(small, asked):
  bank = defenses.shrunk_bank(BANK, 15)
  for form in ("png", "webp", "jpeg"):
    run(small, PhotoConfig(encoding=Encoding(format=form, quality=71, subsampling="4:4:4")))
  found = [call.config.defenses for call in asked]
  assert found == [bank, bank, defenses.encoded_bank(bank, 71, "4:4:4")]


# Working sizes


def test_a_large_photo_is_attacked_at_a_working_size(photo):
  large = photo[60:156, 80:208]
  config = dataclasses.replace(CONFIG, working_pixels=2**12)
  protector = PhotoProtector(NETWORKS, config, seed=7)
  assert protector.working_size((96, 128)) == (48, 64)
  changed = protector.attack(Photo(pixels=large), 5)
  reduced = np.asarray(Image.fromarray(large).resize((64, 48), Image.Resampling.BILINEAR))
  attacked = PhotoProtector(NETWORKS, CONFIG, seed=7).attack(Photo(pixels=reduced), 5)
  assert np.abs(attacked.astype(int) - reduced).max() == EPSILON
  np.testing.assert_array_equal(changed, lift(large, reduced, attacked))
  done = run(large, config)
  assert done.working_size == (48, 64)
  assert done.pixels.shape == large.shape
  assert 0 < done.verdict.largest_change <= EPSILON


@pytest.mark.parametrize(
  ("working_pixels", "expected"), [(2**20, (880, 1168)), (None, None), (2**21, None)]
)
def test_the_working_size_is_told(asked, working_pixels, expected):
  large = np.full((1080, 1440, 3), 77, np.uint8)
  done = run(large, dataclasses.replace(CONFIG, working_pixels=working_pixels))
  assert done.working_size == expected
  assert asked[0].images.shape == (1, *(expected or (1080, 1440)), 3)
  assert {view.image_size for view in asked[0].views} == {expected or (1080, 1440)}
  assert np.all(done.pixels == 78)


# Refusals


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"size": "large"}, 'size must be "photo" or "network", got \'large\''),
    ({"preprocess": "places365"}, 'preprocess must be "paper" where photos keep their size'),
    ({"working_pixels": 4095}, "working_pixels must be an integer of at least 4096, .* got 4095"),
    ({"shrink": 0.0}, "shrink must be in 0.1..100 times the networks' side, or None, got 0.0"),
    ({"shrink": float("nan")}, "shrink must be .* got nan"),
    ({"working_pixels": 1e6}, "working_pixels must be an integer .* got 1000000.0"),
    (
      {"attack": rp.RPFGSMConfig(epsilon=[8.0, 16.0])},
      r"attack.epsilon must be one number, .*\(2,",
    ),
    ({"attack": rp.RPFGSMConfig(epsilon=np.ones((1, 40, 52, 1)))}, "attack.epsilon must be one"),
    ({"attack": rp.RPFGSMConfig(epsilon=-1)}, "attack.epsilon must be >= 0 .* finite, got -1"),
    ({"attack": rp.RPFGSMConfig(epsilon=float("nan"))}, "attack.epsilon must be .* got nan"),
    ({"attack": rp.RPFGSMConfig(epsilon=float("inf"))}, "attack.epsilon must be .* got inf"),
  ],
  ids=[
    "size",
    "cropped",
    "few",
    "nothing",
    "no factor",
    "float",
    "epsilons",
    "epsilon a pixel",
    "negative",
    "not a number",
    "infinite",
  ],
)
def test_a_config_checks_itself(changes, message):
  with pytest.raises(ValueError, match=message):
    PhotoConfig(**changes)


def test_networks_are_checked_before_the_work(small, asked):
  with pytest.raises(ValueError, match="at least one Classifier"):
    rp.protect_photo(small, [], CONFIG)
  others = dataclasses.replace(NETWORKS[0], class_names=tuple("abcdefg"))
  targeted = dataclasses.replace(CONFIG, attack=dataclasses.replace(ATTACK, targeted=True))
  with pytest.raises(ValueError, match="share one list of classes"):
    rp.protect_photo(small, [NETWORKS[1], others], targeted)
  assert asked == []


def test_networks_may_want_photos_of_different_sizes(small):
  def mean_color(params, images):
    return images.mean(axis=(1, 2)) @ params

  networks = [
    rp.Classifier.from_function(
      mean_color, 0.01 * jnp.eye(3), class_names=("r", "g", "b"), image_size=size, name=str(size)
    )
    for size in ((8, 9), (16, 12))
  ]
  done = rp.protect_photo(small, networks, CONFIG, held_out=HELD_OUT[0], seed=7)
  assert [each.name for each in done.verdict.networks] == ["(8, 9)", "(16, 12)", "stranger"]
  # The gradient of a mean color has one sign everywhere: whole steps, up to the edge of the ball.
  strongest = small.mean(axis=(0, 1)).argmax()
  change = (done.pixels.astype(int) - small)[..., strongest]
  assert (change <= 0).all()
  assert change.min() == -EPSILON


def test_a_judge_that_the_attack_asks_is_no_stranger(tmp_path, small, asked):
  again = toys.convolution(9, name="convolution")  # its name says that it is the same
  for held_out in (NETWORKS[:1], [*HELD_OUT, again]):
    name = held_out[-1].name
    with pytest.raises(ValueError, match=f"held_out must be networks that .* got {name}, which is"):
      run(small, held_out=held_out, out=tmp_path / "new.png")
  assert (list(tmp_path.iterdir()), asked) == ([], [])
  renamed = dataclasses.replace(again, name="another")  # as the message advises
  assert rp.PhotoProtector(NETWORKS, held_out=[renamed]).config == PhotoConfig()


@pytest.mark.parametrize(
  "given", [rp.RPFGSMConfig(), PhotoConfig, {"size": "photo"}], ids=["attack", "class", "dict"]
)
def test_refuses_the_settings_of_an_attack(small, given):
  with pytest.raises(ValueError, match="config must be a PhotoConfig here, got"):
    run(small, given)
  with pytest.raises(ValueError, match="attack must be a RPFGSMConfig here, got PhotoConfig"):
    PhotoConfig(attack=PhotoConfig())


class _Late:
  """A result that turns out not to fit when it is fetched."""

  def __array__(self, *options):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize(
  ("shape", "working_pixels", "remedy"),
  [
    ((1080, 1440), None, r"1440x1080 .* try working_pixels=388800\."),
    ((1080, 1440), 2**20, r"1168x880 .* try working_pixels=256960\."),
    ((40, 52), None, r"52x40 .* try working_pixels=4096\."),
  ],
)
def test_too_little_memory_names_the_remedy(
  tmp_path, monkeypatch, shape, working_pixels, remedy, late
):
  def fail(*arguments, **options):
    return types.SimpleNamespace(adversarial=_Late()) if late else np.asarray(_Late())

  monkeypatch.setattr("rpfgsm_jax.photos.protector.rp_fgsm", fail)
  config = dataclasses.replace(CONFIG, working_pixels=working_pixels)
  with pytest.raises(rp.OutOfMemoryError, match=f"an attack at {remedy}"):
    run(np.zeros((*shape, 3), np.uint8), config, out=tmp_path / "new.png")
  assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_device_stay_what_they_are(small, monkeypatch):
  def fail(*arguments, **options):
    raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

  monkeypatch.setattr("rpfgsm_jax.photos.protector.rp_fgsm", fail)
  with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
    run(small)
