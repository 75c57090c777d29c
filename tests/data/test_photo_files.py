"""Photos read and written whole: pixels by Pillow and NumPy, metadata by exifread and a search."""

import concurrent.futures
import dataclasses
import hashlib
import io
import os
import pathlib
import struct
import sys
import time
import zlib

import exifread
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from rpfgsm_jax.data import images, metadata
from rpfgsm_jax.data.images import ImageError, read_image
from rpfgsm_jax.data.photo_files import (
  Encoding,
  Photo,
  check_encodable,
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


def test_noise_fits_into_a_jpeg():
  """Pillow's optimize=True would fail here: "broken data stream"."""
  noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (300, 400, 3))
  encoding = Encoding(format="jpeg", quality=100, subsampling="4:4:4")
  assert decode_photo(encode_photo(_in_memory(noise), noise, encoding), None).shape == noise.shape


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
  assert _png_kinds(content) == {b"IHDR", b"IDAT", b"IEND"}


def test_bits_that_are_lost_are_noted(tmp_path, photo):
  (tmp_path / "deep.png").write_bytes(_deep_color(photo))
  read = read_photo(tmp_path / "deep.png")
  np.testing.assert_array_equal(read.pixels, photo)
  assert read.notes == (
    f"{tmp_path / 'deep.png'}: more than 8 bits a color channel, the upper 8 kept",
  )


# Metadata


def _directory(order, offset, fields, following=0):
  """A TIFF directory at `offset`: (tag, type, count, bytes) in order, long values after it."""
  table, values = struct.pack(order + "H", len(fields)), b""
  start = offset + 6 + 12 * len(fields)
  for tag, kind, count, content in sorted(fields):
    if len(content) > 4:
      place = struct.pack(order + "I", start + len(values))
      values += content + bytes(len(content) % 2)
    else:
      place = content.ljust(4, b"\0")
    table += struct.pack(order + "HHI", tag, kind, count) + place
  return table + struct.pack(order + "I", following) + values


def _text(tag, content, kind=2):
  return tag, kind, len(content), content


THUMBNAIL = b"\xff\xd8thumbnail-of-the-original\xff\xd9"
KEPT = (b"Zo\xc3\xab Owner\0", b"Serial-0815\0", b"Lens-4711\0", b"1999:12:31")
DROPPED = (THUMBNAIL, b"maker-preview", b"private-preview", b"long-preview", b"interoperable")
OTHERS = (b"xmp-secret", b"iptc-secret", b"comment-secret", b"text-secret", b"profile-secret")
XMP = b"<x:xmpmeta>xmp-secret</x:xmpmeta>"
LATITUDE = (47, 1, 22, 1, 1234, 100)


