"""What is kept of EXIF, and what never is: by exifread, by Pillow's own reader, by a raw search.

The files are those of `phone_files`; structures made by hand, and cut ones, follow.
"""

import io
import re
import struct

import exifread
import phone_files
import pytest
from exifread.tags.exif import EXIF_TAGS, GPS_TAGS
from PIL import Image, PngImagePlugin

from rpfgsm_jax.data import exif
from rpfgsm_jax.data.photo_files import Encoding, Photo, encode_photo, read_photo

SUFFIXES = (".jpg", ".png", ".webp", ".avif", ".tif", ".heic", ".gif")
WITH_EXIF = SUFFIXES[:-1]
FORMATS = ("png", "webp", "jpeg")
MAIN, EXIF, GPS = 0, 0x8769, 0x8825


def _told(content):
  """What exifread finds in a file, or in bare EXIF, as text by name."""
  if content[:4] == b"RIFF":  # exifread does not find the chunk of a WebP behind an odd one
    with Image.open(io.BytesIO(content)) as picture:
      content = picture.info.get("exif", b"")
  content = content.removeprefix(b"Exif\0\0")
  tags = exifread.process_file(io.BytesIO(content), details=True) if content else {}
  return {name: str(tag).rstrip("\0") for name, tag in tags.items()}


