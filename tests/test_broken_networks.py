"""A network without usable answers is refused by name wherever it enters; in jit it is data."""

import contextlib
import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_classifiers as toys
from click.testing import CliRunner
from PIL import Image

import rpfgsm_jax as rp
from rpfgsm_jax import atomic, cli
from rpfgsm_jax.comparison import ComparisonError, compare_folders
from rpfgsm_jax.engine.protector import Protector
from rpfgsm_jax.evaluation import measure
from rpfgsm_jax.jobs import engines, spec
from rpfgsm_jax.jobs.spec import NetworkIdentity
from rpfgsm_jax.models.answers import BrokenNetworkError, NetworkError
from rpfgsm_jax.photos import judging, protector

IMAGES = toys.images(3)
SHORT = rp.FGSMConfig(epsilon=4.0, num_steps=3)
HEALTHY = toys.linear(1, name="healthy")


def _stopped(params, images):
  return toys._linear(params, jax.lax.stop_gradient(images))


def _singular(params, images):
  return toys._linear(params, images) + jnp.sqrt(0.0 * jnp.sum(images, (1, 2, 3)))[:, None]


def _dark(params, images):  # NaN for black images alone
  total = jnp.sum(images, (1, 2, 3))
  return toys._linear(params, images) * (total / total)[:, None]


def variant(name, apply=toys._linear, **params):
  changed = HEALTHY.params | params
  return dataclasses.replace(HEALTHY, apply=apply, params=changed, name=name)


def broken(kind):
  kernel = HEALTHY.params["kernel"]
  return {
    "one NaN": lambda: variant(kind, kernel=kernel.at[5, 2].set(jnp.nan)),
    "infinite": lambda: variant(kind, bias=HEALTHY.params["bias"].at[3].set(jnp.inf)),
    "minus infinite": lambda: variant(kind, bias=HEALTHY.params["bias"].at[3].set(-jnp.inf)),
    "singular": lambda: variant(kind, _singular),
    "stopped": lambda: variant(kind, _stopped),
  }[kind]()


SICK = {
  "one NaN": "network one NaN must have finite logits, got NaN in 1 of 7",
  "infinite": "network infinite must have finite logits, got infinity in 1 of 7",
  "minus infinite": "must have finite logits, got infinity in 1 of 7",
  "singular": "network singular must have finite input gradients, got NaN in 360 of 360",
  "stopped": "network stopped must have an input gradient, got zero everywhere.*stop_gradient",
}
NO_LOGITS = ["one NaN", "infinite", "minus infinite"]
ATTACKS = {
  rp.rp_fgsm: rp.RPFGSMConfig(
    epsilon=4.0, num_steps=3, defenses=rp.defenses.DefenseBank((rp.defenses.IDENTITY,))
  ),
  rp.u_fgsm: SHORT,
  rp.p_fgsm: SHORT,
  rp.e_fgsm: SHORT,
  rp.di_fgsm: rp.DIFGSMConfig(epsilon=4.0, num_steps=2),
  rp.jsma: rp.JSMAConfig(num_steps=2),
  rp.cw: rp.CWConfig(num_steps=2, search_steps=1),
  rp.deepfool: rp.DeepFoolConfig(num_steps=2),
  rp.sparsefool: rp.SparseFoolConfig(num_steps=1, num_loops=1),
}


@pytest.mark.parametrize("kind", SICK)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_attacks_refuse_by_name(attack, kind):
  with pytest.raises(BrokenNetworkError, match=SICK[kind]):
    attack(jax.random.key(0), IMAGES, [broken(kind)], ATTACKS[attack])


@pytest.mark.parametrize("kind", SICK)
@pytest.mark.parametrize("attack", [rp.rp_fgsm, rp.e_fgsm], ids=lambda attack: attack.__name__)
def test_one_of_several_is_named(attack, kind):
  nets = [HEALTHY, broken(kind), toys.convolution(2)]
  with pytest.raises(BrokenNetworkError, match=f"network {kind}, number 2 of 3, must"):
    attack(jax.random.key(0), IMAGES, nets, ATTACKS[attack])