def _exif(order="<", orientation=6, pixels=None):
  """EXIF of a phone: everything that tells something about its owner or its picture.

  With pixels it is a TIFF file, whose second picture would be a page instead of a thumbnail.
  """

  def long(*values):
    return struct.pack(f"{order}{len(values)}I", *values)

  def short(value):
    return struct.pack(order + "H", value)

  starts = {"exif": 1000, "gps": 8000, "first": 9000, "interop": 10000}
  main = [
    _text(0x010F, b"Maker\0"), _text(0x013B, KEPT[0]), (0x0112, 3, 1, short(orientation)),
    (0x0100, 4, 1, long(331)), (0x0101, 4, 1, long(219)), _text(0xC4A5, b"private-preview", 7),
    _text(0x9C9D, "Zoë".encode("utf-16-le") + bytes(2), 1),
    (0x8769, 4, 1, long(starts["exif"])), (0x8825, 4, 1, long(starts["gps"])),
  ]  # fmt: skip
  exif = [
    _text(0x9000, b"0232", 7), (0x829A, 5, 1, long(1, 125)), _text(0xA431, KEPT[1]),
    _text(0xA435, KEPT[2]), _text(0x927C, b"maker-preview" * 20, 7), (0xA002, 4, 1, long(9999)),
    (0xA003, 4, 1, long(8888)), _text(0x9286, b"ASCII\0\0\0" + b"long-preview" * 400, 7),
    (0xA001, 3, 1, short(65535)), (0xA005, 4, 1, long(starts["interop"])),
    _text(0x9999, b"private-preview", 2),
  ]  # fmt: skip
  gps = [
    _text(0x0000, b"\2\3\0\0", 1), _text(0x0001, b"N\0"), (0x0002, 5, 3, long(*LATITUDE)),
    _text(0x001D, KEPT[3] + b"\0"),
  ]  # fmt: skip
  first = [(0x0201, 4, 1, long(9500)), (0x0202, 4, 1, long(len(THUMBNAIL)))]
  following = starts["first"]
  if pixels is not None:
    following, rows = 0, pixels.tobytes()
    main += [
      (0x0102, 3, 3, short(8) * 3), (0x0106, 3, 1, short(2)), (0x0111, 4, 1, long(11000)),
      (0x0115, 3, 1, short(3)), (0x0116, 4, 1, long(219)), (0x0117, 4, 1, long(len(rows))),
      _text(0x02BC, XMP, 1), _text(0x83BB, b"iptc-secret", 7), _text(0x8773, b"profile-secret", 7),
    ]  # fmt: skip
  content = bytearray(b"II*\0" if order == "<" else b"MM\0*") + long(8)
  parts = {
    8: _directory(order, 8, main, following),
    starts["exif"]: _directory(order, starts["exif"], exif),
    starts["gps"]: _directory(order, starts["gps"], gps),
    starts["first"]: _directory(order, starts["first"], first),
    9500: THUMBNAIL,
    starts["interop"]: _directory(order, starts["interop"], [_text(1, b"interoperable\0")]),
  }
  if pixels is not None:
    parts[11000] = rows
  for offset, part in parts.items():
    assert len(content) <= offset
    content += bytes(offset - len(content)) + part
  return b"Exif\0\0" + bytes(content)


def _talkative(path, photo, order):
  """A file that tells everything it can."""
  if path.suffix == ".tif":
    path.write_bytes(_exif(order, pixels=photo).removeprefix(b"Exif\0\0"))
    return path
  options = {"exif": _exif(order), "icc_profile": b"profile-secret"}
  if path.suffix == ".jpg":
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x0biptc-secret\0"
    extra = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    options |= {"xmp": XMP, "comment": b"comment-secret", "extra": extra}
  if path.suffix == ".png":
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "text-secret")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add(b"tIME", bytes(7))
    options["pnginfo"] = info
  if path.suffix == ".webp":
    options |= {"xmp": XMP, **_EXACT}
  Image.fromarray(photo).save(path, **options)
  return path


def _png_kinds(content):
  kinds, start = set(), 8
  while start < len(content):
    (length,) = struct.unpack_from(">I", content, start)
    kinds.add(content[start + 4 : start + 8])
    start += length + 12
  return kinds


def _webp_kinds(content):
  kinds, start = {}, 12
  while start < len(content):
    (length,) = struct.unpack_from("<I", content, start + 4)
    kinds[content[start : start + 4]] = content[start + 8 : start + 8 + length]
    start += 8 + length + length % 2
  return kinds


def _jpeg_kinds(content):
  """The markers before the pixels; nothing may follow the end of the picture."""
  assert content.index(b"\xff\xd9") == len(content) - 2
  kinds, start = set(), 2
  while content[start + 1] != 0xDA:
    kinds.add(content[start : start + 2])
    start += 2 + struct.unpack_from(">H", content, start + 2)[0]
  return kinds


