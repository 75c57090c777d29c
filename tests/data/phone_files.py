"""Photo files as phones and programs make them, telling all they can; written by Pillow."""

import io
import pathlib
import struct

import numpy as np
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

OWNER, SERIAL, LENS = "Owner-Zurich-8001", "Serial-0815", "Lens-4711"
DESCRIPTION, DAY = "My garden, seen from the street", "2021:07:30 18:45:12"
LATITUDE, LONGITUDE = (47.0, 22.0, 12.34), (8.0, 32.0, 56.78)

# Words in what may be kept, and in what never may.
KEPT = (OWNER, SERIAL, LENS, DESCRIPTION, DAY)
DROPPED = (
  "thumbnail-secret", "maker-secret", "sound-secret", "padding-secret", "xmp-secret", "iptc-secret",
  "comment-secret", "text-secret", "compressed-secret", "trailer-secret", "application-secret",
)  # fmt: skip

_EXIF, _GPS = 0x8769, 0x8825


def thumbnail() -> bytes:
  """Returns a whole JPEG of a few pixels that names itself in a comment."""
  file = io.BytesIO()
  Image.new("RGB", (16, 12), (200, 30, 40)).save(file, "JPEG", comment=b"thumbnail-secret")
  return file.getvalue()


def phone_exif(order: str = ">") -> bytes:
  """Returns EXIF as Pillow writes it, with a thumbnail added in a second directory.

  Args:
    order: of the bytes, ">" or "<".

  Returns:
    It, of a picture to be turned; `Exif\\0\\0` stands first.
  """
  exif = Image.Exif()
  exif.endian = order
  exif[0x010E], exif[0x010F], exif[0x013B] = DESCRIPTION, "Phonemaker", OWNER
  exif[0x0112] = 6
  exif[0x011A] = IFDRational(300, 1)
  inside = exif.get_ifd(_EXIF)
  inside |= {
    0x829A: IFDRational(1, 125), 0x8827: 200, 0x9003: DAY, 0x9204: IFDRational(-2, 3),
    0xA430: OWNER, 0xA431: SERIAL, 0xA435: LENS, 0xA002: 4000, 0xA003: 3000,
    0x927C: b"Phonemaker\0" + b"maker-secret" * 30, 0xA004: "sound-secret",
    0xEA1C: b"padding-secret",
  }  # fmt: skip
  exif.get_ifd(_GPS).update(
    {
      1: "N", 2: tuple(map(IFDRational, (47, 22, 1234), (1, 1, 100))), 3: "E",
      4: tuple(map(IFDRational, (8, 32, 5678), (1, 1, 100))), 6: IFDRational(408, 1),
    }
  )  # fmt: skip
  return _with_second_directory(exif.tobytes(), thumbnail())


def _with_second_directory(exif: bytes, picture: bytes) -> bytes:
  """EXIF whose first directory is followed by one of a thumbnail."""
  tiff = bytearray(exif.removeprefix(b"Exif\0\0"))
  order = "<" if tiff[:2] == b"II" else ">"
  (first,) = struct.unpack_from(order + "I", tiff, 4)
  (count,) = struct.unpack_from(order + "H", tiff, first)
  tiff += bytes(len(tiff) % 2)
  struct.pack_into(order + "I", tiff, first + 2 + 12 * count, len(tiff))
  entries = ((0x0103, 3, 6), (0x0201, 4, len(tiff) + 42), (0x0202, 4, len(picture)))
  tiff += struct.pack(order + "H", len(entries))
  for tag, kind, value in entries:
    form = "HHIH2x" if kind == 3 else "HHII"
    tiff += struct.pack(order + form, tag, kind, 1, value)
  return b"Exif\0\0" + bytes(tiff + struct.pack(order + "I", 0) + picture)


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>xmp-secret</x:xmpmeta>"


def _jpeg_segments() -> bytes:
  iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x0biptc-secret\0"
  parts = ((0xED, iptc), (0xEB, b"application-secret"))
  return b"".join(
    struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in parts
  )


def save(path: pathlib.Path, photo: np.ndarray) -> pathlib.Path:
  """Writes a photo in the format of its name, with everything that this format can tell.

  Args:
    path: ends in .jpg, .png, .webp, .avif, .gif, .tif or .heic; of a JPEG a film follows the end.
    photo: `(H, W, 3)` uint8.

  Returns:
    The path.
  """
  picture, kind = Image.fromarray(photo), path.suffix[1:]
  if kind == "heic":
    import pillow_heif

    pillow_heif.from_pillow(picture).save(path, exif=phone_exif(), xmp=XMP, quality=80)
    return path
  if kind == "gif":
    picture.quantize(64).save(path, comment=b"comment-secret")
    return path
  options: dict = {"exif": phone_exif()}
  if kind == "jpg":
    options |= {"xmp": XMP, "comment": b"comment-secret", "extra": _jpeg_segments()}
  elif kind == "png":
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "text-secret")
    info.add_text("Author", "compressed-secret", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options |= {"pnginfo": info, "dpi": (300, 300)}
  elif kind in ("webp", "avif"):
    options |= {"xmp": XMP}
  picture.save(path, **options)
  if kind == "jpg":  # a phone's film of the moment before
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42trailer-secret")
  return path


def box(kind: bytes, *content: bytes) -> bytes:
  """Returns a box of a HEIF file, or of a film."""
  inner = b"".join(content)
  return struct.pack(">I", 8 + len(inner)) + kind + inner


def with_film(content: bytes, handler: bytes = b"pict") -> bytes:
  """Returns a HEIC file with a track that shows its picture three times.

  Args:
    content: a HEIC file of one picture.
    handler: of the track: "pict", or "soun" for sound.

  Returns:
    The file.
  """

  def full(kind: bytes, *fields: int, more: bytes = b"") -> bytes:
    return box(kind, bytes(4), struct.pack(f">{len(fields)}I", *fields), more)

  place = content.index(b"hvcC") - 4
  coding = content[place : place + struct.unpack_from(">I", content, place)[0]]
  data = content.index(b"mdat") + 4
  entry = struct.pack(">6xH16xHH50x", 1, 64, 64) + coding
  table = box(
    b"stbl",
    full(b"stsd", 1, more=box(b"hvc1", entry)),
    full(b"stts", 1, 3, 10),
    full(b"stsc", 1, 1, 1, 1),
    full(b"stsz", len(content) - data, 3),
    full(b"stco", 3, data, data, data),
  )
  kind = full(b"hdlr", 0, more=handler + bytes(13))
  media = box(b"mdia", full(b"mdhd", 0, 0, 1000, 0, 0), kind, box(b"minf", table))
  track = box(b"trak", full(b"tkhd", 0, 0, 1, more=bytes(68)), media)
  return content + box(b"moov", full(b"mvhd", 0, 0, 1000, 0, more=bytes(80)), track)
