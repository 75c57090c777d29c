"""Photos read and written back, against Pillow and NumPy; `test_metadata` has the metadata."""

import concurrent.futures
import hashlib
import io
import struct
import time
import zlib

import numpy as np
import phone_files
import pillow_heif
import pytest
from PIL import Image, ImageCms

from rpfgsm_jax.data import metadata
from rpfgsm_jax.data.images import read_image
from rpfgsm_jax.data.photo_files import (
  Encoding,
  Photo,
  decode_photo,
  encode_photo,
  open_photo,
  read_photo,
)
from rpfgsm_jax.defenses import jpeg

FORMATS = ("png", "webp", "jpeg")


def _alpha(shape):
  """Levels 0..255 in every row, no two rows nearby the same; a quarter of it hidden."""
  levels = np.minimum(np.arange(np.prod(shape)) * 7 % 257, 255).reshape(shape)
  return np.where(np.arange(shape[1]) % 4 == 1, 0, levels).astype(np.uint8)


def _in_memory(pixels, alpha=None, exif=None):
  return Photo(path=None, pixels=pixels, alpha=alpha, exif=exif, notes=(), sha256="")


def _protected(photo, seed=3):
  """Any picture within 16 levels of what is seen of a photo."""
  seen = photo.seen()
  change = np.random.default_rng(seed).integers(-16, 17, seen.shape)
  return np.clip(seen + change, 0, 255).astype(np.uint8)


def _png_chunk(kind, content):
  body = kind + content
  return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


# Pixels: one law over many kinds


def _deep_color(photo):
  codes = photo.astype(np.uint16) * 257
  rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in codes)
  header = struct.pack(">IIBBBBB", photo.shape[1], photo.shape[0], 16, 2, 0, 0, 0)
  chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _rgba(photo):
  return Image.fromarray(np.dstack([photo, _alpha(photo.shape[:2])]))