# What a decoder needs, nothing else.
BARE = {
  "png": (_png_kinds, {b"IHDR", b"IDAT", b"IEND"}),
  "webp": (_webp_kinds, {b"VP8L"}),
  "jpeg": (_jpeg_kinds, {b"\xff\xe0", b"\xff\xdb", b"\xff\xc0", b"\xff\xc4"}),  # E0: JFIF
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_nothing_but_pixels_is_written(tmp_path, photo, suffix, form):
  path = _talkative(tmp_path / f"phone{suffix}", photo, "<")
  source = path.read_bytes()
  assert sum(secret in source for secret in (*KEPT, *OTHERS)) >= len(KEPT) + 1  # it does tell
  content = encode_photo(read := read_photo(path), read.seen(), Encoding(format=form))
  kinds, bare = BARE[form]
  assert set(kinds(content)) == bare
  assert [word for word in (*KEPT, *DROPPED, *OTHERS, b"Maker", b"Exif") if word in content] == []
  assert exifread.process_file(io.BytesIO(content)) == {}
  with Image.open(io.BytesIO(content)) as picture:
    picture.load()
    assert dict(picture.getexif()) == {}
    assert not {"exif", "xmp", "icc_profile", "comment", "dpi", "mp"} & set(picture.info)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
  ("suffix", "order"), [(".jpg", "<"), (".jpg", ">"), (".png", "<"), (".webp", ">"), (".tif", "<")]
)
def test_kept_metadata_is_exif_without_pictures(tmp_path, photo, suffix, order, form):
  read = read_photo(_talkative(tmp_path / f"phone{suffix}", photo, order))
  assert read.pixels.shape == (331, 219, 3)  # turned
  content = encode_photo(read, read.seen(), Encoding(format=form), keep_metadata=True)
  assert decode_photo(content, None).shape == (331, 219, 3)  # and not once more
  assert [word for word in KEPT if word not in content] == []
  assert [word for word in KEPT[:3] if read.exif.index(word) % 2] == []  # TIFF's rule
  assert [word for word in (*DROPPED, *OTHERS) if word in content] == []
  # exifread does not find the chunk of a WebP behind one of odd length.
  exif = _webp_kinds(content)[b"EXIF"] if form == "webp" else content
  tags = exifread.process_file(io.BytesIO(exif), details=True)
  told = {name: str(tag) for name, tag in tags.items()}
  assert told["Image Make"] == "Maker"
  assert told["Image Orientation"] == "Horizontal (normal)"
  assert told["Image XPAuthor"].rstrip("\0") == "Zoë"
  assert told["EXIF BodySerialNumber"] == "Serial-0815"
  assert told["EXIF ExposureTime"] == "1/125"
  assert told["EXIF ColorSpace"] == "sRGB"
  assert (told["EXIF ExifImageWidth"], told["EXIF ExifImageLength"]) == ("219", "331")
  assert [float(part) for part in tags["GPS GPSLatitude"].values] == [47, 22, 12.34]
  assert not [name for name in told if "Thumb" in name or "Maker" in name or "Interop" in name]
  assert not [name for name in told if name in ("Image ImageWidth", "Image ImageLength")]


def test_exif_in_a_text_of_a_png_is_kept(tmp_path, photo):
  """ImageMagick's way: a name, a length, hexadecimal digits."""
  exif, info = _exif(), PngImagePlugin.PngInfo()
  info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n")
  Image.fromarray(photo).save(tmp_path / "magick.png", pnginfo=info)
  read = read_photo(tmp_path / "magick.png")
  assert read.pixels.shape == (331, 219, 3)
  assert [word for word in KEPT if word not in read.exif] == []
  assert [word for word in DROPPED if word in read.exif] == []


def test_the_second_picture_of_a_phone_is_left_out(tmp_path, photo):
  preview = Image.fromarray(photo[:40, :50])
  path = tmp_path / "phone.jpg"
  Image.fromarray(photo).save(path, "MPO", save_all=True, append_images=[preview])
  read = read_photo(path)
  assert read.pixels.shape == photo.shape
  assert read.notes == (f"{path}: further pictures (previews or views) left out",)
  content = encode_photo(read, read.seen(), Encoding(format="jpeg"), keep_metadata=True)
  assert content.count(b"\xff\xd8") == 1


