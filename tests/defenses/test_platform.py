"""The size of an upload, `UPLOAD` against Pillow, and members of a bank behind an encoder."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image

from rpfgsm_jax import defenses
from rpfgsm_jax.defenses import platform
from rpfgsm_jax.defenses.bank import apply_rows
from rpfgsm_jax.defenses.resize import bilinear_weights

SIZES = {
  "12 megapixels": ((3024, 4032), (1536, 2048)),
  "portrait": ((4032, 3024), (2048, 1536)),
  "just a side": ((1365, 2048), (1066, 1600)),
  "near a side": ((1707, 2275), (1201, 1600)),  # 2048 is more than 0.9 of it
  "far enough": ((1707, 2276), (1536, 2048)),
  "0.9 exactly": ((600, 800), (540, 720)),
  "0.9 exactly, portrait": ((1200, 901), (1080, 811)),
  "just not": ((600, 799), (360, 480)),
  "smallest that shrinks": ((300, 356), (270, 320)),
  "largest that stays": ((300, 355), (300, 355)),
  "square": ((500, 500), (320, 320)),
  "tie to even, down": ((1001, 4096), (500, 2048)),
  "tie to even, up": ((1003, 4096), (502, 2048)),
  "tiny": ((1, 1), (1, 1)),
  "thread": ((1, 100_000), (1, 2048)),  # not 0 pixels
  "thread, portrait": ((60_000, 3), (2048, 1)),
  "huge": ((50_000, 100_001), (1024, 2048)),
}


@pytest.mark.parametrize(("size", "expected"), SIZES.values(), ids=SIZES)
def test_size_of_an_upload(size, expected):
  assert defenses.upload_size(size) == expected


def test_size_of_an_upload_keeps_the_aspect_ratio_and_never_grows():
  generator = np.random.default_rng(0)
  for height, width in generator.integers(1, 9000, (300, 2)).tolist():
    new_height, new_width = defenses.upload_size((height, width))
    assert defenses.upload_size((width, height)) == (new_width, new_height)
    longest = max(new_height, new_width)
    if longest != max(height, width):
      assert longest in platform.UPLOAD_SIDES
      assert longest <= 0.9 * max(height, width)
    ratio = longest / max(height, width)
    assert abs(new_height - max(height * ratio, 1)) <= 0.5
    assert abs(new_width - max(width * ratio, 1)) <= 0.5


def test_sides_go_down():
  assert list(platform.UPLOAD_SIDES) == sorted(set(platform.UPLOAD_SIDES), reverse=True)


_UPLOAD = jax.jit(defenses.UPLOAD.apply, static_argnums=2)


def upload(image, quality):
  return np.asarray(_UPLOAD(image.astype(np.float32), jnp.float32(quality), "straight_through"))


def pillow_resize(image, size):
  height, width = size
  return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def pillow_jpeg(image, quality, subsampling="4:2:0"):
  file = io.BytesIO()
  Image.fromarray(image).save(file, format="JPEG", quality=quality, subsampling=subsampling)
  return np.asarray(Image.open(file))


def pillow_upload(image, quality):
  size = image.shape[:2]
  return pillow_resize(pillow_jpeg(pillow_resize(image, defenses.upload_size(size)), quality), size)


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_upload_equals_pillow_on_a_photo(quality):
  """451 x 300 to 320 x 213 and back. A level apart near half a level, see `resize`; where that
  happens before the encoder, a block may come out otherwise, as any encoder makes it."""
  image = np.ascontiguousarray(skimage.data.chelsea().transpose(1, 0, 2))
  got, expected = upload(image, quality), pillow_upload(image, quality)
  difference = np.abs(got - expected)
  assert (difference > 0).mean() < 0.01  # measured: at most 0.0011
  assert (difference > 1).mean() < 0.002  # measured: 0
  # That is far less than what the upload itself does.
  assert np.abs(expected.astype(int) - image).mean() > 1


def test_upload_equals_pillow_exactly_where_no_value_is_near_half(monkeypatch):
  """Shrinking by two, weights are exact but at the border, which is flat here."""
  image = np.pad(skimage.data.coffee()[40:60], ((0, 0), (20, 20), (0, 0)), mode="edge")
  image[:2], image[-2:] = image[2], image[-3]
  monkeypatch.setattr(platform, "UPLOAD_SIDES", (320,))
  assert defenses.upload_size(image.shape[:2]) == (10, 320)
  apply = jax.jit(lambda x, quality: defenses.UPLOAD.apply(x, quality, "straight_through"))
  for quality in (50, 75, 90):
    expected = pillow_upload(image, quality)
    assert np.mean(expected != image) > 0.5
    got = apply(image.astype(np.float32), jnp.float32(quality))
    np.testing.assert_array_equal(got, expected)


def test_upload_of_a_small_photo_is_jpeg_alone(photo):
  image = photo[:37, :51]
  for quality in (50.0, 75.0, 90.0):
    got = defenses.UPLOAD.apply(image.astype(np.float32), quality, "straight_through")
    np.testing.assert_array_equal(got, pillow_jpeg(image, int(quality)))


def test_the_platforms_set():
  bank = defenses.platform_bank()
  assert bank.families[:-1] == defenses.paper_bank().families
  assert bank.families[-1] is defenses.UPLOAD
  assert bank.names == ("identity", "requantize", "median", "jpeg", "upload")
  assert defenses.UPLOAD.parameters == (50.0, 75.0, 90.0)
  assert (defenses.UPLOAD.random, defenses.UPLOAD.by_parameter) == (False, False)
  assert bank == defenses.platform_bank()
  assert hash(bank) == hash(defenses.platform_bank())


def _shift(image, parameter, rounding, key):
  return image + jnp.round(jax.random.uniform(key, (), minval=0.0, maxval=parameter))


SHIFT = defenses.Defense("shift", _shift, (9.0, 99.0), random=True)
EVERY = defenses.DefenseBank((*defenses.platform_bank().families, SHIFT))


def test_encoded_members_keep_all_but_their_function():
  encoded = defenses.encoded_bank(EVERY, 83, "4:4:4")
  assert encoded.names == EVERY.names
  for family, member in zip(EVERY.families, encoded.families, strict=True):
    for field in ("parameters", "random", "by_parameter"):
      assert getattr(member, field) == getattr(family, field)
    assert member.apply != family.apply
  assert [member.by_parameter for member in encoded.families] == [False, False, True] + [False] * 3
  assert [member.random for member in encoded.families] == [False] * 5 + [True]


def test_equal_arguments_give_equal_sets_for_which_nothing_is_compiled_anew():
  first = defenses.encoded_bank(defenses.platform_bank(), 83, "4:2:0")
  again = defenses.encoded_bank(defenses.platform_bank(), 83, "4:2:0")
  assert first == again
  assert hash(first) == hash(again)
  others = [
    defenses.encoded_bank(defenses.platform_bank(), 84, "4:2:0"),
    defenses.encoded_bank(defenses.platform_bank(), 83, "4:4:4"),
    defenses.encoded_bank(defenses.paper_bank(), 83, "4:2:0"),
    defenses.platform_bank(),
  ]
  assert len({first, again, *others}) == 5
  traces = []

  @functools.partial(jax.jit, static_argnums=0)
  def count(bank):
    traces.append(bank)
    return 0

  for bank in (first, again, *others):
    count(bank)
  assert len(traces) == 5


@pytest.mark.parametrize(("quality", "subsampling"), [(83, "4:2:0"), (31, "4:4:4")])
def test_encoded_members_see_what_pillow_decodes(photo, quality, subsampling):
  """What the members make of a file's pixels: they have tests of their own."""
  image = photo[60:97, 80:131]
  decoded = pillow_jpeg(image, quality, subsampling).astype(np.float32)
  assert np.mean(decoded != image) > 0.2
  expected = {
    "identity": (0, decoded),
    "requantize": (3, defenses.requantize(decoded, 3)),
    "median": (5, defenses.median(decoded, 5)),
    "jpeg": (25, pillow_jpeg(decoded.astype(np.uint8), 25)),
    "upload": (75, pillow_jpeg(decoded.astype(np.uint8), 75)),  # too small to be shrunk
    "shift": (99, _shift(decoded, 99.0, "straight_through", jax.random.key(7))),
  }
  encoded = defenses.encoded_bank(EVERY, quality, subsampling)
  for member in encoded.families:
    parameter, values = expected[member.name]
    key = (jax.random.key(7),) if member.random else ()
    got = member.apply(image.astype(np.float32), jnp.float32(parameter), "straight_through", *key)
    np.testing.assert_array_equal(got, values, err_msg=member.name)


