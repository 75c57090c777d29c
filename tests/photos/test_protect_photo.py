"""Photos protected whole: what is written, what is promised of it, and that it is read back.

Networks are toys and the attack is short; where only its arguments matter, it is a stand-in. At the
end the bundled networks are misled on a real photograph.
"""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import types

import exifread
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.metrics
import toy_classifiers as toys
from data import phone_files
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.data import read_image
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.photos import Encoding, Photo, PhotoConfig, PhotoProtector, judging, protect
from rpfgsm_jax.photos import photo_attack as default_attack
from rpfgsm_jax.photos.judging import CONDITIONS
from rpfgsm_jax.photos.lift import lift
from rpfgsm_jax.photos.strength import allowed_change
from rpfgsm_jax.protector import root_key

NETWORKS = (toys.linear(1, name="linear"), toys.convolution(2, name="convolution"))
HELD_OUT = (toys.convolution(3, name="stranger"),)
EPSILON = 3.0
# More steps than levels: a change could leave the ball. Other numbers would be compiled anew.
ATTACK = dataclasses.replace(
  default_attack(), epsilon=EPSILON, num_steps=6, defenses=defenses.no_defenses()
)
CONFIG = PhotoConfig(attack=ATTACK, texture=True)
PAPER = defenses.paper_bank()
FORMATS = ("png", "webp", "jpeg")
SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


@pytest.fixture
def small(photo):
  """A piece of a photograph, with smooth and textured places."""
  return photo[60:100, 80:132].copy()


def run(photo, config=CONFIG, **options):
  return rp.protect_photo(photo, NETWORKS, config, **{"seed": 7} | options)


def with_encoding(form, quality=40, subsampling="4:4:4"):
  encoding = Encoding(format=form, quality=quality, subsampling=subsampling)
  return dataclasses.replace(CONFIG, encoding=encoding)


def in_memory(pixels):
  return Photo(path=None, pixels=pixels, alpha=None, exif=None, notes=(), sha256="")


def change_of(done, original):
  return np.abs(done.pixels.astype(int) - original)


def decoded(path):
  with Image.open(path) as picture:
    return np.asarray(picture.convert("RGB"))


def save(path, pixels):
  Image.fromarray(pixels).save(path)
  return path


@pytest.fixture
def asked(monkeypatch):
  """A stand-in that keeps what the attack was asked, and makes everything a level brighter."""
  calls = []

  def attack(key, images, classifiers, config, *, image_ids):
    calls.append(
      types.SimpleNamespace(
        key=key, images=images, views=classifiers, config=config, image_ids=image_ids
      )
    )
    brighter = jnp.asarray(np.clip(images.astype(np.float32) + 1, 0, 255))
    return types.SimpleNamespace(adversarial=brighter)

  monkeypatch.setattr(protect, "rp_fgsm", attack)
  return calls


# From file to file


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_becomes_a_file(tmp_path, small, form):
  source = save(tmp_path / "beach.png", small)
  before, out = source.read_bytes(), tmp_path / "new" / f"beach{SUFFIXES[form]}"
  done = run(source, with_encoding(form), held_out=HELD_OUT, out=out)
  assert source.read_bytes() == before
  assert sorted(path.name for path in out.parent.iterdir()) == [out.name]
  assert out.read_bytes() == done.content
  with Image.open(out) as picture:
    assert (picture.format, picture.mode) == (form.upper(), "RGB")
  assert done.pixels.dtype == np.uint8
  assert done.pixels.shape == small.shape
  np.testing.assert_array_equal(done.pixels, decoded(out))
  assert (done.working_size, done.notes) == (None, ())
  # The verdict is on these pixels.
  assert done.verdict.largest_change == change_of(done, small).max() > 0
  psnr = skimage.metrics.peak_signal_noise_ratio(small, done.pixels, data_range=255)
  assert done.verdict.psnr == pytest.approx(psnr, abs=1e-9)
  names = [(network.name, network.held_out) for network in done.verdict.networks]
  assert names == [("linear", False), ("convolution", False), ("stranger", True)]
  assert [list(network.misled) for network in done.verdict.networks] == [list(CONDITIONS)] * 3
  for network, told in zip((*NETWORKS, *HELD_OUT), done.verdict.networks, strict=True):
    assert told.misled["as written"] == (_first(network, small) != _first(network, done.pixels))


def _first(network, image):
  size = network.image_size[::-1]
  shown = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
  return network.class_names[int(np.argmax(network(shown[None])[0]))]


