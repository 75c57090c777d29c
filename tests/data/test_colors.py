"""Colors: ICC profiles, and spaces stated by other means, against LittleCMS and closed forms."""

import io
import struct

import numpy as np
import pillow_heif
import pytest
from picture_files import png_chunk, read, save
from PIL import Image, ImageCms

from rpfgsm_jax.data import color_spaces, iso_boxes
from rpfgsm_jax.data.images import read_image
from rpfgsm_jax.data.photo_files import Encoding, encode_photo, read_photo

# Color profiles


def _profile(name, primaries_to_xyz, curve, space=b"RGB "):
  """A small ICC v2 matrix profile; columns of the matrix are the D50 primaries.

  The curve is a gamma, or a table of light in 0..1.
  """

  def fixed(value):
    return struct.pack(">i", round(value * 65536))

  def xyz(values):
    return b"XYZ \0\0\0\0" + b"".join(fixed(value) for value in values)

  text = name.encode() + b"\0"
  points = [round(curve * 256)] if np.ndim(curve) == 0 else np.round(curve * 65535).astype(int)
  curve = b"curv\0\0\0\0" + struct.pack(f">I{len(points)}H", len(points), *points)
  tags = {
    b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
    b"wtpt": xyz((0.9642, 1.0, 0.8249)),
    **{key: curve for key in (b"rTRC", b"gTRC", b"bTRC", b"kTRC")},
    **{
      key: xyz(column)
      for key, column in zip(
        (b"rXYZ", b"gXYZ", b"bXYZ"), np.transpose(primaries_to_xyz), strict=True
      )
    },
  }
  offset = 128 + 4 + 12 * len(tags)
  table, body = struct.pack(">I", len(tags)), b""
  for key, content in tags.items():
    table += key + struct.pack(">II", offset + len(body), len(content))
    body += content + bytes(-len(content) % 4)
  header = struct.pack(">I4sI4s4s4s", offset + len(body), b"", 0x02100000, b"mntr", space, b"XYZ ")
  header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp")
  header += bytes(68 - len(header)) + b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
  return header + bytes(128 - len(header)) + table + body


_SRGB_TO_XYZ_D50 = np.array(
  [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169],
   [0.0139322, 0.0971045, 0.7141733]]
)  # fmt: skip
_WIDE_TO_XYZ_D50 = np.array(
  [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197],
   [0.0194811, 0.0608902, 0.7448387]]
)  # fmt: skip


def _srgb_light(codes):
  return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def _srgb_code(light):
  return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _wide_to_srgb(image, gamma=2.2):
  """The conversion in NumPy: gamma, matrices, the sRGB curve."""
  light = (image / 255.0) ** gamma
  light = light @ (np.linalg.inv(_SRGB_TO_XYZ_D50) @ _WIDE_TO_XYZ_D50).T
  return 255 * _srgb_code(np.clip(light, 0, 1))


def test_a_color_profile_is_applied(tmp_path, photo):
  profile = _profile("wide", _WIDE_TO_XYZ_D50, 2.2)
  image, notes = read(save(tmp_path / "wide.png", photo, icc_profile=profile))
  difference = np.abs(image - _wide_to_srgb(photo))
  assert np.abs(image.astype(int) - photo).mean() > 3  # it does something
  # LittleCMS interpolates curves in 16 bits; the darkest gamma values differ most.
  assert difference.mean() < 0.6
  assert difference.max() < 4
  assert notes == [f"{tmp_path / 'wide.png'}: colors converted to sRGB from the profile wide"]


def test_a_color_profile_under_transparency(tmp_path, photo):
  profile = _profile("wide", _WIDE_TO_XYZ_D50, 2.2)
  alpha = (np.arange(photo[..., 0].size) * 7 % 256).reshape(photo.shape[:2]).astype(np.uint8)
  rgba = np.concatenate([photo, alpha[..., None]], -1)
  image, notes = read(save(tmp_path / "wide.png", rgba, icc_profile=profile))
  share = alpha[..., None] / 255
  expected = _wide_to_srgb(photo) * share + 255 * (1 - share)
  assert np.abs(image - expected).max() < 4
  assert len(notes) == 2


