"""What every attack promises alike: the grid, independence of batch mates, counting, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp

THREE, ONE = toys.three(), [toys.convolution(2)]
IMAGES = toys.images(7)
LIGHT = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
SIGNED = {"epsilon": 5.0, "num_steps": 6}


@dataclasses.dataclass(frozen=True)
class Case:
  attack: object
  config: object
  nets: list
  targeted: bool

  def run(self, images=IMAGES, **options):
    return self.attack(jax.random.key(0), images, self.nets, self.config, **options)


CASES = {
  "u_fgsm": Case(rp.u_fgsm, rp.FGSMConfig(**SIGNED), ONE, False),
  "r_fgsm": Case(rp.r_fgsm, rp.FGSMConfig(**SIGNED), ONE, True),
  "l_fgsm": Case(rp.l_fgsm, rp.FGSMConfig(**SIGNED), ONE, True),
  "p_fgsm": Case(rp.p_fgsm, rp.FGSMConfig(**SIGNED), ONE, True),
  "e_fgsm": Case(rp.e_fgsm, rp.FGSMConfig(**SIGNED), THREE, True),
  "eot": Case(rp.eot, rp.EOTConfig(**SIGNED), ONE, True),
  "di_fgsm": Case(rp.di_fgsm, rp.DIFGSMConfig(**SIGNED), THREE, False),
  "di_fgsm targeted": Case(rp.di_fgsm, rp.DIFGSMConfig(**SIGNED, targeted=True), THREE, True),
  "rp_fgsm": Case(rp.rp_fgsm, rp.RPFGSMConfig(**SIGNED, defenses=LIGHT), THREE, False),
  "rp_fgsm targeted": Case(
    rp.rp_fgsm, rp.RPFGSMConfig(**SIGNED, defenses=LIGHT, targeted=True), THREE, True
  ),
  "jsma": Case(rp.jsma, rp.JSMAConfig(num_candidates=2, num_steps=30), ONE, True),
  "cw": Case(rp.cw, rp.CWConfig(search_steps=2, num_steps=20), ONE, True),
  "deepfool": Case(rp.deepfool, rp.DeepFoolConfig(), ONE, False),
  "sparsefool": Case(rp.sparsefool, rp.SparseFoolConfig(), ONE, False),
}
MINIMAL = ("jsma", "cw", "deepfool", "sparsefool")
EVERY = pytest.mark.parametrize("name", CASES)
# What needs a program of its own is compiled for one attack of each kind: the signed ones share
# their loop.
KINDS = pytest.mark.parametrize("name", ["u_fgsm", "e_fgsm", "eot", "rp_fgsm", *MINIMAL])


@pytest.fixture(scope="module")
def results():
  """Each attack's result on the whole batch, computed when first asked for."""
  found = {}

  def result(name):
    if name not in found:
      found[name] = CASES[name].run()
    return found[name]

  return result


def predictions(nets, images):
  """`(B, K)`"""
  return np.stack([np.argmax(np.asarray(net(np.asarray(images))), axis=1) for net in nets], axis=1)


@EVERY
def test_the_result_is_whole_gray_levels_in_range_and_in_the_ball(name, results):
  result = results(name)
  adversarial = np.asarray(result.adversarial)
  assert adversarial.dtype == np.float32
  np.testing.assert_array_equal(adversarial, np.clip(np.rint(adversarial), 0, 255))
  change = np.abs(adversarial - IMAGES).max(axis=(1, 2, 3))
  if name not in MINIMAL:
    assert change.max() == 5.0
  assert (change > 0).any()


@EVERY
def test_success_is_what_the_networks_say(name, results):
  case, result = CASES[name], results(name)
  before, after = predictions(case.nets, IMAGES), predictions(case.nets, result.adversarial)
  target = np.asarray(result.target)
  if case.targeted:
    assert (target >= 0).all()
    assert (target[:, None] != before).all()
    expected = (after == target[:, None]).all(axis=1)
  else:
    assert (target == -1).all()
    expected = (after != before).all(axis=1)
  np.testing.assert_array_equal(np.asarray(result.success), expected)


@EVERY
def test_batch_equals_single_runs_and_a_permuted_batch_the_permuted_result(name, results):
  case, whole = CASES[name], results(name)
  order = np.asarray([4, 0, 6, 2, 5, 1, 3])
  mixed = case.run(IMAGES[order], image_ids=order)
  alone = [case.run(IMAGES[i : i + 1], image_ids=np.asarray([i])) for i in (0, 3, 6)]
  for field in ("adversarial", "target", "success", "gradient_evaluations"):
    expected = np.asarray(getattr(whole, field))
    np.testing.assert_array_equal(np.asarray(getattr(mixed, field)), expected[order])
    single = np.concatenate([np.asarray(getattr(each, field)) for each in alone])
    np.testing.assert_array_equal(single, expected[[0, 3, 6]])


