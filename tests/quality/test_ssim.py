"""SSIM against scikit-image's named variant on real photographs, its closed form, and its ends."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import skimage.metrics
from PIL import Image

from rpfgsm_jax.quality.ssim import ssim

SIZES = {"astronaut": (127, 96), "coffee": (101, 118), "chelsea": (96, 128), "rocket": (11, 37)}


def read_photo(name: str) -> np.ndarray:
  picture = Image.fromarray(getattr(skimage.data, name)())
  return np.asarray(picture.resize(SIZES[name][::-1], Image.Resampling.BICUBIC))


def as_uint8(values: np.ndarray) -> np.ndarray:
  return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(photo: np.ndarray) -> np.ndarray:
  file = io.BytesIO()
  Image.fromarray(photo).save(file, "JPEG", quality=20)
  return np.asarray(Image.open(file))


def noise(photo: np.ndarray) -> np.ndarray:
  return as_uint8(photo + np.random.default_rng(0).normal(0, 9, photo.shape))


DISTORTIONS = {
  "noise": noise,
  "jpeg": jpeg,
  "inverted": lambda photo: 255 - photo,
  "black": np.zeros_like,
  "one value": lambda photo: np.where(
    np.arange(photo.size).reshape(photo.shape) == 700, 255, photo
  ),
}


def scikit_images(image: np.ndarray, original: np.ndarray) -> float:
  return skimage.metrics.structural_similarity(
    image.astype(np.float64),
    original.astype(np.float64),
    gaussian_weights=True,
    sigma=1.5,
    use_sample_covariance=False,
    data_range=255,
    channel_axis=-1,
  )


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("name", SIZES)
def test_ssim_equals_scikit_images(name, distortion):
  original = read_photo(name)
  image = DISTORTIONS[distortion](original)
  # Only the order of sums differs.
  assert ssim(image, original) == pytest.approx(scikit_images(image, original), abs=1e-12)


def test_one_channel_and_many():
  original = np.concatenate([read_photo("coffee"), read_photo("coffee")[::-1]], axis=-1)[..., :5]
  image = noise(original)
  assert ssim(image, original) == pytest.approx(scikit_images(image, original), abs=1e-12)
  channels = [ssim(image[..., k : k + 1], original[..., k : k + 1]) for k in range(5)]
  assert ssim(image, original) == pytest.approx(np.mean(channels), abs=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("name", SIZES)
def test_an_unchanged_image_has_exactly_one(name, dtype):
  photo = read_photo(name).astype(dtype)
  assert ssim(photo, photo) == 1.0
  assert ssim(photo / 3, photo / 3) == 1.0


@pytest.mark.parametrize(("one", "two"), [(0, 255), (100, 101), (255, 254), (7, 200)])
def test_two_flat_images_differ_by_their_luminance_alone(one, two):
  values = ssim(np.full((13, 17, 3), one, np.uint8), np.full((13, 17, 3), two, np.uint8))
  expected = (2 * one * two + 2.55**2) / (one**2 + two**2 + 2.55**2)
  assert values == pytest.approx(expected, abs=1e-9)


def test_the_order_of_the_two_does_not_matter():
  original = read_photo("coffee")
  assert ssim(noise(original), original) == ssim(original, noise(original))


def test_transposed_and_mirrored_pairs_have_the_same_value():
  original = read_photo("chelsea")
  image = noise(original)
  for change in (np.fliplr, np.flipud, lambda array: array.swapaxes(0, 1)):
    assert ssim(change(image), change(original)) == pytest.approx(ssim(image, original), abs=1e-12)


def test_a_batch_equals_its_images_alone_and_jax_arrays_are_taken():
  originals = np.stack([read_photo("coffee"), read_photo("coffee")[::-1]] * 3).reshape(
    2, 3, *SIZES["coffee"], 3
  )
  images = noise(originals)
  values = ssim(images, originals)
  assert values.shape == (2, 3)
  assert values.dtype == np.float64
  assert values[0, 1] == ssim(images[0, 1], originals[0, 1])
  floats = jnp.asarray(images, jnp.float32), jnp.asarray(originals, jnp.float32)
  np.testing.assert_array_equal(ssim(*floats), values)
  assert ssim(images[:0], originals[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(10, 40, 3), (40, 10, 3)], ids=["low", "narrow"])
def test_an_image_smaller_than_the_window_is_refused(shape):
  with pytest.raises(ValueError, match=r"at least 11x11 pixels, .* got shape \((10|40), "):
    ssim(np.zeros(shape), np.zeros(shape))


def test_two_shapes_are_refused():
  with pytest.raises(
    ValueError, match=r"one shape \(\.\.\., H, W, C\), got \(20, 20, 3\) and \(20,"
  ):
    ssim(np.zeros((20, 20, 3)), np.zeros((20, 20, 1)))
  with pytest.raises(ValueError, match=r"one shape \(\.\.\., H, W, C\), got \(20, 20\)"):
    ssim(np.zeros((20, 20)), np.zeros((20, 20)))
