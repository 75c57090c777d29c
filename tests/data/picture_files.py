"""Pictures written by Pillow and by hand, and read back with their notes."""

import struct
import zlib

from PIL import Image

from rpfgsm_jax.data.images import read_image


def save(path, array, mode=None, **options):
  picture = Image.fromarray(array)
  (picture if mode is None else picture.convert(mode)).save(path, **options)
  return path


def read(path):
  """The picture and its notes."""
  notes = []
  return read_image(path, notes=notes), notes


def png_chunk(kind, content):
  """A chunk of a PNG with its length and checksum."""
  body = kind + content
  return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
