"""The sizes and images that `resize` takes and refuses."""

import jax
import numpy as np
import pytest

from rpfgsm_jax.defenses import resize

IMAGE = np.zeros((8, 9, 3), np.float32)


@pytest.mark.parametrize(
  "size",
  [(0, 3), (4, -1), (2.5, 3), (4,), (4, 5, 6), 4, None, "ab", (np.inf, 3), (np.nan, 3)],
  ids=str,
)
def test_wrong_sizes_are_refused(size):
  message = r"size must be \(height, width\), two integers of at least 1, got .*; round what was"
  with pytest.raises(ValueError, match=message) as error:
    resize(IMAGE, size)
  assert f"got {size!r};" in str(error.value)


def test_a_traced_size_is_refused():
  with pytest.raises(ValueError, match=r"size must be \(height, width\), two integers"):
    jax.jit(resize)(IMAGE, (4, 5))


def test_sizes_of_numpy_and_whole_floats_are_sizes(photo):
  image = photo[:8, :9].astype(np.float32)
  expected = resize(image, (5, 4))
  for size in (np.array([5, 4]), [5, 4], (5.0, np.int64(4))):
    np.testing.assert_array_equal(resize(image, size), expected)


def test_wrong_images_are_refused():
  with pytest.raises(ValueError, match=r"image must be float32 gray levels.*got uint8; convert it"):
    resize(IMAGE.astype(np.uint8), (4, 5))
  message = (
    r"image must have shape \(\.\.\., H, W, C\).*got \(8, 9\); give a gray image a last axis"
  )
  with pytest.raises(ValueError, match=message):
    resize(IMAGE[..., 0], (4, 5))
  with pytest.raises(ValueError, match=r"image must have shape .*got \(0, 9, 3\)"):
    resize(IMAGE[:0], (4, 5))
