"""What networks make of images behind defenses: against a slow loop over images, in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

from rpfgsm_jax import defenses
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.models.classifier import Classifier

NETS = toys.three()
IMAGES = toys.images(4, seed=2)
ASKED = np.random.default_rng(0).integers(0, 7, (4, 3))
LABELS = np.asarray([6, 0, -1, 3])
# Lopsided, and without medians, which take longest to compile.
BANK = defenses.DefenseBank((defenses.JPEG, defenses.IDENTITY, defenses.REQUANTIZE))
MEMBERS = {
  "jpeg": defenses.jpeg,
  "requantize": defenses.requantize,
  "median": defenses.median,
}


def ranking(logits, label):
  """How many classes come before the label; of equal logits the lower index comes first."""
  order = sorted(range(len(logits)), key=lambda index: (-logits[index], index))
  return order.index(label)


def softmax(logits):
  powers = np.exp(logits.astype(np.float64) - logits.max())
  return powers / powers.sum()


def loop(images, asked, labels, networks, members):
  """Ranks, ranks of labels and distances, one image, network and defense at a time."""
  shape = (len(images), len(networks), 1 + len(members))
  ranks, label_ranks, distances = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape)
  for i, image in enumerate(images):
    seen = [image, *(member(image) for member in members)]
    for n, network in enumerate(networks):
      logits = [np.asarray(network(jnp.asarray(each, jnp.float32)[None])[0]) for each in seen]
      for s, each in enumerate(logits):
        ranks[i, n, s] = ranking(each, asked[i, n])
        label_ranks[i, n, s] = ranking(each, max(labels[i], 0))
        distances[i, n, s] = np.abs(softmax(each) - softmax(logits[0])).sum()
  return ranks, label_ranks, distances


def members_of(bank):
  """Our own defenses as functions of one image."""
  return [
    lambda image, name=family.name, parameter=parameter: MEMBERS[name](
      jnp.asarray(image, jnp.float32), parameter
    )
    for family in bank.families
    if family.name != "identity"
    for parameter in family.parameters
  ]


@pytest.fixture(scope="module")
def found():
  return measure.evaluate(IMAGES, ASKED, LABELS, NETS, BANK, 4)


@pytest.fixture(scope="module")
def expected():
  return loop(IMAGES, ASKED, LABELS, NETS, members_of(BANK))


def test_ranks_equal_the_loops(found, expected):
  np.testing.assert_array_equal(found.ranks, expected[0])


def test_label_ranks_equal_the_loops_where_there_is_a_label(found, expected):
  known = LABELS >= 0
  np.testing.assert_array_equal(found.label_ranks[known], expected[1][known])


def test_distances_equal_the_loops(found, expected):
  # Probabilities in float32, of logits that another batch size changes by 1e-6.
  np.testing.assert_allclose(found.distances, expected[2], rtol=0, atol=2e-5)
  assert expected[2].max() > 0.5


def test_an_image_as_it_is_has_no_distance_from_itself(found):
  # One program computes both, and not always in the same order of operations.
  np.testing.assert_allclose(found.distances[..., 0], 0, atol=1e-7)


def test_classes_are_the_first_five_and_probabilities_theirs(found):
  for i, image in enumerate(IMAGES):
    for n, network in enumerate(NETS):
      logits = np.asarray(network(jnp.asarray(image, jnp.float32)[None])[0])
      first = sorted(range(7), key=lambda index: -logits[index])[:5]
      np.testing.assert_array_equal(found.classes[i, n], first)
      np.testing.assert_allclose(found.probabilities[i, n], softmax(logits)[first], atol=1e-5)


def test_predict_says_what_evaluate_says(found):
  classes, probabilities = measure.predict(IMAGES, NETS, 4)
  np.testing.assert_array_equal(classes, found.classes)
  np.testing.assert_array_equal(probabilities, found.probabilities)


def test_a_padded_batch_gives_what_single_images_give():
  bank = defenses.DefenseBank((defenses.REQUANTIZE,))
  three = measure.evaluate(IMAGES[:3], ASKED[:3], LABELS[:3], NETS, bank, 4)
  for i in range(3):
    one = measure.evaluate(IMAGES[i : i + 1], ASKED[i : i + 1], LABELS[i : i + 1], NETS, bank, 1)
    np.testing.assert_array_equal(three.ranks[i], one.ranks[0])
    np.testing.assert_array_equal(three.label_ranks[i], one.label_ranks[0])
    np.testing.assert_array_equal(three.classes[i], one.classes[0])
    # 1e-5: another batch size changes the last bits of a convolution.
    np.testing.assert_allclose(three.distances[i], one.distances[0], atol=1e-5)
    np.testing.assert_allclose(three.probabilities[i], one.probabilities[0], atol=1e-5)


def test_a_padded_batch_has_as_many_answers_as_images():
  bank = defenses.DefenseBank((defenses.IDENTITY,))
  two = measure.evaluate(IMAGES[:2], ASKED[:2], LABELS[:2], NETS, bank, 4)
  shapes = {name: getattr(two, name).shape for name in ("ranks", "label_ranks", "distances")}
  assert shapes == dict.fromkeys(shapes, (2, 3, 1))
  assert two.classes.shape == two.probabilities.shape == (2, 3, 5)
  assert measure.predict(IMAGES[:2], NETS, 4)[0].shape == (2, 3, 5)


def _blocks(params, images):
  """Whole sums of ten pixels rounded to hundreds: many equal logits, and no float32 rounding."""
  sums = images.reshape(images.shape[0], -1)[:, :70].reshape(-1, 7, 10).sum(axis=-1)
  return jnp.floor(sums / params["step"])


def test_of_equal_logits_the_lower_class_comes_first():
  network = Classifier.from_function(
    _blocks,
    {"step": jnp.float32(500)},
    class_names=toys.CLASS_NAMES,
    image_size=toys.SIZE,
    name="blocks",
  )
  asked = np.arange(4)[:, None] + 2
  bank = defenses.DefenseBank((defenses.JPEG,))
  found = measure.evaluate(IMAGES, asked, asked[:, 0], [network], bank, 4)
  ranks, _, _ = loop(IMAGES, asked, asked[:, 0], [network], members_of(bank))
  np.testing.assert_array_equal(found.ranks, ranks)
  np.testing.assert_array_equal(found.label_ranks, ranks)
  logits = np.asarray(network(jnp.asarray(IMAGES, jnp.float32)))
  ties = (logits == np.take_along_axis(logits, asked, axis=1)).sum(axis=1)
  assert (ties > 1).any()


def test_pillow_and_scipy_give_the_ranks_and_distances_of_our_own_defenses():
  bank = defenses.paper_bank()
  device, oracle = (
    measure.evaluate(IMAGES, ASKED, LABELS, NETS, bank, 4, oracle=oracle)
    for oracle in (False, True)
  )
  np.testing.assert_array_equal(oracle.ranks, device.ranks)
  np.testing.assert_array_equal(oracle.label_ranks, device.label_ranks)
  # Re-quantized values between levels differ by up to 1e-4 levels.
  np.testing.assert_allclose(oracle.distances, device.distances, atol=1e-4)
  assert device.distances.shape == (4, 3, 15)


def test_with_oracle_no_defense_of_ours_runs(monkeypatch):
  monkeypatch.setattr(measure, "_apply", None)
  bank = defenses.DefenseBank((defenses.REQUANTIZE,))
  found = measure.evaluate(IMAGES, ASKED, LABELS, NETS, bank, 4, oracle=True)
  assert found.ranks.shape == (4, 3, 8)


def test_a_family_that_pillow_and_scipy_do_not_have_is_refused():
  bank = defenses.DefenseBank((defenses.REQUANTIZE, defenses.LIGHTEN))
  with pytest.raises(ValueError, match="must be requantize, median or jpeg, got 'lighten'"):
    measure.evaluate(IMAGES, ASKED, LABELS, NETS, bank, 4, oracle=True)


def test_settings_are_no_defense_and_every_member_in_order():
  settings = measure.settings_of(BANK)
  assert [each.name for each in settings[:6]] == [
    "none", "jpeg 25", "jpeg 50", "jpeg 75", "jpeg 100", "requantize 1",
  ]  # fmt: skip
  assert [each.family for each in settings] == [None, *[0] * 4, *[2] * 7]
  assert [each.parameter for each in settings] == [0, 25, 50, 75, 100, 1, 2, 3, 4, 5, 6, 7]


def test_the_papers_bank_has_fourteen_settings_beside_none():
  names = [setting.name for setting in measure.settings_of(defenses.paper_bank())]
  assert len(names) == 15
  assert names[:2] == ["none", "requantize 1"]
  assert names[-1] == "jpeg 100"


def test_padding_repeats_the_last_image_and_full_batches_stay():
  np.testing.assert_array_equal(measure.pad(IMAGES[:2], 4), IMAGES[[0, 1, 1, 1]])
  np.testing.assert_array_equal(measure.pad(IMAGES, 4), IMAGES)