def test_logits_are_looked_at_before_anything_is_attacked(monkeypatch):
  monkeypatch.setattr("rpfgsm_jax.attacks.signed._run", lambda *_: pytest.fail("it was attacked"))
  with pytest.raises(BrokenNetworkError):
    rp.u_fgsm(jax.random.key(0), IMAGES, [broken("one NaN")], SHORT)


@pytest.mark.parametrize("kind", SICK)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_inside_jit_the_result_says_so(attack, kind):
  several = attack in (rp.rp_fgsm, rp.e_fgsm, rp.di_fgsm)
  nets = [HEALTHY, broken(kind)] if several else [broken(kind)]
  run = jax.jit(lambda images: attack(jax.random.key(0), images, nets, ATTACKS[attack]))
  result = run(jnp.asarray(IMAGES, jnp.float32))
  assert np.isfinite(result.adversarial).all()
  bad = result.has_gradient if kind == "stopped" else result.finite
  good = result.finite if kind == "stopped" else result.has_gradient
  np.testing.assert_array_equal(bad, [[True, False][-len(nets) :]] * 3)
  if kind in ("stopped", "singular"):
    assert np.all(good)


def test_a_healthy_network_is_finite_and_has_a_gradient():
  nets = [HEALTHY, toys.convolution(2), toys.convolution(3)]
  result = rp.rp_fgsm(jax.random.key(0), IMAGES, nets, ATTACKS[rp.rp_fgsm])
  assert np.asarray(result.finite).shape == (3, 3)
  assert np.all(result.finite)
  assert np.all(result.has_gradient)


def test_a_network_that_is_too_sure_is_not_broken():
  sure = variant("sure", bias=HEALTHY.params["bias"].at[0].set(1e6))
  for _ in range(2):
    result = rp.u_fgsm(jax.random.key(0), IMAGES, [sure], SHORT)
    assert not np.any(result.has_gradient)
    assert np.all(result.finite)


def test_what_is_not_asked_is_not_missed():
  no_steps = dataclasses.replace(SHORT, num_steps=0)
  assert np.all(rp.u_fgsm(jax.random.key(0), IMAGES, [broken("stopped")], no_steps).has_gradient)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("kind", SICK)
def test_the_engine_refuses(kind, devices):
  with pytest.raises(BrokenNetworkError, match=f"network {kind}, number 2 of 2"):
    rp.protect(IMAGES, [HEALTHY, broken(kind)], SHORT, attack=rp.e_fgsm, devices=devices)


def test_an_image_without_an_answer_is_named_also_in_a_later_batch():
  nets = [variant("dark", _dark)]
  engine = Protector(nets, SHORT, attack=rp.u_fgsm, batch_size=2, devices=1)
  engine(IMAGES[:2], [0, 1])
  with pytest.raises(
    NetworkError, match=r"dark must .*at image 1 \(from 0\) of 2.*went well"
  ) as got:
    engine(np.stack([IMAGES[0], np.zeros_like(IMAGES[0])]), [0, 1])
  assert not isinstance(got.value, BrokenNetworkError)


@pytest.mark.parametrize("kind", SICK)
def test_a_photo_is_refused_before_it_is_written(kind, tmp_path):
  photo, out = np.tile(IMAGES[0], (4, 4, 1)), tmp_path / "out.png"
  config = rp.PhotoConfig(attack=ATTACKS[rp.rp_fgsm], shrink=None)
  with pytest.raises(BrokenNetworkError, match=f"network {kind}, number 2"):
    rp.protect_photo(photo, [HEALTHY, broken(kind)], config, out=out)
  judged = contextlib.nullcontext()
  if kind in NO_LOGITS:
    judged = pytest.raises(BrokenNetworkError, match=SICK[kind])
  with judged:  # who only judges needs no gradient
    rp.protect_photo(photo, [HEALTHY], config, held_out=[broken(kind)], out=out)
  assert out.exists() == (kind not in NO_LOGITS)


