"""From whatever pixels a file holds to 8-bit sRGB.

Rules, in this order: more than 8 bits are scaled by the largest code (never clipped), the stated
color space is brought to sRGB; transparency is kept apart, and laid over white by `over_white`.
Each rule that loses something adds a note, so that a caller can tell the owner of the picture.
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageCms

from rpfgsm_jax.data.color_spaces import RGBSpace, srgb_codes
from rpfgsm_jax.data.stated_colors import Stated

Convert = Callable[[Image.Image], Image.Image]

_ROUNDING = 2  # levels: of profiles' tables and curves, and of their approximations of sRGB
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


def _converted(image: Image.Image, stated: Stated, notes: list[str]) -> Image.Image:
  """An RGB picture: through the stated color space where that is usable, else plainly converted.

  A space that differs from sRGB by rounding alone changes nothing; a profile's name tells nothing.
  """
  by_numbers = isinstance(stated, RGBSpace)
  if stated is None or (by_numbers and image.mode == "CMYK"):
    if image.mode == "CMYK":
      notes.append("CMYK without a color profile, converted by R = (255 - C)(255 - K) / 255")
    return _as_mode(image, "RGB")
  try:
    if by_numbers:
      name, convert = stated.name, _by_numbers(stated)
    else:
      name, convert, image = _by_profile(stated, image)
    converted = None if _is_srgb(convert, image.mode) else convert(image)
  # ImportError: Pillow was built without LittleCMS; the others: the profile is broken or is for
  # another kind of pixels.
  except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
    what = "stated color space" if by_numbers else "color profile"
    notes.append(f"{what} ignored ({error}), colors read as sRGB")
    return _as_mode(image, "RGB")
  if converted is None:
    return _as_mode(image, "RGB")
  notes.append(f"colors converted to sRGB from {name}")
  return converted


def _by_profile(profile: bytes, image: Image.Image) -> tuple[str, Convert, Image.Image]:
  """An ICC profile's name and conversion, and the picture in a mode that it takes."""
  source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
  name = ImageCms.getProfileDescription(source).strip() or "without a name"
  if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
    image = image.convert("RGB")
  transform = ImageCms.buildTransform(
    source,
    ImageCms.createProfile("sRGB"),
    image.mode,
    "RGB",
    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
  )
  return f"the profile {name}", transform.apply, image


def _by_numbers(space: RGBSpace) -> Convert:
  light, matrix, codes = space.light(), space.matrix(), srgb_codes()

  def convert(image: Image.Image) -> Image.Image:
    if image.mode == "L":  # one curve; white is white
      steps = np.round(light * (len(codes) - 1)).astype(np.uint16)
      return image.point(codes[steps].tolist()).convert("RGB")
    pixels = to_array(image)
    for rows in bands(len(pixels)):
      seen = np.clip(light[pixels[rows]] @ matrix.T, 0, 1) * (len(codes) - 1)
      pixels[rows] = codes[(seen + 0.5).astype(np.uint16)]
    return Image.fromarray(pixels)

  return convert


def _is_srgb(convert: Convert, mode: str) -> bool:
  """Says whether a conversion of gray or RGB changes samples of all colors by rounding alone."""
  if mode not in ("L", "RGB"):
    return False
  gray = np.arange(256, dtype=np.uint8)[None]
  steps = np.arange(0, 256, 15, dtype=np.uint8)
  colors = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
  samples = np.concatenate([gray[..., None].repeat(3, -1), colors], 1) if mode == "RGB" else gray
  seen = np.asarray(convert(Image.fromarray(samples))).astype(np.int16)
  return np.abs(seen - (samples if mode == "RGB" else gray[..., None])).max() <= _ROUNDING


def to_srgb(
  image: Image.Image,
  stated: Stated,
  notes: list[str],
  *,
  top: int = 65535,
  inverted: bool = False,
) -> tuple[Image.Image, Image.Image | None]:
  """Converts a decoded picture of any mode to 8-bit sRGB: colors in mode RGB, and alpha in mode L.

  Alpha is None for an opaque picture. `stated` is its color space, `notes` receives what was lost.
  Where a channel has more than 8 bits, `top` is the code of white, or of black in an `inverted`
  picture; Pillow inverts others.
  """
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
    return _converted(image, stated, notes), None
  gray = image.mode in ("1", "L", "LA", "La")
  layer = _as_mode(image, "RGBA")
  alpha = layer.getchannel("A")
  colors = _converted(layer.getchannel("R") if gray else layer.convert("RGB"), stated, notes)
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
