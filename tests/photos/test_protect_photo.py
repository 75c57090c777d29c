"""Photos protected whole: what is written, what is promised of it, and that it is read back.

Networks are toys and the attack is short; where only its arguments matter, it is a stand-in. At the
end the bundled networks are misled on a real photograph.
"""

import dataclasses
import hashlib
import io

import exifread
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.metrics
from data import phone_files
from photos.toy_protection import (
  ATTACK,
  CONFIG,
  EPSILON,
  HELD_OUT,
  NETWORKS,
  SUFFIXES,
  allowed_change,
  change_of,
  run,
  save,
  with_encoding,
)
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import defenses
from rpfgsm_jax.data import folders, images, read_image
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.engine.protector import root_key
from rpfgsm_jax.photos import PhotoConfig, judging, protect
from rpfgsm_jax.photos.judging import CONDITIONS


def decoded(path):
  with Image.open(path) as picture:
    return np.asarray(picture.convert("RGB"))


# From file to file


@pytest.mark.parametrize("form", SUFFIXES)
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
  allowed = allowed_change(small)
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
  even = dataclasses.replace(CONFIG.attack, masking=None)
  everywhere = change_of(run(smooth, dataclasses.replace(CONFIG, attack=even)), smooth)
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


def test_what_holds_a_photo_gives_what_its_file_gives(tmp_path, small, asked):
  """Turned, in another color space and half transparent: nothing of it is lost on the way."""
  exif = Image.Exif()
  exif[0x0112] = 6
  exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03"}}
  glass = Image.fromarray(np.dstack([small, np.full((40, 52), 128, np.uint8)]))
  path = tmp_path / "photo.png"
  glass.save(path, exif=exif.tobytes())
  content = path.read_bytes()
  written = io.BytesIO()
  written.write(content)  # and not wound back
  expected = run(path)
  with Image.open(path) as picture, path.open("rb") as file:
    for photo in (content, written, file, picture):
      done = run(photo)
      assert done.content == expected.content
      assert [note.split(": ")[1] for note in done.notes] == [
        note.split(": ")[1] for note in expected.notes
      ]
    assert picture.size == (52, 40)  # still open, and as it was
    picture.load()
    for photo in (picture, file):
      with pytest.raises(ValueError, match="out must not be the photo itself"):
        run(photo, out=path, overwrite=True)
  assert run(jnp.asarray(small)).content == run(small).content


@pytest.mark.parametrize(
  ("photo", "message"),
  [
    (io.BytesIO(), "the photo must be an image file's bytes, got 0 bytes"),
    (io.StringIO("a"), "the photo must be an image file's bytes, got text"),
    (b"hello", "the photo must be a JPEG, .* got 5 bytes of something else"),
    (Image.new("RGB", (52, 31)), "the photo must have at least 32 pixels"),
    (Image.new("F", (52, 40)), "the photo must have pixels that convert to 8-bit sRGB"),
  ],
  ids=["empty", "text", "bytes", "small", "float"],
)
def test_what_holds_no_photo_is_refused(asked, photo, message):
  with pytest.raises(ImageError, match=message):
    run(photo)
  assert asked == []


def test_a_film_that_pillow_has_opened_is_refused(tmp_path, small, asked):
  frames = [Image.fromarray(each) for each in (small, small[::-1].copy())]
  frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
  with Image.open(tmp_path / "film.gif") as film, pytest.raises(ImageError, match="several frames"):
    run(film)


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


@pytest.mark.parametrize("preprocess", ["paper", "places365"])
def test_at_the_networks_size_a_photo_becomes_what_data_sets_do(small, preprocess):
  bank = defenses.DefenseBank((defenses.IDENTITY, defenses.REQUANTIZE))
  attack = dataclasses.replace(ATTACK, defenses=bank)
  done = run(small, PhotoConfig(size="network", attack=attack, preprocess=preprocess))
  shown = images.preprocess(small, NETWORKS[0].image_size, preprocess)
  expected = rp.protect(
    shown[None], NETWORKS, attack, seed=7, image_ids=[folders.image_id(shown.tobytes())]
  )
  np.testing.assert_array_equal(done.pixels, expected[0])
  assert done.working_size is None
  assert 0 < done.verdict.largest_change <= EPSILON


# Metadata


