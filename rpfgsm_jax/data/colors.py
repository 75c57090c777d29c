"""From whatever pixels a file holds to 8-bit sRGB.

Rules, in this order: more than 8 bits are scaled by the largest code (never clipped), the embedded
color profile is applied; transparency is kept apart, and laid over white by `over_white`. Each rule
that loses something adds a note, so that a caller can tell the owner of the picture.
"""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

# What a profile's own color space is called, and the Pillow mode it reads.
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_BAND = 256  # rows converted at a time, so that a large picture needs few copies


def _scale_to_8_bits(image: Image.Image, top: int, inverted: bool, notes: list[str]) -> Image.Image:
  """Gray of up to 16 bits as 8-bit gray: round(255 v / top), ties upward, and alpha if any.

  `top` is the code of white, or of black where the picture is `inverted`.
  """
  codes = np.asarray(image).astype(np.int64)
  if codes.min() < 0 or codes.max() > top:
    raise ValueError(f"gray values {codes.min()}..{codes.max()} outside 0..{top}")
  gray = (codes * 255 + top // 2) // top
  gray = (255 - gray if inverted else gray).astype(np.uint8)
  notes.append(f"more than 8 bits a pixel (white is {top}), rounded to 8 bits")
  transparent = image.info.get("transparency")
  if transparent is None:
    return Image.fromarray(gray)
  alpha = np.where(codes == transparent, 0, 255).astype(np.uint8)
  return Image.fromarray(np.stack([gray, alpha], axis=-1))


def _apply_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
  """An RGB picture: through the color profile where there is a usable one, else plainly converted.

  A profile that calls itself sRGB is not applied: the transform would only add rounding errors.
  """
  if not profile:
    if image.mode == "CMYK":
      notes.append("CMYK without a color profile, converted by R = (255 - C)(255 - K) / 255")
    return _as_mode(image, "RGB")
  try:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    name = ImageCms.getProfileDescription(source).strip() or "without a name"
    if name.startswith("sRGB"):
      return _as_mode(image, "RGB")
    mode = _PROFILE_MODES.get(source.profile.xcolor_space.strip())
    if image.mode == "L" and mode == "RGB":
      image = image.convert("RGB")
    converted = ImageCms.profileToProfile(
      image,
      source,
      ImageCms.createProfile("sRGB"),
      renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
      outputMode="RGB",
      flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
  # ImportError: Pillow was built without LittleCMS; the others: the profile is broken or is for
  # another kind of pixels.
  except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
    notes.append(f"color profile ignored ({error}), colors read as sRGB")
    return _as_mode(image, "RGB")
  notes.append(f"colors converted to sRGB from the profile {name}")
  return converted


def to_srgb(
  image: Image.Image, notes: list[str], *, top: int = 65535, inverted: bool = False
) -> tuple[Image.Image, Image.Image | None]:
  """Converts a decoded picture of any mode to 8-bit sRGB: colors in mode RGB, and alpha in mode L.

  Alpha is None for an opaque picture. `notes` receives what was lost. Where a channel has more than
  8 bits, `top` is the code of white, or of black in an `inverted` picture; Pillow inverts others.
  """
  profile = image.info.get("icc_profile")
  if image.mode == "F":
    raise ValueError("32-bit floating-point pixels, whose white is not known")
  if image.mode == "I" or image.mode.startswith("I;16"):
    image = _scale_to_8_bits(image, top, inverted, notes)
  key = image.info.get("transparency")
  if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
    # The file has 16 bits a channel; Pillow keeps the upper 8, so its transparent color is gone.
    notes.append("transparent color of a 16-bit color picture ignored")
    image = image.copy()
    del image.info["transparency"]
  if not image.has_transparency_data:
    if image.mode == "1":
      image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):
      image = image.convert("RGB")
    return _apply_profile(image, profile, notes), None
  gray = image.mode in ("1", "L", "LA", "La")
  layer = _as_mode(image, "RGBA")
  alpha = layer.getchannel("A")
  colors = _apply_profile(layer.getchannel("R") if gray else layer.convert("RGB"), profile, notes)
  return colors, None if alpha.getextrema() == (255, 255) else alpha


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
  """The picture itself where it has that mode already; Pillow would copy it."""
  return image if image.mode == mode else image.convert(mode)


def bands(height: int) -> Iterator[slice]:
  """Cuts a picture of so many rows into bands of rows, from the top."""
  for top in range(0, height, _BAND):
    yield slice(top, min(top + _BAND, height))


def to_array(image: Image.Image) -> np.ndarray:
  """Copies a picture of mode RGB or L to uint8, without the two further copies of `np.array`."""
  width, height = image.size
  pixels = np.empty((height, width, 3)[: 3 if image.mode == "RGB" else 2], np.uint8)
  for rows in bands(height):
    pixels[rows] = np.asarray(image.crop((0, rows.start, width, rows.stop)))
  return pixels


def over_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
  """Lays colors `(H, W, 3)` over white by alpha `(H, W)`, in Pillow's integer arithmetic."""
  seen = np.empty_like(colors)
  for rows in bands(len(colors)):
    layer = Image.fromarray(np.dstack([colors[rows], alpha[rows]]))
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    seen[rows] = np.asarray(Image.alpha_composite(white, layer).convert("RGB"))
  return seen
