"""RGB color spaces by their published numbers, and how each becomes sRGB.

Chromaticities are (x, y) of red, green, blue and white. White becomes white (Bradford's adaptation,
as in ICC profiles), light outside sRGB's gamut is clipped channel by channel. Code points are those
of ITU-T H.273, which PNG (cICP), AVIF and HEIF (nclx) use.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Curve = Callable[[np.ndarray], np.ndarray]

_LIGHTS = 2**16  # steps of linear light, 20 of them for one level of sRGB's darkest
_BRADFORD = np.array(
  [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65, _C, _E, _DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65)
_SMPTE170M = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65)
_PRIMARIES = {
  1: ("BT.709", BT709),
  4: ("BT.470 M", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C)),
  5: ("BT.470 B/G", (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65)),
  6: ("SMPTE 170M", _SMPTE170M),
  7: ("SMPTE 240M", _SMPTE170M),
  8: ("generic film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C)),
  9: ("BT.2020", (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65)),
  10: ("CIE XYZ", (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, *_E)),
  11: ("DCI-P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_DCI)),
  12: ("Display P3", (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65)),
  22: ("EBU 3213", (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65)),
}
# Curves of cameras (BT.709 and its kin): what a display makes of their codes is not in H.273, and
# browsers show them as sRGB.
_CAMERAS = (1, 6, 7, 11, 12, 14, 15)
UNSPECIFIED = 2


def _srgb_light(codes: np.ndarray) -> np.ndarray:
  return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)


def _srgb_code(light: np.ndarray) -> np.ndarray:
  return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def power(exponent: float) -> Curve:
  """The light of a code by a power law."""
  return lambda codes: codes**exponent


_CURVES: dict[int, Curve] = {
  4: power(2.2),
  5: power(2.8),
  8: power(1.0),
  13: _srgb_light,
  17: lambda codes: np.minimum(52.37 / 48 * codes**2.6, 1.0),
  **dict.fromkeys((*_CAMERAS, UNSPECIFIED), _srgb_light),
}


@dataclasses.dataclass(frozen=True, eq=False)
class RGBSpace:
  """An RGB color space: where its primaries lie, and the light that a code stands for."""

  name: str
  chromaticities: Sequence[float]  # x, y of red, green, blue and white
  curve: Curve = _srgb_light  # codes in 0..1 to linear light in 0..1
  narrow: bool = False  # codes 16..235 instead of 0..255

  def light(self) -> np.ndarray:
    """Linear light of each of 256 codes, float32."""
    codes = np.arange(256) / 255
    if self.narrow:
      codes = np.clip((np.arange(256) - 16) / 219, 0, 1)
    return self.curve(codes).astype(np.float32)

  def matrix(self) -> np.ndarray:
    """From linear light to sRGB's, 3x3 float32; raises ValueError where there is none."""
    ours, srgb = (
      (_BRADFORD @ to_xyz) / (_BRADFORD @ white)[:, None]  # cones' responses, 1 for white
      for to_xyz, white in map(_to_xyz, (self.chromaticities, BT709))
    )
    return np.linalg.solve(srgb, ours).astype(np.float32)


def _to_xyz(chromaticities: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
  """The matrix from linear light to CIE XYZ, and white's XYZ, of Y = 1."""
  x, y = np.reshape(chromaticities, (4, 2)).astype(np.float64).T
  if not np.isfinite((x, y)).all() or y[3] <= 0:
    raise ValueError(f"chromaticities {tuple(chromaticities)} are of no color space")
  xyz = np.stack([x, y, 1 - x - y])
  white = xyz[:, 3] / y[3]
  primaries = xyz[:, :3]
  if abs(np.linalg.det(primaries)) < 1e-4:
    raise ValueError(f"chromaticities {tuple(chromaticities)} span no color space")
  return primaries * np.linalg.solve(primaries, white), white


def srgb_codes() -> np.ndarray:
  """The sRGB code, uint8, of each of 2^16 steps of linear light in 0..1."""
  return np.round(255 * _srgb_code(np.arange(_LIGHTS) / (_LIGHTS - 1))).astype(np.uint8)


ADOBE_RGB = RGBSpace(
  "Adobe RGB (1998)", (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65), power(563 / 256)
)


def of_code_points(
  primaries: int, transfer: int, narrow: bool = False
) -> tuple[RGBSpace | None, list[str]]:
  """The space of a pair of code points, None where there is none, and what is to be noted."""
  if primaries == transfer == UNSPECIFIED and not narrow:
    return None, []
  known = _PRIMARIES.get(1 if primaries == UNSPECIFIED else primaries)
  codes = f"primaries {primaries}, curve {transfer}"
  if known is None or transfer not in _CURVES:
    return None, [f"colors of another space ({codes}) read as sRGB"]
  camera = transfer in _CAMERAS
  notes = [f"a camera's curve (code {transfer}) read as sRGB's, as browsers do"] if camera else []
  name, chromaticities = known
  return RGBSpace(f"{name} ({codes})", chromaticities, _CURVES[transfer], narrow), notes


def of_gamma(name: str, chromaticities: Sequence[float] | None, gamma: float | None) -> RGBSpace:
  """A space of stated primaries (else BT.709's) and a power law (else sRGB's curve).

  With sRGB's primaries a power of about 2.2 is how writers approximate sRGB (the PNG specification
  tells them to).
  """
  given = BT709 if chromaticities is None else chromaticities
  is_srgb = np.allclose(given, BT709, atol=0.002)
  if gamma is None or (is_srgb and abs(gamma / 2.2 - 1) < 0.05):
    return RGBSpace(name, given)
  return RGBSpace(name, given, power(gamma))