@pytest.mark.parametrize(
  "tiff",
  [
    b"",
    b"Exif\0\0",
    b"II*\0",
    b"II*\0\xff\xff\xff\xff",
    b"MM\0*\0\0\0\x08\xff\xff",
    b"XX*\0\x08\0\0\0",
    b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0110, 2, 2**31, 9),
    b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8),  # points to itself
  ],
  ids=["empty", "prefix", "head", "outside", "cut", "order", "long", "loop"],
)
def test_broken_exif_is_left_out(photo, tiff):
  picture = Image.fromarray(photo)
  picture.info["exif"] = tiff
  assert metadata.kept_exif(picture, b"", (1, 1)) is None


def test_every_cut_of_exif_is_survived(photo):
  """What is kept of a cut structure is part of what is kept of the whole."""
  picture = Image.fromarray(photo)
  whole = _exif()
  for end in range(6, len(whole), 13):
    picture.info["exif"] = whole[:end]
    kept = metadata.kept_exif(picture, b"", (219, 331))
    assert kept is None or not any(word in kept for word in DROPPED)


def test_more_exif_than_fits_into_a_jpeg_is_left_out(photo):
  picture = Image.fromarray(photo)
  fields = [_text(tag, b"word " * 800) for tag in range(0xA430, 0xA43D)]
  fields += [_text(tag, b"word " * 800) for tag in range(0x9400, 0x9406)]
  main = _directory("<", 8, [(0x8769, 4, 1, struct.pack("<I", 100))])
  tiff = (b"II*\0\x08\0\0\0" + main).ljust(100, b"\0")
  picture.info["exif"] = tiff + _directory("<", 100, fields)
  assert metadata.kept_exif(picture, b"", (219, 331)) is None
  picture.info["exif"] = tiff + _directory("<", 100, fields[:10])
  exif = metadata.kept_exif(picture, b"", (219, 331))
  encode_photo(_in_memory(photo, exif=exif), photo, Encoding(format="jpeg"), keep_metadata=True)


# Files that are refused


def _refused(path, read=read_photo, **options):
  with pytest.raises(ImageError) as caught:
    read(path, **options)
  message = str(caught.value)
  assert message.startswith(str(path))
  assert ";" in message  # there is a remedy
  return message


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"", "got 0 bytes; copy it again"),
    (b"Dear Sir or Madam,\n" * 9, "something else starting with b'Dear Sir'; convert"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "something else"),
    (b"\xff\xd8\xff\xe0", "truncated or damaged|something else"),
  ],
  ids=["empty", "text", "cr3", "cut"],
)
def test_files_that_are_no_pictures(tmp_path, content, reason):
  (tmp_path / "photo.jpg").write_bytes(content)
  with pytest.raises(ImageError, match=reason):
    read_photo(tmp_path / "photo.jpg")


def test_the_content_decides_and_not_the_suffix(tmp_path, photo):
  Image.fromarray(photo).save(tmp_path / "photo.jpg", format="PNG")
  np.testing.assert_array_equal(read_photo(tmp_path / "photo.jpg").pixels, photo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_truncated_files(tmp_path, photo, suffix):
  path = tmp_path / f"cut{suffix}"
  Image.fromarray(photo).save(path)
  path.write_bytes(path.read_bytes()[:-2000])
  assert "truncated or damaged" in _refused(path)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".heic"])
def test_several_frames_are_refused(tmp_path, photo, suffix):
  path = tmp_path / f"film{suffix}"
  frames = [Image.fromarray(each) for each in (photo, photo[::-1].copy(), 255 - photo)]
  if suffix == ".heic":
    film = pillow_heif.from_pillow(frames[0])
    film.add_from_pillow(frames[1])
    film.save(path)
  else:
    frames[0].save(path, save_all=True, append_images=frames[1:])
  assert "single still picture, got several frames" in _refused(path, open_photo)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (31, 400), (400, 31)])
def test_sides_without_a_scene_are_refused(tmp_path, shape):
  path = tmp_path / "strip.png"
  Image.fromarray(np.full((*shape, 3), 9, np.uint8)).save(path)
  message = _refused(path, open_photo)
  assert f"at least 32 pixels on both sides, got {shape[1]}x{shape[0]}" in message