@pytest.mark.parametrize("form", ["png", "webp"])
def test_without_loss_no_pixel_changes_by_more_than_it_may(small, form):
  change = change_of(run(small, with_encoding(form)), small)
  allowed = allowed_change(small, EPSILON)
  assert set(np.unique(allowed)) == {1, 2, 3}  # smooth and textured
  assert np.all(change <= allowed)
  assert change.max() == EPSILON


def test_a_jpeg_says_what_the_change_came_to(small):
  """The encoder adds its own; the verdict tells the sum, and the attack knew the encoder."""
  done = run(small, with_encoding("jpeg"))
  assert done.verdict.largest_change == change_of(done, small).max() > EPSILON
  with Image.open(io.BytesIO(done.content)) as picture:
    expected = io.BytesIO()
    Image.fromarray(small).save(expected, "JPEG", quality=40, subsampling="4:4:4")
    with Image.open(expected) as other:
      assert picture.quantization == other.quantization
      assert picture.layer == other.layer  # components and their sampling


def test_without_texture_smooth_places_change_as_much_as_others():
  smooth = np.full((40, 52, 3), (90, 120, 150), np.uint8)
  assert change_of(run(smooth), smooth).max() == 1
  everywhere = change_of(run(smooth, dataclasses.replace(CONFIG, texture=False)), smooth)
  assert everywhere.max() == EPSILON
  assert np.mean(everywhere == EPSILON) > 0.2


def test_an_array_needs_no_file(small):
  original = small.copy()
  small.setflags(write=False)
  done = run(small)
  np.testing.assert_array_equal(small, original)
  with Image.open(io.BytesIO(done.content)) as picture:
    assert picture.format == "PNG"
    np.testing.assert_array_equal(np.asarray(picture), done.pixels)


def test_a_lone_network_and_a_path_as_text(tmp_path, small, asked):
  source = str(save(tmp_path / "beach.png", small))
  done = rp.protect_photo(source, NETWORKS[:1], CONFIG, out=str(tmp_path / "new.PNG"))
  assert (tmp_path / "new.PNG").read_bytes() == done.content


def test_transparency_is_kept_and_the_verdict_is_on_what_is_seen(tmp_path, small):
  alpha = np.where(np.arange(52) % 5 == 0, 0, 40 + np.arange(52) * 4 % 216).astype(np.uint8)
  alpha = np.broadcast_to(alpha, (40, 52))
  source = save(tmp_path / "glass.png", np.dstack([small, alpha]))
  seen = read_image(source)
  out = tmp_path / "new.png"
  done = run(source, out=out)
  with Image.open(out) as picture:
    assert picture.mode == "RGBA"
    written = np.asarray(picture)
  np.testing.assert_array_equal(written[..., 3], alpha)
  assert np.all(written[alpha == 0] == (255, 255, 255, 0))  # no hidden colors of the original
  np.testing.assert_array_equal(done.pixels, read_image(out))  # over white
  assert done.verdict.largest_change == change_of(done, seen).max()
  assert 0 < done.verdict.largest_change <= EPSILON


def test_a_jpeg_of_a_transparent_photo_is_laid_over_white(tmp_path, small, asked):
  alpha = np.full((40, 52), 128, np.uint8)
  source = save(tmp_path / "glass.png", np.dstack([small, alpha]))
  done = run(source, with_encoding("jpeg", quality=100))
  assert change_of(done, read_image(source)).max() <= 4


# Metadata


def test_metadata_is_removed_unless_it_is_to_be_kept(tmp_path, small, asked):
  source = phone_files.save(tmp_path / "phone.jpg", small)
  words = [word.encode() for word in (*phone_files.KEPT, *phone_files.DROPPED, "Phonemaker")]
  for form in FORMATS:
    out = tmp_path / f"new{SUFFIXES[form]}"
    run(source, with_encoding(form), out=out)
    content = out.read_bytes()
    assert [word for word in (*words, b"Exif", b"GPS") if word in content] == []
    assert exifread.process_file(io.BytesIO(content)) == {}


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_kept_metadata_has_no_thumbnail(tmp_path, small, asked, form):
  source, out = phone_files.save(tmp_path / "phone.jpg", small), tmp_path / f"new{SUFFIXES[form]}"
  done = run(source, dataclasses.replace(with_encoding(form), keep_metadata=True), out=out)
  assert done.pixels.shape == (52, 40, 3)  # turned upright
  content = out.read_bytes()
  tags = exifread.process_file(io.BytesIO(content), details=True)
  assert str(tags["EXIF BodySerialNumber"]) == phone_files.SERIAL
  assert [float(part) for part in tags["GPS GPSLatitude"].values] == [47, 22, 12.34]
  assert str(tags["Image Orientation"]) == "Horizontal (normal)"
  assert not [name for name in tags if "Thumbnail" in name or "MakerNote" in name]
  assert [word for word in phone_files.DROPPED if word.encode() in content] == []


