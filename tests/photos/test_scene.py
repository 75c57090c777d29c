"""The scene that the user names: what the attack leaves then, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest
import toy_classifiers as toys
from photos.toy_protection import ATTACK, CONFIG, NETWORKS, run

import rpfgsm_jax as rp
from rpfgsm_jax.engine.protector import root_key
from rpfgsm_jax.photos import Photo, PhotoConfig, PhotoProtector
from rpfgsm_jax.photos.scene import scene_class
from rpfgsm_jax.photos.views import view_at

MANY = tuple(f"room {index}" for index in range(365))


def named(scene):
  return dataclasses.replace(CONFIG, scene=scene)


def embedder(name):
  return rp.Embedder.from_function(
    lambda params, images: images.reshape(len(images), -1) @ params,
    jax.random.normal(jax.random.key(1), (360, 5)),
    image_size=toys.SIZE,
    name=name,
  )


def test_a_named_scene_is_left_also_where_the_network_sees_another(small):
  network, view = NETWORKS[1], view_at(NETWORKS[1], small.shape[:2])
  seen = int(view(small[None].astype(np.float32))[0].argmax())
  other = (seen + 1) % len(toys.CLASS_NAMES)

  def attacked(scene):
    return PhotoProtector([network], named(scene), seed=7).attack(Photo(pixels=small), 5)

  own = attacked(None)
  np.testing.assert_array_equal(attacked(toys.CLASS_NAMES[seen]), own)
  left = rp.rp_fgsm(root_key(7), small[None], [view], ATTACK, image_ids=[5], label=other)
  spelled = toys.CLASS_NAMES[other].upper().replace(" ", "-")
  np.testing.assert_array_equal(attacked(spelled), left.adversarial[0])
  assert not np.array_equal(own, left.adversarial[0])


def test_it_goes_with_the_photo_and_beside_features(small, asked):
  rp.protect_photo(small, [*NETWORKS, embedder("features")], named("scene_4"), seed=7)
  run(small)
  assert [call.label for call in asked] == [4, None]


@pytest.mark.parametrize(
  ("classifiers", "scene", "message"),
  [
    (NETWORKS, "scene 9", "scene must be a class of linear, got 'scene 9'; it knows scene "),
    (NETWORKS, "", "scene must be a class of linear, got ''; it knows scene 0, .*, scene 6\\."),
    (
      [embedder("features")],
      "scene 1",
      "scene must be .* attacked networks, got 'scene 1' and networks without classes",
    ),
    (
      [NETWORKS[0], dataclasses.replace(NETWORKS[1], class_names=MANY[:7])],
      "scene 1",
      "scene needs attacked networks of the same classes, got 7 in linear and other 7 in convolut",
    ),
  ],
  ids=["unknown", "empty", "features", "other classes"],
)
def test_a_scene_that_no_network_knows_is_refused(small, asked, classifiers, scene, message):
  with pytest.raises(ValueError, match=message):
    rp.protect_photo(small, classifiers, named(scene), held_out=[toys.linear(5, name="judge")])
  assert asked == []


def test_of_many_classes_the_close_ones_are_named_first():
  with pytest.raises(ValueError, match=r"it knows room 112, .*, room \d+ and 335 more\.$"):
    scene_class("rom 112", [("net", MANY)])


def test_the_very_name_comes_before_another_spelling():
  networks = [("net", ("cardigan", "Cardigan", "ice-skate"))]
  found = [scene_class(name, networks) for name in ("cardigan", "Cardigan", "Ice skate")]
  assert found == [0, 1, 2]


@pytest.mark.parametrize("changes", [{"scene": 3}, {"attack": rp.RPFGSMConfig(targeted=True)}])
def test_a_scene_is_a_name_and_for_the_untargeted_attack(changes):
  with pytest.raises(ValueError, match="scene must be a class's name and the attack untargeted"):
    PhotoConfig(**{"scene": "bedroom"} | changes)