def test_judges_are_asked_before_the_attack_by_the_program_that_judges(monkeypatch):
  monkeypatch.setattr(protector, "rp_fgsm", lambda *_, **__: pytest.fail("it was attacked"))
  photo = np.tile(IMAGES[0], (4, 4, 1))
  with pytest.raises(BrokenNetworkError):
    rp.protect_photo(photo, [HEALTHY], held_out=[broken("one NaN")])
  judge = toys.convolution(4)
  judging.check_judges([judge])
  before = judging._probabilities._cache_size()
  judging.judge_photo(photo, photo, [], [judge])
  assert judging._probabilities._cache_size() == before


@pytest.fixture
def command(monkeypatch, tmp_path):
  """Runs `rpfgsm protect` on two photos, one of them black."""

  def run_it(network, held_out=()):
    named = {each.name: each for each in (network, *held_out)}

    def identify(job):
      return tuple(NetworkIdentity(name, "digest") for name in (*job.networks, *job.held_out))

    for module in (engines, spec):
      monkeypatch.setattr(module, "identify_networks", identify)
    monkeypatch.setattr(engines, "load_classifier", named.__getitem__)
    for index, pixels in enumerate((IMAGES[0], 0 * IMAGES[0])):
      Image.fromarray(np.tile(pixels, (4, 4, 1))).save(tmp_path / f"{index}.png")
    arguments = ["protect", str(tmp_path / "0.png"), str(tmp_path / "1.png"), "--steps", "2"]
    arguments += ["--out", str(tmp_path / "out"), "--network", network.name]
    for each in held_out:
      arguments += ["--held-out", each.name]
    return CliRunner().invoke(cli.cli, arguments)

  return run_it


@pytest.mark.parametrize("held_out", [False, True])
def test_the_command_stops_at_a_broken_network(command, tmp_path, held_out):
  done = command(HEALTHY, [broken("one NaN")]) if held_out else command(broken("stopped"))
  assert done.exit_code == 2
  assert f"network {'one NaN' if held_out else 'stopped'} must" in done.output
  assert list((tmp_path / "out").glob("*.png")) == []


def test_the_command_goes_on_behind_a_photo_without_an_answer(command, tmp_path):
  done = command(variant("dark", _dark))
  assert "1.png: network dark must have finite logits, got NaN" in done.output
  assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["0.png"]


@pytest.mark.parametrize("kind", NO_LOGITS)
def test_evaluations_refuse(kind, tmp_path):
  nets = [HEALTHY, broken(kind)]
  with pytest.raises(BrokenNetworkError, match=f"network {kind}, number 2"):
    measure.predict(IMAGES, nets, 4)
  asked = np.zeros((3, 2), int)
  bank = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
  with pytest.raises(BrokenNetworkError, match=f"network {kind}, number 2"):
    measure.evaluate(IMAGES, asked, asked[:, 0], nets, bank, 4)
  for folder in ("before", "after"):
    (tmp_path / folder).mkdir()
    Image.fromarray(IMAGES[0]).save(tmp_path / folder / "a.png")
  with pytest.raises(ComparisonError, match=f"networks: network {kind}"):
    compare_folders(tmp_path / "before", tmp_path / "after", nets)


def test_evaluations_need_no_gradient():
  assert measure.predict(IMAGES, [broken("stopped"), broken("singular")], 4)[0].shape == (3, 2, 5)


def test_an_answer_that_fails_behind_a_defense_alone_is_refused():
  asked = np.zeros((1, 1), int)
  bank = rp.defenses.DefenseBank((rp.defenses.IDENTITY, rp.defenses.REQUANTIZE))
  dim = np.full_like(IMAGES[:1], 3)  # black with few bits
  with pytest.raises(NetworkError, match="network dark must"):
    measure.evaluate(dim, asked, asked[:, 0], [variant("dark", _dark)], bank, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_is_strict(value):
  assert json.loads(atomic.strict_json({"a": [1, None]}, compact=True)) == {"a": [1, None]}
  with pytest.raises(ValueError, match="JSON"):
    atomic.strict_json({"a": [value]})
