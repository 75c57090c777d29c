"""Two folders compared: rates, detectability and quality against plain NumPy, Pillow, scikit-image.

Two linear networks of different sizes and classes; their answers are computed here in float64.
"""

import io
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
from PIL import Image

from rpfgsm_jax import quality
from rpfgsm_jax.comparison import ComparisonError, compare_folders, pair_folders
from rpfgsm_jax.models.classifier import Classifier

SIZE = (60, 52)  # of the files
BATCH = 3
FIRST_CLASSES = ("attic", "beach", "cave", "dam", "elevator", "farm", "garden")
SECOND_CLASSES = ("garden", "hall", "beach", "attic", "igloo")  # as few as make top-5 meaningless
NAMES = ("attic/a", "attic/b", "beach/c", "dam/d", "garden/e", "garden/f", "zoo/g")
MODEL = quality.BrisqueModel(
  support_vectors=np.linspace(-1, 1, 72).reshape(2, 36),
  coefficients=np.array([30.0, -12.0]),
  gamma=0.05,
  rho=-20.0,
  feature_min=np.full(36, -1.0),
  feature_max=np.linspace(1, 4, 36),
  low=-1.0,
  high=1.0,
)


def _apply(params, images):
  return images.reshape(images.shape[0], -1) @ params


def linear(seed: int, name: str, classes: tuple[str, ...], size: tuple[int, int]) -> Classifier:
  shape = (3 * size[0] * size[1], len(classes))
  params = jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 200, jnp.float32)
  return Classifier.from_function(_apply, params, class_names=classes, image_size=size, name=name)


NETWORKS = (
  linear(1, "first", FIRST_CLASSES, (12, 10)),
  linear(2, "second", SECOND_CLASSES, (16, 20)),
)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
  coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
  return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def write(path: pathlib.Path, image: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path)


def changed(image: np.ndarray, seed: int) -> np.ndarray:
  """Blended with another picture, since noise alone is gone at the networks' sizes."""
  noise = np.random.default_rng(100 + seed).integers(-20, 21, image.shape)
  mixed = 0.5 * image + 0.5 * picture(900 + seed, image.shape[:2]) + noise
  return np.clip(mixed, 0, 255).astype(np.uint8)


def make(folder: pathlib.Path, names=NAMES) -> tuple[pathlib.Path, pathlib.Path]:
  for seed, name in enumerate(names):
    write(folder / "original" / f"{name}.bmp", picture(seed))
    write(folder / "protected" / f"{name}.png", changed(picture(seed), seed))
  return folder / "original", folder / "protected"


def compare(folders, **options):
  return compare_folders(*folders, NETWORKS, batch_size=BATCH, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pairs")
  for seed in range(23):
    write(folder / "training" / f"{seed}.png", picture(500 + seed))
  return make(folder)


@pytest.fixture(scope="module")
def found(folders):
  training = folders[0].parent / "training"
  return compare(folders, training=training, brisque_model=MODEL, num_examples=3)


# ---- the oracle ----


def jpeg(image, number):
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, format="JPEG", quality=number)
  return np.asarray(Image.open(buffer))


def defended(image: np.ndarray) -> list[np.ndarray]:
  """The image as it is, 1..7 bits, median 2, 3, 5, JPEG 25, 50, 75, 100."""
  levels = [2**bits - 1 for bits in range(1, 8)]
  return [
    image,
    *(np.rint(image / 255 * level) / level * 255 for level in levels),
    *(scipy.ndimage.median_filter(image, size=(k, k, 1)) for k in (2, 3, 5)),
    *(jpeg(image, number) for number in (25, 50, 75, 100)),
  ]


def logits(network: Classifier, image: np.ndarray) -> np.ndarray:
  """`(15, D)` float64."""
  height, width = network.image_size
  small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
  flat = np.stack([np.asarray(each, np.float64).ravel() for each in defended(small)])
  return flat @ np.asarray(network.params, np.float64)


def rank(values: np.ndarray, label: int) -> np.ndarray:
  return (values > values[:, [label]]).sum(axis=1)