def _found(words, content):
  return [word for word in words if word.encode() in content]


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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_files_do_tell(tmp_path, photo, suffix):
  """Else the tests below would show nothing."""
  content = phone_files.save(tmp_path / f"phone{suffix}", photo).read_bytes()
  secrets = set(_found(phone_files.DROPPED, content))
  if suffix == ".gif":
    assert secrets == {"comment-secret"}
    return
  assert set(_found(phone_files.KEPT, content)) == set(phone_files.KEPT)
  assert "maker-secret" in secrets
  # Pillow writes no second directory into AVIF and TIFF.
  assert ("thumbnail-secret" in secrets) == (suffix not in (".avif", ".tif"))
  if suffix == ".jpg":
    assert set(phone_files.DROPPED) - secrets == {"text-secret", "compressed-secret"}  # PNG's
    assert b"thumbnail-secret" in exifread.process_file(io.BytesIO(content))["JPEGThumbnail"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_by_default_a_written_photo_tells_nothing(tmp_path, photo, suffix, form):
  read = read_photo(phone_files.save(tmp_path / f"phone{suffix}", photo))
  content = encode_photo(read, read.seen(), Encoding(format=form))
  assert _found((*phone_files.KEPT, *phone_files.DROPPED, "Phonemaker", "Exif"), content) == []
  assert _told(content) == {}
  kinds, bare = BARE[form]
  assert set(kinds(content)) == bare
  with Image.open(io.BytesIO(content)) as picture:
    picture.load()
    assert len(picture.getexif()) == 0
    told = {"exif", "xmp", "XML:com.adobe.xmp", "photoshop", "comment", "Comment", "Author", "dpi"}
    assert not told & set(picture.info)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", WITH_EXIF)
def test_what_is_kept_on_demand_shows_no_picture(tmp_path, photo, suffix, form):
  read = read_photo(phone_files.save(tmp_path / f"phone{suffix}", photo))
  content = encode_photo(read, read.seen(), Encoding(format=form), keep_metadata=True)
  assert _found(phone_files.KEPT, content) == list(phone_files.KEPT)
  assert _found(phone_files.DROPPED, content) == []
  bare = encode_photo(read, read.seen(), Encoding(format=form))
  # A JPEG and a thumbnail begin so; so may, by chance, pixels compressed without loss.
  assert content.count(b"\xff\xd8\xff") == bare.count(b"\xff\xd8\xff")
  assert form != "jpeg" or bare.count(b"\xff\xd8\xff") == 1
  told = _told(content)
  assert not [name for name in told if re.search("Thumb|Maker|Interop|Sound|Padding", name)]
  assert told["Image Artist"] == told["EXIF CameraOwnerName"] == phone_files.OWNER
  assert told["EXIF BodySerialNumber"] == phone_files.SERIAL
  assert told["EXIF DateTimeOriginal"] == phone_files.DAY
  assert (told["EXIF ExposureTime"], told["EXIF ExposureBiasValue"]) == ("1/125", "-2/3")
  assert (told["GPS GPSLatitudeRef"], told["GPS GPSLongitudeRef"]) == ("N", "E")
  with Image.open(io.BytesIO(content)) as picture:  # and by another reader
    place = picture.getexif().get_ifd(GPS)
    assert tuple(map(float, place[2])) == phone_files.LATITUDE
    assert tuple(map(float, place[4])) == phone_files.LONGITUDE
    assert picture.size == read.pixels.shape[1::-1]
    inside = picture.getexif().get_ifd(EXIF)
    assert (inside[0xA002], inside[0xA003]) == picture.size  # of this picture, not of the phone's
    assert picture.getexif()[0x0112] == 1


def test_exif_in_a_text_of_a_png_is_kept(tmp_path, photo):
  """ImageMagick's way: a name, a length, hexadecimal digits."""
  exif, info = phone_files.phone_exif(), PngImagePlugin.PngInfo()
  info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n")
  Image.fromarray(photo).save(tmp_path / "magick.png", pnginfo=info)
  read = read_photo(tmp_path / "magick.png")
  assert read.pixels.shape == (331, 219, 3)  # turned
  assert _found(phone_files.KEPT, read.exif) == list(phone_files.KEPT)
  assert _found(phone_files.DROPPED, read.exif) == []


# The structure


def _entry(order, tag, kind, count, value):
  return struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")


def _tiff(order, main, exif=(), gps=()):
  """A structure of three directories; entries are (tag, type, count, four bytes)."""
  parts, place = [], 8
  head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
  place += 6 + 12 * (len(main) + bool(exif) + bool(gps))
  for tag, below in ((EXIF, exif), (GPS, gps)):
    if below:
      main = [*main, (tag, 4, 1, struct.pack(order + "I", place))]
      parts.append(below)
      place += 6 + 12 * len(below)
  tables = [
    struct.pack(order + "H", len(entries))
    + b"".join(_entry(order, *entry) for entry in entries)
    + bytes(4)
    for entries in (sorted(main), *parts)
  ]
  return head + b"".join(tables)


def _kept(tiff, size=(30, 40)):
  picture = Image.new("RGB", size[::-1])
  picture.info["exif"] = tiff
  return exif.kept_exif(picture, b"", size)


def _directories(exif):
  """Tags and values of each directory, by Pillow's reader."""
  read = Image.Exif()
  read.load(exif)
  return {MAIN: dict(read), EXIF: read.get_ifd(EXIF), GPS: read.get_ifd(GPS)}


# Exif 2.3 to 3.0, what exifread has no name for.
NEWER = {
  0x4749: "RatingPercent", 0x8831: "StandardOutputSensitivity", 0x8834: "ISOSpeedLatitudeyyy",
  0x8835: "ISOSpeedLatitudezzz", 0x9400: "AmbientTemperature", 0x9401: "Humidity",
  0x9402: "Pressure", 0x9403: "WaterDepth", 0x9404: "Acceleration", 0x9405: "CameraElevationAngle",
  0xA436: "ImageTitle", 0xA437: "Photographer", 0xA438: "ImageEditor", 0xA439: "CameraFirmware",
  0xA43A: "RAWDevelopingSoftware", 0xA43B: "ImageEditingSoftware",
  0xA43C: "MetadataEditingSoftware",
}  # fmt: skip
# What shows the picture, describes the original file's pixels, or points to something else.
UNWANTED = (
  "Thumbnail|MakerNote|Offset(?!Time)|IFD|JPEG|Strip|Tile|Width|(?<!Focal)Length$|Bits|Pixel|"
  "Compress|CFA|CVA|OECF|Interop|IPTC|ApplicationNotes|Profile|Padding|Sound|PrintIM|"
  "Subject(Area|Location)|DeviceSetting|ColorMap|Page"
)


@pytest.mark.parametrize("order", ["<", ">"])
def test_of_all_tags_there_are_only_those_that_somebody_has_named_stay(order):
  everything = [(tag, 2, 2, b"s") for tag in range(0xFFFF) if tag not in (EXIF, GPS)]
  kept = _directories(_kept(_tiff(order, everything, everything, everything)))
  names = {MAIN: EXIF_TAGS, EXIF: EXIF_TAGS, GPS: GPS_TAGS}
  ours = {MAIN: {0x0112, EXIF, GPS}, EXIF: {0xA001, 0xA002, 0xA003}, GPS: set()}
  found = {}
  for directory, fields in kept.items():
    for tag in fields.keys() - ours[directory]:
      known = names[directory].get(tag, (NEWER.get(tag),))[0]
      if directory == GPS and tag == 0x1F:
        known = "GPSHPositioningError"
      assert known, f"{tag:#x} in {directory:#x} has no name"
      assert fields[tag] == "s"
      found[known] = directory
  assert [name for name in found if re.search(UNWANTED, name)] == []
  assert found.keys() >= {
    "Make", "Model", "Artist", "Copyright", "ImageDescription", "DateTime", "DateTimeOriginal",
    "OffsetTimeOriginal", "ExposureTime", "FNumber", "ISOSpeedRatings", "FocalLength", "LensModel",
    "LensSerialNumber", "BodySerialNumber", "CameraOwnerName", "UserComment", "XPAuthor",
    "GPSLatitude", "GPSLongitude", "GPSAltitude", "GPSDate", "ImageTitle", "Humidity",
  }  # fmt: skip
  assert found["Make"] == MAIN
  assert found["LensModel"] == EXIF


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_byte_that_is_kept_belongs_to_a_field(order):
  """Nothing can hide between fields: the tables and values fill the structure."""
  tiff = _kept(phone_files.phone_exif(order)).removeprefix(b"Exif\0\0")
  sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
  used = bytearray(len(tiff))
  used[:8] = bytes(range(1, 9))
  directories = [struct.unpack_from(order + "I", tiff, 4)[0]]
  while directories:
    start = directories.pop()
    (count,) = struct.unpack_from(order + "H", tiff, start)
    end = start + 2 + 12 * count
    assert tiff[end : end + 4] == bytes(4)  # no directory follows
    assert not any(used[start : end + 4])
    used[start : end + 4] = b"\1" * (end + 4 - start)
    tags = []
    for place in range(start + 2, end, 12):
      tag, kind, values, where = struct.unpack_from(order + "HHII", tiff, place)
      tags.append(tag)
      length = sizes[kind] * values
      if tag in (EXIF, GPS):
        directories.append(where)
      elif length > 4:
        assert where % 2 == 0
        assert not any(used[where : where + length])
        used[where : where + length] = b"\1" * length
    assert tags == sorted(set(tags))
  unused = [place for place in range(len(tiff)) if not used[place]]
  assert all(tiff[place] == 0 and place % 2 for place in unused)  # one before an even place


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_stay_what_they_were(order):
  exif = phone_files.phone_exif(order)
  before, after = _told(exif), _told(_kept(exif))
  changed = {"Image Orientation", "EXIF ExifImageWidth", "EXIF ExifImageLength"}
  pointers = {"Image ExifOffset", "Image GPSInfo"}
  same = after.keys() - changed - pointers - {"EXIF ColorSpace"}
  assert len(same) >= 15
  assert {name: after[name] for name in same} == {name: before[name] for name in same}
  assert after["Image Orientation"] == "Horizontal (normal)"
  assert (after["EXIF ExifImageWidth"], after["EXIF ExifImageLength"]) == ("40", "30")
  assert after["EXIF ColorSpace"] == "sRGB"


@pytest.mark.parametrize(
  ("kind", "count", "stays"),
  [(4, 1, True), (13, 1, True), (3, 1, False), (2, 4, False), (4, 2, False), (4, 0, False)],
)
def test_a_directory_is_found_by_one_long_pointer(kind, count, stays):
  inside = [(0xA431, 2, 2, b"s")]
  tiff = bytearray(_tiff("<", [(0x010F, 2, 2, b"m")], inside))
  place = tiff.index(struct.pack("<H", EXIF))
  struct.pack_into("<HI", tiff, place + 2, kind, count)
  kept = _directories(_kept(bytes(tiff)))
  assert kept[MAIN][0x010F] == "m"
  assert (0xA431 in kept[EXIF]) == stays


@pytest.mark.parametrize("kind", [0, 14, 255, 65535])
def test_fields_of_no_known_type_are_left_out(kind):
  kept = _kept(_tiff("<", [(0x010F, 2, 2, b"m"), (0x0110, kind, 1, b"s")]))
  assert _directories(kept)[MAIN].keys() == {0x010F, 0x0112, EXIF}


@pytest.mark.parametrize(("length", "stays"), [(4096, True), (4097, False)])
def test_values_too_long_for_words_are_left_out(length, stays):
  table = _tiff("<", [(0x010F, 2, 2, b"m"), (0x010E, 2, length, struct.pack("<I", 40))])
  assert (b"word" in _kept(table.ljust(40, b"\0") + b"word" * 1025)) == stays


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
def test_broken_exif_is_left_out(tiff):
  assert _kept(tiff) is None


def test_every_cut_of_exif_is_survived():
  whole = phone_files.phone_exif()
  for end in range(6, len(whole), 13):
    assert _found(phone_files.DROPPED, _kept(whole[:end]) or b"") == []


def test_more_exif_than_fits_into_a_jpeg_is_left_out(photo):
  words = b"word " * 800
  tags = (*range(0x9400, 0x9406), *range(0xA430, 0xA43D))
  for number, stays in ((10, True), (len(tags), False)):  # all point to the same words
    fields = [(tag, 2, len(words), struct.pack("<I", 400)) for tag in tags[:number]]
    exif = _kept(_tiff("<", [], fields).ljust(400, b"\0") + words)
    assert (exif is not None) == stays
    if stays:
      told = Photo(pixels=photo, exif=exif)
      encode_photo(told, photo, Encoding(format="jpeg"), keep_metadata=True)


def test_with_nothing_to_keep_there_is_none():
  assert _kept(_tiff("<", [(0x0112, 3, 1, b"\6"), (0x0201, 4, 1, b"\1")])) is None
  assert _kept(_tiff("<", [], [(0xA002, 4, 1, b"\1")])) is None
  assert _kept(_tiff("<", [], [], [(0x0002, 2, 2, b"n")])) is not None  # a place is something
