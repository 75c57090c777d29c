"""Reading, resizing and writing one picture, against Pillow, NumPy and the files' own meaning."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import png_chunk as _png_chunk
from picture_files import read as _read
from picture_files import save as _save
from PIL import Image

from rpfgsm_jax.data.images import ImageError, read_image, resize

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


def _insert_before_end(path, chunk):
  """Adds a PNG chunk after the pixels."""
  content = path.read_bytes()
  assert content[-8:-4] == b"IEND"
  path.write_bytes(content[:-12] + chunk + content[-12:])


def test_png_orientation_after_the_pixels(tmp_path, photo):
  path = _save(tmp_path / "late.png", photo)
  _insert_before_end(path, _png_chunk(b"eXIf", _exif(6).tobytes()[6:]))
  np.testing.assert_array_equal(read_image(path), np.rot90(photo, -1))


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