def expected_ranks(network: Classifier, changed_too: bool, true_class: bool) -> np.ndarray:
  """`(n, 15)`: of the own answer on the original, or of the true class."""
  rows = []
  for seed, name in enumerate(NAMES):
    before = logits(network, picture(seed))
    scene = name.split("/")[0]
    if true_class and scene not in network.class_names:
      continue
    label = network.class_names.index(scene) if true_class else int(before[0].argmax())
    image = changed(picture(seed), seed) if changed_too else picture(seed)
    rows.append(rank(logits(network, image), label))
  return np.stack(rows)


def wilson(share: float, n: int) -> tuple[float, float]:
  z = 1.959963984540054
  center = (share + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  return center - half, center + half


FAMILIES = {"requantize": range(1, 8), "median": range(8, 11), "jpeg": range(11, 15)}
SETTINGS = {"none": [0], **FAMILIES, "all": range(1, 15)}


@pytest.mark.parametrize("true_class", [False, True], ids=["own", "true"])
@pytest.mark.parametrize("version", [0, 1], ids=["original", "protected"])
@pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])
def test_rates_are_those_of_plain_numpy(found, place, version, true_class):
  network = found.networks[place]
  ranks = expected_ranks(NETWORKS[place], bool(version), true_class)
  for settings in SETTINGS.values():
    shares = (ranks[:, list(settings)] >= 1).mean(axis=1)
    rate = network.rate(version, settings, true_class=true_class)
    low, high = wilson(shares.mean(), len(shares))
    np.testing.assert_allclose(
      [rate.value, rate.low, rate.high, rate.count],
      [shares.mean(), max(low, 0), min(high, 1), len(shares)],
      atol=1e-9,
    )
  if place == 0:
    top5 = network.rate(version, SETTINGS["all"], top=5, true_class=true_class)
    assert top5.value == pytest.approx((ranks[:, 1:] >= 5).mean())


def test_the_oracle_is_not_trivial():
  ranks = [expected_ranks(network, True, False) for network in NETWORKS]
  assert all(0 < (each[:, 0] >= 1).mean() < 1 for each in ranks)
  assert 0 < (ranks[0][:, 1:] >= 5).mean() < 1
  assert len(expected_ranks(NETWORKS[0], False, True)) == 6
  assert len(expected_ranks(NETWORKS[1], False, True)) == 5


def test_families_and_settings_are_the_papers(found):
  assert {name: list(places) for name, places in found.families.items()} == {
    name: list(places) for name, places in FAMILIES.items()
  }
  assert len(found.settings) == 15
  assert found.settings[0] == "none"


def test_top_5_of_five_classes_has_no_rate(found):
  assert found.networks[1].rate(1, [0], top=5) is None


@pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])
def test_answers_and_probabilities(found, place):
  network = found.networks[place]
  for seed in range(len(NAMES)):
    for version, image in enumerate((picture(seed), changed(picture(seed), seed))):
      values = logits(NETWORKS[place], image)[0]
      shares = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
      assert network.answers[version, seed] == values.argmax()
      np.testing.assert_allclose(network.confidences[version, seed], shares.max(), atol=1e-5)


def expected_distances(network: Classifier, image: np.ndarray) -> np.ndarray:
  """`(15,)`, Eq. 4."""
  values = logits(network, image)
  shares = np.exp(values - values.max(axis=1, keepdims=True))
  shares /= shares.sum(axis=1, keepdims=True)
  return np.abs(shares - shares[0]).sum(axis=1)


def test_detection_is_that_of_plain_numpy(found):
  network = NETWORKS[0]
  clean = np.stack([expected_distances(network, picture(500 + seed)) for seed in range(23)])
  for version in (0, 1):
    images = [changed(picture(s), s) if version else picture(s) for s in range(len(NAMES))]
    moved = np.stack([expected_distances(network, image) for image in images])
    flags = []
    for name, places in FAMILIES.items():
      threshold = np.sort(clean[:, list(places)].max(axis=1))[math.ceil(0.95 * 23) - 1]
      assert found.networks[0].threshold(places) == pytest.approx(threshold, abs=1e-4), name
      flags.append(moved[:, list(places)].max(axis=1) > threshold)
      rate = found.networks[0].detection(version, [places])
      assert (rate.value, rate.count) == (pytest.approx(flags[-1].mean()), len(NAMES))
    joint = found.networks[0].detection(version, list(FAMILIES.values()))
    assert joint.value == pytest.approx(np.mean(flags))