def test_a_color_profile_on_a_gray_picture(tmp_path, photo):
  profile = _profile("wide", _WIDE_TO_XYZ_D50, 1.8)
  image, _ = read(save(tmp_path / "gray.png", photo[..., 0], icc_profile=profile))
  expected = _wide_to_srgb(photo[..., :1].repeat(3, -1), 1.8)
  assert np.abs(image - expected).max() < 4


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("table", [1024, 64], ids=["exact", "approximate"])
def test_what_is_srgb_by_its_numbers_changes_no_pixel(tmp_path, photo, mode, table):
  profile = _profile("any name", _SRGB_TO_XYZ_D50, _srgb_light(np.linspace(0, 1, table)))
  path = save(tmp_path / "photo.png", photo, mode, icc_profile=profile)
  image, notes = read(path)
  np.testing.assert_array_equal(image, np.asarray(Image.open(path).convert("RGB")))
  assert notes == []


def test_a_profile_is_not_believed_its_name(tmp_path, photo):
  profile = _profile("sRGB IEC61966-2.1", _SRGB_TO_XYZ_D50, 1.0)
  image, notes = read(save(tmp_path / "linear.png", photo, icc_profile=profile))
  assert np.abs(image - 255 * _srgb_code(photo / 255)).max() <= 1
  assert notes == [
    f"{tmp_path / 'linear.png'}: colors converted to sRGB from the profile sRGB IEC61966-2.1"
  ]


@pytest.mark.parametrize(
  "profile",
  [b"no profile at all", _profile("gray", _SRGB_TO_XYZ_D50, 2.2, b"GRAY")],
  ids=["garbage", "other-pixels"],
)
def test_an_unusable_profile_is_ignored_with_a_note(tmp_path, photo, profile):
  image, notes = read(save(tmp_path / "photo.png", photo, icc_profile=profile))
  np.testing.assert_array_equal(image, photo)
  assert len(notes) == 1
  assert "color profile ignored" in notes[0]


# Other statements

