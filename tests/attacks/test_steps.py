"""The signed step, the ball and the loss, each against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rpfgsm_jax.attacks.goals import cross_entropy
from rpfgsm_jax.attacks.steps import clip_to_ball, gradient_sign


def test_cross_entropy_equals_its_definition():
  generator = np.random.default_rng(0)
  logits = generator.normal(0, 4, (6, 9)).astype(np.float32)
  labels = generator.integers(0, 9, 6)
  wide = logits.astype(np.float64)
  expected = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(6), labels]
  result = cross_entropy(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
  np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gap", [0.0, 5.0, 18.0, 40.0], ids=lambda gap: f"gap {gap:g}")
def test_its_gradient_survives_a_sure_network(gap):
  """softmax - onehot in float64; at a gap of 18 float32's own 1 - p_y has one digit left."""
  logits = np.asarray([[0.3, gap, -0.2, 0.1]])
  shifted = np.exp(logits - logits.max())
  probabilities = shifted / shifted.sum()
  others = np.delete(probabilities[0], 1).sum()  # 1 - p_y without cancellation
  expected = probabilities.copy()
  expected[0, 1] = -others
  gradient = jax.grad(lambda z: cross_entropy(z, jnp.asarray([1], jnp.int32))[0])(
    jnp.asarray(logits, jnp.float32)
  )
  np.testing.assert_allclose(np.asarray(gradient), expected, rtol=1e-5)


def test_gradient_sign_of_zero_and_nan_is_zero():
  values = jnp.asarray([-2.0, -0.0, 0.0, 1e-30, jnp.nan, jnp.inf], jnp.float32)
  np.testing.assert_array_equal(np.asarray(gradient_sign(values)), [-1, 0, 0, 1, 0, 1])


def test_clip_to_ball_is_the_papers_equation_11():
  generator = np.random.default_rng(1)
  image = generator.integers(0, 256, (5, 4, 3)).astype(np.float32)
  candidate = (image + generator.integers(-40, 41, image.shape)).astype(np.float32)
  expected = np.minimum(
    255, np.minimum(image + 16, np.maximum(0, np.maximum(image - 16, candidate)))
  )
  np.testing.assert_array_equal(np.asarray(clip_to_ball(candidate, image, 16.0)), expected)


def test_clip_to_ball_refuses_two_shapes():
  with pytest.raises(ValueError, match=r"one shape, got \(2, 2, 3\) and \(2, 3, 3\)"):
    clip_to_ball(jnp.zeros((2, 2, 3)), jnp.zeros((2, 3, 3)), 1.0)
