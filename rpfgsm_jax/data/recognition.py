"""What a file is that cannot be read: for a reason that is true, and a remedy that helps."""

from rpfgsm_jax.data import iso_boxes

_RAW = "a camera's raw file"
_FILM = "a film"
_BEGINNINGS = {
  b"\0\0\0\x0cJXL ": "a JPEG XL picture",
  b"\xff\x0a": "a JPEG XL picture",
  b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
  b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
  b"II\xbc\x01": "a JPEG XR picture",
  b"8BPS": "a Photoshop document",
  b"gimp xcf": "a GIMP document",
  b"%PDF": "a PDF document",
  b"%!PS": "a PostScript document",
  b"\x76\x2f\x31\x01": "an OpenEXR picture",
  b"#?RADIANCE": "a Radiance HDR picture",
  b"\0\0\1\0": "an icon",
  b"FUJIFILM": _RAW,
  b"FOVb": _RAW,
  b"IIU\0": _RAW,
  b"IIRO": _RAW,
  b"IIRS": _RAW,
  b"MMOR": _RAW,
  b"\0MRM": _RAW,
  b"II\x1a\0\0\0HEAPCCDR": _RAW,
  b"\x1aE\xdf\xa3": _FILM,
  b"<svg": "an SVG drawing",
  b"<?xml": "an XML text",
  b"<!DOCTYPE": "a web page",
  b"<html": "a web page",
  b"PK\3\4": "a ZIP archive",
  b"\0\5\x16\7": "an AppleDouble file, which holds no picture",
  b"II*\0": "a TIFF that is truncated, or whose bits, channels or compression are not read here",
  b"MM\0*": "a TIFF that is truncated, or whose bits, channels or compression are not read here",
}
_FRAMES = {  # by the marker that begins a JPEG's frame
  **dict.fromkeys((0xC3, 0xCB), "a lossless JPEG"),
  **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
  0xF7: "a JPEG-LS picture",
}
_NOT_FRAMES = (0xC4, 0xC8, 0xCC)
_CODINGS = {
  b"av01": "AV1", b"vvc1": "VVC", b"avc1": "AVC", b"jpeg": "JPEG", b"j2k1": "JPEG 2000",
  b"unci": "no compression",
}  # fmt: skip


def unread_kind(content: bytes) -> str | None:
  """What a file is in which Pillow finds no picture; None: nothing that is known."""
  if content.startswith(b"RIFF") and content[8:12] == b"AVI ":
    return _FILM
  if not content.strip(b"\0"):
    return "nothing but zero bytes"
  known = (kind for start, kind in _BEGINNINGS.items() if content.startswith(start))
  return unread_coding(content) or next(known, None)


def unread_coding(content: bytes) -> str | None:
  """The coding of a JPEG or a HEIF file that may be the reason why it cannot be decoded."""
  if content.startswith(b"\xff\xd8"):
    return _jpeg_kind(content)
  brands = iso_boxes.brands(content)
  return _iso_kind(content, brands) if brands else None


def _jpeg_kind(content: bytes) -> str | None:
  """Of a JPEG whose first frame is neither baseline nor progressive, or of more than 8 bits."""
  at = 2
  while at + 5 <= len(content) and content[at] == 0xFF:
    marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
    if marker == 0xFF:  # a fill byte
      at += 1
    elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES):
      kind, bits = _FRAMES.get(marker), content[at + 4]
      if bits == 8:
        return kind
      return f"{kind or 'a JPEG'} of {bits} bits a channel"
    elif marker == 0xDA:
      return None
    else:
      at += 2 + length
  return None


def _iso_kind(content: bytes, brands: tuple[bytes, ...]) -> str | None:
  if brands[0] == b"crx ":
    return _RAW
  meta = next((box for box in iso_boxes.boxes(content) if box.kind == b"meta"), None)
  if iso_boxes.has_track(content):
    return "an image sequence" if {b"msf1", b"hevc", b"avis"} & set(brands) else _FILM
  if meta is None:
    return None
  table = content[meta.start : meta.end]
  coded = next((name for kind, name in _CODINGS.items() if kind in table), None)
  return coded and f"a HEIF picture coded by {coded}"
