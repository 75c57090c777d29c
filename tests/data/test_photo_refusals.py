"""Photos that are refused before anything is lost: by name, by header, by changes meanwhile."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import phone_files
import pillow_heif
import pytest
from PIL import Image

from rpfgsm_jax.data import images
from rpfgsm_jax.data.images import ImageError
from rpfgsm_jax.data.photo_files import open_photo, read_photo


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
    (b"\xff\xd8\xff\xe0", "truncated or damaged|something else"),
  ],
  ids=["empty", "text", "cut"],
)
def test_files_that_are_no_pictures(tmp_path, content, reason):
  (tmp_path / "photo.jpg").write_bytes(content)
  with pytest.raises(ImageError, match=reason):
    read_photo(tmp_path / "photo.jpg")


def _jpeg(marker, bits=8):
  """A JPEG that says it is coded otherwise."""
  file = io.BytesIO()
  Image.new("RGB", (64, 48), (9, 99, 199)).save(file, "JPEG")
  content = bytearray(file.getvalue())
  place = content.index(b"\xff\xc0")
  content[place + 1], content[place + 4] = marker, bits
  return bytes(content)


def _sequence():
  """A film of pictures without a picture beside it."""
  file = io.BytesIO()
  pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(file)
  content = phone_files.with_film(file.getvalue())
  return phone_files.box(b"ftyp", b"msf1\0\0\0\0msf1hevc") + content[content.index(b"moov") - 4 :]


def _coded_otherwise():
  file = io.BytesIO()
  Image.new("RGB", (64, 64)).save(file, "AVIF")
  return file.getvalue().replace(b"avif", b"mif1")


@pytest.mark.parametrize(
  ("content", "kind"),
  [
    (_jpeg(0xC1, 12), "a JPEG of 12 bits a channel"),
    (_jpeg(0xC2, 12), "a JPEG of 12 bits a channel"),
    (_jpeg(0xC3), "a lossless JPEG"),
    (_jpeg(0xC3, 16), "a lossless JPEG of 16 bits a channel"),
    (_jpeg(0xC5), "a hierarchical JPEG"),
    (_jpeg(0xF7), "a JPEG-LS picture"),
    (_sequence(), "an image sequence"),
    (_coded_otherwise(), "a HEIF picture coded by AV1"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
    (b"FUJIFILMCCD-RAW 0201", "a camera's raw file"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"RIFF\0\0\0\0AVI LIST", "a film"),
    (b"<!DOCTYPE html><html>404", "a web page"),
    (bytes(5000), "nothing but zero bytes"),
  ],
)
def test_pictures_of_other_kinds_are_named(tmp_path, content, kind):
  (tmp_path / "photo.jpg").write_bytes(content)
  message = _refused(tmp_path / "photo.jpg")
  assert f"got {kind}" in message
  assert "convert it to JPEG or PNG" in message
  assert "damaged" not in message


def test_the_content_decides_and_not_the_suffix(tmp_path, photo):
  Image.fromarray(photo).save(tmp_path / "photo.jpg", format="PNG")
  np.testing.assert_array_equal(read_photo(tmp_path / "photo.jpg").pixels, photo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_truncated_files(tmp_path, photo, suffix):
  path = tmp_path / f"cut{suffix}"
  Image.fromarray(photo).save(path)
  path.write_bytes(path.read_bytes()[:-2000])
  assert "truncated or damaged" in _refused(path)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".avif", ".heic"])
def test_several_frames_are_refused(tmp_path, photo, suffix):
  path = tmp_path / f"film{suffix}"
  frames = [Image.fromarray(each) for each in (photo, photo[::-1].copy(), 255 - photo)]
  if suffix == ".heic":
    pillow_heif.from_pillow(frames[0]).save(path)
    path.write_bytes(phone_files.with_film(path.read_bytes()))
  else:
    frames[0].save(path, save_all=True, append_images=frames[1:])
  assert "single still picture, got several frames" in _refused(path, open_photo)


def test_a_heic_with_sound_is_a_photo(tmp_path, photo):
  path = tmp_path / "loud.heic"
  pillow_heif.from_pillow(Image.fromarray(photo)).save(path)
  path.write_bytes(phone_files.with_film(path.read_bytes(), b"soun"))
  assert read_photo(path).notes == ()


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
  file = io.BytesIO()
  Image.new("1", (1, 1)).save(file, "PNG")
  header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  return (
    file.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + file.getvalue()[33:]
  )


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


def test_heic_without_its_reader_names_the_remedy(tmp_path, photo, monkeypatch):
  path = tmp_path / "phone.heic"
  pillow_heif.from_pillow(Image.fromarray(photo)).save(path)
  monkeypatch.setitem(sys.modules, "pillow_heif", None)
  assert "run pip install 'rpfgsm-jax[heic]', or convert" in _refused(path)


def test_a_canons_raw_file_is_told_by_its_mark(tmp_path):
  """Pillow would read the preview in its first directory."""
  pixels = np.full((40, 48, 3), 77, np.uint8).tobytes()
  table = 16 + 2 + 12 * 8 + 4
  entries = [
    (0x0100, 4, 1, 48), (0x0101, 4, 1, 40), (0x0102, 3, 1, 8), (0x0106, 3, 1, 2),
    (0x0111, 4, 1, table), (0x0115, 3, 1, 3), (0x0116, 4, 1, 40), (0x0117, 4, 1, len(pixels)),
  ]  # fmt: skip
  body = struct.pack("<H", len(entries))
  body += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
  for mark, raw in ((b"CR\2\0", True), (b"\0\0\0\0", False)):
    path = tmp_path / f"{raw}.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 16) + mark + bytes(4) + body + pixels)
    if raw:
      with pytest.raises(ImageError, match="camera's raw file"):
        read_photo(path)
    else:
      assert np.all(read_photo(path).pixels == 77)
