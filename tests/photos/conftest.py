"""Headless Chromium for the tests of pages; a small photo, and an attack that only listens."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from report.browser import chromium as chromium
from report.browser import visit as visit

from rpfgsm_jax.photos import protector


@pytest.fixture
def small(photo):
  """A piece of a photograph, with smooth and textured places."""
  return photo[60:100, 80:132].copy()


@pytest.fixture
def asked(monkeypatch):
  """A stand-in that keeps what the attack was asked, and makes everything a level brighter."""
  calls = []

  def attack(key, images, classifiers, config, *, image_ids, label):
    calls.append(
      types.SimpleNamespace(
        key=key,
        images=images,
        views=classifiers,
        config=config,
        image_ids=image_ids,
        label=label,
      )
    )
    brighter = jnp.asarray(np.clip(images.astype(np.float32) + 1, 0, 255))
    return types.SimpleNamespace(adversarial=brighter)

  monkeypatch.setattr(protector, "rp_fgsm", attack)
  return calls
