"""RP-FGSM: the ball, the grid, independence of batch mates, one compilation, audits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys

import rpfgsm_jax as rp
from rpfgsm_jax.attacks import signed
from rpfgsm_jax.attacks.steps import iterations_for
from rpfgsm_jax.defenses import no_defenses

NETS = toys.three()
IMAGES = toys.images(6)
# Two families that compile in a moment; the paper's whole bank has tests of its own below.
LIGHT = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
SHORT = rp.RPFGSMConfig(epsilon=6.0, num_steps=9, defenses=LIGHT)


LONG = rp.RPFGSMConfig(num_steps=60, defenses=no_defenses())  # the paper's length, quickly compiled


def attack(images=IMAGES, config=SHORT, nets=NETS, seed=0, **options):
  return rp.rp_fgsm(jax.random.key(seed), images, nets, config, **options)


def as_numpy(result):
  return np.asarray(result.adversarial)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("draw", ["balanced", "iid"])
def test_output_is_on_the_grid_in_range_and_in_the_ball(targeted, draw):
  config = dataclasses.replace(SHORT, targeted=targeted, draw=draw, step_size=2.0)
  adversarial = as_numpy(attack(config=config))
  np.testing.assert_array_equal(adversarial, np.rint(adversarial))
  assert adversarial.min() >= 0
  assert adversarial.max() <= 255
  change = np.abs(adversarial - IMAGES.astype(np.float32))
  assert change.max() == 6.0


@pytest.mark.parametrize("epsilon", [0.0, 0.9, 2.5])
def test_fractional_epsilon_is_rounded_down_to_whole_levels(epsilon):
  adversarial = as_numpy(attack(config=dataclasses.replace(SHORT, epsilon=epsilon)))
  assert np.abs(adversarial - IMAGES.astype(np.float32)).max() == np.floor(epsilon)


def test_default_number_of_iterations_is_the_papers():
  assert [iterations_for(eps) for eps in (0.0, 1.0, 8.0, 16.0, 64.0)] == [0, 1, 10, 20, 68]
  config = rp.RPFGSMConfig(record_draws=True, defenses=no_defenses())
  shape = jax.eval_shape(lambda: attack(IMAGES[:1], config)).draws.classifier.shape
  assert shape == (1, 60)
  ensemble = dataclasses.replace(config, classifier_choice="ensemble")
  assert jax.eval_shape(lambda: attack(IMAGES[:1], ensemble)).draws.classifier.shape == (1, 20)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_one_step_is_the_hand_written_gradient_sign(targeted):
  """K = 1, N = 1, no defense on an affine network: Eq. 15 in closed form, in NumPy float64."""
  net = toys.linear(1)
  config = rp.RPFGSMConfig(num_steps=1, targeted=targeted, defenses=no_defenses())
  options = {"target": 3} if targeted else {}
  result = attack(config=config, nets=[net], **options)
  kernel = np.asarray(net.params["kernel"], np.float64)
  flat = IMAGES.reshape(len(IMAGES), -1).astype(np.float64)
  logits = flat @ kernel + np.asarray(net.params["bias"], np.float64)
  softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
  softmax /= softmax.sum(axis=1, keepdims=True)
  label = np.full(len(IMAGES), 3) if targeted else logits.argmax(axis=1)
  gradient = (softmax - np.eye(logits.shape[1])[label]) @ kernel.T
  # Where the float64 gradient is far from 0, its sign leaves no room for float32 rounding.
  sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max(axis=1, keepdims=True)
  assert sure.mean() > 0.95
  expected = np.clip(flat + (-1 if targeted else 1) * np.sign(gradient), 0, 255)
  moved = as_numpy(result).reshape(flat.shape)
  np.testing.assert_array_equal(moved[sure], expected[sure])


def test_ensemble_step_follows_the_sum_of_gradients():
  """Eq. 13: the summed gradient of the cross-entropies, not of averaged logits."""
  config = rp.RPFGSMConfig(
    num_steps=1, classifier_choice="ensemble", targeted=True, defenses=no_defenses()
  )
  result = attack(config=config, target=2)

  def loss(image):
    terms = [-jax.nn.log_softmax(net(image[None])[0])[2] for net in NETS]
    return terms[0] + terms[1] + terms[2]

  images = jnp.asarray(IMAGES, jnp.float32)
  gradient = np.asarray(jax.vmap(jax.grad(loss))(images))
  sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max()
  expected = np.clip(IMAGES - np.sign(gradient), 0, 255)
  np.testing.assert_array_equal(as_numpy(result)[sure], expected[sure])
  assert sure.mean() > 0.5


def test_attack_succeeds_on_every_seen_network():
  result = attack(toys.images(12, seed=3), dataclasses.replace(LONG, epsilon=24.0))
  for net in NETS:
    before = np.argmax(np.asarray(net(toys.images(12, seed=3))), axis=1)
    after = np.argmax(np.asarray(net(result.adversarial)), axis=1)
    assert np.mean(before != after) >= 10 / 12


def test_targeted_attack_raises_the_targets_probability():
  images = toys.images(12, seed=3)
  result = attack(images, dataclasses.replace(LONG, targeted=True))
  rows = np.arange(12)
  for net in NETS:
    before, after = (
      np.asarray(jax.nn.log_softmax(net(x)))[rows, np.asarray(result.target)]
      for x in (images, result.adversarial)
    )
    assert np.mean(after > before) >= 11 / 12
  assert np.all((np.asarray(result.gamma) <= 0.99) & (np.asarray(result.gamma) > 0))


def test_untargeted_reports_no_target():
  result = attack()
  np.testing.assert_array_equal(np.asarray(result.target), -1)
  assert result.gamma is None
  assert result.draws is None


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_an_image_is_bitwise_the_same_alone_and_in_any_batch_order_and_position(targeted):
  config = dataclasses.replace(SHORT, targeted=targeted)
  ids = np.asarray([11, 5, 2**32 - 1, 0, 77, 3])
  whole = as_numpy(attack(config=config, image_ids=ids))
  if targeted:  # the target too must come out the same: compare just the row that is alone
    alone = as_numpy(attack(IMAGES[2:3], config, image_ids=ids[2:3]))
    np.testing.assert_array_equal(alone[0], whole[2])
    return
  order = np.asarray([4, 0, 5, 2, 1, 3])
  shuffled = as_numpy(attack(IMAGES[order], config, image_ids=ids[order]))
  np.testing.assert_array_equal(shuffled, whole[order])
  for row in (0, 2, 5):
    alone = as_numpy(attack(IMAGES[row : row + 1], config, image_ids=ids[row : row + 1]))
    np.testing.assert_array_equal(alone[0], whole[row])
  pair = as_numpy(attack(IMAGES[[3, 1]], config, image_ids=ids[[3, 1]]))
  np.testing.assert_array_equal(pair, whole[[3, 1]])


def test_ids_and_keys_change_the_draws_and_nothing_else_does():
  config = dataclasses.replace(SHORT, record_draws=True)
  same = [attack(config=config, image_ids=np.full(6, 9)) for _ in range(2)]
  classifier = np.asarray(same[0].draws.classifier)
  assert (classifier == classifier[0]).all()
  np.testing.assert_array_equal(as_numpy(same[0]), as_numpy(same[1]))
  other_key = attack(config=config, image_ids=np.full(6, 9), seed=1)
  assert (np.asarray(other_key.draws.family) != np.asarray(same[0].draws.family)).any()
  by_id = np.asarray(attack(config=config).draws.classifier)
  assert len({row.tobytes() for row in by_id}) > 3


def test_variants_share_targets_and_defense_draws():
  config = dataclasses.replace(SHORT, targeted=True, record_draws=True)
  base = attack(config=config)
  for change in ({"classifier_choice": "ensemble"}, {"rounding": "cubic"}):
    other = attack(config=dataclasses.replace(config, **change))
    np.testing.assert_array_equal(np.asarray(other.target), np.asarray(base.target))
    np.testing.assert_array_equal(np.asarray(other.draws.family), np.asarray(base.draws.family))
    np.testing.assert_array_equal(
      np.asarray(other.draws.parameter), np.asarray(base.draws.parameter)
    )


def test_balanced_run_is_audited_from_its_draws():
  config = rp.RPFGSMConfig(record_draws=True, num_steps=60)  # the whole paper bank, medians too
  draws = attack(config=config).draws
  for row in range(6):
    assert np.bincount(np.asarray(draws.classifier)[row]).tolist() == [20, 20, 20]
    assert np.bincount(np.asarray(draws.family)[row]).tolist() == [15, 15, 15, 15]


def test_a_new_epsilon_gamma_or_key_does_not_compile_anew():
  config = dataclasses.replace(SHORT, epsilon=3.0, num_steps=4, targeted=True)
  attack(config=config)
  compiled = signed._run._cache_size()
  for change in ({"epsilon": 5}, {"epsilon": np.float64(4.5)}, {"gamma": 0.5}, {"step_size": 2.0}):
    attack(config=dataclasses.replace(config, **change))
  attack(config=config, seed=8)
  attack(config=config, image_ids=np.arange(6) + 100)
  attack(config=dataclasses.replace(config, epsilon=np.arange(6.0)))
  assert signed._run._cache_size() == compiled
  attack(config=dataclasses.replace(config, num_steps=5))  # static: the counter does count
  assert signed._run._cache_size() == compiled + 1


def test_epsilon_may_differ_from_image_to_image():
  epsilon = np.asarray([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
  both = as_numpy(attack(config=dataclasses.replace(SHORT, epsilon=epsilon)))
  np.testing.assert_array_equal(
    np.abs(both - IMAGES.astype(np.float32)).max(axis=(1, 2, 3)), epsilon
  )
  single = as_numpy(attack(config=dataclasses.replace(SHORT, epsilon=3.0)))
  np.testing.assert_array_equal(both[3], single[3])


def _mapped_rows():
  keys = jax.random.split(jax.random.key(5), 3)
  epsilons = jnp.asarray([1.0, 4.0, 6.0])
  gammas = jnp.asarray([0.0, 0.5, 0.9999])
  ids = jnp.asarray([[0, 1], [7, 8], [2, 2]])
  stacked = jnp.asarray(toys.images(6, seed=4).reshape(3, 2, *toys.SIZE, 3), jnp.float32)
  base = dataclasses.replace(SHORT, targeted=True)

  def run(key=keys[0], images=stacked[0], ids=ids[0], **data):
    config = dataclasses.replace(base, **data)
    return rp.rp_fgsm(key, images, NETS, config, image_ids=ids).adversarial

  return {
    "key": (lambda key: run(key=key), keys),
    "epsilon": (lambda epsilon: run(epsilon=epsilon), epsilons),
    "gamma": (lambda gamma: run(gamma=gamma), gammas),
    "image_ids": (lambda each: run(ids=each), ids),
    "images": (lambda images: run(images=images), stacked),
  }


@pytest.mark.parametrize("mapped", ["key", "epsilon", "gamma", "image_ids", "images"])
def test_vmap_equals_the_loop_bit_for_bit(mapped):
  function, values = _mapped_rows()[mapped]
  together = np.asarray(jax.jit(jax.vmap(function))(values))
  one_by_one = np.stack([np.asarray(function(value)) for value in values])
  np.testing.assert_array_equal(together, one_by_one)
  assert (together[0] != together[-1]).any()


def test_nested_vmap_equals_the_loop():
  keys = jax.random.split(jax.random.key(6), 2)
  epsilons = jnp.asarray([2.0, 5.0])

  def run(key, epsilon):
    config = dataclasses.replace(SHORT, epsilon=epsilon)
    return rp.rp_fgsm(key, IMAGES[:2], NETS, config).adversarial

  nested = jax.vmap(lambda key: jax.vmap(lambda eps: run(key, eps))(epsilons))(keys)
  again = jax.random.split(jax.random.key(6), 2)
  for i, key in enumerate(again):
    for j, epsilon in enumerate((2.0, 5.0)):
      expected = np.asarray(run(jax.random.clone(key), epsilon))
      np.testing.assert_array_equal(np.asarray(nested[i, j]), expected)


def test_vmap_keeps_a_real_branch_and_runs_one_network_a_chunk():
  """The lowered text has one scalar case over the networks; a batched one would be a select."""
  keys = jax.random.split(jax.random.key(0), 4)
  config = dataclasses.replace(SHORT, defenses=no_defenses())

  def run(key):
    return rp.rp_fgsm(key, IMAGES[:2], NETS, config).adversarial

  plain = jax.jit(run).lower(keys[0]).as_text()
  mapped = jax.jit(jax.vmap(run)).lower(keys).as_text()
  assert plain.count("stablehlo.case") == mapped.count("stablehlo.case") == 1
  # As many convolutions as without vmap: no branch was turned into "compute all, then select".
  assert plain.count("stablehlo.convolution") == mapped.count("stablehlo.convolution")


def test_mapping_over_parameters_is_refused():
  stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), NETS[0])
  with pytest.raises(ValueError, match=r"classifiers must not be mapped by jax\.vmap"):
    jax.vmap(lambda net: rp.rp_fgsm(jax.random.key(0), IMAGES, [net], SHORT).adversarial)(stacked)


def test_shard_map_over_devices_equals_one_device():
  config = dataclasses.replace(SHORT, defenses=rp.defenses.paper_bank())
  mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec("batch")
  ids = jnp.arange(6, dtype=jnp.uint32)
  images = jnp.asarray(IMAGES, jnp.float32)

  def run(images, ids):
    return rp.rp_fgsm(jax.random.key(0), images, NETS, config, image_ids=ids).adversarial

  sharded = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(spec, spec), out_specs=spec))
  np.testing.assert_array_equal(np.asarray(sharded(images, ids)), as_numpy(attack(config=config)))


def test_chosen_labels_are_left_and_chosen_targets_approached():
  net = toys.linear(1)
  config = rp.RPFGSMConfig(num_steps=3, defenses=no_defenses())
  for name, sign in (("label", -1), ("target", 1)):
    result = attack(
      config=dataclasses.replace(config, targeted=name == "target"), nets=[net], **{name: 4}
    )
    before, after = (
      np.asarray(jax.nn.log_softmax(net(x)))[:, 4] for x in (IMAGES, result.adversarial)
    )
    assert (sign * (after - before) > 0).all()
