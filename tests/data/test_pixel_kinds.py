"""Gray, palettes, sixteen bits and inks as eight-bit colors: `read_image` by kind of pixels."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import png_chunk as _png_chunk
from picture_files import read as _read
from picture_files import save as _save
from PIL import Image

from rpfgsm_jax.data.images import ImageError, read_image


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