def test_thirty_two_pixels_are_enough(tmp_path):
  Image.new("RGB", (32, 32)).save(tmp_path / "small.png")
  assert read_photo(tmp_path / "small.png").seen().shape == (32, 32, 3)


def _announced(width, height):
  """A PNG that says how large it is, and has no pixels."""
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  content = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(bytes(100)))
  return b"\x89PNG\r\n\x1a\n" + content + _png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
  ("size", "options", "most"),
  [
    ((12000, 9000), {}, Image.MAX_IMAGE_PIXELS),
    ((50000, 50000), {}, images.USUAL_PIXELS),
    ((50000, 50000), {"max_pixels": 10**10}, images.MAX_PIXELS),
    ((6000, 5000), {"max_pixels": 29_999_999}, 29_999_999),
  ],
  ids=["large", "bomb", "bomb-allowed", "limit"],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, size, options, most):
  (tmp_path / "large.png").write_bytes(_announced(*size))
  message = _refused(tmp_path / "large.png", open_photo, **options)
  assert f"must have at most {most} pixels" in message
  assert str(size[0] * size[1]) in message


def test_a_large_photo_may_be_allowed(tmp_path):
  opened = images.open_bytes(tmp_path, _announced(12000, 9000), max_pixels=108_000_000)
  assert opened.size == (9000, 12000)


def test_a_large_tiff_is_refused_before_it_is_decoded(tmp_path, photo):
  path = tmp_path / "large.tif"
  Image.fromarray(photo).save(path)
  path.write_bytes(path.read_bytes()[:2000])
  assert "must have at most 1000 pixels" in _refused(path, max_pixels=1000)


@pytest.mark.parametrize("max_pixels", [0, -5, 1e6, None])
def test_max_pixels_must_be_a_number_of_pixels(tmp_path, max_pixels):
  with pytest.raises(ValueError, match="max_pixels must be a positive integer"):
    read_photo(tmp_path / "photo.png", max_pixels=max_pixels)


@pytest.mark.parametrize("suffix", [".CR2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf"])
def test_raw_photos_are_refused_by_their_suffix(tmp_path, photo, suffix):
  path = tmp_path / f"photo{suffix}"
  Image.fromarray(photo).save(path, format="TIFF")  # the preview that Pillow would find
  assert "camera's raw file; export it as JPEG, PNG or TIFF" in _refused(path, open_photo)


@pytest.mark.parametrize("tag", [{50706: b"\1\4\0\0"}, {254: 1}], ids=["dng", "preview"])
def test_raw_photos_are_refused_by_their_content(tmp_path, photo, tag):
  path = tmp_path / "photo.tif"
  Image.fromarray(photo).save(path, tiffinfo=tag)
  assert "camera's raw file" in _refused(path, open_photo)


def test_places_without_a_file(tmp_path, monkeypatch):
  assert "there is none; check the name" in _refused(tmp_path / "gone.jpg")
  assert "got a folder" in _refused(tmp_path)
  (tmp_path / "loop.jpg").symlink_to("loop.jpg")
  assert "must be a readable file" in _refused(tmp_path / "loop.jpg")
  if hasattr(os, "mkfifo"):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "got a special file" in _refused(tmp_path / "pipe.jpg")

  def refuse(*arguments):
    raise PermissionError(13, "Permission denied")

  (tmp_path / "secret.jpg").write_bytes(b"secret")
  monkeypatch.setattr(images, "open", refuse, raising=False)
  assert "got Permission denied; check its permissions" in _refused(tmp_path / "secret.jpg")


class _Meanwhile(io.FileIO):
  """A file to which something happens just before it is read."""

  happens = staticmethod(lambda path: None)

  def read(self, size=-1):
    self.happens(self.name)
    return super().read(size)


def _touch(path):
  os.utime(path, ns=(1, 1))


def _append(path):
  before = os.stat(path)
  with open(path, "ab") as file:
    file.write(b"more")
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _cut(path):
  before = os.stat(path)
  os.truncate(path, 50)
  os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("happens", [_touch, _append, _cut])