def test_what_was_lost_is_told(tmp_path, small, asked):
  codes = small[..., 0].astype(np.uint16) * 257
  source = save(tmp_path / "deep.png", codes)
  (note,) = run(source).notes
  assert "rounded to 8 bits" in note
  assert str(source) in note


# What is on the disk


class _FlippedDisk(type(pathlib.Path())):
  """A path whose file is not what was written to it."""

  other = b""

  def write_bytes(self, content):
    return super().write_bytes(self.other)


def test_the_verdict_is_on_what_the_disk_holds(tmp_path, small, asked, monkeypatch):
  black = io.BytesIO()
  Image.fromarray(np.zeros_like(small)).save(black, "PNG")
  monkeypatch.setattr(_FlippedDisk, "other", black.getvalue())
  real = protect.atomic.replacing

  @contextlib.contextmanager
  def replacing(path):
    with real(path) as temporary:
      yield _FlippedDisk(temporary)

  monkeypatch.setattr(protect.atomic, "replacing", replacing)
  done = run(small, out=tmp_path / "new.png")
  assert done.content == (tmp_path / "new.png").read_bytes() == black.getvalue()
  assert not done.pixels.any()
  assert done.verdict.largest_change == small.max()


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_a_file_takes_its_name_only_after_its_verdict(tmp_path, small, asked, monkeypatch, there):
  out, names = tmp_path / "new.png", []
  if there:
    out.write_bytes(b"old")

  def fail(original, written, classifiers, held_out):
    np.testing.assert_array_equal(original, small)
    np.testing.assert_array_equal(written, np.minimum(small, 254) + 1)
    names.extend(path.name for path in tmp_path.iterdir())
    raise OSError("no power")

  monkeypatch.setattr(judging, "judge_photo", fail)
  with pytest.raises(OSError, match="no power"):
    run(small, out=out, overwrite=there)
  assert len([name for name in names if ".partial." in name]) == 1
  assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"] * there


def test_what_is_there_is_replaced_on_demand_only(tmp_path, small, asked):
  out = tmp_path / "new.png"
  out.write_bytes(b"mine")
  with pytest.raises(FileExistsError, match=r"out exists: .*new.png; .*overwrite=True"):
    run(small, out=out)
  assert (out.read_bytes(), asked) == (b"mine", [])
  done = run(small, out=out, overwrite=True)
  assert out.read_bytes() == done.content


def test_the_photo_itself_is_never_replaced(tmp_path, small, asked, monkeypatch):
  source = save(tmp_path / "beach.png", small)
  before = source.read_bytes()
  (tmp_path / "link.png").symlink_to(source)
  (tmp_path / "deeper").mkdir()
  monkeypatch.chdir(tmp_path)
  for out in (source, tmp_path / "link.png", "beach.png", tmp_path / "deeper" / ".." / "beach.png"):
    with pytest.raises(ValueError, match="out must not be the photo itself"):
      run(source, out=out, overwrite=True)
    with pytest.raises(ValueError, match="out must not be the photo itself"):
      run(tmp_path / "link.png", out=out, overwrite=True)
  assert (source.read_bytes(), asked) == (before, [])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["new.gif", "new", "new.jpeg", "new.png.bak"])
def test_another_suffix_is_refused(tmp_path, small, asked, form, name):
  with pytest.raises(
    ValueError, match=rf"out must end in \{SUFFIXES[form]}, got .*config.encoding"
  ):
    run(small, with_encoding(form), out=tmp_path / name)
  assert (list(tmp_path.iterdir()), asked) == ([], [])


def test_a_photo_too_long_for_the_format_is_refused_before_the_work(tmp_path, asked):
  strip = np.zeros((32, 16384, 3), np.uint8)
  with pytest.raises(ImageError, match="at most 16383 pixels to be written as webp"):
    run(strip, with_encoding("webp"), out=tmp_path / "new.webp")
  assert (list(tmp_path.iterdir()), asked) == ([], [])


# What decides a result


def test_the_seed_decides(small):
  assert run(small).content == run(small).content
  assert run(small).content != run(small, seed=2**40).content


