"""Reading, resizing and writing one picture, against Pillow, NumPy and the files' own meaning."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rpfgsm_jax.data import images
from rpfgsm_jax.data.images import ImageError, preprocess, read_image, resize, write_png


def _save(path, array, mode=None, **options):
  picture = Image.fromarray(array)
  (picture if mode is None else picture.convert(mode)).save(path, **options)
  return path


def _read(path):
  """The picture and its notes."""
  notes = []
  return read_image(path, notes=notes), notes


# What every file must give


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".webp"])
def test_lossless_formats_come_back_exactly(tmp_path, photo, suffix):
  options = {"lossless": True} if suffix == ".webp" else {}
  image, notes = _read(_save(tmp_path / f"photo{suffix}", photo, **options))
  np.testing.assert_array_equal(image, photo)
  assert image.dtype == np.uint8
  assert image.flags.writeable
  assert notes == []


def test_jpeg_is_what_pillow_decodes(tmp_path, photo):
  path = _save(tmp_path / "photo.jpg", photo, quality=80)
  with Image.open(path) as picture:
    expected = np.asarray(picture)
  np.testing.assert_array_equal(read_image(path), expected)


def test_one_pixel(tmp_path):
  image = read_image(_save(tmp_path / "dot.png", np.array([[[3, 200, 90]]], np.uint8)))
  np.testing.assert_array_equal(image, [[[3, 200, 90]]])


def test_twelve_megapixels(tmp_path):
  rows, columns = np.arange(3000)[:, None], np.arange(4000)
  ramp = np.stack(np.broadcast_arrays(rows // 12, columns // 16, (rows + columns) // 28), -1)
  path = _save(tmp_path / "large.jpg", ramp.astype(np.uint8), quality=95)
  image = read_image(path)
  assert image.shape == (3000, 4000, 3)
  assert np.abs(image.astype(int) - ramp).mean() < 2  # JPEG's own loss


def test_size_resizes_directly(tmp_path, photo):
  path = _save(tmp_path / "photo.png", photo)
  np.testing.assert_array_equal(read_image(path, (40, 70)), resize(photo, (40, 70)))


# Orientation

_UPRIGHT = {  # what a viewer must do to pixels stored under each orientation, in NumPy's words
  1: lambda a: a,
  2: lambda a: a[:, ::-1],
  3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1],
  5: lambda a: a.swapaxes(0, 1),
  6: lambda a: np.rot90(a, -1),
  7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
  8: lambda a: np.rot90(a),
}


def _exif(orientation):
  exif = Image.Exif()
  exif[0x0112] = orientation
  return exif


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, photo, orientation, suffix):
  stored = photo[:13, :7]
  options = {"lossless": True} if suffix == ".webp" else {}
  path = _save(tmp_path / f"turned{suffix}", stored, exif=_exif(orientation), **options)
  np.testing.assert_array_equal(read_image(path), _UPRIGHT[orientation](stored))


@pytest.mark.parametrize("orientation", [3, 6, 8, 0, 9])
def test_exif_orientation_of_a_jpeg(tmp_path, photo, orientation):
  path = _save(tmp_path / "turned.jpg", photo, exif=_exif(orientation))
  with Image.open(path) as picture:
    stored = np.asarray(picture)
  np.testing.assert_array_equal(read_image(path), _UPRIGHT.get(orientation, _UPRIGHT[1])(stored))


def _png_chunk(kind, content):
  body = kind + content
  return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _insert_before_end(path, chunk):
  """Adds a PNG chunk after the pixels."""
  content = path.read_bytes()
  assert content[-8:-4] == b"IEND"
  path.write_bytes(content[:-12] + chunk + content[-12:])


def test_png_orientation_after_the_pixels(tmp_path, photo):
  path = _save(tmp_path / "late.png", photo)
  _insert_before_end(path, _png_chunk(b"eXIf", _exif(6).tobytes()[6:]))
  np.testing.assert_array_equal(read_image(path), np.rot90(photo, -1))


# Kinds of pixels


def test_gray_becomes_three_equal_channels(tmp_path, photo):
  gray = photo[..., 1]
  image, notes = _read(_save(tmp_path / "gray.png", gray))
  np.testing.assert_array_equal(image, np.repeat(gray[..., None], 3, -1))
  assert notes == []


def test_one_bit_is_black_and_white(tmp_path):
  bits = np.array([[True, False, True], [False, False, True]])
  image, _ = _read(_save(tmp_path / "bits.png", bits))
  np.testing.assert_array_equal(image, np.where(bits, 255, 0)[..., None].repeat(3, -1))


def test_palette(tmp_path, photo):
  picture = Image.fromarray(photo).quantize(17)
  picture.save(tmp_path / "palette.png")
  image, notes = _read(tmp_path / "palette.png")
  colors = np.array(picture.getpalette()).reshape(-1, 3)
  np.testing.assert_array_equal(image, colors[np.asarray(picture)])
  assert notes == []


def _ramp16():
  """All multiples of 16 levels in 16 bits and both ends: 4,097 gray values."""
  return np.append(np.arange(0, 65536, 16), 65535).astype(np.uint16).reshape(17, 241)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path, suffix):
  ramp = _ramp16()
  image, notes = _read(_save(tmp_path / f"deep{suffix}", ramp))
  expected = np.round(ramp / 65535 * 255)  # no exact halves: 65535 is odd
  np.testing.assert_array_equal(image, expected[..., None].repeat(3, -1))
  assert len(notes) == 1
  assert "rounded to 8 bits" in notes[0]
  assert str(tmp_path) in notes[0]


def test_sixteen_bit_big_endian_tiff(tmp_path):
  ramp = _ramp16()
  header = struct.pack(">2sHI", b"MM", 42, 8)
  tags = [(256, 241), (257, 17), (258, 16), (259, 1), (262, 1), (273, 122), (277, 1), (278, 17)]
  tags += [(279, ramp.size * 2)]
  directory = struct.pack(">H", len(tags))
  for tag, value in tags:
    directory += struct.pack(">HHII", tag, 4, 1, value)
  content = header + directory + struct.pack(">I", 0)
  assert len(content) == 122
  (tmp_path / "big.tif").write_bytes(content + ramp.astype(">u2").tobytes())
  expected = np.round(ramp / 65535 * 255)[..., None].repeat(3, -1)
  np.testing.assert_array_equal(read_image(tmp_path / "big.tif"), expected)


def test_sixteen_bit_tiff_where_zero_is_white(tmp_path):
  ramp = _ramp16()
  picture = Image.fromarray(ramp)
  picture.save(tmp_path / "negative.tif", tiffinfo={262: 0})
  expected = 255 - np.round(ramp / 65535 * 255)[..., None].repeat(3, -1)
  np.testing.assert_array_equal(read_image(tmp_path / "negative.tif"), expected)


def test_sixteen_bit_color_keeps_the_upper_byte(tmp_path):
  codes = np.arange(0, 65536, 1024, dtype=np.uint16).repeat(3).reshape(8, 8, 3)
  codes[..., 1] = 65535 - codes[..., 1]
  rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in codes)
  header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
  content = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header)
  content += _png_chunk(b"tRNS", struct.pack(">HHH", 1024, 64511, 1024))
  content += _png_chunk(b"IDAT", zlib.compress(rows)) + _png_chunk(b"IEND", b"")
  (tmp_path / "deep.png").write_bytes(content)
  image, notes = _read(tmp_path / "deep.png")
  np.testing.assert_array_equal(image, codes >> 8)
  assert [note for note in notes if "transparent color" in note]


def test_sixteen_bit_gray_with_a_transparent_code(tmp_path):
  ramp = np.array([[0, 1000, 40000]], np.uint16)
  _save(tmp_path / "deep.png", ramp, transparency=1000)
  image, _ = _read(tmp_path / "deep.png")
  np.testing.assert_array_equal(image[0, :, 0], [0, 255, round(40000 / 65535 * 255)])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(tmp_path, dtype):
  path = _save(tmp_path / "deep.tif", np.arange(6, dtype=dtype).reshape(2, 3))
  with pytest.raises(ImageError, match=r"deep\.tif must have .* save it as an 8-bit"):
    read_image(path)


def test_cmyk_lossless(tmp_path, photo):
  # All four channels vary, so that a swapped or an inverted one shows.
  cmyk = np.concatenate([photo[:40, :30], photo[40:80, 50:80, :1] // 2], -1)
  Image.fromarray(cmyk, "CMYK").save(tmp_path / "ink.tif")
  image, notes = _read(tmp_path / "ink.tif")
  ink = cmyk.astype(np.float64)
  expected = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
  assert np.abs(image - expected).max() <= 1  # Pillow's integer arithmetic
  assert len(notes) == 1
  assert "CMYK" in notes[0]


def test_cmyk_jpeg(tmp_path, photo):
  path = _save(tmp_path / "ink.jpg", photo, "CMYK", quality=95)
  image, _ = _read(path)
  assert np.abs(image.astype(int) - photo).mean() < 3  # not inverted; JPEG's loss


# Transparency


def _alpha(shape):
  """Levels 0..255 in every row, its length not dividing them."""
  return (np.arange(np.prod(shape)) * 7 % 256).reshape(shape).astype(np.uint8)


def _over_white(colors, alpha):
  alpha = alpha[..., None].astype(np.float64)
  return (colors * alpha + 255 * (255 - alpha)) / 255


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_laid_over_white(tmp_path, photo, suffix):
  alpha = _alpha(photo.shape[:2])
  rgba = np.concatenate([photo, alpha[..., None]], -1)
  options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
  image, notes = _read(_save(tmp_path / f"glass{suffix}", rgba, **options))
  assert np.abs(image - _over_white(photo, alpha)).max() <= 1  # Pillow's integer arithmetic
  np.testing.assert_array_equal(image[alpha == 255], photo[alpha == 255])
  assert (image[alpha == 0] == 255).all()
  assert "over white" in notes[0]


def test_gray_with_alpha(tmp_path, photo):
  gray, alpha = photo[..., 0], _alpha(photo.shape[:2])
  image, _ = _read(_save(tmp_path / "glass.png", np.stack([gray, alpha], -1)))
  assert np.abs(image - _over_white(gray[..., None].repeat(3, -1), alpha)).max() <= 1


@pytest.mark.parametrize("transparency", [4, bytes(range(0, 255, 15))], ids=["index", "table"])
def test_palette_with_transparency(tmp_path, photo, transparency):
  picture = Image.fromarray(photo).quantize(17)
  picture.save(tmp_path / "glass.png", transparency=transparency)
  image, notes = _read(tmp_path / "glass.png")
  table = np.full(17, 255)
  if isinstance(transparency, int):
    table[transparency] = 0
  else:
    table[: len(transparency)] = list(transparency)
  indices = np.asarray(picture)
  colors = np.array(picture.getpalette()).reshape(-1, 3)[indices]
  assert np.abs(image - _over_white(colors, table[indices])).max() <= 1
  assert "over white" in notes[0]


@pytest.mark.parametrize(
  ("mode", "key"), [("L", 9), ("RGB", (10, 20, 30)), ("1", 255)], ids=["gray", "color", "bits"]
)
def test_a_transparent_color_becomes_white(tmp_path, mode, key):
  picture = Image.new(mode, (4, 3), 0)
  picture.putpixel((1, 2), key)
  picture.save(tmp_path / "key.png", transparency=255 if mode == "1" else key)
  expected = np.zeros((3, 4, 3))
  expected[2, 1] = 255
  np.testing.assert_array_equal(read_image(tmp_path / "key.png"), expected)


def test_an_opaque_alpha_channel_changes_nothing(tmp_path, photo):
  image, notes = _read(_save(tmp_path / "opaque.png", photo, "RGBA"))
  np.testing.assert_array_equal(image, photo)
  assert notes == []


# Frames


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_the_first_frame_of_several_is_read_and_noted(tmp_path, suffix):
  frames = [Image.new("RGB", (9, 5), color) for color in ("red", "lime", "blue")]
  options = {"lossless": True} if suffix == ".webp" else {}
  path = tmp_path / f"film{suffix}"
  frames[0].save(path, save_all=True, append_images=frames[1:], **options)
  image, notes = _read(path)
  np.testing.assert_array_equal(image, np.broadcast_to([255, 0, 0], (5, 9, 3)))
  assert len(notes) == 1
  assert notes[0] == f"{path}: several frames, only the first was read"


def test_a_phone_photo_with_a_preview_is_no_animation(tmp_path, photo):
  path = tmp_path / "phone.jpg"
  preview = Image.fromarray(photo[:20, :20])
  Image.fromarray(photo).save(path, "MPO", save_all=True, append_images=[preview])
  image, notes = _read(path)
  assert image.shape == photo.shape
  assert notes == [f"{path}: further pictures (previews or views) left out"]


# Files that are none


def test_a_text_file_with_an_image_suffix(tmp_path):
  (tmp_path / "letter.jpg").write_text("Dear Sir or Madam,\n" * 20)
  with pytest.raises(ImageError, match=r"letter\.jpg must be .* b'Dear Sir'; convert"):
    read_image(tmp_path / "letter.jpg")


def test_a_format_that_starts_programs_is_not_tried(tmp_path, photo):
  Image.fromarray(photo[:8, :8]).save(tmp_path / "script.eps")
  (tmp_path / "script.eps").rename(tmp_path / "script.jpg")
  with pytest.raises(ImageError, match="a PostScript document"):
    read_image(tmp_path / "script.jpg")


@pytest.mark.parametrize("fraction", [0.003, 0.05, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif", ".ppm"])
def test_a_truncated_file(tmp_path, photo, suffix, fraction):
  path = _save(tmp_path / f"cut{suffix}", photo)
  content = path.read_bytes()
  path.write_bytes(content[: max(4, int(len(content) * fraction))])
  with pytest.raises(ImageError, match=r"cut\.\w+ must be .*(truncated|starting with)"):
    read_image(path)


def test_a_damaged_png(tmp_path, photo):
  path = _save(tmp_path / "damaged.png", photo)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0xFF
  path.write_bytes(content)
  with pytest.raises(ImageError, match=r"damaged\.png must be a complete picture"):
    read_image(path)


@pytest.mark.parametrize("side", [10_000, 50_000], ids=["pillow-warns", "pillow-raises"])
def test_a_decompression_bomb(tmp_path, side):
  header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
  content = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header)
  content += _png_chunk(b"IDAT", zlib.compress(bytes(100))) + _png_chunk(b"IEND", b"")
  (tmp_path / "bomb.png").write_bytes(content)
  with pytest.raises(ImageError, match=r"bomb\.png must have at most \d+ pixels.*smaller copy"):
    read_image(tmp_path / "bomb.png")


def test_a_file_of_gigabytes_is_not_read(tmp_path):
  with open(tmp_path / "film.jpg", "wb") as file:
    file.truncate(2**31)  # sparse: takes no room
  with pytest.raises(ImageError, match=r"film\.jpg must have at most \d+ bytes"):
    read_image(tmp_path / "film.jpg")


def test_pillows_warnings_become_notes(tmp_path, photo):
  # acTL announcing no frames: Pillow warns and reads the still picture.
  path = _save(tmp_path / "odd.png", photo)
  content = path.read_bytes()
  path.write_bytes(content[:33] + _png_chunk(b"acTL", struct.pack(">II", 0, 0)) + content[33:])
  image, notes = _read(path)
  np.testing.assert_array_equal(image, photo)
  assert len(notes) == 1
  assert "Pillow warned: Invalid APNG" in notes[0]


def test_pillows_warnings_about_late_metadata_become_notes(tmp_path, photo):
  path = _save(tmp_path / "late.png", photo)
  _insert_before_end(path, _png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x05\x01\x12"))
  image, notes = _read(path)
  np.testing.assert_array_equal(image, photo)
  assert "Pillow warned" in notes[0]


def test_no_wrong_size_is_taken(tmp_path, photo):
  path = _save(tmp_path / "photo.png", photo)
  for size in [(0, 4), (4,), 7, (4.5, 4), "ab", (4, 4, 3), (4, None)]:
    with pytest.raises(ValueError, match=r"must be \(height, width\)"):
      read_image(path, size)


# Sizes


@pytest.mark.parametrize("size", [(64, 96), (219, 331), (400, 500), (1, 1)])
def test_paper_is_pillows_bilinear_resize(photo, size):
  expected = Image.fromarray(photo).resize(size[::-1], Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(preprocess(photo, size, "paper"), np.asarray(expected))


def test_resize_is_antialiased(photo):
  """Shrinking eightfold is a triangle-weighted mean over 16 pixels, not two neighbors."""
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 254
  shrunk = resize(stripes, (8, 8))[:, 1:-1]
  assert np.abs(shrunk.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
@pytest.mark.parametrize("side", [224, 128, 101])
def test_places365_is_resize_of_the_shorter_side_and_center_crop(photo, side, turned):
  image = np.ascontiguousarray(photo.swapaxes(0, 1)) if turned else photo
  height, width = image.shape[:2]
  short = round(side * 256 / 224)
  scaled = (short, int(short * width / height)) if width > height else (
    int(short * height / width), short)  # fmt: skip
  whole = Image.fromarray(image).resize(scaled[::-1], Image.Resampling.BILINEAR)
  top, left = round((scaled[0] - side) / 2), round((scaled[1] - side) / 2)
  expected = np.asarray(whole)[top : top + side, left : left + side]
  np.testing.assert_array_equal(preprocess(image, (side, side), "places365"), expected)


def test_places365_covers_a_rectangle(photo):
  image = preprocess(photo, (50, 200), "places365")
  assert image.shape == (50, 200, 3)
  # 331 x 219 must cover 229 x 57: the width decides; the center is kept.
  wide = Image.fromarray(photo).resize((229, int(229 * 219 / 331)), Image.Resampling.BILINEAR)
  np.testing.assert_array_equal(image, np.asarray(wide)[50:100, 14:214])


def test_places365_takes_the_center_of_a_long_strip():
  strip = np.zeros((2, 200_000, 3), np.uint8)
  strip[:, 99_999:100_001] = 200
  image = preprocess(strip, (64, 64), "places365")
  assert (image[:, 31:33] == 200).all()
  np.testing.assert_array_equal(image, image[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 10_000_000, 3), (9000, 2, 3)])
def test_places365_takes_any_shape(shape):
  image = preprocess(np.full(shape, 77, np.uint8), (32, 48), "places365")
  np.testing.assert_array_equal(image, np.full((32, 48, 3), 77))


def test_an_unknown_preprocessing_is_refused(photo):
  with pytest.raises(ValueError, match="how must be one of paper, places365, got 'crop'"):
    preprocess(photo, (8, 8), "crop")


@pytest.mark.parametrize(
  "image",
  [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), [[1]]],
  ids=["float", "gray", "batch", "list"],
)
@pytest.mark.parametrize("how", ["paper", "places365"])
def test_preprocess_refuses_other_arrays(image, how):
  with pytest.raises(ValueError, match="image must be"):
    preprocess(image, (8, 8), how)


# Writing


def test_written_pictures_come_back_exactly(tmp_path, photo):
  write_png(tmp_path / "new" / "photo.png", photo)
  np.testing.assert_array_equal(read_image(tmp_path / "new" / "photo.png"), photo)
  assert os.listdir(tmp_path / "new") == ["photo.png"]


@pytest.mark.parametrize("index", [np.s_[..., :1], np.s_[..., 0]], ids=["(H,W,1)", "(H,W)"])
def test_gray_is_written_as_gray(tmp_path, photo, index):
  write_png(tmp_path / "gray.png", photo[index])
  with Image.open(tmp_path / "gray.png") as picture:
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), photo[..., 0])


def test_views_that_are_not_contiguous_are_written_right(tmp_path, photo):
  write_png(tmp_path / "view.png", photo[::-2, ::3])
  np.testing.assert_array_equal(read_image(tmp_path / "view.png"), photo[::-2, ::3])


@pytest.mark.parametrize(
  "image",
  [
    np.zeros((4, 4, 3), np.float32),
    np.full((4, 4, 3), 300, np.int32),
    np.zeros((4, 4, 3), bool),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((2, 4, 4, 3), np.uint8),
    np.zeros((0, 4, 3), np.uint8),
    np.zeros(4, np.uint8),
  ],
  ids=["float", "int", "bool", "four-channels", "batch", "empty", "flat"],
)
def test_wrong_arrays_are_not_written(tmp_path, image):
  with pytest.raises(ValueError, match="image must be"):
    write_png(tmp_path / "new.png", image)
  assert os.listdir(tmp_path) == []


def test_another_suffix_is_not_written(tmp_path, photo):
  with pytest.raises(ValueError, match=r"path must end in \.png, got .*new\.jpg"):
    write_png(tmp_path / "new.jpg", photo)


def test_a_failure_while_encoding_keeps_the_old_picture(tmp_path, photo, monkeypatch):
  path = tmp_path / "photo.png"
  write_png(path, photo)

  def fail_midway(self, file, format=None):
    file.write_bytes(b"\x89PNG half")
    raise OSError("disk full")

  monkeypatch.setattr(Image.Image, "save", fail_midway)
  with pytest.raises(OSError, match="disk full"):
    write_png(path, photo[::2])
  monkeypatch.undo()
  np.testing.assert_array_equal(images.read_image(path), photo)
  assert os.listdir(tmp_path) == ["photo.png"]