class Counter:
  """Counts the rows of every gradient that runs through a network's input."""

  def __init__(self):
    self.rows = 0

  def add(self, rows):
    self.rows += rows

  def watch(self, net):
    @jax.custom_vjp
    def observed(images):
      return images

    def forward(images):
      return images, None

    def backward(_, cotangent):
      jax.debug.callback(lambda: self.add(cotangent.shape[0]))
      return (cotangent,)

    observed.defvjp(forward, backward)
    return rp.Classifier.from_function(
      lambda params, images: net.apply(params, observed(images)),
      net.params,
      class_names=net.class_names,
      image_size=net.image_size,
      name=net.name,
    )


@KINDS
def test_gradient_evaluations_are_those_that_took_place(name):
  """One image, one row a chunk: every row of every backward pass is one evaluation."""
  case, counter = CASES[name], Counter()
  case = dataclasses.replace(
    case,
    nets=[counter.watch(net) for net in case.nets],
    config=dataclasses.replace(case.config, micro_batch=1),
  )
  counter.rows = 0
  result = case.run(IMAGES[:1])
  jax.block_until_ready(result)
  jax.effects_barrier()
  assert int(result.gradient_evaluations[0]) == counter.rows > 0


@EVERY
def test_no_steps_return_the_images(name):
  case = CASES[name]
  field = "num_loops" if name == "sparsefool" else "num_steps"
  result = dataclasses.replace(case, config=dataclasses.replace(case.config, **{field: 0})).run()
  np.testing.assert_array_equal(np.asarray(result.adversarial), IMAGES)
  assert not np.asarray(result.success).any()
  assert (np.asarray(result.gradient_evaluations) == 0).all()


@EVERY
def test_no_images_give_no_images(name):
  result = CASES[name].run(IMAGES[:0])
  assert result.adversarial.shape == (0, *toys.SIZE, 3)
  assert result.success.shape == (0,)


@EVERY
def test_a_target_for_the_untargeted_and_a_label_for_the_targeted_are_refused(name):
  case = CASES[name]
  if case.targeted:
    with pytest.raises(
      ValueError, match=rf"label is for the untargeted attacks; {name.split()[0]}"
    ):
      case.run(label=1)
  else:
    with pytest.raises(ValueError, match=rf"target needs a targeted attack .* {name.split()[0]}"):
      case.run(target=1)


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.nets is ONE])
def test_several_networks_are_refused_where_one_is_attacked(name):
  case = dataclasses.replace(CASES[name], nets=THREE)
  with pytest.raises(ValueError, match=rf"must be one network for {name}, got 3 \(linear 1, conv"):
    case.run()


@pytest.mark.parametrize("name", ["l_fgsm", "rp_fgsm targeted", "jsma", "cw"])
def test_a_target_that_is_predicted_already_is_no_success(name):
  """Nothing was hidden; the minimal-norm attacks do not even begin."""
  case = CASES[name]
  before = predictions(case.nets, IMAGES)
  target = before[:, 0].copy()
  target[3] = next(c for c in range(7) if c not in before[3])
  result = case.run(target=target)
  np.testing.assert_array_equal(np.asarray(result.target), target)
  assert not np.delete(np.asarray(result.success), 3).any()
  if name in MINIMAL:
    untouched = np.delete(np.asarray(result.adversarial), 3, axis=0)
    np.testing.assert_array_equal(untouched, np.delete(IMAGES, 3, axis=0))
    assert (np.delete(np.asarray(result.gradient_evaluations), 3) == 0).all()
    assert int(result.gradient_evaluations[3]) > 0


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if not case.targeted])
def test_an_image_whose_label_is_not_predicted_has_reached_the_goal(name):
  case = CASES[name]
  before = predictions(case.nets, IMAGES)
  label = np.asarray([next(c for c in range(7) if c not in row) for row in before])
  result = case.run(label=label)
  if name in MINIMAL:
    np.testing.assert_array_equal(np.asarray(result.adversarial), IMAGES)
    assert np.asarray(result.success).all()
    assert (np.asarray(result.gradient_evaluations) == 0).all()
  else:
    assert (np.asarray(result.gradient_evaluations) > 0).all()
    expected = (predictions(case.nets, result.adversarial) != label[:, None]).all(axis=1)
    np.testing.assert_array_equal(np.asarray(result.success), expected)


@KINDS
def test_works_under_jit(name, results):
  case, whole = CASES[name], results(name)
  traced = jax.jit(lambda images: case.run(images, image_ids=np.arange(7)).adversarial)(
    jnp.asarray(IMAGES, jnp.float32)
  )
  # Another program may fuse and so round otherwise: a sign may flip, not more.
  differs = np.asarray(traced) != np.asarray(whole.adversarial)
  assert differs.mean() < 0.01


@EVERY
def test_protect_takes_it(name, results):
  case, whole = CASES[name], results(name)
  protected = rp.protect(IMAGES, case.nets, case.config, attack=case.attack, batch_size=7)
  np.testing.assert_array_equal(protected, np.asarray(whole.adversarial).astype(np.uint8))


@EVERY
def test_refuses_the_settings_of_another_attack(name):
  case = CASES[name]
  own = type(case.config)
  others = {type(other.config) for other in CASES.values()} - {own}
  for other in (*(each() for each in others), own, {"epsilon": 4.0}, rp.PhotoConfig()):
    with pytest.raises(ValueError, match=f"config must be a {own.__name__} here, got "):
      dataclasses.replace(case, config=other).run()