def test_without_a_seed_it_is_new_and_of_64_bits(small, asked, monkeypatch):
  bits = []

  def draw(count):
    bits.append(count)
    return 2**63 + len(bits)

  monkeypatch.setattr(protect.secrets, "randbits", draw)
  for seed in (None, None, 2**63 + 1):
    run(small, seed=seed)
  assert bits == [64, 64]
  first, second, again = (jax.random.key_data(call.key).tolist() for call in asked)
  assert first != second
  assert first == again == jax.random.key_data(root_key(2**63 + 1)).tolist()


def test_equal_pixels_have_one_id(tmp_path, small, asked):
  other = small.copy()
  other[0, 0, 0] ^= 1
  glass = np.dstack([small, np.full((40, 52), 255, np.uint8)])
  files = {"a.png": small, "other name.bmp": small, "opaque.png": glass, "changed.png": other}
  for name, pixels in files.items():
    run(save(tmp_path / name, pixels))
  run(small)
  run(np.asfortranarray(small), with_encoding("jpeg"))
  ids = [call.image_ids for call in asked]
  digest = hashlib.sha256(small.tobytes()).digest()
  assert ids == [ids[0]] * 3 + [ids[3]] + [ids[0]] * 2
  assert ids[0] == [int.from_bytes(digest[:4], "big") >> 1]
  assert ids[3] != ids[0]


def test_the_id_decides_too(small):
  protector = PhotoProtector(NETWORKS, CONFIG, seed=7)
  first, second = (protector.attack(in_memory(small), image_id) for image_id in (0, 2**32 - 1))
  assert not np.array_equal(first, second)


def test_a_photo_does_not_depend_on_those_before_it(small):
  protector = PhotoProtector(NETWORKS, CONFIG, seed=7)
  before = protector.attack(in_memory(small), 5)
  protector.attack(in_memory(255 - small), 6)
  np.testing.assert_array_equal(protector.attack(in_memory(small), 5), before)


def test_photos_of_one_size_may_be_attacked_together(small, photo):
  """Each gets what it gets alone, bit by bit."""
  photos = [in_memory(small), in_memory(photo[100:140, 200:252])]
  protector = PhotoProtector(NETWORKS, CONFIG, seed=7)
  together = protector.attack_together(photos, [5, 6])
  for found, each, image_id in zip(together, photos, (5, 6), strict=True):
    np.testing.assert_array_equal(found, protector.attack(each, image_id))


def test_what_is_attacked_together_has_its_own_strength_and_working_size(photo, asked):
  photos = [photo[60:156, 80:208], np.full((96, 128, 3), 99, np.uint8)]
  config = dataclasses.replace(CONFIG, working_pixels=2**12)
  protector = PhotoProtector(NETWORKS, config, seed=7)
  found = protector.attack_together([in_memory(pixels) for pixels in photos], [5, 6])
  (call,) = asked
  assert call.images.shape == (2, 48, 64, 3)
  assert call.image_ids == [5, 6]
  expected = [allowed_change(pixels, EPSILON) for pixels in call.images]
  np.testing.assert_array_equal(call.config.epsilon, expected)
  for changed, pixels in zip(found, photos, strict=True):
    assert np.all(changed.astype(int) - pixels <= 1)
    assert np.mean(changed.astype(int) - pixels) > 0.9


@pytest.mark.parametrize("shapes", [[(40, 52), (52, 40)], []], ids=["two sizes", "none"])
def test_others_are_not_attacked_together(asked, shapes):
  protector = PhotoProtector(NETWORKS, CONFIG)
  photos = [in_memory(np.zeros((*shape, 3), np.uint8)) for shape in shapes]
  with pytest.raises(ValueError, match="photos must be of one size, got"):
    protector.attack_together(photos, list(range(len(shapes))))
  assert asked == []


def test_a_device_may_be_named(small, monkeypatch):
  device, used = jax.devices()[3], []

  def attack(*arguments, **options):
    result = rp.rp_fgsm(*arguments, **options)
    used.append(result.adversarial.devices())
    return result

  monkeypatch.setattr(protect, "rp_fgsm", attack)
  result = PhotoProtector(NETWORKS, CONFIG, seed=7, device=device).attack(in_memory(small), 5)
  expected = PhotoProtector(NETWORKS, CONFIG, seed=7).attack(in_memory(small), 5)
  np.testing.assert_array_equal(result, expected)
  assert used == [{device}, {jax.devices()[0]}]


# What the attack is asked