def test_quality_is_that_of_other_libraries(found):
  for seed, photo in enumerate(found.photos):
    before, after = picture(seed), changed(picture(seed), seed)
    difference = np.abs(after.astype(float) - before)
    expected = {
      "psnr": skimage.metrics.peak_signal_noise_ratio(before, after, data_range=255),
      "ssim": skimage.metrics.structural_similarity(
        before,
        after,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1,
      ),
      "l0": (difference > 0).sum(),
      "changed": (difference > 0).mean(),
      "l2": math.sqrt((difference**2).sum()),
      "linf": difference.max(),
      # Which image is which: MAD is not symmetric.
      "mad": quality.mad(after, before),
      "brisque": quality.brisque(after, MODEL),
      "brisque_original": quality.brisque(before, MODEL),
    }
    assert expected["mad"] != pytest.approx(quality.mad(before, after), rel=1e-5)
    assert photo.measures == pytest.approx(
      {name: float(value) for name, value in expected.items()}, rel=1e-6
    )
    assert photo.name == NAMES[seed]


def test_examples_are_few_and_evenly_spread(found):
  assert [example.place for example in found.examples] == [0, 3, 6]
  np.testing.assert_array_equal(found.examples[1].before, picture(3))
  np.testing.assert_array_equal(found.examples[1].after, changed(picture(3), 3))


def test_neither_batch_nor_mates_matter(folders, found):
  alone = compare_folders(*folders, NETWORKS[1:], batch_size=BATCH, brisque_model=MODEL)
  np.testing.assert_array_equal(alone.networks[0].ranks, found.networks[1].ranks)
  assert [photo.measures for photo in alone.photos] == [photo.measures for photo in found.photos]


def test_progress_counts_photographs_up_to_all(folders):
  seen = []
  training = folders[0].parent / "training"
  compare(folders, training=training, training_limit=4, progress=lambda *each: seen.append(each))
  assert seen[0] == (0, 15)  # seven pairs, and four photographs for each of two sizes
  assert seen[-1] == (15, 15)
  assert [done for done, _ in seen] == sorted({done for done, _ in seen})


# ---- what is left out ----


def test_a_pair_of_two_sizes_has_no_quality_but_is_judged(tmp_path):
  folders = make(tmp_path)
  write(folders[1] / "attic/b.png", picture(1, (22, 18)))
  found = compare(folders)
  photo = found.photos[1]
  assert (photo.original_size, photo.protected_size) == ((60, 52), (22, 18))
  assert set(photo.measures.values()) == {None}
  assert found.networks[0].ranks.shape == (2, len(NAMES), 15)
  small = logits(NETWORKS[0], picture(1, (22, 18)))
  own = int(logits(NETWORKS[0], picture(1))[0].argmax())
  np.testing.assert_array_equal(found.networks[0].ranks[1, 1], rank(small, own))
  assert found.values("psnr").size == len(NAMES) - 1