def test_metadata_is_removed_unless_it_is_to_be_kept(tmp_path, small, asked):
  source = phone_files.save(tmp_path / "phone.jpg", small)
  words = [word.encode() for word in (*phone_files.KEPT, *phone_files.DROPPED, "Phonemaker")]
  for form in SUFFIXES:
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
    (jnp.zeros((40, 52, 3)), "NumPy array of uint8 .*, got dtype float32"),
    ([[1, 2, 3]], "NumPy array of uint8 .*, got list"),
    (None, "NumPy array of uint8 .*, got NoneType"),
  ],
  ids=["float", "gray", "alpha", "batch", "low", "narrow", "jax", "list", "none"],
)
def test_something_else_than_a_photo_is_refused(tmp_path, asked, photo, message):
  with pytest.raises(ValueError, match=message):
    run(photo)
  with pytest.raises(ValueError, match=message):
    run(photo, out=tmp_path / "new.png")
  assert (list(tmp_path.iterdir()), asked) == ([], [])


def test_thirty_two_pixels_are_enough(asked):
  assert run(np.full((32, 32, 3), 9, np.uint8)).pixels.shape == (32, 32, 3)


def test_a_strip_longer_than_any_jpeg_is_judged_all_the_same(asked):
  strip = np.random.default_rng(5).integers(0, 256, (33, 65_501, 3), dtype=np.uint8)
  done = run(strip)
  assert done.pixels.shape == strip.shape
  assert list(done.verdict.networks[0].misled) == list(CONDITIONS)


@pytest.mark.parametrize(("form", "most"), [("jpeg", 65_500), ("webp", 16_383)])
def test_a_strip_too_long_for_its_format_is_not_even_decoded(tmp_path, asked, form, most):
  strip = save(tmp_path / "strip.png", np.zeros((33, most + 1, 3), np.uint8))
  strip.write_bytes(strip.read_bytes()[:-40])
  with pytest.raises(ImageError, match=f"at most {most} pixels to be written as {form}, .* png"):
    run(strip, with_encoding(form))
  with pytest.raises(ImageError, match="truncated or damaged"):
    run(strip)
  assert asked == []


def test_files_that_cannot_be_read_are_refused(tmp_path, asked):
  with pytest.raises(ImageError, match="there is none; check the name"):
    run(tmp_path / "gone.png", out=tmp_path / "new.png")
  (tmp_path / "text.png").write_text("no picture")
  with pytest.raises(ImageError, match="something else starting with b'no pictu'"):
    run(tmp_path / "text.png", out=tmp_path / "new.png")
  assert [path.name for path in tmp_path.iterdir()] == ["text.png"]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "1"])
def test_other_seeds_are_refused(small, asked, seed):
  with pytest.raises(ValueError, match=r"seed must be an integer in 0..2\^64-1"):
    run(small, seed=seed)
  assert asked == []


# The bundled networks


@pytest.mark.long
def test_a_real_photograph_is_protected(tmp_path):
  """All four networks are sure of it; twelve plain steps mislead those that the attack uses."""
  crop = Image.fromarray(skimage.data.rocket()[86:, 107:533])
  original = np.asarray(crop.resize((320, 256), Image.Resampling.BICUBIC))
  source, out = save(tmp_path / "rocket.png", original), tmp_path / "protected.png"
  networks = [rp.load_classifier(f"scenes25/{n}") for n in ("resnet18", "resnet50", "alexnet")]
  stranger = rp.load_classifier("scenes25/densenet161")
  config = PhotoConfig(attack=rp.RPFGSMConfig(epsilon=8.0, num_steps=12, micro_batch=1))
  done = rp.protect_photo(source, networks, config, held_out=[stranger], seed=1, out=out)
  written = decoded(out)
  np.testing.assert_array_equal(written, done.pixels)
  assert np.abs(written.astype(int) - original).max() == done.verdict.largest_change <= 8
  assert all(network.recognized for network in done.verdict.networks)
  for network, told in zip(networks, done.verdict.networks, strict=False):
    assert told.misled["as written"], told
    assert _first(network, written) != _first(network, original), network.name
  assert done.verdict.status in ("protected", "partly")
  assert done.verdict.ssim > 0.9
  # Read by a stranger from the file again, the verdict is the same.
  again = judging.judge_photo(original, read_image(out), networks, [stranger])
  assert again == done.verdict