def test_the_defaults():
  config = PhotoConfig()
  assert config.attack == default_attack()
  assert (config.attack.epsilon, config.attack.defenses) == (8.0, defenses.paper_bank())
  assert config.shrink == 1.25
  assert (config.texture, config.working_pixels, config.keep_metadata) == (False, 2**18, False)
  assert config.encoding == Encoding(format="png")


def test_the_attack_is_asked_about_the_photo_at_its_own_size(small, asked):
  run(small, PhotoConfig(texture=True))
  (call,) = asked
  np.testing.assert_array_equal(call.images, small[None])
  assert [view.name for view in call.views] == ["linear", "convolution"]
  assert {view.image_size for view in call.views} == {(40, 52)}
  np.testing.assert_array_equal(call.config.epsilon, allowed_change(small, 8.0)[None])
  # 1.25 times the longest side of 12 x 10 pixels.
  shrunk = dataclasses.replace(default_attack(), defenses=defenses.shrunk_bank(PAPER, 15))
  assert dataclasses.replace(call.config, epsilon=8.0, num_steps=None) == shrunk


def test_defenses_may_act_at_full_size(small, asked):
  run(small, PhotoConfig(shrink=None))
  assert asked[0].config.defenses == PAPER


@pytest.mark.parametrize(
  ("changes", "steps"),
  [
    ({}, 2 * 10),
    ({"epsilon": 16}, 2 * 20),
    ({"classifier_choice": "ensemble"}, 10),
    ({"num_steps": 5}, 5),
    ({"epsilon": 0.5}, 0),
  ],
  ids=str,
)
@pytest.mark.parametrize("texture", [True, False])
def test_the_iterations_are_those_of_epsilon_itself(asked, changes, steps, texture):
  """A smooth photo is allowed a quarter of epsilon, and has as many iterations as any other."""
  attack = dataclasses.replace(default_attack(), **changes)
  run(np.full((40, 52, 3), 99, np.uint8), PhotoConfig(attack=attack, texture=texture))
  expected = steps if texture or "num_steps" in changes else None  # None: by epsilon, as below
  assert asked[0].config.num_steps == expected
  if not texture:
    assert asked[0].config.epsilon == attack.epsilon


def test_an_encoder_with_loss_is_part_of_the_attack(small, asked):
  bank = defenses.shrunk_bank(PAPER, 15)
  for form in FORMATS:
    run(small, PhotoConfig(encoding=Encoding(format=form, quality=71, subsampling="4:4:4")))
  found = [call.config.defenses for call in asked]
  assert found == [bank, bank, defenses.encoded_bank(bank, 71, "4:4:4")]


# Working sizes


def test_a_large_photo_is_attacked_at_a_working_size(photo):
  large = photo[60:156, 80:208]
  config = dataclasses.replace(CONFIG, working_pixels=2**12)
  protector = PhotoProtector(NETWORKS, config, seed=7)
  assert protector.working_size((96, 128)) == (48, 64)
  changed = protector.attack(in_memory(large), 5)
  reduced = np.asarray(Image.fromarray(large).resize((64, 48), Image.Resampling.BILINEAR))
  attacked = PhotoProtector(NETWORKS, CONFIG, seed=7).attack(in_memory(reduced), 5)
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
  ("photo", "message"),
  [
    (np.zeros((40, 52, 3), np.float32), "uint8 .*, got dtype float32"),
    (np.zeros((40, 52), np.uint8), r"shape \(H, W, 3\) .*, got \(40, 52\)"),
    (np.zeros((40, 52, 4), np.uint8), r"shape \(H, W, 3\) .*, got \(40, 52, 4\)"),
    (np.zeros((2, 40, 52, 3), np.uint8), r"shape \(H, W, 3\) .*, got \(2, 40, 52, 3\)"),
    (np.zeros((31, 52, 3), np.uint8), "at least 32 pixels on both sides, got 52x31"),
    (np.zeros((520, 31, 3), np.uint8), "at least 32 pixels on both sides, got 31x520"),
    (Image.new("RGB", (52, 40)), "NumPy array of uint8 .*, got Image"),
    (jnp.zeros((40, 52, 3)), "NumPy array of uint8 .*, got dtype float32"),
    ([[1, 2, 3]], "NumPy array of uint8 .*, got list"),
    (None, "NumPy array of uint8 .*, got NoneType"),
  ],
  ids=["float", "gray", "alpha", "batch", "low", "narrow", "pillow", "jax", "list", "none"],
)
def test_something_else_than_a_photo_is_refused(tmp_path, asked, photo, message):
  with pytest.raises(ValueError, match=message):
    run(photo)
  with pytest.raises(ValueError, match=message):
    run(photo, out=tmp_path / "new.png")
  assert (list(tmp_path.iterdir()), asked) == ([], [])