def test_the_rule_for_roundings_reaches_every_encoder(photo, monkeypatch):
  rules = []
  monkeypatch.setattr(
    platform, "jpeg", lambda image, quality, *, rounding, **_: rules.append(rounding) or image
  )
  encoded = defenses.encoded_bank(defenses.DefenseBank((defenses.UPLOAD,)), 83, "4:2:0")
  encoded.families[0].apply(photo[:9, :12].astype(np.float32), 50.0, "cubic")
  assert rules == ["cubic", "cubic"]


def test_encoded_members_work_in_the_groups_of_an_accelerator(photo, monkeypatch):
  """There a plain identity is left out, and a median is given a Python number."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  median = dataclasses.replace(defenses.MEDIAN, parameters=(3.0,))
  bank = defenses.encoded_bank(defenses.DefenseBank((defenses.IDENTITY, median)), 83, "4:2:0")
  images = np.stack([photo[i : i + 21, i : i + 18] for i in (0, 40)])
  families, parameters = np.array([0, 1], np.int32), np.array([0, 3], np.float32)
  got = jax.jit(lambda *rows: apply_rows(bank, *rows, "straight_through"))(
    images.astype(np.float32), families, parameters, np.zeros(2, np.uint32)
  )
  decoded = [pillow_jpeg(image, 83).astype(np.float32) for image in images]
  np.testing.assert_array_equal(got, [decoded[0], defenses.median(decoded[1], 3)])


@jax.jit
def pull(images, quality, cotangents):
  """Values of uploads and their gradients; one compile for the tests below."""

  def one(image, cotangent):
    upload = lambda x: defenses.UPLOAD.apply(x, quality, "straight_through")  # noqa: E731
    value, back = jax.vjp(upload, image)
    return value, back(cotangent)[0]

  return jax.lax.map(lambda pair: one(*pair), (images, cotangents))


def special_images(shape):
  """Black, white, gray, a spot on black, and a saturated checkerboard."""
  spot = np.zeros(shape)
  spot[shape[0] // 2, shape[1] // 2] = [255, 1, 128]
  board = np.indices(shape[:2]).sum(0)[..., None] % 2 * np.array([255, 0, 255])
  flat = [np.full(shape, level) for level in (0, 255, 128)]
  return np.stack([*flat, spot, board]).astype(np.float32)


LARGE, SMALL = (9, 400), (7, 320)


def test_uploads_have_finite_gradients_on_flat_and_saturated_images():
  """For other rules: the encoder's are tested with it, and `resize` knows none."""
  assert defenses.upload_size(LARGE) == SMALL
  images = special_images((*LARGE, 3))
  cotangents = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
  for quality in (50, 90):
    value, gradient = pull(images, jnp.float32(quality), cotangents)
    assert np.all(np.isfinite(gradient))
    assert np.mean(gradient != 0) > 0.99  # an attack can always leave the bound
    assert np.all((value >= 0) & (value <= 255))
    np.testing.assert_array_equal(value[:3], images[:3])