def _turned(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return {"exif": exif}


_EXACT = {"lossless": True, "exact": True}
_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
# name: (suffix, picture of a photo's array, options, transparent?)
KINDS = {
  "color": ("png", Image.fromarray, {}, False),
  "jpeg": ("jpg", Image.fromarray, {}, False),
  "jpeg-turned": ("jpg", Image.fromarray, _turned(6), False),
  "tiff-turned": ("tif", Image.fromarray, _turned(5), False),
  "gray": ("png", lambda a: Image.fromarray(a).convert("L"), {}, False),
  "bits": ("png", lambda a: Image.fromarray(a).convert("1"), {}, False),
  "palette": ("gif", lambda a: Image.fromarray(a).quantize(37), {}, False),
  "gray-16": ("png", lambda a: Image.fromarray(a[..., 0].astype(np.uint16) * 200), {}, False),
  "cmyk-jpeg": ("jpg", lambda a: Image.fromarray(a).convert("CMYK"), {}, False),
  "cmyk-tiff": ("tif", lambda a: Image.fromarray(a).convert("CMYK"), {}, False),
  "bmp": ("bmp", Image.fromarray, {}, False),
  "avif": ("avif", Image.fromarray, {}, False),
  "bad-profile": ("png", Image.fromarray, {"icc_profile": _LAB}, False),
  "alpha-png": ("png", _rgba, {}, True),
  "alpha-turned": ("png", _rgba, _turned(8), True),
  "alpha-webp": ("webp", _rgba, _EXACT, True),
  "alpha-tiff": ("tif", _rgba, {}, True),
  "alpha-gray": ("png", lambda a: _rgba(a).convert("LA"), {}, True),
  "key-color": ("png", Image.fromarray, {"transparency": (200, 190, 180)}, True),
  "key-gray": ("png", lambda a: Image.fromarray(a[..., 1]), {"transparency": 99}, True),
  "key-gray-16": (
    "png",
    lambda a: Image.fromarray(a[..., 0].astype(np.uint16) * 200),
    {"transparency": 8000},
    True,
  ),
  "key-palette": ("png", lambda a: Image.fromarray(a).quantize(37), {"transparency": 5}, True),
  "alpha-palette": (
    "png",
    lambda a: Image.fromarray(a).quantize(37),
    {"transparency": bytes(range(0, 222, 6))},
    True,
  ),
  "key-gif": ("gif", lambda a: Image.fromarray(a).quantize(37), {"transparency": 5}, True),
}


def _file_of(kind, photo, folder):
  suffix, make, options, _ = KINDS[kind]
  crop = photo[60:140, 80:180].copy()
  crop[5, 7] = 200, 190, 180
  make(crop).save(folder / f"photo.{suffix}", **options)
  return folder / f"photo.{suffix}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_seen_is_what_read_image_reads(tmp_path, photo, kind):
  path = _file_of(kind, photo, tmp_path)
  notes = []
  expected, read = read_image(path, notes=notes), read_photo(path)
  assert open_photo(path).size == expected.shape[:2]
  np.testing.assert_array_equal(read.seen(), expected)
  assert (read.alpha is not None) == KINDS[kind][3]
  assert list(read.notes) == [note for note in notes if "over white" not in note]
  assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("kind", KINDS)
def test_lossless_formats_give_an_unchanged_photo_back(tmp_path, photo, kind, form):
  read = read_photo(_file_of(kind, photo, tmp_path))
  content = encode_photo(read, read.seen(), Encoding(format=form))
  np.testing.assert_array_equal(decode_photo(content, "new"), read.seen())
  with Image.open(io.BytesIO(content)) as picture:
    assert picture.format == form.upper()
    assert picture.mode == ("RGB" if read.alpha is None else "RGBA")
    if read.alpha is not None:
      np.testing.assert_array_equal(np.asarray(picture)[..., 3], read.alpha)


@pytest.fixture
def tall(photo):
  """More rows than are converted at a time."""
  return np.concatenate([photo, photo[:, ::-1], photo])


def test_transparency_is_kept_apart_and_hidden_colors_are_gone(tmp_path, tall):
  alpha = _alpha(tall.shape[:2])
  _rgba(tall).save(tmp_path / "glass.png")
  read = read_photo(tmp_path / "glass.png")
  np.testing.assert_array_equal(read.alpha, alpha)
  np.testing.assert_array_equal(read.pixels, np.where(alpha[..., None] == 0, 255, tall))
  over_white = (tall * (alpha[..., None] / 255)) + 255.0 - alpha[..., None]
  assert np.abs(read.seen() - over_white).max() <= 1  # Pillow's integer arithmetic
  with pytest.raises(ValueError, match="read-only"):
    read.pixels[0, 0] = 0


@pytest.mark.parametrize("form", ["png", "webp"])
def test_a_protected_photo_is_written_exactly(photo, form):
  protected = _protected(_in_memory(photo))
  content = encode_photo(_in_memory(photo), protected, Encoding(format=form))
  np.testing.assert_array_equal(decode_photo(content, None), protected)


@pytest.mark.parametrize("form", ["png", "webp"])
def test_the_change_is_added_to_transparent_colors(tall, form):
  alpha = _alpha(tall.shape[:2])
  read = _in_memory(np.where(alpha[..., None] == 0, 255, tall).astype(np.uint8), alpha)
  protected = _protected(read)
  content = encode_photo(read, protected, Encoding(format=form))
  change = protected.astype(int) - read.seen()
  expected = np.clip(read.pixels + change, 0, 255)
  expected[alpha == 0] = 255
  with Image.open(io.BytesIO(content)) as picture:
    np.testing.assert_array_equal(np.asarray(picture), np.dstack([expected, alpha]))


@pytest.mark.parametrize(("quality", "subsampling"), [(90, "4:2:0"), (37, "4:4:4")])
def test_a_jpeg_decodes_to_what_the_defense_gives(photo, quality, subsampling):
  original = _in_memory(photo[:41, :53], _alpha((41, 53)))  # a JPEG has no transparency
  protected = _protected(original)
  encoding = Encoding(format="jpeg", quality=quality, subsampling=subsampling)
  decoded = decode_photo(encode_photo(original, protected, encoding), None)
  expected = jpeg(protected.astype(np.float32), quality, subsampling=subsampling)
  np.testing.assert_array_equal(decoded, np.asarray(expected))


def test_colors_are_converted_from_the_profile_and_none_is_written(tmp_path, photo):
  profile = ImageCms.createProfile("sRGB")
  plain = ImageCms.ImageCmsProfile(profile).tobytes()
  # The same primaries in another order and under another name: red and blue are exchanged.
  swapped = plain.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
  swapped = swapped.replace("sRGB".encode("utf-16-be"), "BGRs".encode("utf-16-be"))
  Image.fromarray(photo).save(tmp_path / "swapped.png", icc_profile=swapped)
  read = read_photo(tmp_path / "swapped.png")
  assert np.abs(read.pixels.astype(int) - photo[..., ::-1]).mean() < 1.5
  assert any("converted to sRGB from the profile" in note for note in read.notes)
  content = encode_photo(read, read.seen(), Encoding(), keep_metadata=True)
  assert b"iCCP" not in content


def test_bits_that_are_lost_are_noted(tmp_path, photo):
  (tmp_path / "deep.png").write_bytes(_deep_color(photo))
  read = read_photo(tmp_path / "deep.png")
  np.testing.assert_array_equal(read.pixels, photo)
  assert read.notes == (
    f"{tmp_path / 'deep.png'}: more than 8 bits a color channel, the upper 8 kept",
  )


def test_the_second_picture_of_a_phone_is_left_out(tmp_path, photo):
  preview = Image.fromarray(photo[:40, :50])
  path = tmp_path / "phone.jpg"
  Image.fromarray(photo).save(path, "MPO", save_all=True, append_images=[preview])
  read = read_photo(path)
  assert read.pixels.shape == photo.shape
  assert read.notes == (f"{path}: further pictures (previews or views) left out",)
  content = encode_photo(read, read.seen(), Encoding(format="jpeg"), keep_metadata=True)
  assert content.count(b"\xff\xd8") == 1


# HEIC


def _heic(path, photo, **options):
  pillow_heif.from_pillow(Image.fromarray(photo)).save(path, quality=90, **options)
  return path


def test_a_heic_photo(tmp_path, photo):
  path = _heic(tmp_path / "phone.heic", photo, exif=phone_files.phone_exif())
  read = read_photo(path)
  np.testing.assert_array_equal(read.pixels, np.asarray(pillow_heif.open_heif(path).to_pillow()))
  # Its container turns it; the EXIF orientation must not do so once more.
  upright = np.rot90(photo, -1)
  assert read.pixels.shape == upright.shape
  assert np.abs(read.pixels.astype(int) - upright).mean() < 3  # HEVC's loss
  np.testing.assert_array_equal(read.seen(), read_image(path))
  assert read.notes == ()


def test_the_primary_picture_of_a_heic_is_taken(tmp_path, photo):
  path = tmp_path / "burst.heic"
  burst = pillow_heif.from_pillow(Image.fromarray(photo[:80, :90].copy()))
  burst.add_from_pillow(Image.fromarray(photo))
  burst.add_from_pillow(Image.fromarray(255 - photo))
  burst.save(path, quality=90, primary_index=1, thumbnails=[64])
  film = phone_files.with_film(path.read_bytes())  # appended whole by some phones
  path.write_bytes(path.read_bytes() + film)
  read = read_photo(path)
  assert np.abs(read.pixels.astype(int) - photo).mean() < 3
  assert read.notes == (f"{path}: beside the primary picture left out: 2 further pictures",)


@pytest.mark.parametrize(
  ("kind", "words"),
  [
    (b"urn:mpeg:hevc:2015:auxid:2", "1 depth maps"),
    (b"urn:com:phone:aux:gainmap0", "1 auxiliary pictures"),
  ],
  ids=["depth", "gain-map"],
)
def test_maps_beside_a_heic_are_left_out_with_a_note(tmp_path, photo, kind, words):
  path = tmp_path / "portrait.heic"
  pillow_heif.from_pillow(_rgba(photo)).save(path, quality=-1)
  content = path.read_bytes()
  assert content.count(b"urn:mpeg:hevc:2015:auxid:1") == 1
  path.write_bytes(content.replace(b"urn:mpeg:hevc:2015:auxid:1", kind))
  read = read_photo(path)
  assert read.alpha is None
  assert read.notes == (f"{path}: beside the primary picture left out: {words}",)


@pytest.mark.parametrize("brands", [b"mif1\0\0\0\0mif1heic", b"heix\0\0\0\0mif1miaf"])
def test_heic_is_known_by_any_of_its_brands(tmp_path, photo, brands):
  path = _heic(tmp_path / "phone.heic", photo)
  content = path.read_bytes()
  assert content[:4] == b"\0\0\0\x18"
  path.write_bytes(content[:8] + brands + content[24:])
  assert read_photo(path).size == photo.shape[:2]


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_smaller_copies_in_a_tiff_are_left_out(tmp_path, photo, kind):
  path = tmp_path / "photo.tif"
  small = Image.fromarray(photo[::4, ::4].copy())
  small.encoderinfo = {"tiffinfo": {254: kind}}
  Image.fromarray(photo).save(path, save_all=True, append_images=[small])
  read = read_photo(path)
  np.testing.assert_array_equal(read.pixels, photo)
  assert read.notes == (f"{path}: smaller copies or masks of the picture left out",)


def test_transparency_of_heic(tmp_path, photo):
  pillow_heif.from_pillow(_rgba(photo)).save(tmp_path / "glass.heic", quality=-1)
  read = read_photo(tmp_path / "glass.heic")
  np.testing.assert_array_equal(read.alpha, _alpha(photo.shape[:2]))


def test_colors_of_heic_that_cannot_be_converted_are_noted(tmp_path, photo):
  options = {"color_primaries": 9, "transfer_characteristics": 18}
  read = read_photo(_heic(tmp_path / "hdr.heic", photo, **options))
  assert read.notes == (
    f"{tmp_path / 'hdr.heic'}: colors of another space (primaries 9, curve 18) read as sRGB",
  )


def test_bits_of_heic_that_are_lost_are_noted(tmp_path, photo):
  deep = pillow_heif.from_bytes("RGB;16", photo.shape[1::-1], (photo.astype("<u2") << 8).tobytes())
  deep.save(tmp_path / "deep.heic", quality=-1, chroma=444)
  assert "more than 8 bits" in read_photo(tmp_path / "deep.heic").notes[0]


# Several threads


def test_notes_belong_to_their_own_file_in_threads(tmp_path, photo, monkeypatch):
  """Pillow warns about every second file; catching warnings is a matter of the whole process."""
  parse = metadata.parse_header

  def parse_slowly(path, content, max_pixels):
    time.sleep(len(content) % 5 / 1000)  # else another thread hardly ever comes in between
    return parse(path, content, max_pixels)

  monkeypatch.setattr(metadata, "parse_header", parse_slowly)
  for place in range(40):
    Image.fromarray(photo[:40, : 40 + place]).save(tmp_path / f"{place}.png")
    content = (tmp_path / f"{place}.png").read_bytes()
    odd = _png_chunk(b"acTL", struct.pack(">II", 0, 0)) if place % 2 else b""
    (tmp_path / f"{place}.png").write_bytes(content[:33] + odd + content[33:])
  paths = [tmp_path / f"{place}.png" for place in range(40)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    notes = [len(read.notes) for read in pool.map(read_photo, paths)]
  assert notes == [place % 2 for place in range(40)]