def test_a_file_that_changes_while_it_is_read(tmp_path, photo, monkeypatch, happens):
  path = tmp_path / "photo.png"
  Image.fromarray(photo).save(path)
  monkeypatch.setattr(images, "open", _Meanwhile, raising=False)
  np.testing.assert_array_equal(read_photo(path).pixels, photo)
  monkeypatch.setattr(_Meanwhile, "happens", staticmethod(happens))
  assert "must stay as it is while it is read" in _refused(path)


# HEIC


def _heic(path, photo, **options):
  pillow_heif.from_pillow(Image.fromarray(photo)).save(path, quality=90, **options)
  return path


def test_a_heic_photo(tmp_path, photo):
  path = _heic(tmp_path / "phone.heic", photo, exif=_exif(orientation=6))
  read = read_photo(path)
  np.testing.assert_array_equal(read.pixels, np.asarray(pillow_heif.open_heif(path).to_pillow()))
  # Its container turns it; the EXIF orientation must not do so once more.
  upright = np.rot90(photo, -1)
  assert read.pixels.shape == upright.shape
  assert np.abs(read.pixels.astype(int) - upright).mean() < 3  # HEVC's loss
  np.testing.assert_array_equal(read.seen(), read_image(path))
  assert read.notes == ()
  content = encode_photo(read, read.seen(), Encoding(), keep_metadata=True)
  assert KEPT[1] in content
  assert THUMBNAIL not in content


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


def test_heic_without_its_reader_names_the_remedy(tmp_path, photo, monkeypatch):
  path = _heic(tmp_path / "phone.heic", photo)
  monkeypatch.setitem(sys.modules, "pillow_heif", None)
  assert "run pip install 'rpfgsm-jax[heic]', or convert" in _refused(path)


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


# Writing


@pytest.mark.parametrize("form", FORMATS)
def test_the_suffix_is_the_formats(photo, form):
  content = encode_photo(_in_memory(photo), photo, Encoding(format=form))
  with Image.open(io.BytesIO(content)) as picture:
    assert Image.registered_extensions()[Encoding(format=form).suffix] == picture.format


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("format", "gif"), ("format", None), ("quality", 0), ("quality", 101), ("quality", 90.0),
    ("quality", True), ("subsampling", "4:2:2"), ("subsampling", 0),
  ],
)  # fmt: skip
def test_an_encoding_checks_itself(field, value):
  with pytest.raises(ValueError, match=rf"{field} must be .*, got .*;"):
    Encoding(**{field: value})


def test_an_encoding_is_a_value():
  assert len({Encoding(), Encoding(format="png"), Encoding(quality=80)}) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    Encoding().quality = 3


@pytest.mark.parametrize(("form", "most"), [("webp", 16383), ("jpeg", 65500)])
def test_a_photo_too_long_for_a_format_is_refused(form, most):
  encoding = Encoding(format=form)
  longest, longer = (_in_memory(np.zeros((32, most + more, 3), np.uint8)) for more in (0, 1))
  assert decode_photo(encode_photo(longest, longest.pixels, encoding), None).shape[1] == most
  for refuse in (check_encodable, lambda each, how: encode_photo(each, each.pixels, how)):
    with pytest.raises(ImageError, match=f"at most {most} pixels .*; write it as png"):
      refuse(longer, encoding)
  check_encodable(longer, Encoding())


@pytest.mark.parametrize(
  "wrong", [lambda a: a[:-1], lambda a: a.astype(np.float32), lambda a: a[..., :1]],
  ids=["size", "dtype", "channels"],
)  # fmt: skip
def test_pixels_of_another_photo_are_refused(photo, wrong):
  with pytest.raises(ValueError, match=r"must (have|be) .*;"):
    encode_photo(_in_memory(photo), wrong(photo), Encoding())


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_file_is_not_decoded(photo, form):
  content = encode_photo(_in_memory(photo), photo, Encoding(format=form))
  with pytest.raises(ImageError, match="new must be a complete picture"):
    decode_photo(content[:-500], pathlib.Path("new"))
  with pytest.raises(ImageError, match="the photo must be a complete picture"):
    decode_photo(content[:-500], None)
