"""MAD against a second transcription in plain loops, its laws on real photographs, and its ends."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from oracles import mad_oracle
from PIL import Image

from rpfgsm_jax.quality.mad import appearance_index, detection_index, mad


def read_photo(name: str, height: int, width: int) -> np.ndarray:
  """A real photograph, `(height, width, 3 or 1)` uint8."""
  picture = Image.fromarray(getattr(skimage.data, name)())
  photo = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
  return photo if photo.ndim == 3 else photo[..., None]


def as_uint8(values: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noise(photo: np.ndarray, sigma: float) -> np.ndarray:
  return as_uint8(photo + np.random.default_rng(1).normal(0, sigma, photo.shape))


def blur(photo: np.ndarray, sigma: float) -> np.ndarray:
  return as_uint8(scipy.ndimage.gaussian_filter(photo.astype(float), (sigma, sigma, 0)))


def jpeg(photo: np.ndarray, quality: int) -> np.ndarray:
  file = io.BytesIO()
  Image.fromarray(photo).save(file, "JPEG", quality=quality)
  return np.asarray(Image.open(file))


def half_flat(photo: np.ndarray) -> np.ndarray:
  """Its left half bright and below black: blocks without deviation, and without mean."""
  photo = photo.copy()
  photo[:, : photo.shape[1] // 2] = 0
  photo[:44, : photo.shape[1] // 2] = 200
  return photo


# Sizes with every remainder by four, the quirk at multiples of it (gray), and the least one.
PAIRS = {
  "noise": lambda: (read_photo("astronaut", 72, 64), lambda photo: noise(photo, 30)),
  "blur": lambda: (read_photo("coffee", 61, 83), lambda photo: blur(photo, 1.7)),
  "jpeg": lambda: (read_photo("rocket", 71, 58), lambda photo: jpeg(photo, 15)),
  "gray": lambda: (read_photo("camera", 64, 68), lambda photo: noise(photo, 20)),
  "flat": lambda: (half_flat(read_photo("chelsea", 62, 86)), lambda photo: noise(photo, 9)),
  "least": lambda: (blur(read_photo("chelsea", 34, 35), 3), lambda photo: noise(photo, 25)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_each_stage_equals_the_second_transcriptions(name):
  original, distort = PAIRS[name]()
  image = distort(original)
  plane, original_plane = mad_oracle.gray(image), mad_oracle.gray(original)
  # Both are float64; what differs is the order of sums and the rounding of filters.
  high = mad_oracle.high_quality(plane, original_plane)
  assert high > 1, "nothing is visible in this pair, so that it tests nothing"
  assert detection_index(plane, original_plane) == pytest.approx(high, rel=1e-10)
  low = mad_oracle.low_quality(plane, original_plane)
  assert appearance_index(plane, original_plane) == pytest.approx(low, rel=1e-10)
  assert mad(image, original) == pytest.approx(mad_oracle.mad(image, original), rel=1e-10)


def test_gray_is_rounded_as_in_rgb2gray():
  # What rgb2gray gives for pure and mixed colors; unrounded, 76.23, 149.70, .., 123.93.
  colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 200, 31]], float)
  grays = [76, 150, 29, 255, 124]
  for color, gray in zip(colors, grays, strict=True):
    photo = read_photo("coffee", 40, 44)
    image, plain = photo.copy(), mad_oracle.gray(photo)[..., None]
    image[20:30, 15:28] = color
    plain[20:30, 15:28] = gray
    original = mad_oracle.gray(photo)[..., None]
    assert mad(image, photo) == mad(plain, original)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "camera"])
@pytest.mark.parametrize(
  ("distort", "strengths"),
  [(noise, (18, 26, 40, 60)), (blur, (1, 1.5, 2.5, 4)), (jpeg, (20, 10, 5, 1))],
  ids=["noise", "blur", "jpeg"],
)
def test_more_distortion_gives_more(name, distort, strengths):
  original = read_photo(name, 100, 121)
  if distort is jpeg and original.shape[-1] == 1:
    original = original.repeat(3, axis=-1)
  values = [mad(original, original), *(mad(distort(original, s), original) for s in strengths)]
  assert values[0] == 0
  assert (np.diff(values) > 0).all(), values


def test_texture_masks_noise_and_the_originals_texture_does():
  rows, columns = np.indices((70, 81))
  flat = np.full((70, 81), 128.0)
  texture = flat + 50 * np.where((rows // 4 + columns // 4) % 2, 1, -1)
  change = np.random.default_rng(2).integers(-6, 7, flat.shape)
  assert detection_index(flat + change, flat) > 1000
  assert detection_index(texture + change, texture) == 0
  pair = texture[..., None], flat[..., None]
  assert mad(*pair) > 3 * mad(*pair[::-1])


def test_a_transposed_square_pair_has_nearly_the_same_value():
  original = read_photo("rocket", 96, 96)
  image = noise(original, 12)
  turned = image.swapaxes(0, 1), original.swapaxes(0, 1)
  # The detection index treats rows and columns alike; the half planes of the log-Gabor filters are
  # not, at the frequency that has no negative.
  assert mad(*turned) == pytest.approx(mad(image, original), rel=0.01)
  planes, turned = (
    [pair[k][..., 1].astype(float) for k in range(2)] for pair in ((image, original), turned)
  )
  assert detection_index(*turned) == pytest.approx(detection_index(*planes), rel=1e-10)


def test_what_changes_in_the_corner_does_not_count():
  original = read_photo("coffee", 80, 91)
  inner, corner = original.copy(), original.copy()
  inner[40:44, 40:44] = 255 - inner[40:44, 40:44]
  corner[:4, :4] = 255 - corner[:4, :4]
  assert mad(inner, original) > 10
  assert mad(corner, original) == 0


LEVELS = [(0, 0), (0, 1), (100, 130), (255, 0), (255, 254), (255, 255)]


@pytest.mark.parametrize("shape", [(64, 64, 3), (71, 97, 3), (50, 38, 1)], ids=["2^n", "odd", "1"])
@pytest.mark.parametrize(("level", "other"), LEVELS)
def test_blank_images_give_zero_and_no_rounding_noise(level, other, shape):
  assert mad(np.full(shape, level, np.uint8), np.full(shape, other, np.uint8)) == 0


@pytest.mark.parametrize("level", [0, 40, 128, 255])
def test_noise_on_a_blank_image_is_finite_either_way(level):
  blank = np.full((64, 70, 3), level, np.uint8)
  image = noise(blank, 12)
  value, reverse = mad(image, blank), mad(blank, image)
  assert np.isfinite([value, reverse]).all()
  # Below gray level 49 the release sees nothing.
  assert (value > 0) == (level > 49)


def test_a_batch_equals_its_images_alone_and_jax_arrays_are_taken():
  originals = np.stack([read_photo("coffee", 48, 57), read_photo("astronaut", 48, 57)] * 3)
  originals = originals.reshape(2, 3, 48, 57, 3)
  images = noise(originals, 60)
  values = mad(images, originals)
  assert values.shape == (2, 3)
  assert values.dtype == np.float64
  assert values[1, 0] == mad(images[1, 0], originals[1, 0])
  assert len(np.unique(values)) == 6
  floats = jnp.asarray(images, jnp.float32), jnp.asarray(originals, jnp.float32)
  np.testing.assert_array_equal(mad(*floats), values)
  assert mad(images[:0], originals[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(33, 60, 3), (60, 33, 1)], ids=["low", "narrow"])
def test_an_image_with_nothing_but_border_is_refused(shape):
  with pytest.raises(ValueError, match=r"at least 34x34 pixels, .* got shape \("):
    mad(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize(
  "shapes", [((40, 40, 3), (40, 41, 3)), ((40, 40, 2),) * 2, ((40, 40),) * 2]
)
def test_other_shapes_are_refused(shapes):
  with pytest.raises(ValueError, match=r"one shape \(\.\.\., H, W, C\) with C = 1 or 3, got \(40,"):
    mad(*map(np.zeros, shapes))


@pytest.mark.parametrize("value", [-1, 256, np.nan], ids=str)
def test_values_outside_the_gray_levels_are_refused(value):
  wrong, right = np.full((40, 40, 3), 5.0), np.full((40, 40, 3), 5.0)
  wrong[3, 4, 1] = value
  with pytest.raises(ValueError, match=r"images must be in 0\.\.255, got "):
    mad(wrong, right)
  with pytest.raises(ValueError, match=r"originals must be in 0\.\.255, got "):
    mad(right, wrong)
