"""Two folders compared: rates, detectability and quality against plain NumPy, Pillow, scikit-image.

Two linear networks of different sizes and classes; their answers are computed here in float64.
"""

import math
import unicodedata

import numpy as np
import pytest
import skimage.metrics
from compared_folders import (
  BATCH,
  MODEL,
  NAMES,
  NETWORKS,
  changed,
  compare,
  logits,
  make,
  picture,
  rank,
  write,
)

from rpfgsm_jax import quality
from rpfgsm_jax.comparison import ComparisonError, compare_folders, pair_folders
from rpfgsm_jax.data.result_names import output_names
from rpfgsm_jax.models.classifier import Classifier


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
      "scielab": quality.scielab(after, before),
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


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_results_are_found_under_the_names_that_protect_gives_them(tmp_path, suffix):
  originals = ["a.jpg", "a.png", "IMG.HEIC", "IMG.jpg", "x/b.gif", "r.dng", "r.jpg", "m.mpo"]
  originals += ["w.jpg", "w.jpg.png", "w.png", "B.jpg", "b.jpg", "caf\u00e9.jpg"]
  for name in originals:
    write(tmp_path / "original" / f"{name}.png", picture(0))
    (tmp_path / "original" / f"{name}.png").rename(tmp_path / "original" / name)
  results = dict(zip(originals, output_names(originals, suffix), strict=True))
  del results["r.dng"]  # which has none
  for name in results.values():
    place = tmp_path / "protected" / unicodedata.normalize("NFD", name)
    write(place.with_suffix(".png"), picture(1))
    place.with_suffix(".png").rename(place)
  found = pair_folders(tmp_path / "original", tmp_path / "protected")
  assert {pair.original.relative: pair.protected.relative for pair in found.pairs} == {
    name: unicodedata.normalize("NFD", result) for name, result in results.items()
  }
  assert [pair.name for pair in found.pairs] == sorted(
    name.removesuffix(suffix) for name in results.values()
  )
  assert (found.only_original, found.only_protected, found.ambiguous) == (("r.dng",), (), ())


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