def test_damaged_files_are_reported_and_left_out(tmp_path):
  folders = make(tmp_path)
  whole = (folders[1] / "attic/b.png").read_bytes()
  (folders[1] / "attic/b.png").write_bytes(whole[: len(whole) // 2])
  (folders[0] / "dam/d.bmp").write_bytes(b"no picture")
  found = compare(folders)
  assert [photo.name for photo in found.photos] == [
    n for n in NAMES if n not in ("attic/b", "dam/d")
  ]
  assert len(found.failures) == 2
  assert "b.png" in found.failures[0]
  assert "d.bmp" in found.failures[1]
  # Labels follow the photographs, not the places of the files.
  assert [FIRST_CLASSES[label] for label in found.networks[0].labels[:4]] == [
    "attic",
    "beach",
    "garden",
    "garden",
  ]
  assert found.networks[0].labels[4] == -1
  # So do examples: here all that could be read.
  assert [example.place for example in found.examples] == list(range(5))
  np.testing.assert_array_equal(found.examples[1].before, picture(2))


def test_an_unchanged_photo_has_no_finite_psnr(tmp_path):
  folders = make(tmp_path)
  write(folders[1] / "attic/b.png", picture(1))
  found = compare(folders)
  assert found.photos[1].unchanged
  assert found.photos[1].measures["psnr"] is None
  assert found.photos[1].measures["ssim"] == 1
  assert math.isfinite(found.mean("psnr"))


def test_no_readable_pair_is_an_error(tmp_path):
  folders = make(tmp_path)
  for name in NAMES:
    (folders[1] / f"{name}.png").write_bytes(b"no picture")
  with pytest.raises(ComparisonError, match=r"none of 7: .*a\.png must be a JPEG"):
    compare(folders)


# ---- which file belongs to which ----


def test_pairs_go_by_relative_path_without_suffix(tmp_path):
  for path in ("original/a.JPG", "original/lake/a.b.png", "original/x.png", "protected/a.png"):
    write(tmp_path / path, picture(0))
  for path in ("protected/lake/a.b.png", "protected/lake/x.png"):
    write(tmp_path / path, picture(0))
  found = pair_folders(tmp_path / "original", tmp_path / "protected")
  assert [(pair.original.relative, pair.protected.relative) for pair in found.pairs] == [
    ("a.JPG", "a.png"),
    ("lake/a.b.png", "lake/a.b.png"),
  ]
  assert (found.only_original, found.only_protected) == (("x.png",), ("lake/x.png",))
  assert found.ambiguous == ()


def test_of_several_files_of_one_name_only_equal_ones_are_paired(tmp_path):
  for path in ("original/a.jpg", "original/a.png", "protected/a.png", "original/b.png"):
    write(tmp_path / path, picture(0))
  for path in ("protected/b.bmp", "protected/b.gif"):
    write(tmp_path / path, picture(0))
  found = pair_folders(tmp_path / "original", tmp_path / "protected")
  assert [(pair.name, pair.protected.relative) for pair in found.pairs] == [("a.png", "a.png")]
  assert found.ambiguous == (
    "original: a.jpg",
    "original: b.png",
    "protected: b.bmp",
    "protected: b.gif",
  )


def test_a_folder_inside_the_other_is_not_part_of_it(tmp_path):
  for path in ("a.png", "b.png", "protected/a.png"):
    write(tmp_path / "photos" / path, picture(0))
  found = pair_folders(tmp_path / "photos", tmp_path / "photos" / "protected")
  assert [pair.name for pair in found.pairs] == ["a"]
  assert found.only_original == ("b.png",)


# ---- what is refused ----


def same(folder):
  (folder / "link").symlink_to(folder / "original")
  return {"protected": folder / "link"}


def nothing_shared(folder):
  for name in ("p.png", "q.png", "r.png", "s.png"):
    write(folder / "others" / name, picture(0))
  return {"protected": folder / "others"}


def empty(folder):
  (folder / "empty").mkdir()
  return {"original": folder / "empty"}


REFUSED = {
  "missing": (lambda folder: {"original": folder / "no"}, "original must be a folder.* nothing of"),
  "file": (
    lambda folder: {"protected": folder / "original/attic/a.bmp"},
    "protected must .* a file",
  ),
  "empty": (empty, "original must contain image files"),
  "same": (same, "must be two folders"),
  "nothing-shared": (
    nothing_shared,
    r"has attic/a\.bmp, .* and 4 more; .*others has p\.png, q\.png",
  ),
  "no-network": (lambda folder: {"networks": []}, "networks must be a list of at least one"),
  "name": (lambda folder: {"networks": "first"}, "networks must be a list"),
  "twice": (
    lambda folder: {"networks": [NETWORKS[0]] * 2},
    "different names, got first more than once; drop one, or give it another: dataclasses",
  ),
  "training": (
    lambda folder: {"training": folder / "original"},
    "training and the compared folders must lie apart",
  ),
  "no-training": (lambda folder: {"training": folder / "no"}, "training must be a folder"),
  "limit": (lambda folder: {"training": folder, "training_limit": 0}, "training_limit must"),
  "examples": (lambda folder: {"num_examples": 51}, r"num_examples must be in 0\.\.50"),
  "batch": (lambda folder: {"batch_size": 0}, "batch_size must be at least 1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_arguments_are_refused_before_any_work(tmp_path, kind):
  change, message = REFUSED[kind]
  original, protected = make(tmp_path)
  arguments = {"original": original, "protected": protected, "networks": NETWORKS}
  arguments |= change(tmp_path)
  with pytest.raises(ComparisonError, match=message):
    compare_folders(**arguments, progress=lambda done, total: pytest.fail("work began"))
