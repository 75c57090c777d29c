"""The boxes of HEIF and AVIF files (ISO 14496-12, 23008-12), as far as no library tells of them."""

import struct
from collections.abc import Iterator
from typing import NamedTuple


class Box(NamedTuple):
  """A box: its kind, and where its content lies in the file."""

  kind: bytes
  start: int
  end: int


def boxes(content: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
  """The boxes between two places; of a cut file those that are whole, and the last one's rest."""
  end = len(content) if end is None else end
  while start + 8 <= end:
    size, kind = struct.unpack_from(">I4s", content, start)
    head = 8
    if size == 1 and start + 16 <= end:
      size, head = struct.unpack_from(">Q", content, start + 8)[0], 16
    stop = end if size == 0 else start + size
    if stop < start + head:
      return
    yield Box(kind, start + head, min(stop, end))
    start = stop


def brands(content: bytes) -> tuple[bytes, ...]:
  """What a file says that it is, the major brand first; empty: it is no such file."""
  first = next(boxes(content), None)
  if first is None or first.kind != b"ftyp":
    return ()
  names = [content[at : at + 4] for at in range(first.start, first.end - 3, 4)]
  return tuple(names[:1] + names[2:])  # the second is a version


def has_track(content: bytes) -> bool:
  """Says whether the file is a film of pictures; a film appended by a phone is not counted."""
  seen = 0
  for box in boxes(content):
    seen += box.kind == b"ftyp"
    if seen > 1:
      return False
    if box.kind == b"moov":
      return any(_shows(content, track) for track in boxes(content, box.start, box.end))
  return False


def _shows(content: bytes, track: Box) -> bool:
  """True for a track of pictures, not of sound."""
  inner = [box for box in boxes(content, track.start, track.end) if box.kind == b"mdia"]
  handlers = [box for media in inner for box in boxes(content, media.start, media.end)]
  return any(
    box.kind == b"hdlr" and content[box.start + 8 : box.start + 12] in (b"pict", b"vide")
    for box in handlers
  )


def code_points(content: bytes) -> tuple[int, int] | None:
  """Primaries and curve, ITU-T H.273, that the primary picture's color box states; None: none."""
  try:
    return _code_points(content)
  except (struct.error, IndexError):  # cut or broken, as its decoder will say
    return None


def _code_points(content: bytes) -> tuple[int, int] | None:
  meta = next((box for box in boxes(content) if box.kind == b"meta"), None)
  if meta is None:
    return None
  inner = {box.kind: box for box in boxes(content, meta.start + 4, meta.end)}
  if b"pitm" not in inner or b"iprp" not in inner:
    return None
  wide = content[inner[b"pitm"].start] > 0
  (primary,) = struct.unpack_from(">I" if wide else ">H", content, inner[b"pitm"].start + 4)
  tables = list(boxes(content, inner[b"iprp"].start, inner[b"iprp"].end))
  properties = [
    box for table in tables if table.kind == b"ipco" for box in boxes(content, *table[1:])
  ]
  for table in tables:
    for place in _properties_of(content, table, primary) if table.kind == b"ipma" else ():
      box = properties[place - 1] if 0 < place <= len(properties) else None
      if box and box.kind == b"colr" and content.startswith(b"nclx", box.start):
        return struct.unpack_from(">HH", content, box.start + 4)
  return None


def _properties_of(content: bytes, table: Box, item: int) -> Iterator[int]:
  """The places, from 1, of an item's properties."""
  version, long_places = content[table.start], content[table.start + 3] & 1
  (entries,) = struct.unpack_from(">I", content, table.start + 4)
  at = table.start + 8
  for _ in range(entries):
    identity, count = struct.unpack_from(">HB" if version < 1 else ">IB", content, at)
    at += 3 if version < 1 else 5
    for _ in range(count):
      if identity == item:
        yield (
          struct.unpack_from(">H", content, at)[0] & 0x7FFF if long_places else content[at] & 0x7F
        )
      at += 2 if long_places else 1
