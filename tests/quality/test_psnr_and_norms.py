"""PSNR against scikit-image, norms against numpy.linalg, and both at their ends."""

import numpy as np
import pytest
import skimage.metrics

from rpfgsm_jax.quality import perturbation_norms, psnr


@pytest.fixture(scope="module")
def pair():
  generator = np.random.default_rng(0)
  originals = generator.integers(0, 256, (4, 9, 7, 3)).astype(np.uint8)
  change = generator.integers(-16, 17, originals.shape) * (generator.random(originals.shape) < 0.3)
  return np.clip(originals + change, 0, 255).astype(np.uint8), originals


def test_psnr_equals_scikit_images(pair):
  images, originals = pair
  expected = [
    skimage.metrics.peak_signal_noise_ratio(original, image, data_range=255)
    for image, original in zip(images, originals, strict=True)
  ]
  np.testing.assert_allclose(psnr(images, originals), expected, rtol=1e-12)


def test_norms_equal_numpys(pair):
  images, originals = pair
  norms = perturbation_norms(images, originals)
  for row, (image, original) in enumerate(zip(images, originals, strict=True)):
    change = (image.astype(float) - original).reshape(-1)
    assert norms.l0[row] == np.linalg.norm(change, 0)
    assert norms.l2[row] == pytest.approx(np.linalg.norm(change), rel=1e-12)
    assert norms.linf[row] == np.linalg.norm(change, np.inf)


def test_an_unchanged_image(pair):
  images = pair[1]
  assert np.isposinf(psnr(images, images)).all()
  norms = perturbation_norms(images, images)
  assert (norms.l0 == 0).all()
  assert (norms.l2 == 0).all()
  assert (norms.linf == 0).all()


def test_one_value_in_a_large_image_counts():
  original = np.full((400, 500, 3), 100, np.uint8)
  image = original.copy()
  image[7, 8, 1] = 101
  assert psnr(image, original) == pytest.approx(10 * np.log10(255**2 * 600_000), rel=1e-12)
  assert perturbation_norms(image, original).l0 == 1


@pytest.mark.parametrize("function", [psnr, perturbation_norms])
def test_two_shapes_are_refused(function):
  with pytest.raises(ValueError, match=r"one shape \(\.\.\., H, W, C\), got \(2, 3, 3\) and \(3,"):
    function(np.zeros((2, 3, 3)), np.zeros((3, 3, 3)))
  with pytest.raises(ValueError, match=r"one shape \(\.\.\., H, W, C\), got \(4,\)"):
    function(np.zeros(4), np.zeros(4))