# Columns are the D50 primaries in the profiles that Apple and the ICC publish.
_P3_TO_XYZ_D50 = np.array(
  [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
_BT2020_TO_XYZ_D50 = np.array(
  [[0.67348, 0.16566, 0.12505], [0.27904, 0.67534, 0.04561], [-0.00194, 0.02998, 0.79686]]
)
_SRGB_CURVE = _srgb_light(np.linspace(0, 1, 4096))
_ADOBE = (_WIDE_TO_XYZ_D50, 563 / 256)
_P3 = (_P3_TO_XYZ_D50, _SRGB_CURVE)
_CHRM = {
  "sRGB": (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
  "Adobe": (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000),
  "P3": (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
  "flat": (31270, 32900, 30000, 30000, 30000, 30000, 30000, 30000),
}


def _by_littlecms(pixels, to_xyz_d50, curve):
  """The same conversion from a profile of that space, which LittleCMS reads."""
  return np.asarray(
    ImageCms.profileToProfile(
      Image.fromarray(pixels),
      io.BytesIO(_profile("x", to_xyz_d50, curve)),
      ImageCms.createProfile("sRGB"),
      renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
  ).astype(int)


def _png(path, pixels, *chunks, **options):
  save(path, pixels, **options)
  content = path.read_bytes()
  path.write_bytes(content[:33] + b"".join(png_chunk(*each) for each in chunks) + content[33:])
  return path


def _cicp(*codes):
  return b"cICP", bytes(codes)


def _chrm(name):
  return b"cHRM", struct.pack(">8I", *_CHRM[name])


def _gama(value):
  return b"gAMA", struct.pack(">I", value)


def _exif(space=None, index=None, main=None):
  inside = {} if space is None else {0xA001: space}
  exif = Image.Exif()
  for tag, value in (main or {}).items():
    exif[tag] = value
  exif[0x8769] = inside | ({0xA005: {1: index}} if index else {})
  return {"exif": exif.tobytes()}


_PRIMARIES = {0x013F: (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)}

# name: (how it is written, the space in LittleCMS's words or a function of codes in 0..1, note)
STATED = {
  "cicp-p3": (lambda p, a: _png(p, a, _cicp(12, 13, 0, 1)), _P3, "Display P3"),
  "cicp-2020": (
    lambda p, a: _png(p, a, _cicp(9, 13, 0, 1)), (_BT2020_TO_XYZ_D50, _SRGB_CURVE), "BT.2020"),
  "cicp-linear": (lambda p, a: _png(p, a, _cicp(1, 8, 0, 1)), _srgb_code, "curve 8"),
  "cicp-film": (
    lambda p, a: _png(p, a, _cicp(1, 17, 0, 1)),
    lambda v: _srgb_code(np.minimum(v**2.6 * 52.37 / 48, 1)), "curve 17"),
  "cicp-narrow": (
    lambda p, a: _png(p, a, _cicp(1, 13, 0, 0)),
    lambda v: np.clip((255 * v - 16) / 219, 0, 1), "BT.709"),
  "cicp-gray": (lambda p, a: _png(p, a[..., 1], _cicp(12, 4, 0, 1)),
    lambda v: _srgb_code(v[..., 1:2].repeat(3, -1) ** 2.2), "Display P3"),
  "cicp-before-iccp": (
    lambda p, a: _png(
      p, a, _cicp(12, 13, 0, 1), icc_profile=_profile("linear", _SRGB_TO_XYZ_D50, 1.0)),
    _P3, "Display P3"),
  "iccp-before-gama": (
    lambda p, a: _png(p, a, _gama(99999), icc_profile=_profile("w", *_ADOBE)), _ADOBE, "profile w"),
  "gama-chrm": (lambda p, a: _png(p, a, _gama(45470), _chrm("Adobe")), _ADOBE, "gAMA"),
  "gama": (lambda p, a: _png(p, a, _gama(100000)), _srgb_code, "gAMA"),
  "gama-1.8": (lambda p, a: _png(p, a, _gama(55556)), lambda v: _srgb_code(v**1.8), "gAMA"),
  "chrm": (lambda p, a: _png(p, a, _chrm("P3")), _P3, "cHRM"),
  "exif-in-png": (lambda p, a: _png(p, a, **_exif(65535, "R03")), _ADOBE, "Adobe RGB"),
  "exif-r03": (
    lambda p, a: save(p.with_suffix(".webp"), a, lossless=True, **_exif(65535, "R03")),
    _ADOBE, "Adobe RGB"),
  "exif-2": (lambda p, a: save(p.with_suffix(".tif"), a, **_exif(2)), _ADOBE, "Adobe RGB"),
  "exif-primaries": (
    lambda p, a: save(p.with_suffix(".tif"), a, **_exif(main=_PRIMARIES)),
    (_WIDE_TO_XYZ_D50, 2.2), "primaries"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATED)
def test_a_stated_space_is_brought_to_srgb(tmp_path, photo, kind):
  write, space, name = STATED[kind]
  path = write(tmp_path / "photo.png", photo)
  image, notes = read(path)
  expected = 255 * space(photo / 255) if callable(space) else _by_littlecms(photo, *space)
  difference = np.abs(image - expected)
  # LittleCMS rounds matrices and curves; the darkest codes of a power law are the steepest.
  assert difference.mean() < 0.6
  assert difference.max() <= 4
  assert np.abs(image.astype(int) - photo).mean() > 1  # it does something
  (note,) = notes
  assert note.startswith(f"{path}: colors converted to sRGB from ")
  assert name in note
  content = encode_photo(read_photo(path), image, Encoding(), keep_metadata=True)
  assert not [each for each in (b"cICP", b"gAMA", b"cHRM", b"iCCP", b"R03") if each in content]
  (tmp_path / "again.png").write_bytes(content)
  np.testing.assert_array_equal(read_image(tmp_path / "again.png"), image)


SRGB_ALREADY = {
  "cicp": (_cicp(1, 13, 0, 1),),
  "srgb": ((b"sRGB", b"\0"), _gama(45455), _chrm("Adobe")),
  "approximated": (_gama(45455), _chrm("sRGB")),
  "gama": (_gama(45455),),
  "unspecified": (_cicp(2, 2, 0, 1),),
  "of-no-kind": (_cicp(12, 13, 1, 1),),
  "none": (_gama(0),),
}


@pytest.mark.parametrize("kind", SRGB_ALREADY)
def test_what_is_stated_to_be_srgb_changes_no_pixel(tmp_path, photo, kind):
  image, notes = read(_png(tmp_path / "photo.png", photo, *SRGB_ALREADY[kind]))
  np.testing.assert_array_equal(image, photo)
  assert notes == []


NOTED = {
  "cicp-pq": (lambda p, a: _png(p, a, _cicp(9, 16, 0, 1)), "primaries 9, curve 16"),
  "cicp-reserved": (lambda p, a: _png(p, a, _cicp(99, 13, 0, 1)), "primaries 99, curve 13"),
  "cicp-camera": (lambda p, a: _png(p, a, _cicp(1, 1, 0, 1)), "camera's curve"),
  "no-primaries": (lambda p, a: _png(p, a, _chrm("flat")), "stated color space ignored"),
  "uncalibrated": (lambda p, a: _png(p, a, **_exif(65535)), "not sRGB and not named"),
  "table": (
    lambda p, a: save(p.with_suffix(".tif"), a, tiffinfo={301: tuple(range(256))}), "a table"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOTED)
def test_what_cannot_be_converted_is_noted(tmp_path, photo, kind):
  write, words = NOTED[kind]
  image, notes = read(write(tmp_path / "photo.png", photo))
  np.testing.assert_array_equal(image, photo)
  (note,) = notes
  assert words in note
  assert "sRGB" in note


def test_a_fallback_is_taken_where_the_first_statement_is_of_no_use(tmp_path, photo):
  path = _png(tmp_path / "hdr.png", photo, _cicp(9, 16, 0, 1), _gama(100000))
  assert np.abs(read(path)[0] - 255 * _srgb_code(photo / 255)).max() <= 1


def test_exif_that_says_srgb_is_believed(tmp_path, photo):
  path = save(tmp_path / "photo.tif", photo, **_exif(1, "R98", _PRIMARIES))
  image, notes = read(path)
  np.testing.assert_array_equal(image, photo)
  assert notes == []


def test_adobe_rgb_in_a_cameras_jpeg(tmp_path, photo):
  path = save(tmp_path / "_DSC0001.jpg", photo, quality=95, **_exif(65535, "R03"))
  stored = np.asarray(Image.open(path))
  assert np.abs(read(path)[0] - _by_littlecms(stored, *_ADOBE)).max() <= 4
  assert "Adobe RGB" in read(path)[1][0]


def _coded(path, photo, primaries, transfer):
  """A file of HEIF's kind with these code points."""
  if path.suffix == ".heic":
    options = {"color_primaries": primaries, "transfer_characteristics": transfer}
    pillow_heif.from_pillow(Image.fromarray(photo)).save(path, quality=90, **options)
    return path
  content = save(path, photo).read_bytes()
  place = content.index(b"colrnclx") + 8
  path.write_bytes(content[:place] + struct.pack(">HH", primaries, transfer) + content[place + 4 :])
  return path


@pytest.mark.parametrize("suffix", [".avif", ".heic"])
def test_code_points_of_avif_and_heic(tmp_path, photo, suffix):
  (plain, _), (image, notes) = (
    read(_coded(tmp_path / f"{codes[0]}{suffix}", photo, *codes)) for codes in ((1, 13), (12, 13))
  )
  assert np.abs(image - _by_littlecms(plain, *_P3)).max() <= 2
  assert "Display P3" in notes[0]
  image, notes = read(_coded(tmp_path / f"hdr{suffix}", photo, 9, 18))
  np.testing.assert_array_equal(image, plain)
  assert "primaries 9, curve 18" in notes[0]


def test_the_color_box_is_the_primary_pictures(tmp_path, photo):
  rgba = np.dstack([photo, photo[..., 0]])
  content = save(tmp_path / "glass.avif", rgba).read_bytes()
  assert iso_boxes.code_points(content) == (1, 13)
  place = content.index(b"pitm") + 8
  assert content[place : place + 2] == b"\0\1"
  alpha = content[:place] + b"\0\2" + content[place + 2 :]
  assert iso_boxes.code_points(alpha) is None
  assert all(iso_boxes.code_points(content[:end]) in (None, (1, 13)) for end in range(600))


def test_the_profile_in_a_bmp(tmp_path, photo):
  save(tmp_path / "photo.bmp", photo)
  content = (tmp_path / "photo.bmp").read_bytes()
  profile, pixels = _profile("inside", *_ADOBE), content[54:]
  for kind, words in ((b"DEBM", "profile inside"), (b"KNIL", "in another file"), (b"BGRs", "")):
    header = struct.pack("<I", 124) + content[18:54] + bytes(16) + kind + bytes(48)
    header += struct.pack("<IIII", 0, 124 + len(pixels), len(profile), 0)
    whole = struct.pack("<2sIII", b"BM", 0, 0, 138) + header + pixels + profile
    (tmp_path / "photo.bmp").write_bytes(whole)
    image, notes = read(tmp_path / "photo.bmp")
    expected = _by_littlecms(photo, *_ADOBE) if kind == b"DEBM" else photo
    assert np.abs(image - expected).max() <= 4
    assert [words in note for note in notes] == ([True] if words else [])


@pytest.mark.parametrize("code", color_spaces._PRIMARIES)
def test_white_is_white_and_gray_is_gray_in_every_space(code):
  matrix = color_spaces.of_code_points(code, 13)[0].matrix()
  np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