def test_thirty_two_pixels_are_enough(asked):
  assert run(np.full((32, 32, 3), 9, np.uint8)).pixels.shape == (32, 32, 3)


def test_files_that_cannot_be_read_are_refused(tmp_path, asked):
  with pytest.raises(ImageError, match="there is none; check the name"):
    run(tmp_path / "gone.png", out=tmp_path / "new.png")
  (tmp_path / "text.png").write_text("no picture")
  with pytest.raises(ImageError, match="something else starting with b'no pictu'"):
    run(tmp_path / "text.png", out=tmp_path / "new.png")
  assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
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


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "1"])
def test_other_seeds_are_refused(small, asked, seed):
  with pytest.raises(ValueError, match=r"seed must be an integer in 0..2\^64-1"):
    run(small, seed=seed)
  assert asked == []


def test_networks_are_checked_before_the_work(small, asked):
  with pytest.raises(ValueError, match="at least one Classifier"):
    rp.protect_photo(small, [], CONFIG)
  others = dataclasses.replace(NETWORKS[0], class_names=tuple("abcdefg"))
  with pytest.raises(ValueError, match="share one list of classes"):
    rp.protect_photo(small, [NETWORKS[1], others], CONFIG)
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


def test_a_file_that_appears_meanwhile_stays(tmp_path, small, asked, monkeypatch):
  out = tmp_path / "beach.png"
  judge = PhotoProtector.judge

  def slow_judge(self, photo, content):
    out.write_text("mine")
    return judge(self, photo, content)

  monkeypatch.setattr(PhotoProtector, "judge", slow_judge)
  with pytest.raises(FileExistsError, match="out exists"):
    run(small, out=out)
  assert out.read_text() == "mine"
  assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_judge_that_the_attack_asks_is_no_stranger(tmp_path, small, asked):
  again = toys.convolution(9, name="convolution")  # its name says that it is the same
  for held_out in (NETWORKS[:1], [*HELD_OUT, again]):
    name = held_out[-1].name
    with pytest.raises(ValueError, match=f"held_out must be networks that .* got {name}, which is"):
      run(small, held_out=held_out, out=tmp_path / "new.png")
  assert (list(tmp_path.iterdir()), asked) == ([], [])


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

  monkeypatch.setattr(protect, "rp_fgsm", fail)
  config = dataclasses.replace(CONFIG, working_pixels=working_pixels, texture=False)
  with pytest.raises(rp.OutOfMemoryError, match=f"an attack at {remedy}"):
    run(np.zeros((*shape, 3), np.uint8), config, out=tmp_path / "new.png")
  assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_device_stay_what_they_are(small, monkeypatch):
  def fail(*arguments, **options):
    raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

  monkeypatch.setattr(protect, "rp_fgsm", fail)
  with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
    run(small)


# The bundled networks


@pytest.mark.long
def test_a_real_photograph_is_protected(tmp_path):
  """All four networks are sure of it before; twelve steps mislead those that the attack uses."""
  crop = Image.fromarray(skimage.data.rocket()[86:, 107:533])
  original = np.asarray(crop.resize((320, 256), Image.Resampling.BICUBIC))
  source, out = save(tmp_path / "rocket.png", original), tmp_path / "protected.png"
  networks = [rp.load_classifier(f"scenes25/{n}") for n in ("resnet18", "resnet50", "alexnet")]
  stranger = rp.load_classifier("scenes25/densenet161")
  attack = dataclasses.replace(default_attack(), num_steps=12)
  config = PhotoConfig(attack=attack)
  done = rp.protect_photo(source, networks, config, held_out=[stranger], seed=1, out=out)
  written = decoded(out)
  np.testing.assert_array_equal(written, done.pixels)
  assert np.abs(written.astype(int) - original).max() == done.verdict.largest_change <= 12
  assert all(network.recognized for network in done.verdict.networks)
  for network, told in zip(networks, done.verdict.networks, strict=False):
    assert told.misled["as written"], told
    assert _first(network, written) != _first(network, original), network.name
  assert done.verdict.status in ("protected", "partly")
  assert done.verdict.ssim > 0.9
  # Read by a stranger from the file again, the verdict is the same.
  again = judging.judge_photo(original, read_image(out), networks, [stranger])
  assert again == done.verdict