def test_the_gradient_of_an_upload_is_that_of_its_stages():
  """Two linear maps as dense matrices in float64, and between them the gradient of `jpeg`."""
  photos = skimage.data.coffee()[:45, :400].reshape(5, *LARGE, 3).astype(np.float32)
  cotangents = np.random.default_rng(2).normal(size=photos.shape).astype(np.float32)
  _, got = pull(photos, jnp.float32(75), cotangents)

  def through(cotangent, old, new):
    rows, columns = (bilinear_weights(old[axis], new[axis]).astype(np.float64) for axis in (0, 1))
    return np.einsum("ih,jw,ijc->hwc", rows, columns, cotangent, optimize=True)

  pull_jpeg = jax.jit(lambda x, g: jax.vjp(lambda x: defenses.jpeg(x, 75), x)[1](g)[0])
  for photo, cotangent, gradient in zip(photos, cotangents, got, strict=True):
    shrunk = pillow_resize(photo.astype(np.uint8), SMALL).astype(np.float32)
    expected = through(cotangent, SMALL, LARGE).astype(np.float32)
    expected = through(pull_jpeg(shrunk, expected), LARGE, SMALL)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_thumbnails_meet_the_member_as_scipy_and_pillow_have_it(photo):
  """219 x 331 to about 60 x 60 pixels: 49 x 74, a median of 3, and back."""
  bank = defenses.shrunk_bank(defenses.paper_bank(), 60)
  small = pillow_resize(photo, (49, 74))
  changed = scipy.ndimage.median_filter(small, size=(3, 3, 1), mode="reflect")
  expected = pillow_resize(changed, photo.shape[:2])
  run = jax.jit(lambda image: bank.families[2].apply(image, 3.0, "straight_through"))
  found = np.asarray(run(photo.astype(np.float32)))
  # Values near half a gray level may go either way in each resize, see `resize`.
  difference = np.abs(found - expected)
  assert difference.max() <= 2
  assert np.mean(difference > 0) < 0.02


def test_shrunk_members_keep_all_but_their_function_and_the_identity_is_itself():
  paper = defenses.paper_bank()
  bank = defenses.shrunk_bank(paper, 60)
  assert bank.families[0] == defenses.IDENTITY
  for before, after in zip(paper.families[1:], bank.families[1:], strict=True):
    assert dataclasses.replace(after, apply=before.apply) == before
    assert after != before
  assert bank == defenses.shrunk_bank(paper, 60)
  assert hash(bank) == hash(defenses.shrunk_bank(paper, 60))
  assert bank != defenses.shrunk_bank(paper, 61)


def test_a_photo_of_a_thumbnails_size_is_not_resized(photo):
  small = photo[:20, :30].astype(np.float32)
  member = defenses.shrunk_bank(defenses.paper_bank(), 25).families[1]
  found = member.apply(small, 3.0, "straight_through")
  np.testing.assert_array_equal(found, defenses.requantize(small, 3.0))


@pytest.mark.parametrize("side", [0, -1, 1.5, "256", None])
def test_a_thumbnails_side_is_checked(side):
  with pytest.raises(ValueError, match=r"side must be an integer of at least 1 pixel, got"):
    defenses.shrunk_bank(defenses.paper_bank(), side)
